"""Holes that reach the border of an image: a frame around it, for models that need a whole neighbourhood."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ..ride.model import RideModel

_FRAME = 8
"""Pixels around an image that are filled in too beside a hole that reaches the border, and cut off."""


def reaches_border(ride: RideModel, images: Tensor, mask: Tensor) -> bool:
    """Whether a pixel to fill lacks a whole neighbourhood; a mask of another form is left to its check."""
    if mask.dtype != torch.bool or mask.shape not in (images.shape[:-1], images.shape[1:-1]):
        return False
    mask = mask.expand(images.shape[:-1])
    return int(ride.predicted(mask).sum()) < int(mask.sum())


class Frame:
    """A frame around images whose holes reach the border: a model that does not pad needs a neighbourhood there.

    The frame repeats the border of the image. Beside a hole it is a part of the hole, up to its own border, which holds
    the known pixels that are nearest: draws from the marginal would pull at what is filled.
    """

    def __init__(self, ride: RideModel) -> None:
        self.marginal, self.margins = ride.marginal, ride.neighborhood.margins
        # sides that no neighbourhood looks to need no frame
        self.widths = [side and side + _FRAME for side in self.margins]

    def grown(
        self,
        images: Tensor,
        mask: Tensor,
        observed: Tensor | None,
        start: Tensor | None,
        generator: torch.Generator | None,
    ) -> tuple[Tensor, Tensor, Tensor | None, Tensor | None]:
        """All of these with the frame around."""
        holes = self._repeated(mask.expand(images.shape[:-1]).unsqueeze(-1).to(images)).squeeze(-1) > 0
        known = _spread(images, mask.expand(images.shape[:-1]), self.marginal, generator)
        images = self._repeated(known)
        inner = torch.zeros_like(holes)
        self._inside(inner, self.margins).fill_(True)
        seen = None if observed is None else self._repeated(observed)
        if start is not None:
            start = self._repeated(start.flatten(0, 1)).unflatten(0, start.shape[:2])
        return images, holes & inner, seen, start

    def cut(self, images: Tensor) -> Tensor:
        """Images without the frame."""
        return self._inside(images, self.widths)

    @staticmethod
    def _inside(values: Tensor, widths: Sequence[int]) -> Tensor:
        """A view of what lies within a frame of so many pixels before and after, axis by axis."""
        for axis, (before, after) in enumerate(zip(widths[::2], widths[1::2], strict=True), 1):
            values = values.narrow(axis, before, values.shape[axis] - before - after)
        return values

    def _repeated(self, values: Tensor) -> Tensor:
        pairs = list(zip(self.widths[::2], self.widths[1::2], strict=True))
        sides = [side for pair in reversed(pairs) for side in pair]
        framed = functional.pad(values.movedim(-1, 1), sides, mode="replicate")
        return framed.movedim(1, -1).contiguous()


def _spread(images: Tensor, mask: Tensor, marginal: Tensor, generator: torch.Generator | None) -> Tensor:
    """Images with the nearest known pixels in their holes, as paths along the axes have it; where nothing is known, draws
    from the marginal of the pixels."""
    picks = torch.randint(len(marginal), mask.shape, generator=generator).to(mask.device)
    images = torch.where(mask.unsqueeze(-1), marginal[picks], images)
    unknown = mask & ~mask.flatten(1).all(1).view(-1, *[1] * (mask.dim() - 1))
    while bool(unknown.any()):
        for axis in range(1, mask.dim()):
            for step in (1, -1):
                beside = unknown.roll(step, axis)
                beside.select(axis, 0 if step == 1 else -1).fill_(True)  # nothing comes from the other side
                reached = unknown & ~beside
                images = torch.where(reached.unsqueeze(-1), images.roll(step, axis), images)
                unknown = unknown & ~reached
    return images
