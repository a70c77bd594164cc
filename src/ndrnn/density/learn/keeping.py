"""When the state of a training is written, and how Ctrl-C ends it."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

from ...saving import snapshot
from ...saving.atomic import sweep


class Stateful(Protocol):
    """What can be written and go on from there."""

    def state(self) -> dict[str, Any]: ...


class Keeper:
    """Writes the state of a training to ``path``, if there is one, every so many seconds."""

    def __init__(self, path: Path | None, seconds: float) -> None:
        self.path, self.seconds = path, seconds
        self._last = time.monotonic()
        if path is not None:
            path.parent.mkdir(parents=True, exist_ok=True)
            sweep(path.parent)

    def keep(self, training: Stateful, *, now: bool = False) -> None:
        if self.path is None or not (now or time.monotonic() - self._last >= self.seconds):
            return
        snapshot.write(self.path, training.state())
        self._last = time.monotonic()


@contextmanager
def interruptible() -> Iterator[threading.Event]:
    """The first Ctrl-C sets the event, a second one ends the program."""
    event = threading.Event()
    if threading.current_thread() is not threading.main_thread():
        yield event  # only the main thread hears of Ctrl-C
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        event.set()
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield event
    finally:
        signal.signal(signal.SIGINT, before)
