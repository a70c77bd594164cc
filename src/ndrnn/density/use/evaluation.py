"""What a RIDE makes of images: ensembles over the symmetries, bits per pixel."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from ..lattices.images import batches, symmetries
from ..lattices.rate import Base, Rate, rate_of
from ..mixture.finite import check_each_finite, check_finite
from ..ride.model import RideModel
from ..ride.stacked import StackedModel
from .discrete import log_prob_discrete


@torch.no_grad()
def log_prob_ensemble(
    ride: RideModel, images: Tensor, *, base: Base = "continuous", levels: int | None = None
) -> tuple[Tensor, int]:
    """Log-density in nats of the inner pixels of each image, (N,), under the mean of the eight flips and transposes
    (Theis & Bethge 2015, section 3.5), and how many these pixels are.

    The inner pixels are those that every member predicts; the others count as given.
    """
    crop = 0 if ride.pad else max(ride.neighborhood.margins)
    top, _, left, _ = (0,) * 4 if ride.pad else ride.neighborhood.margins
    members = []
    for turn in symmetries():
        turned = turn(images).contiguous()
        height, width = turned.shape[1:3]
        value = _log_prob(ride, turned, base, levels)
        inner = value[:, crop - top : height - crop - top, crop - left : width - crop - left]
        members.append(inner.double().sum((1, 2)))
    pixels = (images.shape[1] - 2 * crop) * (images.shape[2] - 2 * crop)
    return torch.logsumexp(torch.stack(members), 0) - log(len(members)), pixels


@torch.no_grad()
def bits_per_pixel(
    ride: RideModel,
    images: Tensor,
    *,
    observed: Tensor | None = None,
    base: Base = "continuous",
    levels: int | None = None,
    ensemble: bool = False,
    batch_size: int = 64,
    confidence: float = 0.95,
    seed: int = 0,
) -> Rate:
    """Mean over all predicted pixels and channels, in bits, with a bootstrap interval over the images.

    Args:
        images: (N, H, W) or (N, H, W, C), N independent images: the interval is over them.
        base: ``"continuous"``: log2-density of floating-point images, larger is better; ``"discrete"``: code length
            -log2 P of integer images of ``levels`` values, smaller is better.
        levels: by default what the images' dtype holds.
        ensemble: average the probability over the eight flips and transposes, on the pixels that all of them predict.

    Raises:
        TypeError, ValueError: see :meth:`RIDE.log_prob`; or a value is not finite, or an option is out of range.
        FloatingPointError: a log-density is not finite; the message names the image.
    """
    if base not in ("continuous", "discrete"):
        raise ValueError(f'base must be "continuous" or "discrete", got {base!r}')
    if ensemble and ride.ndim != 2:
        raise ValueError(f"an ensemble over flips and transposes is defined for images, got {ride.ndim} axes")
    if ensemble and observed is not None:
        raise ValueError("an ensemble is defined for models without observed channels")
    per_image, pixels = [], 0
    for part in batches(len(images), batch_size):
        chunk = images[part]
        if chunk.is_floating_point():
            check_finite(chunk, "images")
        if ensemble:
            total, pixels = log_prob_ensemble(ride, chunk, base=base, levels=levels)
            per_image.append(total / pixels)
        else:
            seen = None if observed is None else observed[part]
            value = _log_prob(ride, chunk, base, levels, seen)
            pixels = value[0].numel()
            per_image.append(value.double().mean(tuple(range(1, value.dim()))))
    nats = torch.cat(per_image)
    check_each_finite(nats, "the log-density")
    return rate_of(nats / ride.channels, base, pixels, confidence, seed)


@torch.no_grad()
def pair_bits_per_pixel(
    model: StackedModel, images: Tensor, *, batch_size: int = 64, confidence: float = 0.95, seed: int = 0
) -> Rate:
    """Mean log2-density over the predicted pixels and channels, with a bootstrap interval over the images."""
    per_image, pixels = [], 0
    for part in batches(len(images), batch_size):
        value = model.log_prob(images[part])
        pixels = value[0].numel()
        per_image.append(value.double().mean((1, 2)))
    nats = torch.cat(per_image)
    check_each_finite(nats, "the log-density")
    return rate_of(nats / model.channels, "continuous", pixels, confidence, seed)


def _log_prob(
    ride: RideModel, images: Tensor, base: Base, levels: int | None, observed: Tensor | None = None
) -> Tensor:
    if base == "discrete":
        return log_prob_discrete(ride, images, observed, levels=levels)
    return ride.log_prob(images, observed)
