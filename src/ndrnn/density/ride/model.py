"""The model of RIDE: parameters, log-probabilities, and what stepping through an image needs."""

from __future__ import annotations

from collections.abc import Mapping
from math import log
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...nn.layers import ScanLayer
from ..lattices.neighborhood import CausalNeighborhood, as_image_batch
from ..lattices.whitening import Whitening
from ..mixture.finite import check_finite
from ..mixture.mcgsm import MCGSM
from .cells import DEFAULT_CELL, hand_on, make_layer

_MARGINAL = 1024


class RideModel(nn.Module):
    r"""Recurrent image density estimator (Theis & Bethge 2015): :math:`p(x) = \prod_{ij} p(x_{ij} | h_{ij})`.

    The whitened causal neighbourhoods feed a stack of recurrent layers; the MCGSM on top sees only the last hidden vector.
    :class:`ndrnn.RIDE` is this with what is done with a model as methods.

    Args:
        hidden_size: hidden units of every layer.
        num_layers: layers of the stack.
        neighborhood: inputs of the first layer; a 5-wide window (12 pixels) if not given.
        num_components, num_scales, num_features: of the MCGSM.
        channels: channels C of the images, predicted jointly.
        observed_channels: further channels that are known everywhere, given as ``observed``.
        cell: of the layers: ``"leaky"``, the default, ``"stable"``, ``"gru"``, ``"rnn"``, ``"linear"``, ``"spatial"``, the
            published one, ``"spatial_extended"`` or ``"lstm"``, or the name of any registered layer, such as ``"MDGRU"``.
            The memories of the first five are bounded by their equations; those of the others grow on images larger than
            those that were learned from, once training has opened their gates.
        pad: whether images are bordered with zeros so that every pixel is predicted, the model of patches.
        residual: whether a layer above the first adds to what it is given: x + scale * layer(x) with a learned scale
            for each unit, 0.5 at first. An added layer that passes through begins at 0.
        ndim: axes of the lattice, those of the neighbourhood: 1 for signals (N, D, C), 2, the default, for images, 3 for
            volumes and videos (N, D1, D2, D3, C).

    Images are floating point, (N, H, W) or (N, H, W, C); log-probabilities are in nats with respect to the density of
    the values as given.
    """

    marginal: Tensor

    def __init__(
        self,
        hidden_size: int = 64,
        num_layers: int = 1,
        neighborhood: CausalNeighborhood | None = None,
        num_components: int = 32,
        num_scales: int = 4,
        num_features: int = 32,
        channels: int = 1,
        *,
        observed_channels: int = 0,
        cell: str = DEFAULT_CELL,
        pad: bool = False,
        residual: bool = False,
        ndim: int | None = None,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        for name, value in (("hidden_size", hidden_size), ("num_layers", num_layers), ("channels", channels)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if neighborhood is None:
            neighborhood = CausalNeighborhood.window(
                5, ndim=2 if ndim is None else ndim, observed=observed_channels > 0
            )
        if ndim not in (None, neighborhood.ndim):
            raise ValueError(f"ndim={ndim} does not fit {neighborhood!r} of {neighborhood.ndim} axes")
        if bool(observed_channels) != bool(neighborhood.observed_size):
            raise ValueError(
                f"observed_channels={observed_channels} does not fit {neighborhood!r}: observed channels need a "
                "neighborhood with an observed mask, and only they"
            )
        self.hidden_size, self.channels, self.observed_channels = hidden_size, channels, observed_channels
        self.neighborhood, self.cell, self.pad, self.residual = neighborhood, cell, pad, residual
        self._options: dict[str, Any] = {"device": device, "dtype": dtype}
        inputs = neighborhood.num_inputs(channels, observed_channels)
        if inputs < 1:
            raise ValueError(f"neighborhood must have at least one input, got {neighborhood!r}")
        self.whitening = Whitening(inputs, channels, device=device, dtype=dtype)
        self.layers, self.scales = nn.ModuleList(), nn.ParameterList()
        for _ in range(num_layers):
            self._stack(self._make_layer(), scale=0.5)
        self.mcgsm = MCGSM(
            hidden_size, channels, num_components, num_scales, num_features, device=device, dtype=dtype
        )
        # as in the original: with means stochastic gradient descent at the published rates diverges
        self.mcgsm.means.requires_grad_(False)
        self.register_buffer("marginal", torch.zeros(_MARGINAL, channels, device=device, dtype=dtype))

    @property
    def ndim(self) -> int:
        """Axes of the lattice."""
        return self.neighborhood.ndim

    @property
    def num_layers(self) -> int:
        return len(self.layers)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values, for :meth:`from_config`."""
        nb = self.neighborhood
        return {
            "hidden_size": self.hidden_size,
            "num_layers": self.num_layers,
            "neighborhood": {
                "mask": nb.mask.int().tolist(),
                "output": list(nb.output),
                "observed": nb.observed.int().tolist(),
            },
            "num_components": self.mcgsm.num_components,
            "num_scales": self.mcgsm.num_scales,
            "num_features": self.mcgsm.num_features,
            "channels": self.channels,
            "observed_channels": self.observed_channels,
            "cell": self.cell,
            "pad": self.pad,
            "residual": self.residual,
        }

    @classmethod
    def from_config(cls, config: Mapping[str, Any], **options: Any) -> Self:
        """A model as :meth:`config` describes it; its weights are fresh."""
        given = dict(config)
        neighborhood = CausalNeighborhood(**given.pop("neighborhood"))
        return cls(neighborhood=neighborhood, **given, **options)

    def add_layer(self, *, pass_through: bool = False) -> Self:
        """Put a layer on top: deep models are grown greedily, layer by layer.

        Args:
            pass_through: the layer hands on what the one below gives, and the MCGSM stays, so that the model starts
                near what it was; with ``residual`` it starts as exactly what it was. Otherwise the layer is fresh and
                the MCGSM starts anew, as published.

        Raises:
            ValueError: ``pass_through`` without ``residual`` and with a layer whose candidate is not known.
        """
        # the model may have moved since it was made
        self._options = {"device": self.marginal.device, "dtype": self.marginal.dtype}
        top = self._make_layer()
        if not pass_through:
            self.mcgsm.reset_parameters()
        elif not self.residual:
            hand_on(top)
        self._stack(top, scale=0.0 if pass_through else 0.5)
        return self

    def _stack(self, layer: nn.Module, scale: float) -> None:
        """Put a layer on top, and its scale where it adds to what is below."""
        if self.residual and self.layers:
            self.scales.append(nn.Parameter(torch.full((self.hidden_size,), scale, **self._options)))
        self.layers.append(layer)

    def handed_on(self, level: int, x: Tensor, y: Tensor) -> Tensor:
        """What goes on from the layer of this level, counted from 0, that was given ``x`` and gives ``y``."""
        return x + self.scales[level - 1] * y if self.residual and level else y

    def _make_layer(self) -> nn.Module:
        inputs = self.hidden_size if self.layers else self.whitening.num_inputs
        return make_layer(self.cell, inputs, self.hidden_size, self.ndim, **self._options)

    def scan_layers(self) -> list[ScanLayer]:
        """Those of the layers that are scans of a cell, typed."""
        return [layer for layer in self.layers if isinstance(layer, ScanLayer)]

    def canvas(self, images: Tensor, name: str = "images", channels: int | None = None) -> Tensor:
        """Images (N, H, W, C) as the model reads them: bordered with zeros if it pads.

        Raises:
            TypeError: integers, or another dtype than the model's.
            ValueError: wrong channels or dimensions.
        """
        images = as_image_batch(images, name, self.ndim)
        channels = self.channels if channels is None else channels
        if images.shape[-1] != channels:
            raise ValueError(f"{name} must have {channels} channels, got {images.shape[-1]}")
        if images.dtype != self.marginal.dtype:
            raise TypeError(f"{name} must be {self.marginal.dtype}, the model's dtype, got {images.dtype}")
        if not self.pad:
            return images
        # padding is told from the last axis on
        pairs = zip(self.neighborhood.margins[::2], self.neighborhood.margins[1::2], strict=True)
        sides = [side for pair in reversed(list(pairs)) for side in pair]
        return functional.pad(images, (0, 0, *sides))

    def canvases(self, images: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        """Both kinds of images as the model reads them, checked."""
        canvas = self.canvas(images)
        if (observed is None) != (self.observed_channels == 0):
            raise ValueError(
                f"observed must {'not ' if observed is not None else ''}be given: the model has "
                f"{self.observed_channels} observed channels"
            )
        seen = None if observed is None else self.canvas(observed, "observed", self.observed_channels)
        return canvas, seen

    def predicted(self, values: Tensor) -> Tensor:
        """What of (N, H, W, ...) lies at the predicted pixels, (N, H', W', ...)."""
        if self.pad:
            return values
        return self.neighborhood.inner(values)

    def hidden_and_outputs(self, images: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Top hidden vectors (N, H', W', hidden_size) and whitened outputs (N, H', W', C)."""
        canvas, seen = self.canvases(images, observed)
        windows = self.neighborhood.windows(canvas, seen)
        x, y = self.whitening(windows, self.neighborhood.targets(canvas))
        for level, layer in enumerate(self.layers):
            x = self.handed_on(level, x, layer(x))
        return x, y

    def log_prob(self, images: Tensor, observed: Tensor | None = None) -> Tensor:
        """Log-density in nats of every predicted pixel given those before it, (N, H', W').

        Raises:
            TypeError, ValueError: integer images, wrong channels, or images smaller than the neighbourhood.
        """
        hidden, outputs = self.hidden_and_outputs(images, observed)
        result: Tensor = self.mcgsm(hidden).log_prob(outputs) + self.whitening.log_jacobian
        return result

    def forward(self, images: Tensor, observed: Tensor | None = None) -> Tensor:
        """The same as :meth:`log_prob`."""
        return self.log_prob(images, observed)

    @torch.no_grad()
    def surprise(self, images: Tensor, observed: Tensor | None = None) -> Tensor:
        """How little every predicted pixel was expected: -log2 of its density, (N, H', W'), as a map to look at."""
        return -self.log_prob(images, observed) / log(2.0)

    @torch.no_grad()
    def fit_whitening(
        self, images: Tensor, observed: Tensor | None = None, *, generator: torch.Generator | None = None
    ) -> Self:
        """Fit the whitening, and remember the marginal of the pixels, from at most half a million random pixels.

        Raises:
            ValueError: the images are constant, not finite, or too small.
        """
        canvas, seen = self.canvases(images, observed)
        check_finite(canvas, "images")
        inputs, outputs = self.neighborhood.sample(canvas, 500_000, observed=seen, generator=generator)
        self.whitening.fit(inputs, outputs)
        pick = torch.randint(len(outputs), (_MARGINAL,), generator=generator)
        self.marginal.copy_(outputs[pick.to(outputs.device)])
        return self
