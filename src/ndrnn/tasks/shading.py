"""Samples (N, D1, ..., Dn, C) in another light: brightness, contrast, gamma, tint, thickness of strokes, noise,
and with parts cut out.

Amounts are drawn for each sample from torch's global generator. What lies outside ``sizes`` (N, n) has no say, and is 0
afterwards.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..lattice import inside


def shaded(
    x: Tensor,
    sizes: Tensor | None,
    *,
    brightness: float,
    contrast: float,
    gamma: float,
    tint: float,
    noise: float,
) -> Tensor:
    """Values raised to a power, drawn away from the mean of their sample or towards it, scaled feature by feature, moved,
    and made noisy.

    Arguments as the fields of :class:`ndrnn.tasks.Augment`.
    """
    shape = (x.shape[0], *[1] * (x.dim() - 1))

    def uniform(*shape: int) -> Tensor:
        return 2 * torch.rand(shape, device=x.device, dtype=x.dtype) - 1

    mask = _mask(x, sizes)
    if gamma:
        # values outside 0 to 1, such as those of volumes in units of their own, keep their sign
        x = x.sign() * x.abs() ** (1 + gamma) ** uniform(*shape)
    if contrast:
        mean = _mean(x, mask).mean(-1, keepdim=True)
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


def cut_out(x: Tensor, sizes: Tensor | None, most: float) -> Tensor:
    """A box of every sample filled with the mean of each feature.

    Args:
        most: largest share of the box in each extent, 0 to 1.
    """
    mask, lattice = _mask(x, sizes), x.shape[1:-1]
    extents = x.new_tensor(lattice).expand(len(x), -1) if sizes is None else sizes.to(x.dtype)
    edges = most * torch.rand(extents.shape, device=x.device, dtype=x.dtype) * extents
    first = torch.rand(extents.shape, device=x.device, dtype=x.dtype) * (extents - edges)
    box = torch.ones((len(x), *[1] * len(lattice)), device=x.device, dtype=torch.bool)
    for axis, extent in enumerate(lattice):
        # of a point, whose places are from its number to the next, the middle counts
        places = torch.arange(extent, device=x.device, dtype=x.dtype) + 0.5
        start, edge = first[:, axis, None], edges[:, axis, None]
        along = (places >= start) & (places < start + edge)
        box = box & along.view(len(x), *[extent if other == axis else 1 for other in range(len(lattice))])
    cut = torch.where(box.unsqueeze(-1), _mean(x, mask), x)
    return cut if mask is None else cut.masked_fill(~mask, 0)


def _mean(x: Tensor, mask: Tensor | None) -> Tensor:
    """Of each sample and feature, over the points inside, (N, 1, ..., 1, C)."""
    axes = tuple(range(1, x.dim() - 1))
    if mask is None:
        return x.mean(axes, keepdim=True)
    points = mask.sum(axes, keepdim=True).clamp(min=1).to(x.dtype)
    return x.masked_fill(~mask, 0).sum(axes, keepdim=True) / points


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
