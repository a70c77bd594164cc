"""A RIDE as the compiled codec takes it: checked, in float32, its weights in one array."""

from __future__ import annotations

import hashlib
import json

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn.utils.parametrize import type_before_parametrizations

from ....nn.layers import MDGRU, LeakyMDLSTM, ScanLayer, SpatialLSTM, StableMDLSTM
from ...ride.model import RideModel
from .kernels import MOST_AXES, Network

_CELLS = ("spatial", "stable", "leaky", "gru")
_LAYERS = SpatialLSTM, StableMDLSTM, LeakyMDLSTM, MDGRU
"""Of these classes alone: one that is derived from them may compute something else."""
_MOST_LAYERS, _MOST_HIDDEN, _MOST_INPUTS, _MOST_CELLS = 8, 1024, 4096, 1 << 16
_MOST_WEIGHT = 1e9  # so that no product of weights leaves the range of numbers


def network_of(ride: RideModel) -> Network:
    """The model's network.

    Raises:
        ValueError: the codec does not know its cell, it predicts several channels jointly, it pads, or it is too large;
            or a weight is not finite or larger than 1e9.
    """
    if ride.channels != 1:
        raise ValueError(
            "planes are coded one after the other, each by a model of one channel that may observe the ones before, "
            f"got channels={ride.channels}; ndrnn train --task density --apart makes one of files with several"
        )
    if ride.pad:
        raise ValueError("a model of patches, pad=True, cannot code images")
    nb, layers, cell = ride.neighborhood, *_layers(ride)
    mixture = ride.mcgsm.mixture_params()
    offsets, observed = (
        tuple(tuple(map(int, offset)) for offset in each) for each in (nb.offsets, nb.observed_offsets)
    )
    components, scales = mixture.priors.shape
    _check_size("layers", len(layers), _MOST_LAYERS)
    _check_size("hidden_size", ride.hidden_size, _MOST_HIDDEN)
    _check_size("inputs", nb.num_inputs(1, ride.observed_channels), _MOST_INPUTS)
    _check_size("components times scales", components * scales, _MOST_CELLS)
    if not offsets or not 1 <= len(offsets[0]) <= MOST_AXES:
        raise ValueError(f"neighborhood must have earlier points on 1 to {MOST_AXES} axes, got {nb!r}")
    whitening = ride.whitening
    parts = [
        whitening.input_mean,
        whitening.input_transform,
        whitening.predictor,
        whitening.output_mean,
        whitening.output_transform,
    ]
    for level, layer in enumerate(layers):
        params = layer.params
        if params.bias is None:
            raise ValueError("layers must have biases to code")
        parts += [params.weight_ih, params.weight_hh, params.bias]
        if params.extra is not None:
            parts.append(params.extra)
        if ride.residual and level:
            parts.append(ride.scales[level - 1])
    linear = bool(mixture.linear.any())
    parts += [mixture.priors, mixture.scales, mixture.weights, mixture.features.T]
    parts += [mixture.linear] if linear else []
    parts += [mixture.predictors, mixture.means, mixture.cholesky]
    weights = np.concatenate([_flat(part) for part in parts])
    if not bool((np.abs(weights) <= _MOST_WEIGHT).all()):  # NaN neither
        raise ValueError(f"weights must be finite and at most {_MOST_WEIGHT:g} to code")
    return Network(
        offsets=offsets,
        observed_offsets=observed,
        planes=ride.observed_channels,
        cell=_CELLS.index(cell),
        layers=len(layers),
        hidden=ride.hidden_size,
        residual=ride.residual,
        features=mixture.weights.shape[1],
        components=components,
        scales=scales,
        linear=linear,
        weights=weights,
    )


def fingerprint(network: Network) -> bytes:
    """SHA-256 of all that coding depends on."""
    shape = {
        name: getattr(network, name) for name in network.__dataclass_fields__ if name not in ("weights",)
    }
    digest = hashlib.sha256(json.dumps(shape, sort_keys=True).encode())
    digest.update(network.weights.astype("<f4").tobytes())
    return digest.digest()


def _layers(ride: RideModel) -> tuple[list[ScanLayer], str]:
    """The layers, and which of the codec's cells is that of all."""
    layers: list[ScanLayer] = []
    for layer in ride.layers:
        known = isinstance(layer, ScanLayer) and type_before_parametrizations(layer) in _LAYERS
        if not isinstance(layer, ScanLayer) or not known or layer.cell.kernel not in _CELLS:
            raise ValueError(f"cell must be one of {', '.join(map(repr, _CELLS))} to code, got {ride.cell!r}")
        if layer.directions != ((1,) * layer.ndim,):
            raise ValueError(f"layers must scan from the first corner alone to code, got {layer.directions}")
        layers.append(layer)
    cells = [str(layer.cell.kernel) for layer in layers]
    if len(set(cells)) != 1:
        raise ValueError(f"layers must have one cell to code, got {', '.join(map(repr, cells))}")
    return layers, cells[0]


def _flat(values: torch.Tensor) -> NDArray[np.float32]:
    return values.detach().to("cpu", torch.float32).contiguous().numpy().reshape(-1)


def _check_size(name: str, size: int, most: int) -> None:
    if size > most:
        raise ValueError(f"{name} must be at most {most} to code, got {size}")
