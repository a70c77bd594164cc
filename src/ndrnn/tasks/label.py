"""Labelling every point of a lattice, and naming an image by its points' labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from ..data import DigitImages, Split
from ..lattice import inside
from ..training import LightningDataModule, Options, Task

IGNORE = -100
"""The label of points that neither the loss nor an error counts."""


class LabelBatch(NamedTuple):
    """Samples and what their points should be called.

    Shapes: ``x`` (N, D1, ..., Dn, C); ``target`` (N, D1, ..., Dn) int64, a label or ``IGNORE``; ``names`` (N,) int64,
    the label of each whole sample; ``sizes`` (N, n) int64, the true extents, beyond which ``target`` is not counted.
    """

    x: Tensor
    target: Tensor
    names: Tensor | None = None
    sizes: Tensor | None = None


def label_loss(log_probs: Tensor, target: Tensor) -> Tensor:
    """Cross-entropy in nats, the mean over the points that count; 0 if none does.

    Args:
        log_probs: (N, D1, ..., Dn, L).
        target: (N, D1, ..., Dn) int64, a label or ``IGNORE``.

    Raises:
        ValueError: the shapes do not fit.
    """
    if target.shape != log_probs.shape[:-1]:
        raise ValueError(f"target must have shape {tuple(log_probs.shape[:-1])}, got {tuple(target.shape)}")
    total = F.nll_loss(log_probs.flatten(0, -2), target.flatten(), ignore_index=IGNORE, reduction="sum")
    return total / (target != IGNORE).sum().clamp(min=1)


def name_images(log_probs: Tensor, num_classes: int, sizes: Tensor | None = None) -> Tensor:
    """The class of each image, (N,): the one whose probability, summed over the points, is largest.

    Labels from ``num_classes`` on, such as background, are no names; points outside ``sizes`` have no say.
    """
    probs = log_probs[..., :num_classes].exp()
    if sizes is not None:
        probs = probs.masked_fill(~inside(sizes, probs.shape[1:-1])[..., None], 0)
    return probs.flatten(1, -2).sum(1).argmax(-1)


class LabelTask(Task):
    """Trains a network that maps (x, sizes) to log-probabilities of labels; its batches are :class:`LabelBatch`.

    Logs ``pixel_error`` on held-out data, and ``image_error`` where the batches have names; those are the labels
    below ``num_classes``.
    """

    def __init__(self, model: nn.Module, options: Options, num_classes: int) -> None:
        super().__init__(model, options)
        self.num_classes = num_classes

    def training_step(self, batch: LabelBatch, batch_idx: int) -> Tensor:
        return label_loss(self.model(batch.x, batch.sizes), _counted(batch))

    def validation_step(self, batch: LabelBatch, batch_idx: int) -> None:
        log_probs, target = self.model(batch.x, batch.sizes), _counted(batch)
        counted = target != IGNORE
        if counted.any():
            wrong = (log_probs.argmax(-1) != target)[counted].float().mean()
            self.log("pixel_error", wrong, batch_size=int(counted.sum()))
        if batch.names is not None:
            misnamed = name_images(log_probs, self.num_classes, batch.sizes) != batch.names
            self.log("image_error", misnamed.float().mean(), batch_size=len(misnamed))


def _counted(batch: LabelBatch) -> Tensor:
    if batch.sizes is None:
        return batch.target
    return batch.target.masked_fill(~inside(batch.sizes, batch.target.shape[1:]), IGNORE)


@dataclass(frozen=True)
class Findings:
    """What a network says about images whose digits are known."""

    labels: Tensor
    """The most probable label of each pixel, (N, H, W)."""
    names: Tensor
    """The digit that the pixels together give, (N,)."""
    pixel_error: float
    image_error: float


@torch.no_grad()
def evaluate(model: nn.Module, digits: DigitImages, batch_size: int = 256) -> Findings:
    """Label and name all images."""
    device = next(model.parameters()).device
    labels, names = [], []
    for start in range(0, len(digits), batch_size):
        log_probs = model(digits[start : start + batch_size].images.to(device))
        labels.append(log_probs.argmax(-1).cpu())
        names.append(name_images(log_probs, digits.num_classes).cpu())
    every_label, every_name = torch.cat(labels), torch.cat(names)
    return Findings(
        every_label,
        every_name,
        (every_label != digits.pixels).double().mean().item(),
        (every_name != digits.labels).double().mean().item(),
    )


class DigitBatches(LightningDataModule):
    """Batches of digits whose pixels are to be labelled; ``checked`` held-out images serve the learning curve."""

    def __init__(self, split: Split, batch_size: int, checked: int = 1000) -> None:
        super().__init__()
        self.split = split
        self.batch_size = batch_size
        self.checked = checked

    def train_dataloader(self) -> DataLoader[LabelBatch]:
        return _loader(self.split.train, self.batch_size, shuffle=True)

    def val_dataloader(self) -> DataLoader[LabelBatch]:
        return _loader(self.split.test[: self.checked], 256, shuffle=False)


class _InMemory(Dataset[LabelBatch]):
    """Gives a batch by one indexing rather than by collecting single images."""

    def __init__(self, digits: DigitImages) -> None:
        self.digits = digits

    def __len__(self) -> int:
        return len(self.digits)

    def __getitems__(self, indices: Sequence[int]) -> LabelBatch:
        chosen = self.digits[torch.as_tensor(indices)]
        return LabelBatch(chosen.images, chosen.pixels, chosen.labels)


def _loader(digits: DigitImages, batch_size: int, shuffle: bool) -> DataLoader[LabelBatch]:
    return DataLoader(_InMemory(digits), batch_size, shuffle=shuffle, collate_fn=lambda batch: batch)
