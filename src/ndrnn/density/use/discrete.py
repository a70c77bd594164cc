"""Probabilities of integer pixels of 1 to 16 bits by a model of continuous ones."""

from __future__ import annotations

import torch
from torch import Tensor

from ..lattices.images import levels_of
from ..lattices.neighborhood import as_image_batch
from ..mixture.distribution import ConditionalMixture
from ..mixture.likelihood import MixtureParams
from ..mixture.precision import own_precision
from ..ride.model import RideModel


@torch.no_grad()
def log_prob_discrete(
    ride: RideModel, images: Tensor, observed: Tensor | None = None, *, levels: int | None = None
) -> Tensor:
    """Log-probability in nats, (N, H', W'), of integer pixels: the density integrated over each value's bin.

    Value k is the bin [k, k + 1) / levels, as :func:`ndrnn.density.dequantize` has it. Neighbours enter as the
    centres of their bins, and the outermost bins reach to infinity, so that the probabilities of all ``levels``
    values sum to 1 exactly: what a lossless coder with this model can reach. Of several channels the last comes first,
    and each other one is given the centres of those after it. The differences of distribution functions are taken in
    float64: at 65536 levels a bin is narrower than the rounding of float32.

    Args:
        images: integers, (N, H, W) or (N, H, W, C).
        observed: the observed channels (N, H, W, O), floating point, of a model that has such.
        levels: how many values there are; by default what the dtype holds, see :func:`ndrnn.density.levels_of`.

    Raises:
        TypeError: the images hold no integers.
        ValueError: a value is out of range, or the dtype does not tell how many there are.
    """
    if images.is_floating_point():
        raise TypeError(f"images must hold integers for a discrete probability, got {images.dtype}")
    levels = levels_of(images) if levels is None else levels
    values = images.long()
    if values.numel() and not (int(values.min()) >= 0 and int(values.max()) < levels):
        raise ValueError(f"images must lie in [0, {levels}), got {int(values.min())} to {int(values.max())}")
    exact = as_image_batch((values.double() + 0.5) / levels, ndim=ride.ndim)
    centres = exact.to(ride.marginal.dtype)
    hidden, _ = ride.hidden_and_outputs(centres, observed)
    canvas, seen = ride.canvases(centres, observed)
    windows = ride.neighborhood.windows(canvas, seen).double()
    whitening = ride.whitening
    predictor, input_mean = whitening.predictor.double(), whitening.input_mean.double()
    with own_precision(images.device):
        expected = (windows - input_mean) @ predictor.T + whitening.output_mean.double()
    middle = ride.predicted(exact)
    low, high = (middle + side * 0.5 / levels - expected for side in (-1, 1))
    values = ride.predicted(values.view(exact.shape))
    low, high = low.masked_fill(values == 0, -torch.inf), high.masked_fill(values == levels - 1, torch.inf)
    mixture = ConditionalMixture(unwhitened(ride), hidden.double())
    return mixture.log_prob_interval(low, high).to(ride.marginal.dtype)


@torch.no_grad()
def unwhitened(ride: RideModel) -> MixtureParams:
    """The mixture of what is left of the pixels when their linear prediction is taken off, in float64.

    An expert of whitened outputs T r has the precision L Lᵀ, and so one of r the precision (Tᵀ L) (Tᵀ L)ᵀ, of which the
    triangular root is taken: bins of pixels have sides along the channels, and whitening turns them.
    """
    p = MixtureParams(*(parameter.detach().double() for parameter in ride.mcgsm.mixture_params()))
    transform, inverse = ride.whitening.output_transform.double(), ride.whitening.output_inverse.double()
    with own_precision(transform.device):
        root = transform.mT @ p.cholesky.tril()
        return p._replace(
            cholesky=torch.linalg.cholesky(root @ root.mT),
            predictors=inverse @ p.predictors,
            means=p.means @ inverse.T,
        )
