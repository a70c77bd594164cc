"""What the networks are made of: norms that padding does not touch, convolutions, stochastic depth, the input's scale.

All take and give (N, D1, ..., Dn, C) with zeros outside the samples, and a mask (N, D1, ..., Dn, 1) or None.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, TypedDict

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ...registry import layers
from ..layers import Directions
from .ragged import Mask, cleared

NormKind = Literal["layer", "rms", "batch"]
_EPSILON = 1e-5


class Options(TypedDict, total=False):
    """What every network of this package takes by keyword, see :class:`Style`."""

    layer: str
    directions: Directions
    norm: NormKind
    separable: bool
    dropout: float
    stochastic_depth: float
    recompute: bool | int


@dataclass(frozen=True)
class Style:
    """How the parts of a network are built."""

    layer: str = "MDGRU"
    """The kind of recurrent layer, a name in :data:`ndrnn.registry.layers`."""
    directions: Directions = "all"
    """Corners to scan from, see :class:`ndrnn.MDLSTM`."""
    norm: NormKind = "batch"
    """``"layer"`` or ``"rms"`` over the features of each point, or ``"batch"``, over the points inside the samples."""
    separable: bool = False
    """Whether a convolution is one of each feature alone and then one of each point alone: about a ninth of the weights
    in the plane (Chollet 2017)."""
    dropout: float = 0.0
    """Share of the features that are set to zero in training: before and after levels that scan, of what recurrent layers
    say, and before the output of a network that collapses."""
    stochastic_depth: float = 0.0
    """Share of the samples that pass by a scan block in training (Huang et al. 2016)."""
    recompute: bool | int = False
    """Of the recurrent layers, see :class:`ndrnn.nn.ScanLayer`."""

    def __post_init__(self) -> None:
        layers.find(self.layer)
        if self.norm not in NormKind.__args__:  # type: ignore[attr-defined]
            raise ValueError(f'norm must be "layer", "rms" or "batch", got {self.norm!r}')
        for name in ("dropout", "stochastic_depth"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name} must lie in [0, 1), got {getattr(self, name)}")

    def along_one_axis(self) -> Style:
        """The same for a scan along the last axis alone, in each sense that there is."""
        if isinstance(self.directions, str):
            return self
        senses = dict.fromkeys((direction[-1],) for direction in self.directions)
        return replace(self, directions=tuple(senses))


class Standardize(nn.Module):
    """Centres and scales the features of x (N, D1, ..., Dn, C); as long as nothing is set it changes nothing."""

    mean: Tensor
    std: Tensor

    def __init__(self, features: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("std", torch.ones(features))

    @torch.no_grad()
    def set(self, mean: Tensor, std: Tensor) -> None:
        """The centre and scale (C,) of each feature; a feature that never varies keeps its scale."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1))

    def forward(self, x: Tensor) -> Tensor:
        return (x - self.mean) / self.std


def make_norm(features: int, kind: NormKind) -> nn.Module:
    """A norm, called with x and the mask; it gives zeros outside the samples."""
    return BatchNorm(features) if kind == "batch" else PointNorm(features, kind)


class PointNorm(nn.Module):
    """Layer norm or RMS norm over the features of each point alone."""

    def __init__(self, features: int, kind: Literal["layer", "rms"]) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(features) if kind == "layer" else nn.RMSNorm(features, eps=_EPSILON)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        if isinstance(self.norm, nn.RMSNorm) and torch.compiler.is_exporting():
            # torch's own asks whether an extent is 1, which is not known where extents are free
            return cleared(
                x * (x.square().mean(-1, keepdim=True) + _EPSILON).rsqrt() * self.norm.weight, mask
            )
        return cleared(self.norm(x), mask)


class BatchNorm(nn.Module):
    """Batch norm whose moments are those of the points inside the samples.

    In evaluation it is one scale and shift a feature, whatever else is in the batch.
    """

    mean: Tensor
    var: Tensor

    def __init__(self, features: int, momentum: float = 0.1, eps: float = 1e-5) -> None:
        super().__init__()
        self.momentum, self.eps = momentum, eps
        self.weight = nn.Parameter(torch.ones(features))
        self.bias = nn.Parameter(torch.zeros(features))
        self.register_buffer("mean", torch.zeros(features))
        self.register_buffer("var", torch.ones(features))

    def extra_repr(self) -> str:
        return f"{len(self.weight)}"

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        if not self.training:
            scale = self.weight * (self.var + self.eps).rsqrt()
            return cleared(x * scale + (self.bias - self.mean * scale), mask)
        points = x.reshape(-1, x.shape[-1])
        if mask is None:
            return self._normed(points).view_as(x)
        # the points inside, gathered: moments of masked lattices take several times as long
        inside = mask.flatten().nonzero().squeeze(1)
        normed = self._normed(points.index_select(0, inside))
        return torch.zeros_like(points).index_copy(0, inside, normed).view_as(x)

    def _normed(self, points: Tensor) -> Tensor:
        """Points (P, C) in training."""
        if len(points) < 2:
            # without a second point there is no deviation, and of none no mean: the running moments stay
            return ((points - points) * self.weight + self.bias).to(points.dtype)
        return F.batch_norm(
            points, self.mean, self.var, self.weight, self.bias, True, self.momentum, self.eps
        )


class Convolution(nn.Module):
    """A convolution over 3 points along each of n = 1, 2 or 3 axes, a norm, and a rectifier.

    Args:
        before: features of the input.
        after: features of the output.
        ndim: number n of axes.
        style: of the norm, and whether the convolution is separable.
    """

    def __init__(self, before: int, after: int, ndim: int, style: Style) -> None:
        super().__init__()
        kinds = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
        if ndim not in kinds:
            raise ValueError(f"ndim must be 1, 2 or 3 for convolutions, got {ndim}")
        kind = kinds[ndim]
        self.separable = style.separable and before > 1
        if self.separable:
            self.convolution: nn.Module = kind(before, before, 3, padding=1, groups=before, bias=False)
            self.mix: nn.Module = nn.Linear(before, after, bias=False)
        else:
            self.convolution = kind(before, after, 3, padding=1, bias=False)
            self.mix = nn.Identity()
        self.norm = make_norm(after, style.norm)

    def forward(self, x: Tensor, mask: Mask) -> Tensor:
        y = self.mix(self.convolution(x.movedim(-1, 1)).movedim(1, -1))
        return F.relu(self.norm(y, mask))


class StochasticDepth(nn.Module):
    """In training sets whole samples of a branch to zero, and scales up the others so that the mean stays."""

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def extra_repr(self) -> str:
        return f"{self.share}"

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not self.share:
            return x
        kept = torch.rand(x.shape[0], device=x.device) >= self.share
        return x * (kept / (1 - self.share)).to(x.dtype).view(-1, *[1] * (x.dim() - 1))
