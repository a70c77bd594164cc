"""Work for the models: one piece at a time, in the order in which it was asked for, each of which can be cancelled."""

from __future__ import annotations

import secrets
import sys
import threading
import time
import traceback
from collections import OrderedDict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np

State = Literal["waiting", "running", "done", "failed", "cancelled"]

WAITING = 16
"""Pieces of work that may wait; more are refused."""
FORGOTTEN = 300.0
"""Seconds after which work that nobody asks about any more is given up: the page was closed."""
KEPT = 8
"""Results that are kept for the page to fetch; older ones are forgotten."""


class Busy(Exception):
    """Too much is waiting."""


class Cancelled(Exception):
    """The work is no longer wanted."""


@dataclass(frozen=True)
class View:
    """What a piece of work found."""

    told: Mapping[str, Any] = field(default_factory=dict)
    """For JSON."""
    planes: Mapping[str, np.ndarray] = field(default_factory=dict)
    """Arrays by name, of uint8, uint16 or float32."""


class Job:
    """A piece of work."""

    def __init__(self, act: Callable[[Job], View]) -> None:
        self.id = secrets.token_hex(8)
        self.act = act
        self.state: State = "waiting"
        self.share, self.text, self.error = 0.0, "", ""
        self.view = View()
        self.version = 0
        """Grows with every view."""
        self._unwanted = threading.Event()
        self.looked_at()

    def report(self, share: float, text: str = "", view: View | None = None) -> None:
        """Tell how much is done, and show what there is so far.

        Raises:
            Cancelled: there is no need to go on.
        """
        self.share, self.text = share, text
        if view is not None:
            self.show(view)
        if self._unwanted.is_set() or time.monotonic() > self._looked_at + FORGOTTEN:
            raise Cancelled

    def looked_at(self) -> None:
        """Somebody asked how it stands."""
        self._looked_at = time.monotonic()

    def show(self, view: View) -> None:
        self.view = view
        self.version += 1

    def cancel(self) -> None:
        """End it: at once if it waits, else at its next report."""
        self._unwanted.set()

    @property
    def is_over(self) -> bool:
        return self.state in ("done", "failed", "cancelled")

    def run(self) -> None:
        """Do it; whatever goes wrong is told in ``error``."""
        self.state = "running"
        try:
            self.report(0.0)
            view = self.act(self)
            self.report(1.0, view=view)
            self.state = "done"
        except Cancelled:
            self.state = "cancelled"
        except (ValueError, FloatingPointError, OSError, ImportError) as error:  # a BadFile is a ValueError
            self.error, self.state = str(error), "failed"
        except MemoryError:
            self.error, self.state = "there is not enough memory for it", "failed"
        except Exception as error:
            traceback.print_exc(file=sys.stderr)
            self.error, self.state = f"{type(error).__name__}: {error}", "failed"


class Worker:
    """Does jobs in a thread of its own, one after the other."""

    def __init__(self) -> None:
        self._jobs: OrderedDict[str, Job] = OrderedDict()
        self._queue: deque[Job] = deque()
        self._running: Job | None = None
        self._changed = threading.Condition()
        self._closed = False
        self._thread = threading.Thread(target=self._work, name="ndrnn-page", daemon=True)
        self._thread.start()

    def submit(self, act: Callable[[Job], View]) -> Job:
        """Put work at the end of the queue.

        Raises:
            Busy: too much is waiting already.
        """
        with self._changed:
            if len(self._queue) >= WAITING:
                raise Busy(
                    f"{len(self._queue)} requests are waiting already; cancel some, or try again later"
                )
            job = Job(act)
            self._jobs[job.id] = job
            self._queue.append(job)
            over = [key for key, old in self._jobs.items() if old.is_over]
            for key in over[: max(0, len(over) - KEPT)]:
                del self._jobs[key]
            self._changed.notify()
        return job

    def find(self, key: str) -> Job | None:
        """The job of this name, if it is still kept."""
        return self._jobs.get(key)

    def ahead(self, job: Job) -> int:
        """How many jobs come before one that waits."""
        with self._changed:
            if job not in self._queue:
                return 0
            return self._queue.index(job) + (self._running is not None)

    def cancel(self, job: Job) -> None:
        """End a job, see :meth:`Job.cancel`."""
        with self._changed:
            job.cancel()
            if job in self._queue:
                self._queue.remove(job)
                job.state = "cancelled"

    def close(self, seconds: float = 5.0) -> None:
        """Cancel everything and wait a while for what runs."""
        with self._changed:
            self._closed = True
            for job in [*self._queue, *([self._running] if self._running else [])]:
                job.cancel()
            self._queue.clear()
            self._changed.notify()
        self._thread.join(seconds)

    def _work(self) -> None:
        while True:
            with self._changed:
                self._running = None
                self._changed.wait_for(lambda: self._queue or self._closed)
                if self._closed:
                    return
                job = self._running = self._queue.popleft()
            job.run()
