"""Samples (N, D1, ..., Dn, C) in another light: brightness, contrast, tint, thickness of strokes, noise.

Amounts are drawn for each sample from torch's global generator. What lies outside ``sizes`` (N, n) has no say, and is 0
afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..lattice import inside


def shaded(
    x: Tensor, sizes: Tensor | None, *, brightness: float, contrast: float, tint: float, noise: float
) -> Tensor:
    """Values drawn away from the mean of their sample or towards it, scaled feature by feature, moved, and made noisy.

    Arguments as the fields of :class:`ndrnn.tasks.Augment`.
    """
    shape = (x.shape[0], *[1] * (x.dim() - 1))

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, device=x.device, dtype=x.dtype) - 1

    mask = _mask(x, sizes)
    if contrast:
        axes = tuple(range(1, x.dim()))
        counted = x if mask is None else x.masked_fill(~mask, 0)
        points = torch.full(shape, float(x[0].numel()), device=x.device, dtype=x.dtype)
        if mask is not None:
            points = (mask.sum(axes, keepdim=True) * x.shape[-1]).clamp(min=1).to(x.dtype)
        mean = counted.sum(axes, keepdim=True) / points
        x = mean + (x - mean) * (1 + contrast * uniform(*shape))
    if tint:
        x = x * (1 + tint * uniform(*shape[:-1], x.shape[-1]))
    if brightness:
        x = x + brightness * uniform(*shape)
    if noise:
        x = x + noise * torch.rand(shape, device=x.device, dtype=x.dtype) * torch.randn_like(x)
    return x if mask is None else x.masked_fill(~mask, 0)


def stroked(x: Tensor, sizes: Tensor | None, most: float) -> Tensor:
    """Bright strokes thicker or thinner by up to a point on each side: each value is mixed with the largest, or the
    smallest, of those around it.

    Args:
        most: largest share of the neighbour, 0 to 1.
    """
    amount = most * (2 * torch.rand((x.shape[0], *[1] * (x.dim() - 1)), device=x.device, dtype=x.dtype) - 1)
    mask = _mask(x, sizes)
    brightest, darkest = _largest(x, mask), -_largest(-x, mask)
    changed = torch.where(amount > 0, torch.lerp(x, brightest, amount), torch.lerp(x, darkest, -amount))
    return changed if mask is None else changed.masked_fill(~mask, 0)


def _largest(x: Tensor, mask: Tensor | None) -> Tensor:
    """Of every point and its neighbours along each axis, diagonals included."""
    if mask is not None:
        x = x.masked_fill(~mask, -torch.inf)
    for axis in range(1, x.dim() - 1):
        size = x.shape[axis]
        best = x.clone()
        for here, there in ((slice(1, None), slice(None, -1)), (slice(None, -1), slice(1, None))):
            if size > 1:
                first, second = (_at(axis, here), _at(axis, there))
                best[first] = torch.maximum(best[first], x[second])
        x = best
    return x


def _at(axis: int, part: slice) -> tuple[slice, ...]:
    return (*[slice(None)] * axis, part)


def _mask(x: Tensor, sizes: Tensor | None) -> Tensor | None:
    return None if sizes is None else inside(sizes, x.shape[1:-1]).unsqueeze(-1)
