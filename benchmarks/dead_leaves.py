"""Dead leaves as the density models read them: unit variance, and a little noise so that there is a density.

100 training and 40 test images of 256x256 pixels, leaves with radii from 2 to 128 pixels. Greys are scaled to unit
variance; then Gaussian noise with 3 % of their deviation is added.
"""

from __future__ import annotations

from math import sqrt

import torch
from torch import Tensor

from ndrnn.density.lattices.images import dead_leaves, tiles

TILE = 64
SIZE = 256
NOISE = 0.03


def images(count: int, seed: int) -> Tensor:
    """Noisy dead leaves (count, 256, 256) with mean 0 and variance 1."""
    generator = torch.Generator().manual_seed(seed)
    leaves = torch.stack([dead_leaves(SIZE, SIZE, r_min=2, generator=generator) for _ in range(count)])
    return (leaves - 0.5) * sqrt(12) + NOISE * torch.randn(leaves.shape, generator=generator)


def training_images(seed: int = 0) -> list[Tensor]:
    """One batch (100, 256, 256)."""
    return [images(100, seed)]


def held_out_tiles(seed: int = 1) -> Tensor:
    """The tiles of the test images, (40, 16, 64, 64); with a seed other than that of the training images."""
    return torch.stack([tiles(image, TILE)[..., 0] for image in images(40, 1000 + seed)])
