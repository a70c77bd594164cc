"""What the commands of density models have in common: a trained density, and samples in its values and back."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..data.batches import Facts
from ..data.faults import BadFile
from ..data.formats.intensities import Intensities, Span
from ..data.readers.source import Reader
from ..density.lattices.images import dequantize
from ..density.rides import RIDE
from ..density.use.codec import PlaneModel
from ..learn.task import Task
from ..saving import shipped
from ..tasks import Density
from ..tasks.density import DensityTask
from ..tasks.use import use_of
from .trained import load

_LEVELS = 256  # of a model alone, such as those that ship
SIGNED = {128: np.int8, 32768: np.int16}
"""Signed types by their levels, which are counted from 0 on."""


def load_density(path: Path) -> tuple[Any, Reader | None]:
    """A trained task of density, or one around a model alone, and the reader of its run's recipe.

    Raises:
        ValueError: the model is for something else.
    """
    model, reader, file = load(path)
    task = as_task(model, file)
    if (purpose := use_of(task).purpose) != "density":
        raise ValueError(f"{file}: must be a model of density, got one to {purpose}")
    return task, reader


def as_task(model: Any, file: Path) -> Any:
    """A trained task as it is; a task of density around a model alone, such as those that ship.

    Raises:
        ValueError: it is a model of another kind.
    """
    if isinstance(model, Task):
        return model
    if isinstance(model, PlaneModel):
        raise ValueError(f"{file}: is a model of planes, for compress and decompress alone")
    if not isinstance(model, RIDE):
        raise ValueError(f"{file}: must be a trained task or a RIDE, got {type(model).__name__}")
    reach = 1.0 if file.parent == shipped.FOLDER else 0.0  # what others learned from is not known
    facts = Facts(ndim=model.ndim, channels=model.channels, levels=_LEVELS, reach=reach)
    task = DensityTask(Density(), facts)
    task.model = model
    return task.eval()


def in_colour(values: np.ndarray) -> bool:
    """Whether a picture (H, W, C) has colours that a model of grey ones would not see."""
    return values.shape[-1] >= 3 and bool((values[..., 1:3] != values[..., :1]).any())


def has_opacity(values: np.ndarray, channels: int) -> bool:
    """Whether the last channel of pictures (..., C) is one more than those of a model of so many: their opacity."""
    return values.shape[-1] in (2, 4) and values.shape[-1] != channels


def as_continuous(features: Tensor, levels: int, generator: torch.Generator) -> Tensor:
    """Features 0 ... 1 as the continuous values that a density is of: with noise, if they have so many levels.

    Those of a signed type may be negative.
    """
    if not levels:
        return features
    found = (features * (levels - 1)).round().long()
    below = max(0, -int(found.min()))
    noisy = dequantize(found + below, levels=levels + below, generator=generator)
    return (noisy * (levels + below) - below) / levels if below else noisy


def as_values(
    continuous: Tensor, levels: int, intensities: Intensities, kind: Any, span: Span | None = None
) -> np.ndarray:
    """What a model draws (D1, ..., Dn, C), in [0, 1) where it has levels, as values of a file of this type.

    Args:
        continuous: the model's values.
        levels: its levels; 0: they are the features themselves.
        intensities: how values became features.
        kind: NumPy's type of the values.
        span: see :meth:`Intensities.restored`.

    Raises:
        FloatingPointError: a value is NaN or infinite.
    """
    array = continuous.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise FloatingPointError("values are not finite: the model's memory or its mixture overflows")
    if levels:
        # a level stands for the range above it; signed types have as many below 0
        array = (np.floor(array * levels) / (levels - 1)).clip(-1 if levels in SIGNED else 0, 1)
    return intensities.restored(array, kind, span)


def kept(filled: np.ndarray, original: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Filled points where the mask is True, and the original's own elsewhere, its opacity everywhere.

    Args:
        filled: (D1, ..., Dn, C); grey for an original in colour stands in all its colours, and its grey in all of these.
        original: (D1, ..., Dn, C) or, with opacity, one channel more.
        mask: bool (D1, ..., Dn).
    """
    opacity = has_opacity(original, filled.shape[-1])
    colours = original[..., :-1] if opacity else original
    found: np.ndarray = np.where(mask[..., None], filled, colours)
    if opacity:
        found = np.concatenate([found, original[..., -1:]], -1)
    return found


def around(mask: np.ndarray, points: int) -> tuple[slice, ...]:
    """The part of a lattice in which a mask is True somewhere, with so many points more on every side."""
    part = []
    for axis, size in enumerate(mask.shape):
        there = np.flatnonzero(mask.any(tuple(other for other in range(mask.ndim) if other != axis)))
        part.append(slice(max(0, int(there[0]) - points), min(size, int(there[-1]) + 1 + points)))
    return tuple(part)


@contextmanager
def overflow_of(file: str) -> Iterator[None]:
    """Within the block, numbers that are not finite are a fault of ``file``."""
    try:
        yield
    except FloatingPointError as error:
        raise BadFile(file, str(error)) from error
