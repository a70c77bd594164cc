"""Images and volumes bent and moved: affine maps, and the elastic distortion of Simard, Steinkraus & Platt 2003."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor


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
