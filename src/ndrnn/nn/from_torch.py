"""Layers with the weights of torch's own recurrent modules."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch import nn

from ..cells import GRUCell
from .layouts import TimeFirst
from .scan_layer import ScanLayer
from .stack import Stack

Layer = TypeVar("Layer", bound=ScanLayer)


def converted(
    cls: type[Layer], module: nn.RNNBase, kind: type[nn.RNNBase], **options: Any
) -> Layer | Stack | TimeFirst:
    """The counterpart of a recurrent module of torch: its weights, its values, its order of axes.

    One layer gives a layer of ``cls`` over one axis, several a :class:`ndrnn.Stack` of them with the module's dropout;
    bidirectional ones scan in both directions. A module with ``batch_first=True`` gives that itself, for (N, T, C); one
    with ``batch_first=False``, torch's default, gives it in a :class:`ndrnn.nn.TimeFirst`, for (T, N, C) as the module.
    ``lengths`` of a packed sequence become ``sizes``, ``lengths[:, None]``.

    Args:
        cls: a layer whose constructor takes ``options``.
        module: a module of the class ``kind``.
        kind: the class of torch.
        options: further arguments of the layers.

    Raises:
        TypeError: ``module`` is of another class.
        ValueError: it has ``proj_size``, for which there is no counterpart.
    """
    if not isinstance(module, kind):
        raise TypeError(f"module must be a torch.nn.{kind.__name__}, got {type(module).__name__}")
    if module.proj_size != 0:
        raise ValueError(
            f"module must have proj_size=0, there are no projections here, got {module.proj_size}"
        )
    layers = [_layer(cls, module, number, options) for number in range(module.num_layers)]
    whole = layers[0] if len(layers) == 1 else Stack(*layers, dropout=module.dropout)
    whole.train(module.training)
    return whole if module.batch_first else TimeFirst(whole)


def _layer(cls: type[Layer], module: nn.RNNBase, number: int, options: dict[str, Any]) -> Layer:
    directions = 2 if module.bidirectional else 1
    weight = getattr(module, f"weight_ih_l{number}")
    make: Callable[..., Layer] = cls
    layer = make(
        module.input_size if number == 0 else directions * module.hidden_size,
        module.hidden_size,
        1,
        directions="all" if module.bidirectional else [(1,)],
        bias=module.bias,
        device=weight.device,
        dtype=weight.dtype,
        **options,
    )
    with torch.no_grad():
        for direction in range(directions):
            _fill(layer, module, direction, f"_l{number}" + "_reverse" * direction)
    return layer


def _fill(layer: ScanLayer, module: nn.RNNBase, direction: int, suffix: str) -> None:
    layer.weight_ih[direction] = getattr(module, "weight_ih" + suffix)
    layer.weight_hh[direction, 0] = getattr(module, "weight_hh" + suffix)
    if layer.bias is None:
        return
    bias_ih, bias_hh = getattr(module, "bias_ih" + suffix), getattr(module, "bias_hh" + suffix)
    layer.bias[direction] = bias_ih + bias_hh
    if isinstance(layer.cell, GRUCell):
        # torch adds this half of the candidate's bias within the reset gate
        own = slice(2 * layer.hidden_size, None)
        layer.bias[direction, own] = bias_ih[own]
        layer.get_parameter("bias_hn")[direction, 0] = bias_hh[own]
