"""What the commands of density models have in common: a trained density, and images in its values."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data.batches import Facts
from ..data.faults import BadFile
from ..density.lattices.images import dequantize
from ..density.rides import RIDE
from ..density.use.codec import PlaneModel
from ..learn.task import Task
from ..saving.atomic import replacing
from ..tasks import Density
from ..tasks.density import DensityTask
from ..tasks.use import use_of
from .trained import load


@dataclass(frozen=True)
class ModelAlone:
    """A model of images of 8 bits without a task around it, such as those that ship."""

    model: RIDE
    facts: Facts
    levels: int = 256


def load_density(path: Path) -> tuple[Any, Any]:
    """A trained task of the density of images, or a model alone, and the reader of its run's recipe.

    Raises:
        ValueError: the model is for something else.
    """
    task, reader, file = load(path)
    return as_density(task, file), reader


def as_density(task: Any, file: Path) -> Any:
    """A task of the density of images, or what looks like one of a model alone.

    Raises:
        ValueError: what was loaded from ``file`` is for something else.
    """
    if not isinstance(task, Task):
        model = _alone(task, file)
        task = ModelAlone(model, Facts(ndim=model.ndim, channels=model.channels))
    elif (purpose := use_of(task).purpose) != "density":
        raise ValueError(f"{file}: must be a model of density, got one to {purpose}")
    if task.facts.ndim != 2:
        raise ValueError(
            f"{file}: must be a model of images, got one of {task.facts.ndim} axes, "
            "which in Python is ndrnn.load(FILE).model"
        )
    return task


def as_continuous(features: Tensor, levels: int, generator: torch.Generator) -> Tensor:
    """Features 0 ... 1 as the continuous values that a density is of: with noise, if they have so many levels."""
    if not levels:
        return features
    return dequantize((features * (levels - 1)).round().long(), levels=levels, generator=generator)


def kept(filled: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Filled pixels where the mask is True, and the picture's own elsewhere where both have one form."""
    if filled.shape != picture.shape or filled.dtype != picture.dtype:
        return filled
    return np.where(mask[..., None], filled, picture)


def as_task(model: Any, file: Path) -> Task:
    """A trained task as it is; a task of density around a model alone, such as those that ship.

    Raises:
        ValueError: it is a model of another kind.
    """
    if isinstance(model, Task):
        return model
    ride = _alone(model, file)
    task = DensityTask(Density(), Facts(ndim=ride.ndim, channels=ride.channels, levels=ModelAlone.levels))
    task.model = ride
    return task.eval()


def _alone(model: Any, file: Path) -> RIDE:
    if isinstance(model, PlaneModel):
        raise ValueError(f"{file}: is a model of planes, for compress and decompress alone")
    if not isinstance(model, RIDE):
        raise ValueError(f"{file}: must be a trained task or a RIDE, got {type(model).__name__}")
    return model


@contextmanager
def overflow_of(file: str) -> Iterator[None]:
    """Within the block, numbers that are not finite are a fault of ``file``."""
    try:
        yield
    except FloatingPointError as error:
        raise BadFile(file, str(error)) from error


def as_stored(values: Tensor, levels: int, invert: bool) -> np.ndarray:
    """An image (H, W, C) as the model sees it, in [0, 1), with levels as files show them: uint8, or uint16 for grey
    images of more than 256 levels, of which PNG can hold no others in colour.

    Raises:
        FloatingPointError: a value is NaN or infinite.
    """
    array = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise FloatingPointError("pixels are not finite: the model's memory or its mixture overflows")
    # a level stands for the range above it
    array = np.floor(array * levels) / (levels - 1) if levels else array
    array = (1 - array if invert else array).clip(0, 1)
    deep = levels > 256 and array.shape[-1] == 1
    stored: np.ndarray = (
        np.rint(65535 * array).astype(np.uint16) if deep else np.rint(255 * array).astype(np.uint8)
    )
    return stored


def write_image(stored: np.ndarray, path: Path) -> None:
    """Write an image (H, W, C) of 1 to 4 channels as PNG."""
    shown = stored[..., 0] if stored.shape[-1] == 1 else stored
    with replacing(path) as temporary:
        Image.fromarray(shown).save(temporary, format="PNG")
