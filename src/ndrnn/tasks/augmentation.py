"""Images and volumes bent and moved, and their values changed: affine maps, the elastic distortion of Simard, Steinkraus &
Platt 2003, light, strokes, noise and cut-outs."""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Augment:
    """How far each sample is bent, moved and changed, anew each time it is learned from; not at all by default."""

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
    brightness: float = 0.0
    """Largest change of all values of a sample, which images have in 0 to 1."""
    contrast: float = 0.0
    """Largest share by which values are drawn away from a sample's mean or towards it."""
    gamma: float = 0.0
    """How far values v between 0 and 1 become v^g, with g from 1 / (1 + gamma) to 1 + gamma: dark parts gain or lose most."""
    tint: float = 0.0
    """Largest share by which each feature alone grows or shrinks."""
    stroke: float = 0.0
    """How far strokes, brighter than what is around them, become thicker or thinner: of each value up to so much is that
    of its brightest or darkest neighbour, at most 1."""
    noise: float = 0.0
    """Largest standard deviation of Gaussian noise; each sample has its own."""
    cutout: float = 0.0
    """Largest share of each extent of a box whose points become the sample's mean (DeVries & Taylor 2017); their labels
    stay, to be told by what is around."""

    def __post_init__(self) -> None:
        changes = ("brightness", "contrast", "gamma", "tint", "stroke", "noise", "cutout")
        for name in ("rotate", "scale", "shear", "shift", "elastic_alpha", *changes):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, got {getattr(self, name)}")
            if getattr(self, name) == inf:
                raise ValueError(f"{name} must be finite, got inf")
        if not self.elastic_sigma > 0:
            raise ValueError(f"elastic_sigma must be above 0, got {self.elastic_sigma}")
        for name in ("scale", "contrast", "tint"):
            if not getattr(self, name) < 1:
                raise ValueError(f"{name} must be below 1, got {getattr(self, name)}")
        for name in ("stroke", "cutout"):
            if not getattr(self, name) <= 1:
                raise ValueError(f"{name} must be at most 1, got {getattr(self, name)}")

    @property
    def active(self) -> bool:
        return self.moves or self.shades

    @property
    def shades(self) -> bool:
        """Whether values change where they are."""
        light = (self.brightness, self.contrast, self.gamma, self.tint)
        return any((*light, self.stroke, self.noise, self.cutout))

    @property
    def moves(self) -> bool:
        """Whether samples are bent or moved."""
        return any((self.rotate, self.scale, self.shear, self.shift, self.elastic_alpha, self.flip))

    def __call__(
        self, x: Tensor, sizes: Tensor | None = None, target: Tensor | None = None
    ) -> tuple[Tensor, Tensor | None]:
        """Samples (N, D1, ..., Dn, C) with n = 2 or 3, and the labels of their points (N, D1, ..., Dn), moved alike.

        Random numbers come from torch's global generator. Points that come from outside a sample are 0, their labels
        ``IGNORE``; no sample changes its extent.
        """
        if self.moves:
            x, target = self._moved(x, sizes, target)
        if self.shades:
            from . import shading  # options alone are read without PyTorch

            x = shading.stroked(x, sizes, self.stroke) if self.stroke else x
            x = shading.shaded(
                x,
                sizes,
                brightness=self.brightness,
                contrast=self.contrast,
                gamma=self.gamma,
                tint=self.tint,
                noise=self.noise,
            )
            x = shading.cut_out(x, sizes, self.cutout) if self.cutout else x
        return x, target

    def _moved(self, x: Tensor, sizes: Tensor | None, target: Tensor | None) -> tuple[Tensor, Tensor | None]:
        from ..data.batches import IGNORE  # options alone are read without PyTorch
        from ..lattice import inside
        from . import warping

        lattice = x.shape[1:-1]
        n = len(lattice)
        warping.check_axes(x)
        points = warping.positions(lattice, x).expand(len(x), *lattice, n)
        extent = x.new_tensor(lattice).expand(len(x), n) if sizes is None else sizes.to(x.dtype)
        centre = ((extent - 1) / 2).view(len(x), *[1] * n, n)
        matrix, offset = warping.affine(
            len(x),
            n,
            x,
            rotate=self.rotate,
            scale=self.scale,
            shear=self.shear,
            shift=self.shift,
            flip=self.flip,
        )
        source = (points - centre) @ matrix.transpose(1, 2).view(len(x), *[1] * (n - 1), n, n) + centre
        source = source + offset.view(len(x), *[1] * n, n)
        if self.elastic_alpha:
            source = source + warping.displacements(
                len(x), lattice, self.elastic_sigma, self.elastic_alpha, like=x
            )
        x = warping.resample(x, source)
        if target is not None:
            # an offset makes what comes from outside, 0, the label to ignore
            shifted = (target - IGNORE).unsqueeze(-1).double()
            moved = warping.resample(shifted, source.double(), "nearest")
            target = moved[..., 0].round().long() + IGNORE
        if sizes is not None:
            out = ~inside(sizes, lattice)
            x = x.masked_fill(out[..., None], 0)
            target = None if target is None else target.masked_fill(out, IGNORE)
        return x, target
