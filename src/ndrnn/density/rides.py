"""The models with all that is done with them as methods: evaluate, train, sample, inpaint."""

from __future__ import annotations

from typing import Any, ClassVar

from torch import Tensor

from .lattices.rate import Rate
from .learn.patches import Pictures
from .learn.training import RideReport, fit_ride, fit_stacked
from .ride.color import LumaChromaModel
from .ride.model import RideModel
from .ride.multiscale import MultiscaleModel
from .ride.stacked import StackedModel
from .use.discrete import log_prob_discrete
from .use.evaluation import bits_per_pixel, pair_bits_per_pixel
from .use.inpainting import Inpainting, inpaint
from .use.sampling import sample, sample_pair


class RIDE(RideModel):
    __doc__ = RideModel.__doc__

    def log_prob_discrete(
        self, images: Tensor, observed: Tensor | None = None, *, levels: int | None = None
    ) -> Tensor:
        """Log-probability of integer pixels; see :func:`ndrnn.density.use.discrete.log_prob_discrete`."""
        return log_prob_discrete(self, images, observed, levels=levels)

    def bits_per_pixel(self, images: Tensor, **options: Any) -> Rate:
        """Rate with its interval; see :func:`ndrnn.density.use.evaluation.bits_per_pixel`."""
        return bits_per_pixel(self, images, **options)

    def fit(self, images: Pictures, val_images: Pictures | None = None, **options: Any) -> RideReport:
        """Train on images (N, H, W) or (N, H, W, C), or on pictures of any sizes; see :func:`ndrnn.density.learn.training.fit_ride` for all options."""
        return fit_ride(self, images, val_images, **options)

    def sample(self, n: int, *size: int, **options: Any) -> Tensor:
        """Draw ``n`` images (n, height, width, C), or what else lies on the model's axes; see
        :func:`ndrnn.density.use.sampling.sample`."""
        return sample(self, n, *size, **options)

    def inpaint(self, images: Tensor, mask: Tensor, **options: Any) -> Inpainting:
        """Fill the pixels where ``mask`` is True; see :func:`ndrnn.density.use.inpainting.inpaint`."""
        return inpaint(self, images, mask, **options)


class StackedRIDE(StackedModel):
    __doc__ = StackedModel.__doc__

    part: ClassVar[type[RideModel]] = RIDE

    def bits_per_pixel(self, images: Tensor, **options: Any) -> Rate:
        """Rate with its interval; see :func:`ndrnn.density.use.evaluation.pair_bits_per_pixel`."""
        return pair_bits_per_pixel(self, images, **options)

    def fit(self, images: Tensor, val_images: Tensor | None = None, **options: Any) -> tuple[Any, Any]:
        """Train both models, the first one first; see :func:`ndrnn.density.learn.training.fit_ride` for the options.

        Returns:
            The two reports. With ``checkpoint`` each model has a file, its name ending in ``-first`` or ``-second``.
        """
        return fit_stacked(self, images, val_images, **options)

    def sample(self, n: int, height: int, width: int, **options: Any) -> Tensor:
        """Draw ``n`` images; see :func:`ndrnn.density.use.sampling.sample_pair`."""
        return sample_pair(self, n, height, width, **options)


class MultiscaleRIDE(StackedRIDE, MultiscaleModel):
    __doc__ = MultiscaleModel.__doc__


class LumaChromaRIDE(StackedRIDE, LumaChromaModel):
    __doc__ = LumaChromaModel.__doc__
