"""What a RIDE makes of images: probabilities of 8-bit pixels, ensembles over the symmetries, bits per pixel."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from ..lattices.images import batches, symmetries
from ..lattices.neighborhood import as_image_batch
from ..lattices.rate import Base, Rate, rate_of
from ..mixture.finite import check_each_finite, check_finite
from ..ride.model import RideModel
from ..ride.stacked import StackedModel


@torch.no_grad()
def log_prob_discrete(ride: RideModel, images: Tensor, *, levels: int = 256) -> Tensor:
    """Log-probability in nats, (N, H', W'), of integer pixels: the density integrated over each value's bin.

    Value k is the bin [k, k + 1) / levels, as :func:`ndrnn.density.dequantize` has it. Neighbours enter as the
    centres of their bins, and the outermost bins reach to infinity, so that the probabilities of all ``levels``
    values sum to 1 exactly: what a lossless coder with this model can reach.

    Raises:
        TypeError: the images hold no integers.
        ValueError: a value is out of range, or the model has several or observed channels.
    """
    if images.is_floating_point():
        raise TypeError(f"images must hold integers for a discrete probability, got {images.dtype}")
    if ride.observed_channels or ride.channels > 1:
        raise ValueError(
            "a discrete probability is defined for models of one channel without observed ones, "
            f"got channels={ride.channels}, observed_channels={ride.observed_channels}"
        )
    if images.numel() and not (int(images.min()) >= 0 and int(images.max()) < levels):
        raise ValueError(f"images must lie in [0, {levels}), got {int(images.min())} to {int(images.max())}")
    values = as_image_batch(images.to(ride.marginal.dtype))
    centres = (values + 0.5) / levels
    hidden, _ = ride.hidden_and_outputs(centres)
    canvas = ride.canvas(centres)
    windows = ride.neighborhood.windows(canvas)
    middle, half = ride.neighborhood.targets(canvas), 0.5 / levels
    low, high = (ride.whitening(windows, middle + side * half)[1] for side in (-1, 1))
    values = ride.neighborhood.targets(ride.canvas(values))
    low, high = low.masked_fill(values == 0, -torch.inf), high.masked_fill(values == levels - 1, torch.inf)
    return ride.mcgsm(hidden).log_prob_interval(low, high)


@torch.no_grad()
def log_prob_ensemble(
    ride: RideModel, images: Tensor, *, base: Base = "continuous", levels: int = 256
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
    levels: int = 256,
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
        ensemble: average the probability over the eight flips and transposes, on the pixels that all of them predict.

    Raises:
        TypeError, ValueError: see :meth:`RIDE.log_prob`; or a value is not finite, or an option is out of range.
        FloatingPointError: a log-density is not finite; the message names the image.
    """
    if base not in ("continuous", "discrete"):
        raise ValueError(f'base must be "continuous" or "discrete", got {base!r}')
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
            per_image.append(value.double().mean((1, 2)))
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
    ride: RideModel, images: Tensor, base: Base, levels: int, observed: Tensor | None = None
) -> Tensor:
    if base == "discrete":
        return log_prob_discrete(ride, images, levels=levels)
    return ride.log_prob(images, observed)
