"""Lattices made smaller: blocks of points, their cosine transform, windows, and axes taken together.

Every module here maps (N, D1, ..., Dn, C) to a lattice of other sizes. ``sizes`` (N, n) int64 are the true extents of
ragged samples; what lies beyond them counts as zero, so that a sample in a padded batch gives what it gives alone.
``output_sizes`` tells the extents after the module, for ragged samples and, as plain integers, for a lattice.
"""

from __future__ import annotations

from collections.abc import Sequence
from heapq import nsmallest
from itertools import product
from math import prod, sqrt
from typing import Literal

import torch
from torch import Tensor, nn

from ..lattice import check_sizes, inside
from .rearranging import from_blocks, to_blocks

How = Literal["sum", "mean", "max"]


class Blocks(nn.Module):
    """Gathers the points of a block into one point with all their features (Graves & Schmidhuber 2009).

    Args:
        block: points of a block along each axis.

    Shapes:
        x (N, D1, ..., Dn, C) to (N, ceil(D1/b1), ..., ceil(Dn/bn), b1*...*bn*C); in a block the last axis is
        fastest, and the features of a point stay together. Blocks that reach over the end are filled with zeros.
    """

    def __init__(self, block: Sequence[int]) -> None:
        super().__init__()
        self.block = _block(block)

    @property
    def points(self) -> int:
        """Points of a block."""
        return prod(self.block)

    def extra_repr(self) -> str:
        return f"{self.block}"

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """How many blocks cover samples of these extents (N, n)."""
        block = torch.tensor(self.block, device=sizes.device)
        return (sizes + block - 1) // block

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        lattice = _lattice(x, len(self.block))
        if sizes is not None:
            x = _cleared(x, check_sizes(sizes, x.shape[0], lattice))
        if self.points == 1:
            return x
        return to_blocks(x, self.block)


class Unblocks(nn.Module):
    """The way back from :class:`Blocks`: (N, d1, ..., dn, b1*...*bn*C) to (N, D1, ..., Dn, C)."""

    def __init__(self, block: Sequence[int]) -> None:
        super().__init__()
        self.block = _block(block)

    def extra_repr(self) -> str:
        return f"{self.block}"

    def forward(self, x: Tensor, lattice: Sequence[int]) -> Tensor:
        """``lattice``: the sizes D1 ... Dn to return to; what had been filled is cut off."""
        _lattice(x, len(self.block))
        if x.shape[-1] % prod(self.block):
            raise ValueError(
                f"x must have a multiple of {prod(self.block)} features, one set for each point of a block, "
                f"got {x.shape[-1]}"
            )
        return from_blocks(x, self.block, lattice)


class DCTBlocks(Blocks):
    """The first coefficients of every block's orthonormal cosine transform (DCT-II), in zig-zag order.

    Args:
        block: points of a block along each axis.
        num_coefficients: how many to keep, all by default. The order is by total frequency, and to and fro within
            equal ones; for two axes it is that of JPEG.

    Shapes:
        x (N, D1, ..., Dn, C) to (N, ceil(D1/b1), ..., ceil(Dn/bn), num_coefficients*C), channels fastest.
    """

    def __init__(self, block: Sequence[int], num_coefficients: int | None = None) -> None:
        super().__init__(block)
        count = self.points if num_coefficients is None else num_coefficients
        if not 1 <= count <= self.points:
            raise ValueError(f"num_coefficients must lie in [1, {self.points}], got {num_coefficients}")
        self.num_coefficients = count
        # on the CPU even while weights are made on the meta device: it is no weight that is filled in later
        order = nsmallest(count, product(*map(range, self.block)), key=_zigzag)
        basis = torch.ones(count, 1, dtype=torch.float64, device="cpu")
        for axis, points in enumerate(self.block):
            waves = _cosines(points)[[index[axis] for index in order]]
            basis = (basis.unsqueeze(2) * waves.unsqueeze(1)).flatten(1)
        # no buffer: a module that is moved to another dtype would round it
        self._basis = basis

    def extra_repr(self) -> str:
        return f"{self.block}, num_coefficients={self.num_coefficients}"

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        channels = x.shape[-1]
        blocks = super().forward(x, sizes).unflatten(-1, (self.points, channels))
        return torch.einsum("kp,...pc->...kc", self._basis.to(blocks), blocks).flatten(-2)


