"""A model of images in planes: one RIDE for each, which sees the planes before."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from math import log
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

from ...ride.model import RideModel
from .planes import TRANSFORMS, plane_bits, split

Image = Tensor | np.ndarray[Any, Any]


class PlaneModel(nn.Module):
    """What a colour picture is coded with: a RIDE for every plane that a reversible transform of integers gives.

    :func:`ndrnn.save` puts all of them into one file. The first also codes grey images and alpha channels; planes
    beyond the last are coded by the last.

    Args:
        rides: in the order of the planes, of one channel each; the model of plane p observes at most the p planes
            before it, the first ones of them.
        transform: ``"ycocg"`` (luma, then orange and green chroma), ``"green"`` (green, then red and blue less green) or
            ``"none"``; what the models learned from.

    Raises:
        ValueError: a model predicts several channels or observes planes that come later, or the transform is unknown.
    """

    def __init__(self, rides: Sequence[RideModel], transform: str = "ycocg") -> None:
        super().__init__()
        if not rides:
            raise ValueError("rides must hold at least one model")
        if transform not in TRANSFORMS:
            raise ValueError(
                f"transform must be one of {', '.join(map(repr, TRANSFORMS))}, got {transform!r}"
            )
        for plane, ride in enumerate(rides):
            if ride.channels != 1 or ride.observed_channels > plane:
                raise ValueError(
                    f"the model of plane {plane} must predict one channel and observe at most {plane}, "
                    f"got channels={ride.channels}, observed_channels={ride.observed_channels}"
                )
        self.rides, self.transform = nn.ModuleList(rides), transform

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, for :meth:`from_config`."""
        return {"rides": [ride.config() for ride in self.rides], "transform": self.transform}  # type: ignore[operator]

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Self:
        """A model as :meth:`config` describes it; its weights are fresh."""
        return cls([RideModel.from_config(ride) for ride in config["rides"]], config["transform"])


def training_planes(
    image: Image, *, bits: int = 8, transform: str = "ycocg", generator: torch.Generator | None = None
) -> list[tuple[Tensor, Tensor]]:
    """What the models of a :class:`PlaneModel` learn from a colour picture: for every plane its values and those of the
    planes before it, float32.

    Args:
        image: integers (\\*lattice, C) of ``bits`` bits.
        generator: of the noise with which the values are dequantised; what is observed is the centres of the bins.

    Returns:
        For each plane (\\*lattice, 1) and (\\*lattice, p), p planes before it.
    """
    samples = np.asarray(image.numpy() if isinstance(image, Tensor) else image).astype(np.uint16)
    planes = split(samples, bits, transform)
    levels = [1 << wide for wide in plane_bits(bits, len(planes), transform)]
    values = [torch.from_numpy(plane.astype(np.int32)).float().unsqueeze(-1) for plane in planes]
    centres = [(value + 0.5) / level for value, level in zip(values, levels, strict=True)]
    noisy = [
        (value + torch.rand(value.shape, generator=generator)) / level
        for value, level in zip(values, levels, strict=True)
    ]
    empty = values[0][..., :0]
    return [(noise, torch.cat([empty, *centres[:p]], -1)) for p, noise in enumerate(noisy)]


def rescaled(ride: RideModel, factor: float, shift: float) -> RideModel:
    """The model of y of which ``ride`` is that of x = factor y + shift; its numbers are the same on every machine.

    What learned from int16 voxels, x from -1 to 1, is coded as the one of unsigned numbers, y from 0 to 1, by
    ``rescaled(ride, 2, -1)``.

    Raises:
        ValueError: it observes other channels, which may have another scale.
    """
    if ride.observed_channels:
        raise ValueError(f"ride must observe no channels to be rescaled, got {ride.observed_channels}")
    result = deepcopy(ride)
    whitening = result.whitening
    with torch.no_grad():
        for mean in whitening.input_mean, whitening.output_mean:
            mean.copy_((mean.double() - shift) / factor)
        for transform in whitening.input_transform, whitening.output_transform:
            transform.copy_(transform.double() * factor)
        for inverse in whitening.input_inverse, whitening.output_inverse:
            inverse.copy_(inverse.double() / factor)
        whitening.log_jacobian.add_(ride.channels * log(factor))
    return result


def rides_of(model: nn.Module) -> list[RideModel]:
    """The models of the planes.

    Raises:
        ValueError: the model is of another kind.
    """
    if isinstance(model, RideModel):
        if model.observed_channels:
            raise ValueError(
                f"a model that observes {model.observed_channels} channels cannot code a first plane: "
                "put it into a PlaneModel"
            )
        return [model]
    if isinstance(model, PlaneModel):
        return [ride for ride in model.rides if isinstance(ride, RideModel)]
    raise ValueError(f"images are coded by a RIDE or a PlaneModel, got {type(model).__name__}")
