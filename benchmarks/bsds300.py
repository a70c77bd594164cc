"""Grey BSDS300 photographs as the density models read them, and the tiles on which they are compared.

Grey is Pillow's mode "L", the luma of ITU-R BT.601 rounded to 8 bits; then uniform noise in [0, 1) is added and the
sum is divided by 256. Test images are cut into 64x64 tiles without overlap, each of which is predicted alone.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ndrnn.density.lattices.images import dequantize, tiles

TILE = 64


def folder() -> Path:
    """Where the photographs lie: ``$NDRNN_DATA/bsds300``, or beside the checkout.

    Raises:
        FileNotFoundError: there is no such folder.
    """
    root = Path(os.environ.get("NDRNN_DATA", Path(__file__).parents[2] / "shared" / "data"))
    if not (root / "bsds300" / "train").is_dir():
        raise FileNotFoundError(
            f"no folder {root / 'bsds300'}: set NDRNN_DATA to the folder that holds bsds300"
        )
    return root / "bsds300"


def grey(split: Literal["train", "test"]) -> list[Tensor]:
    """The photographs of a split as uint8 (H, W), sorted by name: 200 for training, 100 for testing."""
    found = []
    for path in sorted((folder() / split).glob("*.jpg")):
        with Image.open(path) as image:
            found.append(torch.from_numpy(np.array(image.convert("L"))))
    return found


def training_images(seed: int = 0) -> list[Tensor]:
    """The training photographs with noise, as two batches (N, H, W) in [0, 1): upright and lying ones."""
    generator = torch.Generator().manual_seed(seed)
    images = [dequantize(image, generator=generator) for image in grey("train")]
    shapes = sorted({image.shape for image in images})
    return [torch.stack([image for image in images if image.shape == shape]) for shape in shapes]


def held_out_tiles(seed: int = 1) -> Tensor:
    """The tiles of the test photographs with noise, (100, 35, 64, 64) in [0, 1)."""
    generator = torch.Generator().manual_seed(seed)
    return torch.stack(
        [tiles(dequantize(image, generator=generator), TILE)[..., 0] for image in grey("test")]
    )
