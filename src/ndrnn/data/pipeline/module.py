"""Batches for training and for checks on held-out data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader

from ..batches import IGNORE, ClassifyBatch, DensityBatch, LabelBatch, Purpose, TranscribeBatch
from ..sampler import BatchOrder, MakeBatches
from .ahead import loader
from .gather import Gathered
from .grouping import Grouped, group_by_size
from .samples import Sample, Samples, pad

try:
    from lightning import LightningDataModule
except ModuleNotFoundError as error:
    raise ImportError("training needs Lightning: pip install 'ndrnn[train]'") from error


class DataModule(LightningDataModule):
    """Checked samples as batches of nearly equal sizes, in an order that seed and step decide.

    Args:
        gathered: what :func:`ndrnn.data.pipeline.gather` gives.
        purpose: the task, which decides what a batch is.
        batch_size: samples a step.
        seed: of the order.
        max_padding: share of a batch that may be padding.
        workers: processes that read, and in a training augment, ahead; see :func:`ndrnn.data.pipeline.ahead.loader`.
    """

    def __init__(
        self,
        gathered: Gathered,
        purpose: Purpose,
        batch_size: int,
        *,
        seed: int = 0,
        max_padding: float = 0.2,
        workers: int = 0,
    ) -> None:
        super().__init__()
        self.workers = workers
        self.facts = gathered.facts
        self.splits = gathered.splits
        self.purpose = purpose
        self.batch_size = batch_size
        self.seed = seed
        self.max_padding = max_padding

    def train_dataloader(self) -> DataLoader[Any]:
        samples = self._samples("train")
        make = self._for_all(Grouped(samples.extents, self.seed, max_padding=self.max_padding))
        order = BatchOrder(make, self.batch_size, self.trainer)
        trainer = self.trainer
        if not self.workers or trainer is None or trainer.state.status != "running":
            return loader(samples, order, collate(self.purpose))
        task: Any = trainer.lightning_module
        rank = trainer.global_rank

        def change(step: int, batch: Any) -> Any:
            return task.augmented_at(step, rank, batch)

        return loader(samples, order, collate(self.purpose), self.workers, change)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.in_order("validation")

    def test_dataloader(self) -> DataLoader[Any]:
        return self.in_order("test")

    def in_order(self, split: str) -> DataLoader[Any]:
        """All samples of a split once, always in the same batches."""
        return in_order(self._samples(split), self.purpose, self.batch_size, self.workers)

    def _samples(self, split: str) -> Samples:
        if split not in self.splits:
            raise ValueError(f"the data has no samples for {split}, only for {', '.join(self.splits)}")
        return self.splits[split]

    def _for_all(self, make: MakeBatches) -> MakeBatches:
        """Batches in which every process finds a share, the first samples twice where there are too few."""
        world = 1 if self.trainer is None else self.trainer.world_size

        def filled(number: int, size: int) -> Sequence[Sequence[int]]:
            return [[*batch, *batch[: max(0, world - len(batch))]] for batch in make(number, size)]

        return make if world == 1 else filled


def in_order(samples: Samples, purpose: Purpose, batch_size: int, workers: int = 0) -> DataLoader[Any]:
    """All samples once, grouped by size, always in the same batches."""
    batches = group_by_size(samples.extents, batch_size)
    return loader(samples, batches, collate(purpose), workers)


def collate(purpose: Purpose) -> Callable[[Sequence[Sample]], Any]:
    """Makes the batches of a task from samples: what a DataLoader takes as ``collate_fn``."""
    return {
        "label": _label,
        "classify": _classify,
        "transcribe": _transcribe,
        "density": _density,
    }[purpose]


def _common(samples: Sequence[Sample]) -> dict[str, Any]:
    x, sizes = pad([sample.x for sample in samples], samples[0].x.dim() - 1)
    return {"x": x, "sizes": sizes, "names": tuple(sample.name for sample in samples)}


def _label(samples: Sequence[Sample]) -> LabelBatch:
    target, _ = pad([sample.target for sample in samples], samples[0].target.dim(), IGNORE)
    return LabelBatch(target=target, **_common(samples))


def _classify(samples: Sequence[Sample]) -> ClassifyBatch:
    return ClassifyBatch(target=torch.tensor([sample.target for sample in samples]), **_common(samples))


def _transcribe(samples: Sequence[Sample]) -> TranscribeBatch:
    return TranscribeBatch(target=tuple(sample.target for sample in samples), **_common(samples))


def _density(samples: Sequence[Sample]) -> DensityBatch:
    return DensityBatch(**_common(samples))
