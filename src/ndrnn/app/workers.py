"""Several batches at a time on a CPU: each is computed by a thread of its own, not one by all threads together.

Threads that share an operation wait for each other at its end, awake. Where files are read and written at the same time, or
another program runs, that costs more than the operation itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import pairwise
from types import TracebackType
from typing import TypeVar

import torch

Sample = TypeVar("Sample")
Found = TypeVar("Found")


class Workers:
    """As many threads as torch computes with, one operation each; use it as a context manager.

    Args:
        several: whether there are more than one; by default a batch is computed by whoever asks, as torch does it.
    """

    def __init__(self, *, several: bool = False) -> None:
        self._count = torch.get_num_threads() if several else 1
        self._pool: ThreadPoolExecutor | None = None

    def __enter__(self) -> Workers:
        if self._count > 1:
            # torch's number of threads is one for each thread that asks for it
            self._pool = ThreadPoolExecutor(
                self._count, "network", initializer=torch.set_num_threads, initargs=(1,)
            )
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None
            torch.set_num_threads(self._count)  # of threads that begin later

    def divided(self, batch: Sequence[Sample]) -> list[Sequence[Sample]]:
        """A batch in equal parts, one for each worker; one with fewer samples than there are workers stays whole."""
        if len(batch) < self._count:
            return [batch]
        ends = [len(batch) * number // self._count for number in range(self._count + 1)]
        return [batch[first:last] for first, last in pairwise(ends)]

    def each(
        self, compute: Callable[[Sequence[Sample]], Found], parts: Sequence[Sequence[Sample]]
    ) -> Iterator[Found]:
        """What is computed of the parts, in order; where they are fewer than the workers, by all threads together."""
        if self._pool is None or len(parts) < self._count:
            yield from map(compute, parts)
            return
        begun: list[Future[Found]] = [self._pool.submit(compute, part) for part in parts]
        for future in begun:
            yield future.result()
