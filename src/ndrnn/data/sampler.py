"""The order in which samples are learned from, as a function of the step alone."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

import torch
from torch.utils.data import Sampler

from ..seeds import step_seed

if TYPE_CHECKING:
    from lightning import Trainer

MakeBatches = Callable[[int, int], Sequence[Sequence[int]]]
"""From the number of a pass over the data, and of samples in a batch, to the batches of indices of this pass; every
pass has the same number of batches, and equal arguments give equal batches in every process."""


class Numbered(list[int]):
    """The samples of a batch, and the step of the training that it is for."""

    step: int = 0


class BatchOrder(Sampler[list[int]]):
    """Batches of indices for a DataLoader's ``batch_sampler``, in an endless stream that knows where it stands.

    Every iteration gives ``len(self)`` batches from the trainer's present step on. A training that was resumed at a
    step therefore sees what it would have seen without the interruption, whatever had been read ahead. Of a batch of
    several processes each gets its share.

    Args:
        make: makes the batches of a pass, e.g. :func:`shuffled`.
        batch_size: samples a step in each process.
        trainer: knows the step, the processes, and through its task the steps between two checks; without one this is
            the first pass.
    """

    def __init__(self, make: MakeBatches, batch_size: int, trainer: Trainer | None = None) -> None:
        self._make = make
        self._trainer = trainer
        self._rank, self._world = (0, 1) if trainer is None else (trainer.global_rank, trainer.world_size)
        self._size = batch_size * self._world
        self.steps_per_pass = len(make(0, self._size))
        """Batches of one pass over the data."""
        if self.steps_per_pass < 1:
            raise ValueError("make must give at least one batch, got none")
        options = getattr(getattr(trainer, "lightning_module", None), "options", None)
        self._count: int = getattr(options, "steps_between_checks", None) or self.steps_per_pass

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[list[int]]:
        first = 0 if self._trainer is None else self._trainer.global_step
        current, batches = -1, []
        for step in range(first, first + self._count):
            number, index = divmod(step, self.steps_per_pass)
            if number != current:
                current, batches = number, list(self._make(number, self._size))
            batch = Numbered(batches[index][self._rank :: self._world])
            batch.step = step
            yield batch


def shuffled(count: int, seed: int) -> MakeBatches:
    """Batches of ``count`` samples in an order that a seed decides, another one in each pass; the last may be short."""

    def make(number: int, size: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(step_seed(seed, number))
        order = torch.randperm(count, generator=generator).tolist()
        return [order[start : start + size] for start in range(0, count, size)]

    return make
