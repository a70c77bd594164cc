"""Batches made by other processes, ahead of who takes them."""

from __future__ import annotations

import signal
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

from torch.utils.data import DataLoader, Dataset

from ..sampler import Numbered
from .samples import Sample, Samples

Collate = Callable[[Sequence[Sample]], Any]
Change = Callable[[int, Any], Any]
"""From a step and its batch to the batch as it is learned from."""


def loader(
    samples: Samples,
    batches: Iterable[Sequence[int]],
    collate: Collate,
    workers: int = 0,
    change: Change | None = None,
) -> DataLoader[Any]:
    """Loads batches of samples in an order that does not depend on ``workers``.

    Args:
        samples: what they are made of.
        batches: the numbers of the samples of each; with ``change``, of a :class:`ndrnn.data.sampler.BatchOrder`.
        collate: makes a batch.
        workers: processes that read; 0: this one does. They are forks, that share the samples in memory, so that there are
            none but on Linux.
        change: what is done to the batches of each step where they are made; needs workers. The loader then says so by
            the attribute ``augments``.
    """
    if workers and sys.platform != "linux":
        warnings.warn(f"workers are for Linux: this process reads, instead of {workers}", stacklevel=2)
        workers = 0
    if not workers:
        return DataLoader(samples, batch_sampler=batches, collate_fn=collate)  # type: ignore[arg-type]
    made: DataLoader[Any] = _Loader(
        _Batches(samples, collate, change),
        batch_sampler=batches,  # type: ignore[arg-type]
        collate_fn=_as_it_is,
        num_workers=workers,
        multiprocessing_context="fork",
        persistent_workers=True,
        worker_init_fn=_heedless,
    )
    made.augments = change is not None
    return made


class _Batches(Dataset[Any]):
    """Whole batches, or what went wrong with one."""

    def __init__(self, samples: Samples, collate: Collate, change: Change | None) -> None:
        self._samples = samples
        self._collate = collate
        self._change = change

    def __len__(self) -> int:
        return len(self._samples)

    def __getitems__(self, indices: Sequence[int]) -> Any:
        try:
            batch = self._collate([self._samples[index] for index in indices])
            if self._change is None:
                return batch
            assert isinstance(indices, Numbered)  # of a BatchOrder
            return self._change(indices.step, batch)
        except Exception as error:
            return error  # raised by a worker it would come out as another one


class _Loader(DataLoader[Any]):
    def check_worker_number_rationality(self) -> None:
        """There are as many workers as were asked for."""

    def __iter__(self) -> Iterator[Any]:  # type: ignore[override]
        with warnings.catch_warnings():
            # the forks have one thread, and call nothing that another one might hold
            warnings.filterwarnings("ignore", message=".*multi-threaded, use of fork.*")
            batches = super().__iter__()
        for batch in batches:
            if isinstance(batch, Exception):
                # or workers would last as long as anything that has seen the error
                self._iterator._shutdown_workers()  # type: ignore[union-attr]
                self._iterator = None
                raise batch
            yield batch


def _as_it_is(batch: Any) -> Any:
    return batch


def _heedless(number: int) -> None:
    """Ctrl-C and SIGTERM, which may reach all processes of a program, are for the one that trains: it takes its last batch,
    and ends its workers. Who is told to end by SIGTERM alone does so a minute later."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda *_: signal.alarm(60))
