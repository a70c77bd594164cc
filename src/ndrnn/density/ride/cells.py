"""The recurrent layers of a RIDE by name, and how one is made to hand on what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import exp
from typing import Any, NamedTuple

import torch
from torch import nn

from ...nn.layers import ScanLayer
from ...registry import layers, nearest


class _Kind(NamedTuple):
    layer: str
    options: Mapping[str, Any] = {}


_SHORT = {
    "spatial": _Kind("SpatialLSTM"),
    "spatial_extended": _Kind("SpatialLSTM", {"extended": True}),
    "lstm": _Kind("MDLSTM"),
    "stable": _Kind("StableMDLSTM"),
    "leaky": _Kind("LeakyMDLSTM"),
    "gru": _Kind("MDGRU"),
    "rnn": _Kind("MDRNN"),
    "linear": _Kind("MDLinearRNN"),
}


DEFAULT_CELL = "leaky"
"""Bounded on images of any size, and the best of those tried at equal steps: "Cells of a RIDE" in the results."""
PUBLISHED_CELL = "spatial"
"""That of Theis & Bethge (2015), and of saved models whose configuration names none."""


def check_cell(cell: str) -> None:
    """Raise ValueError if ``cell`` is neither a short name nor that of a registered layer."""
    if cell not in _SHORT and cell not in layers:
        raise ValueError(
            f"cell must be one of {', '.join(map(repr, _SHORT))} or the name of a registered layer, got {cell!r}"
            f"{nearest(str(cell), [*_SHORT, *layers])}"
        )


def make_layer(cell: str, inputs: int, hidden: int, ndim: int = 2, **options: Any) -> nn.Module:
    """A layer that scans from the first corner alone.

    Args:
        cell: a short name, or that of a registered layer.
        options: ``device`` and ``dtype``, handed on where they are not None.

    Raises:
        ValueError: the name is not known, or the layer does not give ``hidden`` features a point.
    """
    check_cell(cell)
    kind = _SHORT.get(cell, _Kind(cell))
    given = {name: value for name, value in options.items() if value is not None}
    layer: nn.Module = layers[kind.layer](
        inputs, hidden, ndim, directions=[(1,) * ndim], **kind.options, **given
    )
    if layer.output_size != hidden:
        raise ValueError(
            f"cell must be a layer of {hidden} features a point when it scans in one direction, "
            f"got {cell!r} with {layer.output_size}"
        )
    return layer


# Biases of nearly open and nearly closed gates: their gradients have not vanished.
_OPEN, _CLOSED = 2.0, -3.0


def _starting_bias(gate: str) -> float:
    """What a gate's bias is raised by to let the input through: of input and output up, of the predecessors down."""
    if gate in ("i", "o", "o1"):
        return _OPEN
    return _CLOSED if gate[0] in "fz" or gate == "o2" else 0.0


@torch.no_grad()
def hand_on(layer: nn.Module) -> None:
    """Make a layer with as many inputs as units give about its input: what lets it in open, the memory closed, and the
    candidate the input. Where the candidate passes a tanh, large inputs are squashed.

    Raises:
        ValueError: the layer's gates are not known, or there is no candidate among them.
    """
    gates: Sequence[str] = layer.cell.gates(layer.ndim) if isinstance(layer, ScanLayer) else ()
    if not isinstance(layer, ScanLayer) or not {"g", "a"} & set(gates):
        raise ValueError(
            f"pass_through needs a layer with a gate g or a for its candidate, got {type(layer).__name__}"
        )
    units = layer.hidden_size
    share = (1 / (1 + exp(-_OPEN))) ** sum(_starting_bias(gate) == _OPEN for gate in gates)
    for parameter in layer.parameters():
        parameter.mul_(0.1)  # still no two units alike
    for number, gate in enumerate(gates):
        rows = slice(number * units, (number + 1) * units)
        if gate in ("g", "a"):
            layer.weight_ih[:, rows] = torch.eye(units).to(layer.weight_ih) / share
        elif layer.bias is not None:
            layer.bias[:, rows] += _starting_bias(gate)
