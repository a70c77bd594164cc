"""Two models one upon the other: some channels of a transformed image first, then the others given those."""

from __future__ import annotations

from math import log
from typing import Any, ClassVar, Protocol, TypedDict

import torch
from torch import Tensor, nn

from ..lattices.neighborhood import as_image_batch
from .model import RideModel


class Options(TypedDict, total=False):
    """What both models of a pair share, as the arguments of :class:`RIDE`."""

    num_components: int
    num_scales: int
    num_features: int
    cell: str
    pad: bool
    device: torch.device | str | None
    dtype: torch.dtype | None


class Transform(Protocol):
    """An invertible linear map of images to channels; ``log_det`` is log|det| in nats per transformed pixel."""

    @property
    def log_det(self) -> float: ...

    def __call__(self, images: Tensor) -> Tensor: ...

    def inverse(self, channels: Tensor) -> Tensor: ...


class StackedModel(nn.Module):
    r"""p(x) = p(a) p(b | a) \|det T\| for the channels (a, b) = T x of a transformed image.

    Args:
        transform: maps images to channels.
        first: the RIDE of the first channels.
        second: the RIDE of the others, which observes the first ones everywhere.

    Raises:
        ValueError: the second does not observe what the first predicts, or only one of them pads.
    """

    part: ClassVar[type[RideModel]] = RideModel
    """What a pair that makes its own models makes them of."""

    def __init__(self, transform: nn.Module, first: RideModel, second: RideModel) -> None:
        super().__init__()
        if second.observed_channels != first.channels:
            raise ValueError(
                f"second must observe the {first.channels} channels of first, got {second.observed_channels}"
            )
        if first.ndim != 2 or second.ndim != 2:
            raise ValueError(
                f"first and second must be models of images, got {first.ndim} and {second.ndim} axes"
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
    def surprise(self, images: Tensor) -> Tensor:
        """-log2 of the density of every transformed pixel, (N, H', W')."""
        return -self.log_prob(images) / log(2.0)

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
