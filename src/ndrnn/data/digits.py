"""Digits in memory: the 1797 of 8 x 8 pixels that scikit-learn ships, and batches of these or of other drawn signs."""

from __future__ import annotations

from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from .batches import ClassifyBatch, Facts
from .digit_images import DigitImages, Split
from .sampler import BatchOrder, shuffled

try:
    from lightning import LightningDataModule
except ModuleNotFoundError as error:
    raise ImportError("batches need Lightning: pip install 'ndrnn[train]'") from error


def load() -> Split:
    """Two thirds to learn from, a third held out: of each digit, in the order of the collection, every third image.

    No chance is involved, so that the split is the same everywhere. The collection does not name its writers; some
    have written images on both sides.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'ndrnn[train]'") from error
    values, labels = load_digits(return_X_y=True)
    images = torch.tensor(values, dtype=torch.float32).reshape(-1, 8, 8, 1) / 16
    digits = DigitImages(images, torch.tensor(labels, dtype=torch.int64), num_classes=10)
    held_out = torch.zeros(len(digits), dtype=torch.bool)
    for label in range(10):
        held_out[(digits.labels == label).nonzero().flatten()[2::3]] = True
    return Split(digits[~held_out], digits[held_out], "scikit-learn's digits, a third held out")


class DigitBatches(LightningDataModule):
    """Batches of a split's images for :class:`ndrnn.tasks.ClassifyTask`.

    Args:
        split: images to learn from and to judge by.
        batch_size: images a step in each process.
        seed: of the order.
        checked: so many held-out images, spread evenly, are looked at during the training.
    """

    def __init__(self, split: Split, batch_size: int, seed: int = 0, checked: int = 1000) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.seed = seed
        stride = -(-len(split.test) // checked)
        self.checked = split.test[::stride]
        self.facts = Facts(classes=tuple(map(str, range(split.train.num_classes))))

    def train_dataloader(self) -> DataLoader[ClassifyBatch]:
        order = BatchOrder(shuffled(len(self.split.train), self.seed), self.batch_size, self.trainer)
        return DataLoader(_InMemory(self.split.train), batch_sampler=order, collate_fn=_as_it_is)

    def val_dataloader(self) -> DataLoader[ClassifyBatch]:
        return DataLoader(_InMemory(self.checked), batch_size=256, collate_fn=_as_it_is)

    def test_dataloader(self) -> DataLoader[ClassifyBatch]:
        return DataLoader(_InMemory(self.split.test), batch_size=256, collate_fn=_as_it_is)


class _InMemory(Dataset[ClassifyBatch]):
    """Gives a batch by one indexing rather than by collecting single images."""

    def __init__(self, digits: DigitImages) -> None:
        self.digits = digits

    def __len__(self) -> int:
        return len(self.digits)

    def __getitems__(self, indices: list[int]) -> ClassifyBatch:
        chosen = self.digits[torch.as_tensor(indices)]
        return ClassifyBatch(chosen.images, chosen.labels)


def _as_it_is(batch: Any) -> Any:
    return batch