class Subsample(nn.Module):
    """A window of points to one point by a feed-forward tanh layer (Graves & Schmidhuber 2009).

    Args:
        block: points of the window along each axis; windows do not overlap.
        input_size: features of a point before.
        output_size: features after.
        bias: whether the layer has a bias; the published network has none.
    """

    def __init__(
        self, block: Sequence[int], input_size: int, output_size: int, *, bias: bool = False
    ) -> None:
        super().__init__()
        self.blocks = Blocks(block)
        self.linear = nn.Linear(self.blocks.points * input_size, output_size, bias=bias)

    @property
    def output_size(self) -> int:
        return self.linear.out_features

    def output_sizes(self, sizes: Tensor) -> Tensor:
        return self.blocks.output_sizes(sizes)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        return torch.tanh(self.linear(self.blocks(x, sizes)))


class Collapse(nn.Module):
    """Takes the points along some axes together, by sum, mean or maximum over each sample's own extent.

    Args:
        ndim: number of axes of the lattice.
        axes: those that vanish, counted from 0.
        how: a sample without a point gives 0 in each case.
    """

    def __init__(self, ndim: int, axes: Sequence[int], how: How = "sum") -> None:
        super().__init__()
        if how not in ("sum", "mean", "max"):
            raise ValueError(f'how must be "sum", "mean" or "max", got {how!r}')
        self.ndim, self.axes, self.how = ndim, tuple(axes), how
        if not self.axes or len(set(self.axes)) < len(self.axes) or not set(self.axes) <= set(range(ndim)):
            raise ValueError(f"axes must be distinct and in [0, {ndim - 1}], got {self.axes}")

    def extra_repr(self) -> str:
        return f"axes={self.axes}, how={self.how!r}"

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """The extents on the axes that are left, (N, n - len(axes))."""
        return sizes[:, [axis for axis in range(self.ndim) if axis not in self.axes]]

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        lattice = _lattice(x, self.ndim)
        if sizes is not None:
            sizes = check_sizes(sizes, x.shape[0], lattice)
        dims = [axis + 1 for axis in self.axes]
        if self.how == "max":
            if not torch.compiler.is_exporting() and 0 in lattice:
                return x.sum(dims)
            if sizes is not None:
                x = x.masked_fill(~inside(sizes, lattice)[..., None], -torch.inf)
            lowest = x.amax(dims)
            return lowest.masked_fill(lowest == -torch.inf, 0)
        total = (x if sizes is None else _cleared(x, sizes)).sum(dims)
        if self.how == "sum":
            return total
        if sizes is None:
            points = prod([lattice[axis] for axis in self.axes])
            return total / (points if torch.compiler.is_exporting() else max(1, points))
        count = sizes[:, list(self.axes)].prod(1).clamp(min=1)
        return total / count.view(-1, *[1] * (total.dim() - 1))


def _block(block: Sequence[int]) -> tuple[int, ...]:
    steps = tuple(block)
    if not steps or any(not isinstance(step, int) or isinstance(step, bool) or step < 1 for step in steps):
        raise ValueError(f"block must hold an int of at least 1 for each axis, got {block!r}")
    return steps


def _lattice(x: Tensor, ndim: int) -> tuple[int, ...]:
    if x.dim() != ndim + 2:
        raise ValueError(f"x must have shape (N, {ndim} axes, C), got {tuple(x.shape)}")
    return tuple(x.shape[1:-1])


def _cleared(x: Tensor, sizes: Tensor) -> Tensor:
    """x with zeros outside each sample's extent, whatever stood there, NaN included."""
    return x.masked_fill(~inside(sizes, x.shape[1:-1])[..., None], 0)


def _cosines(points: int) -> Tensor:
    """Row f: the cosine of frequency f at every point, all rows of length 1."""
    position = torch.arange(points, dtype=torch.float64, device="cpu")
    waves = torch.cos(torch.pi / points * position[:, None] * (position + 0.5)) * sqrt(2 / points)
    waves[0] /= sqrt(2)
    return waves


def _zigzag(index: tuple[int, ...]) -> tuple[int, ...]:
    total = sum(index)
    return (total, *(index if total % 2 else (-frequency for frequency in index)))
