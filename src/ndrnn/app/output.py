"""What commands print: text for people, or one JSON object for programs."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stdout
from math import isfinite
from typing import Any, TypeVar

from ..progress import Progress

Item = TypeVar("Item")


class Output:
    """Prints text as it comes, or with ``json`` one object at the end and nothing else on standard output."""

    def __init__(self, as_json: bool) -> None:
        self.as_json = as_json

    def say(self, text: str) -> None:
        """A line for people."""
        if not self.as_json:
            print(text, flush=True)

    def warn(self, text: str) -> None:
        """A line that must be seen, on standard error."""
        print(text, file=sys.stderr, flush=True)

    def table(self, rows: Iterable[Sequence[object]], head: Sequence[str] = ()) -> None:
        """Rows of cells in columns of equal width."""
        lines = [
            [str(cell) for cell in row] for row in ([head] if head else []) + [list(row) for row in rows]
        ]
        widths = [
            max(len(line[index]) for line in lines if index < len(line)) for index in range(len(lines[0]))
        ]
        for line in lines:
            self.say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=False)).rstrip())

    def result(self, values: dict[str, Any]) -> None:
        """The object for programs."""
        if self.as_json and values:
            text = json.dumps(plain(values), ensure_ascii=False, allow_nan=False, default=str)
            print(text, flush=True)

    @contextmanager
    def others(self) -> Iterator[None]:
        """Within the block, what libraries print to standard output goes to standard error under ``json``."""
        if not self.as_json:
            yield
            return
        with redirect_stdout(sys.stderr):
            yield

    def progress(self, items: Iterable[Item], what: str, count: int) -> Iterator[Item]:
        """The items, with a bar on a terminal; elsewhere a line every tenth of the way where there are many."""
        step = max(200, -(-count // 10))
        with Progress(what, count, shown=not self.as_json and count > 1, transient=True) as progress:
            for number, item in enumerate(items, start=1):
                yield item
                if progress.is_bar or (number % step == 0 and number < count):
                    progress.update(number, f"{number:,} of {count:,}")

    @contextmanager
    def steps(self, what: str, *, shown: bool = True) -> Iterator[Callable[[int, int], None]]:
        """Gives a function to tell how many steps of how many are done: a bar on a terminal, elsewhere lines of many steps
        that take more than a few seconds."""
        began = time.monotonic()
        with Progress(what, 1.0, shown=shown and not self.as_json, transient=True) as progress:

            def tell(done: int, count: int) -> None:
                if progress.is_bar or (count >= _MANY and time.monotonic() - began > _SECONDS):
                    progress.update(done / count)

            yield tell


_MANY = 100
_SECONDS = 5.0


def plain(value: Any) -> Any:
    """JSON has no word for numbers that are not finite: they become null."""
    if isinstance(value, float) and not isfinite(value):
        return None
    if isinstance(value, Mapping):
        return {key: plain(entry) for key, entry in value.items()}
    return [plain(entry) for entry in value] if isinstance(value, (list, tuple)) else value
