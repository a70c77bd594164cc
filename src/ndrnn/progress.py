"""Progress of what takes long: a bar on a terminal, about twenty plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import Any, TextIO


class Progress:
    """Shows how far a work of ``total`` steps is; use it as a context manager.

    The bar needs rich; without it, and where ``stream`` is no terminal, lines are printed instead.

    Args:
        title: of the work.
        total: its steps.
        shown: whether to show anything.
        stream: where to; standard output by default.
        transient: whether the bar vanishes at its end.
        before: seconds that the work took before an interruption.
    """

    def __init__(
        self,
        title: str,
        total: float,
        *,
        shown: bool = True,
        stream: TextIO | None = None,
        transient: bool = False,
        before: float = 0.0,
    ) -> None:
        self.title, self.total, self.shown = title, max(total, 1e-9), shown
        self.transient, self.before = transient, before
        self.stream = sys.stdout if stream is None else stream
        self._bar: Any = None
        self._printed = -1.0
        self._started = 0.0

    def __enter__(self) -> Progress:
        self._started = time.monotonic()
        if self.shown and self.stream.isatty():
            try:
                from rich.console import Console
                from rich.progress import BarColumn, TaskProgressColumn, TextColumn, TimeRemainingColumn
                from rich.progress import Progress as Bar
            except ModuleNotFoundError:
                return self
            # plain text: what is shown may be called like a mark of rich
            columns = (
                TextColumn(self.title, markup=False),
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
            )
            self._bar = Bar(
                *columns,
                TextColumn("{task.description}", markup=False),
                console=Console(file=self.stream, highlight=False),
                transient=self.transient,
            )
            self._bar.add_task("", total=self.total)
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    @property
    def is_bar(self) -> bool:
        """Whether a bar is shown, which every step may move, rather than lines."""
        return self._bar is not None

    def update(self, done: float, text: str = "") -> None:
        """Tell that ``done`` of ``total`` are done; ``text`` says how it stands."""
        if not self.shown:
            return
        if self._bar is not None:
            task = self._bar.task_ids[0]
            self._bar.update(task, completed=done, **({"description": text} if text else {}))
            return
        share = done / self.total
        if share >= self._printed + 0.05 or (share >= 1 > self._printed):
            self._printed = share
            seconds = self.before + time.monotonic() - self._started
            start = f"{self.title} " if self.title else ""
            line = f"{start}{100 * share:4.0f} %  {seconds:5.0f} s  {text}"
            print(line.rstrip(), file=self.stream, flush=True)
