"""What the directions of a layer remember at each point, as maps to look at."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ..nn.scan_layer import ScanLayer
from ..scan import scan


def scan_layers(model: nn.Module) -> dict[str, ScanLayer]:
    """The layers of a model by their names in it, in its order."""
    return {name: module for name, module in model.named_modules() if isinstance(module, ScanLayer)}


@torch.no_grad()
def hidden_states(model: nn.Module, name: str, run: Callable[[], object]) -> Tensor:
    """The hidden vectors h of a layer (N, d1, ..., dn, D, H), direction by direction, on the layer's own lattice.

    Args:
        model: what holds the layer.
        name: of the layer, one of :func:`scan_layers`.
        run: applies the model to an input; of several calls of the layer the first counts.

    Raises:
        ValueError: the model has no such layer, or ``run`` does not call it.
    """
    layers = scan_layers(model)
    if name not in layers:
        raise ValueError(
            f"name must be one of {', '.join(layers) or 'none: there is no layer'}, got {name!r}"
        )
    layer = layers[name]
    found: list[Tensor] = []

    def look(_: nn.Module, args: tuple[Any, ...], options: dict[str, Any], output: Any) -> None:
        if found:
            return
        y = output[0] if isinstance(output, tuple) else output
        if layer.merge == "concat":
            found.append(y.unflatten(-1, (len(layer.directions), layer.hidden_size)))
            return
        # what was merged is scanned once more
        x = args[0] if args else options["x"]
        sizes = args[1] if len(args) > 1 else options.get("sizes")
        found.append(scan(layer.cell, x, layer.params, layer.directions, sizes)[0])

    handle = layer.register_forward_hook(look, with_kwargs=True)
    try:
        run()
    finally:
        handle.remove()
    if not found:
        raise ValueError(f"run must apply the model: its layer {name!r} was not called")
    return found[0]


def mean_activity(states: Tensor) -> Tensor:
    """The mean absolute value over the units: hidden vectors (..., H) to (...)."""
    return states.abs().mean(-1)


def first_component(states: Tensor) -> tuple[Tensor, Tensor]:
    """The first principal component of each direction's hidden vectors, and its share of their variance.

    The sign is such that the unit with the largest weight counts positive.

    Shapes:
        states (d1, ..., dn, D, H); the component (d1, ..., dn, D), the share (D,).
    """
    points = states.double().flatten(0, -3)  # (P, D, H)
    centred = points - points.mean(0)
    covariance = torch.einsum("pdh,pdk->dhk", centred, centred) / len(points)
    values, vectors = torch.linalg.eigh(covariance)
    first = vectors[..., -1]  # (D, H)
    largest = first.gather(1, first.abs().argmax(1, keepdim=True))
    first = first * torch.where(largest < 0, -1.0, 1.0)
    total = values.clamp(min=0).sum(-1)
    share = torch.where(total > 0, values[:, -1].clamp(min=0) / total.clamp(min=1e-300), 0.0)
    component = torch.einsum("pdh,dh->pd", centred, first)
    return component.view(states.shape[:-1]).float(), share.float()
