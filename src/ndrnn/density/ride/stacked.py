"""Two RIDEs one upon the other: some channels of a transformed image first, then the others given those."""

from __future__ import annotations

from math import log
from typing import Any, Protocol, TypedDict

import torch
from torch import Tensor, nn

from ..lattices.images import batches
from ..lattices.neighborhood import as_image_batch
from ..lattices.rate import Rate, rate_of
from ..learn.training import fit_stacked
from ..use.sampling import ancestral
from .model import RIDE, Cell


class Options(TypedDict, total=False):
    """What both models of a pair share, as the arguments of :class:`RIDE`."""

    num_components: int
    num_scales: int
    num_features: int
    cell: Cell
    pad: bool
    device: torch.device | str | None
    dtype: torch.dtype | None


class Transform(Protocol):
    """An invertible linear map of images to channels; ``log_det`` is log|det| in nats per transformed pixel."""

    @property
    def log_det(self) -> float: ...

    def __call__(self, images: Tensor) -> Tensor: ...

    def inverse(self, channels: Tensor) -> Tensor: ...


class StackedRIDE(nn.Module):
    r"""p(x) = p(a) p(b | a) \|det T\| for the channels (a, b) = T x of a transformed image.

    Args:
        transform: maps images to channels.
        first: the RIDE of the first channels.
        second: the RIDE of the others, which observes the first ones everywhere.

    Raises:
        ValueError: the second does not observe what the first predicts, or only one of them pads.
    """

    def __init__(self, transform: nn.Module, first: RIDE, second: RIDE) -> None:
        super().__init__()
        if second.observed_channels != first.channels:
            raise ValueError(
                f"second must observe the {first.channels} channels of first, got {second.observed_channels}"
            )
        if first.pad != second.pad:
            raise ValueError(f"first and second must pad alike, got {first.pad} and {second.pad}")
        self.transform, self.first, self.second = transform, first, second

    @property
    def channels(self) -> int:
        """Channels of a transformed pixel."""
        return self.first.channels + self.second.channels

    def split(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The first channels and the others of images, at the resolution of the transform.

        Raises:
            TypeError, ValueError: the images do not fit the transform.
        """
        transformed = self.transform(as_image_batch(images))
        if transformed.shape[-1] != self.channels:
            raise ValueError(f"images must give {self.channels} channels, got {transformed.shape[-1]}")
        return transformed[..., : self.first.channels], transformed[..., self.first.channels :]

    def log_prob_parts(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Log-densities in nats of the first channels and of the others, each for the pixels that its model predicts.

        All of both, summed, plus log|det| is the exact density of the predicted values given the others.
        """
        first, second = self.split(images)
        return self.first.log_prob(first), self.second.log_prob(second, first)

    def log_prob(self, images: Tensor) -> Tensor:
        """Log-density in nats of every transformed pixel that both models predict, (N, H', W')."""
        a, b = self.log_prob_parts(images)
        if not self.first.pad:
            # the grids begin where the models' margins end
            (t1, b1, l1, r1), (t2, b2, l2, r2) = (
                self.first.neighborhood.margins,
                self.second.neighborhood.margins,
            )
            a = _cropped(a, t2 - t1, b2 - b1, l2 - l1, r2 - r1)
            b = _cropped(b, t1 - t2, b1 - b2, l1 - l2, r1 - r2)
        return a + b + self._log_det

    def forward(self, images: Tensor) -> Tensor:
        """The same as :meth:`log_prob`."""
        return self.log_prob(images)

    @torch.no_grad()
    def bits_per_pixel(
        self, images: Tensor, *, batch_size: int = 64, confidence: float = 0.95, seed: int = 0
    ) -> Rate:
        """Mean log2-density over the predicted pixels and channels, with a bootstrap interval over the images."""
        per_image, pixels = [], 0
        for part in batches(len(images), batch_size):
            value = self.log_prob(images[part])
            pixels = value[0].numel()
            per_image.append(value.double().mean((1, 2)))
        return rate_of(torch.cat(per_image) / self.channels, "continuous", pixels, confidence, seed)

    @torch.no_grad()
    def surprise(self, images: Tensor) -> Tensor:
        """-log2 of the density of every transformed pixel, (N, H', W')."""
        return -self.log_prob(images) / log(2.0)

    def fit(self, images: Tensor, val_images: Tensor | None = None, **options: Any) -> tuple[Any, Any]:
        """Train both models, the first one first; see :func:`ndrnn.density.learn.training.fit_ride` for the options.

        Returns:
            The two reports. With ``checkpoint`` each model has a file, its name ending in ``-first`` or ``-second``.
        """
        return fit_stacked(self, images, val_images, **options)

    @torch.no_grad()
    def sample(
        self, n: int, height: int, width: int, *, margin: int = 8, generator: torch.Generator | None = None
    ) -> Tensor:
        """Draw ``n`` images whose transforms have ``height`` x ``width`` pixels: the first channels, then the others.

        Raises:
            ValueError: a size is out of range.
        """
        for name, value in (("n", n), ("height", height), ("width", width)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        above = below = before = after = 0
        if not self.first.pad:
            both = zip(self.first.neighborhood.margins, self.second.neighborhood.margins, strict=True)
            above, below, before, after = (max(pair) for pair in both)
            above, before, after = (max(margin, side) for side in (above, before, after))
        shape = (n, height + above + below, width + before + after)

        def border(ride: RIDE) -> Tensor:
            if ride.pad:
                return ride.marginal.new_zeros(*shape, ride.channels)
            return ride.marginal[torch.randint(len(ride.marginal), shape, generator=generator)]

        first = ancestral(self.first, border(self.first), generator=generator).images
        second = ancestral(self.second, border(self.second), observed=first, generator=generator).images
        channels = torch.cat([first, second], -1)[:, above : above + height, before : before + width]
        images: Tensor = self.transform.inverse(channels)  # type: ignore[operator]
        return images

    def shared_config(self) -> dict[str, Any]:
        """The constructor's arguments of a pair whose neighbourhoods are windows of one width.

        Raises:
            ValueError: the models differ in one of them, because only one was given a layer.
        """
        first, second = self.first.config(), self.second.config()
        shared = ("hidden_size", "num_layers", "num_components", "num_scales", "num_features", "cell", "pad")
        for name in shared:
            if first[name] != second[name]:
                raise ValueError(
                    f"both models must have the same {name}, got {first[name]} and {second[name]}"
                )
        return {**{name: first[name] for name in shared}, "width": self.first.neighborhood.mask.shape[1]}

    @property
    def _log_det(self) -> float:
        return float(self.transform.log_det)  # type: ignore[arg-type]


def _cropped(values: Tensor, top: int, bottom: int, left: int, right: int) -> Tensor:
    """Without so many rows and columns at each side; negative counts leave a side as it is."""
    rows, columns = values.shape[1:3]
    return values[:, max(top, 0) : rows - max(bottom, 0), max(left, 0) : columns - max(right, 0)]
