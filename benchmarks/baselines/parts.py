"""What both baselines are made of; inside them a batch is (N, C, D1, ..., Dn), as PyTorch's convolutions want it.

Points outside a sample's extent are zero after every part, and batch norm does not count them, so that a sample in a
padded batch gives what it gives alone.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ndrnn.lattice import inside
from ndrnn.nn.blocks import Blocks

_GUESS = 8
"""The width from which the one that fits is estimated."""

Mask = Tensor | None
"""(N, D1, ..., Dn) bool, true inside each sample; None where all samples fill the lattice."""


class Standardized(nn.Module):
    """Centres and scales the features of x (N, D1, ..., Dn, C), as ndrnn's own networks do.

    Args:
        channels: C.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(channels))
        self.register_buffer("std", torch.ones(channels))

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """The centre and scale (C,) of each feature; a feature that never varies keeps its scale."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


class Norm(nn.Module):
    """Batch norm over the points inside the samples.

    Args:
        channels: C.
        ndim: number n of axes, 2 or 3.
    """

    def __init__(self, channels: int, ndim: int) -> None:
        super().__init__()
        self.norm = {2: nn.BatchNorm2d, 3: nn.BatchNorm3d}[ndim](channels)
        self.ndim = ndim

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        if mask is None:
            normed: Tensor = self.norm(x)
            return normed
        last = x.movedim(1, -1)
        points = last[mask]
        filled = torch.zeros_like(last)
        filled[mask] = self.norm(points.view(*points.shape, *[1] * self.ndim)).view_as(points)
        return filled.movedim(-1, 1)


class Convolution(nn.Module):
    """A convolution over 3 points along each axis, batch norm, and a rectifier.

    Args:
        before: features of the input.
        after: features of the output.
        ndim: number n of axes, 2 or 3.
    """

    def __init__(self, before: int, after: int, ndim: int) -> None:
        super().__init__()
        kind = {2: nn.Conv2d, 3: nn.Conv3d}[ndim]
        self.convolution = kind(before, after, 3, padding=1, bias=False)  # the norm has a bias
        self.norm = Norm(after, ndim)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        return F.relu(self.norm(self.convolution(x), mask))


def pooled(x: Tensor, block: Sequence[int]) -> Tensor:
    """The largest value of every block of non-negative x; blocks that reach over the end are filled with zeros."""
    if prod(block) == 1:
        return x
    pool = {2: F.max_pool2d, 3: F.max_pool3d}[len(block)]
    return pool(x, tuple(block), ceil_mode=True)


def coarser(sizes: Tensor, block: Sequence[int]) -> Tensor:
    """How many blocks cover samples of these extents (N, n)."""
    return Blocks(block).output_sizes(sizes)


def mask_of(sizes: Tensor | None, lattice: Sequence[int]) -> Mask:
    """Where the samples are."""
    return None if sizes is None else inside(sizes, lattice)


def cleared(x: Tensor, mask: Mask) -> Tensor:
    """x (N, C, D1, ..., Dn) with zeros outside the samples, whatever stood there."""
    return x if mask is None else x.masked_fill(~mask.unsqueeze(1), 0)


def weights(model: nn.Module) -> int:
    """The number of trained weights."""
    return sum(weight.numel() for weight in model.parameters())


def nearest(make: Callable[[int], nn.Module], budget: int) -> nn.Module:
    """The network ``make(width)`` of that width by which its weights come nearest to ``budget``."""
    with torch.random.fork_rng(devices=[]):
        # weights grow about with the square of the width; what a file describes may not make very many networks
        width = max(1, round(_GUESS * (budget / weights(make(_GUESS))) ** 0.5))
        while weights(make(width)) < budget:
            width += 1
        while width > 1 and weights(make(width - 1)) >= budget:
            width -= 1
        if width > 1 and budget - weights(make(width - 1)) < weights(make(width)) - budget:
            width -= 1
    return make(width)
