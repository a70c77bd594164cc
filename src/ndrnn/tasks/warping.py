"""Lattices bent and moved: affine maps, and the elastic distortion of Simard, Steinkraus & Platt 2003."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, exp, radians
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor


def affine(
    count: int,
    n: int,
    like: Tensor,
    *,
    rotate: float,
    scale: float,
    shear: float,
    shift: float,
    flip: bool,
) -> tuple[Tensor, Tensor]:
    """Random matrices (count, n, n) and offsets (count, n) from a point to where its value comes from.

    Arguments as the fields of :class:`ndrnn.tasks.Augment`.
    """

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, device=like.device, dtype=like.dtype) - 1

    angle = radians(rotate) * uniform(count)
    turn = torch.eye(n, device=like.device, dtype=like.dtype).repeat(count, 1, 1)
    cosine, sine = angle.cos(), angle.sin()
    turn[:, -2, -2], turn[:, -2, -1], turn[:, -1, -2], turn[:, -1, -1] = cosine, -sine, sine, cosine
    slant = torch.eye(n, device=like.device, dtype=like.dtype).repeat(count, 1, 1)
    slant[:, -1, -2] = shear * uniform(count)
    stretch = torch.diag_embed(1 + scale * uniform(count, n))
    if flip:
        stretch[:, -1, -1] *= torch.where(torch.rand(count, device=like.device) < 0.5, -1, 1)
    return turn @ slant @ stretch, shift * uniform(count, n)


def elastic(x: Tensor, sigma: float, alpha: float, generator: torch.Generator | None = None) -> Tensor:
    """Samples (N, D1, ..., Dn, C), n = 2 or 3, under the elastic distortion of Simard, Steinkraus & Platt 2003.

    The warped digits of Graves, Fernandez & Schmidhuber 2007 have sigma 4 and alpha 34.
    """
    lattice = x.shape[1:-1]
    moves = displacements(len(x), lattice, sigma, alpha, like=x, generator=generator)
    return resample(x, positions(lattice, x) + moves)


def displacements(
    count: int,
    lattice: Sequence[int],
    sigma: float,
    alpha: float,
    *,
    like: Tensor,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Random moves (count, D1, ..., Dn, n) in points: uniform in ±1, smoothed by a Gaussian, times alpha."""
    n = len(lattice)
    noise = torch.rand((count * n, 1, *lattice), generator=generator, dtype=like.dtype, device=like.device)
    noise = 2 * noise - 1
    radius = ceil(4 * sigma)
    weights = [exp(-0.5 * (k / sigma) ** 2) for k in range(-radius, radius + 1)]
    kernel = noise.new_tensor(weights) / sum(weights)
    for axis, extent in enumerate(lattice):
        # along one axis at a time; beyond the edge there is no noise
        flat = noise.movedim(2 + axis, -1)
        shape = flat.shape
        flat = F.conv1d(flat.reshape(-1, 1, extent), kernel.view(1, 1, -1), padding=radius)
        noise = flat.reshape(shape).movedim(-1, 2 + axis)
    return alpha * noise.view(count, n, *lattice).movedim(1, -1)


def resample(x: Tensor, source: Tensor, mode: Literal["bilinear", "nearest"] = "bilinear") -> Tensor:
    """The values of x (N, D1, ..., Dn, C) at the positions ``source`` (N, D1, ..., Dn, n), in points; 0 outside."""
    lattice = x.shape[1:-1]
    check_axes(x)
    extent = source.new_tensor(lattice)
    # grid_sample counts from -1 to 1 between the outer edges of the first and last point, last axis first
    grid = ((2 * source + 1) / extent - 1).flip(-1)
    sampled = F.grid_sample(x.movedim(-1, 1), grid, mode=mode, padding_mode="zeros", align_corners=False)
    return sampled.movedim(1, -1)


def positions(lattice: Sequence[int], like: Tensor) -> Tensor:
    """The position of every point, (D1, ..., Dn, n)."""
    ranges = [torch.arange(extent, device=like.device, dtype=like.dtype) for extent in lattice]
    return torch.stack(torch.meshgrid(*ranges, indexing="ij"), -1)


def check_axes(x: Tensor) -> None:
    if x.dim() not in (4, 5):
        raise ValueError(f"augmentation is for 2 or 3 axes, got x of shape {tuple(x.shape)}")
