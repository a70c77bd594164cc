"""A bound on the time that a peer may take."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfTime(BaseException):
    """No ``Exception``, so that the compiler does not mistake it for a failure of its own."""


@contextmanager
def time_limit(seconds: int) -> Iterator[None]:
    """Raises OutOfTime in the block after so many seconds."""

    def stop(*_: object) -> None:
        raise OutOfTime

    before = signal.signal(signal.SIGALRM, stop)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)
