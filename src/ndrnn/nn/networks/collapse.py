"""Points along some axes taken together with weights that the network learns."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import torch
from torch import Tensor, nn

from ..blocks import Collapse, How
from .encoder import whole
from .ragged import mask_of

Together = Literal["max", "mean", "sum", "attention"]


class Attention(nn.Module):
    """The mean over some axes, weighted by the softmax of a linear score of each point.

    Args:
        features: C.
        ndim: number n of axes.
        axes: those that vanish, counted from 0; only points inside the samples have a weight.
    """

    def __init__(self, features: int, ndim: int, axes: Sequence[int]) -> None:
        super().__init__()
        self.ndim, self.axes = ndim, tuple(axes)
        self.score = nn.Linear(features, 1, bias=False)
        nn.init.zeros_(self.score.weight)  # starts as the mean

    def extra_repr(self) -> str:
        return f"axes={self.axes}"

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """The extents on the axes that are left, (N, n - len(axes))."""
        return sizes[:, [axis for axis in range(self.ndim) if axis not in self.axes]]

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """x (N, D1, ..., Dn, C) without the axes, 0 where no point is inside."""
        inside = mask_of(whole(sizes, x), x.shape[1:-1])
        assert inside is not None
        scores = self.score(x).masked_fill(~inside, -torch.inf)
        dims = [axis + 1 for axis in self.axes]
        # where nothing is inside there is nothing to subtract, and all weights are 0
        top = scores.amax(dims, keepdim=True)
        weights = (scores - top.masked_fill(top == -torch.inf, 0)).exp()
        total = weights.sum(dims, keepdim=True)
        weights = weights / total.masked_fill(total == 0, 1)
        return (weights * x.masked_fill(~inside, 0)).sum(dims)


def collapse_by(features: int, ndim: int, axes: Sequence[int], how: Together) -> Collapse | Attention:
    """A module that takes the points along some axes together."""
    if how not in get_args(Together):
        raise ValueError(f'collapse must be "max", "mean", "sum" or "attention", got {how!r}')
    if how == "attention":
        return Attention(features, ndim, axes)
    plain: How = how
    return Collapse(ndim, axes, plain)
