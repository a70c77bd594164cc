"""Images and volumes bent and moved: affine maps, and the elastic distortion of Simard, Steinkraus & Platt 2003."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import ceil, exp, radians
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from ..data.batches import IGNORE
from ..lattice import inside


@dataclass(frozen=True)
class Augment:
    """How far each sample is bent and moved, anew each time it is learned from; not at all by default."""

    rotate: float = 0.0
    """Largest angle, in degrees; volumes turn within the plane of their last two axes."""
    scale: float = 0.0
    """Largest share by which each axis grows or shrinks."""
    shear: float = 0.0
    """Largest slant, in points a point."""
    shift: float = 0.0
    """Largest move along each axis, in points."""
    elastic_alpha: float = 0.0
    """Strength of the elastic distortion (34 for the warped digits of Graves et al. 2007)."""
    elastic_sigma: float = 4.0
    """Smoothness of the elastic distortion, in points."""
    flip: bool = False
    """Whether half of the samples are mirrored along the last axis."""

    def __post_init__(self) -> None:
        for name in ("rotate", "scale", "shear", "shift", "elastic_alpha"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, got {getattr(self, name)}")
        if not self.elastic_sigma > 0:
            raise ValueError(f"elastic_sigma must be above 0, got {self.elastic_sigma}")
        if not self.scale < 1:
            raise ValueError(f"scale must be below 1, got {self.scale}")

    @property
    def active(self) -> bool:
        return any((self.rotate, self.scale, self.shear, self.shift, self.elastic_alpha, self.flip))

    def __call__(
        self, x: Tensor, sizes: Tensor | None = None, target: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Samples (N, D1, ..., Dn, C) with n = 2 or 3, and the labels of their points (N, D1, ..., Dn), moved alike.

        Random numbers come from torch's global generator. Points that come from outside a sample are 0, their labels
        ``IGNORE``; no sample changes its extent.
        """
        if not self.active:
            return x, target
        lattice = x.shape[1:-1]
        n = len(lattice)
        _check_axes(x)
        points = _positions(lattice, x).expand(len(x), *lattice, n)
        extent = x.new_tensor(lattice).expand(len(x), n) if sizes is None else sizes.to(x.dtype)
        centre = ((extent - 1) / 2).view(len(x), *[1] * n, n)
        matrix, offset = self._affine(len(x), n, x)
        source = (points - centre) @ matrix.transpose(1, 2).view(len(x), *[1] * (n - 1), n, n) + centre
        source = source + offset.view(len(x), *[1] * n, n)
        if self.elastic_alpha:
            source = source + displacements(len(x), lattice, self.elastic_sigma, self.elastic_alpha, like=x)
        x = resample(x, source)
        if target is not None:
            # an offset makes what comes from outside, 0, the label to ignore
            moved = resample((target - IGNORE).unsqueeze(-1).to(torch.float64), source.double(), "nearest")
            target = moved[..., 0].round().long() + IGNORE
        if sizes is not None:
            out = ~inside(sizes, lattice)
            x = x.masked_fill(out[..., None], 0)
            target = None if target is None else target.masked_fill(out, IGNORE)
        return x, target

    def _affine(self, count: int, n: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Matrices (N, n, n) and offsets (N, n) from a point to where its value comes from."""

        def uniform(*shape: int) -> Tensor:
            return 2 * torch.rand(shape, device=like.device, dtype=like.dtype) - 1

        angle = radians(self.rotate) * uniform(count)
        turn = torch.eye(n, device=like.device, dtype=like.dtype).repeat(count, 1, 1)
        cosine, sine = angle.cos(), angle.sin()
        turn[:, -2, -2], turn[:, -2, -1], turn[:, -1, -2], turn[:, -1, -1] = cosine, -sine, sine, cosine
        slant = torch.eye(n, device=like.device, dtype=like.dtype).repeat(count, 1, 1)
        slant[:, -1, -2] = self.shear * uniform(count)
        stretch = torch.diag_embed(1 + self.scale * uniform(count, n))
        if self.flip:
            stretch[:, -1, -1] *= torch.where(torch.rand(count, device=like.device) < 0.5, -1, 1)
        return turn @ slant @ stretch, self.shift * uniform(count, n)


def elastic(x: Tensor, sigma: float, alpha: float, generator: torch.Generator | None = None) -> Tensor:
    """Samples (N, D1, ..., Dn, C), n = 2 or 3, under the elastic distortion of Simard, Steinkraus & Platt 2003.

    The warped digits of Graves, Fernandez & Schmidhuber 2007 have sigma 4 and alpha 34.
    """
    lattice = x.shape[1:-1]
    moves = displacements(len(x), lattice, sigma, alpha, like=x, generator=generator)
    return resample(x, _positions(lattice, x) + moves)


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
    _check_axes(x)
    extent = source.new_tensor(lattice)
    # grid_sample counts from -1 to 1 between the outer edges of the first and last point, last axis first
    grid = ((2 * source + 1) / extent - 1).flip(-1)
    sampled = F.grid_sample(x.movedim(-1, 1), grid, mode=mode, padding_mode="zeros", align_corners=False)
    return sampled.movedim(1, -1)


def _positions(lattice: Sequence[int], like: Tensor) -> Tensor:
    """The position of every point, (D1, ..., Dn, n)."""
    ranges = [torch.arange(extent, device=like.device, dtype=like.dtype) for extent in lattice]
    return torch.stack(torch.meshgrid(*ranges, indexing="ij"), -1)


def _check_axes(x: Tensor) -> None:
    if x.dim() not in (4, 5):
        raise ValueError(f"augmentation is for 2 or 3 axes, got x of shape {tuple(x.shape)}")
