"""Lattices (N, D1, ..., Dn, C) of ragged samples made coarser and finer.

A mask (N, D1, ..., Dn, 1) is true inside each sample, or None where all samples fill the lattice. Outside it features
are zero, so that a convolution sees there what it sees beyond the edge of a sample alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
import torch.nn.functional as F
from torch import Tensor

from ...lattice import inside
from ..rearranging import to_blocks

Mask = Tensor | None


def mask_of(sizes: Tensor | None, lattice: Sequence[int]) -> Mask:
    """Where the samples of these extents (N, n) are."""
    return None if sizes is None else inside(sizes, lattice).unsqueeze(-1)


def cleared(x: Tensor, mask: Mask) -> Tensor:
    """x with zeros outside the samples, whatever stood there, NaN included."""
    return x if mask is None else x.masked_fill(~mask, 0)


def coarser(sizes: Tensor, block: Sequence[int]) -> Tensor:
    """How many blocks cover samples of these extents (N, n)."""
    steps = torch.tensor(tuple(block), device=sizes.device)
    return (sizes + steps - 1) // steps


def largest(x: Tensor, block: Sequence[int], mask: Mask) -> Tensor:
    """Each feature's largest value in every block of points; only points inside the samples count.

    Blocks reach over the end where an extent is no multiple of them; a block without a point inside gives -inf.
    """
    if prod(block) == 1:
        return x
    if mask is not None:
        x = x.masked_fill(~mask, -torch.inf)
    if torch.compiler.is_exporting():
        # a free extent may be covered by one block, which views of torch would forbid
        points = to_blocks(x, block, -torch.inf)
        return points.unflatten(-1, (prod(block), -1)).amax(-2)
    pool = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}[len(block)]
    pooled: Tensor = pool(x.movedim(-1, 1), tuple(block), ceil_mode=True)
    return pooled.movedim(1, -1)


def spread(x: Tensor, block: Sequence[int], lattice: Sequence[int]) -> Tensor:
    """Every point repeated over its block, cut off at the extents of the finer lattice."""
    for axis, (step, extent) in enumerate(zip(block, lattice, strict=True), start=1):
        if step > 1:
            # no view cut off at the end: a traced graph would remember whether there was something to cut
            x = x.index_select(axis, torch.arange(extent, device=x.device) // step)
    return x
