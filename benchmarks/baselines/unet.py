"""A U-Net (Ronneberger, Fischer & Brox 2015; in three dimensions Çiçek et al. 2016) with padding, for any extents."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn

from .parts import Convolution, Standardized, cleared, coarser, mask_of, pooled


class UNet(nn.Module):
    """Two convolutions a level, pooling by 2 along every axis, and back with what each level had said.

    Args:
        channels: features C of a point.
        outputs: features of the output.
        width: features of the highest resolution; each level below has twice as many.
        ndim: number n of axes, 2 or 3.
        levels: resolutions.
        dropout: share of each level's outputs that are set to zero in training.
    """

    def __init__(
        self, channels: int, outputs: int, *, width: int, ndim: int = 2, levels: int = 3, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.ndim = ndim
        self.input = Standardized(channels)
        widths = [width * 2**level for level in range(levels)]
        self.down = nn.ModuleList(
            _Pair(before, after, ndim) for before, after in zip([channels, *widths], widths, strict=False)
        )
        self.up = nn.ModuleList(_Pair(below + own, own, ndim) for own, below in pairwise(widths))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.Linear(width, outputs)

    def standardize(self, mean: Tensor, std: Tensor) -> None:
        """Set the centre and scale (C,) of each feature."""
        self.input.set(mean, std)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        r"""Scores (N, \*lattice, outputs) of x (N, \*lattice, C), without meaning outside ``sizes`` (N, n)."""
        block = (2,) * self.ndim
        x = self.input(x).movedim(-1, 1)
        mask = mask_of(sizes, x.shape[2:])
        x = cleared(x, mask)
        said = []
        for level, pair in enumerate(self.down):
            if level:
                x = pooled(x, block)
                sizes = None if sizes is None else coarser(sizes, block)
                mask = mask_of(sizes, x.shape[2:])
            x = self.dropout(pair(x, mask))
            said.append((x, mask))
        for (beside, mask), pair in zip(said[-2::-1], reversed(self.up), strict=True):
            x = cleared(_spread(x, beside.shape[2:]), mask)
            x = self.dropout(pair(torch.cat([beside, x], 1), mask))
        return self.output(x.movedim(1, -1))


class _Pair(nn.Module):
    """Two convolutions."""

    def __init__(self, before: int, after: int, ndim: int) -> None:
        super().__init__()
        self.first = Convolution(before, after, ndim)
        self.second = Convolution(after, after, ndim)

    def forward(self, x: Tensor, mask: Tensor | None) -> Tensor:
        return self.second(self.first(x, mask), mask)


def _spread(x: Tensor, lattice: torch.Size) -> Tensor:
    """Every point twice along every axis, cut off at the extents of the lattice above."""
    for axis, extent in enumerate(lattice, start=2):
        x = x.repeat_interleave(2, axis).narrow(axis, 0, extent)
    return x
