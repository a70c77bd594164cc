"""What a trained task says of samples: several together, or the labels of a large one tile by tile."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from ..data.batches import ClassifyBatch, DensityBatch, LabelBatch, TranscribeBatch
from ..data.pipeline.samples import pad
from ..nn.networks.tiling import Slices, Window
from ..nn.tiled import tiles
from ..tasks.label import most_probable
from ..tasks.use import use_of


def batch_of(task: Any, xs: Sequence[Tensor], device: str = "cpu") -> Any:
    """The batch that a task takes of samples (D1, ..., Dn, C), without targets."""
    purpose = use_of(task).purpose
    x, sizes = pad(xs, task.facts.ndim)
    x = x.to(device)
    sizes = None if sizes is None else sizes.to(device)
    nothing = x.new_zeros(0)
    if purpose == "label":
        return LabelBatch(x, nothing, sizes)
    if purpose == "classify":
        return ClassifyBatch(x, nothing, sizes)
    if purpose == "transcribe":
        return TranscribeBatch(x, ("",) * len(xs), sizes)
    return DensityBatch(x, sizes)


def predicted(task: Any, xs: Sequence[Tensor], device: str = "cpu") -> list[Any]:
    """The task's predictions for samples (D1, ..., Dn, C), one each."""
    found: list[Any] = task.predict_step(batch_of(task, xs, device))
    return found


def label_tiles(
    task: Any, lattice: Sequence[int], window: Window, points: int, *, overlap: int, device: str = "cpu"
) -> Iterator[tuple[Slices, Tensor, Tensor]]:
    """Labels and their confidence tile by tile, each with its place, see :func:`ndrnn.nn.tiled.tiles`; memory stays bounded.

    Args:
        window: gives the features (d1, ..., dn, C) of a part.
        points: of a tile, about.
    """
    with torch.no_grad():
        for place, scores in tiles(
            task.model, lattice, lambda part: window(part).unsqueeze(0).to(device), points, overlap=overlap
        ):
            confidence, labels = most_probable(scores[0], task.temperature)
            yield place, labels.cpu(), confidence.cpu()
