"""What ``sample`` and ``inpaint`` have in common: a trained density, and images in its values."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from ..saving.atomic import replacing
from ..tasks.use import use_of
from .trained import load


def load_density(path: Path) -> tuple[Any, Any]:
    """A trained task of density, and the reader of its run's recipe.

    Raises:
        ValueError: the model is for something else.
    """
    task, reader, file = load(path)
    if (purpose := use_of(task).purpose) != "density":
        raise ValueError(f"{file}: must be a model of density, got one to {purpose}")
    return task, reader


def write_image(values: Tensor, levels: int, invert: bool, path: Path) -> None:
    """Write an image (H, W, C) as the model sees it, in [0, 1), as PNG of 8 bits; with levels as PNG shows them."""
    array = values.detach().cpu().double().numpy()
    # a level stands for the range above it
    array = np.floor(array * levels) / (levels - 1) if levels else array
    array = (1 - array if invert else array).clip(0, 1)
    shown = np.rint(255 * array).astype(np.uint8)
    with replacing(path) as temporary:
        Image.fromarray(shown[..., 0] if shown.shape[-1] == 1 else shown).save(temporary, format="PNG")
