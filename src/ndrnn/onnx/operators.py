"""The library's operators in ONNX: what the exporter of PyTorch is told to write for them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir
import torch
from onnxscript import evaluator

from ..saturation import limit_of
from . import rearranging
from .cells import EQUATIONS, FEEDS_MEMORY, WITHOUT_MEMORY, States, Step, Weights, matrix
from .nodes import Nodes, Value, size_of
from .wavefronts import Wavefronts

Translation = Callable[..., Value | tuple[Value, ...]]

NO_STATES = "initial and final states are no part of an ONNX file; export what takes and gives none"


def translations() -> dict[Any, Translation]:
    """Translations of all operators that a network in evaluation can hold, for one export: they number what they write."""
    numbers = count()

    def nodes() -> Nodes:
        # what the exporter has set for the operator that it is at
        return Nodes(evaluator.default().nodes, f"ndrnn_{next(numbers)}")  # type: ignore[attr-defined]

    def scan(
        x: Any,
        weight_ih: Any,
        weight_hh: Any,
        bias: Any,
        extra: Any,
        sizes: Any,
        h0: Any,
        c0: Any,
        cell: Any,
        signs: Any,
        exits: Any,
        keep: Any,
    ) -> tuple[Value, ...]:
        g = nodes()
        y = _scan(g, x, weight_ih, weight_hh, bias, extra, sizes, cell, signs, h0, c0, exits)
        return (y, *(_nothing(g, weight_ih) for _ in range(4)))

    def linear_layer(
        x: Any,
        weight: Any,
        bias: Any,
        sizes: Any,
        c0: Any,
        rule: Any,
        signs: Any,
        exits: Any,
        keep: Any,
    ) -> tuple[Value, ...]:
        g = nodes()
        y = _scan(g, x, weight, None, bias, None, sizes, f"linear_{rule}", signs, c0, None, exits)
        return (y, *(_nothing(g, weight) for _ in range(2)))

    def linear_scan(z: Any, f: Any, sizes: Any, c0: Any, signs: Any, exits: Any) -> tuple[Value, ...]:
        g = nodes()
        _refuse_states(c0, exits)
        return _linear_scan(g, z, f, sizes, signs), _nothing(g, z)

    def blocks(x: Any, block: Any, fill: Any = 0.0) -> Value:
        return rearranging.blocks(nodes(), x, block, np.array(fill, _dtype(x)))

    def unblocks(x: Any, block: Any, lattice: Any) -> Value:
        return rearranging.unblocks(nodes(), x, block, lattice)

    def conv3d(
        x: Any,
        weight: Any,
        bias: Any = None,
        stride: Any = (1, 1, 1),
        padding: Any = (0, 0, 0),
        dilation: Any = (1, 1, 1),
        groups: Any = 1,
    ) -> Value:
        # onnxscript 0.7 writes one without bias as one with a bias of two columns
        around = {"strides": stride, "pads": [*padding, *padding], "dilations": dilation, "group": groups}
        return nodes()("Conv", x, weight, *([] if bias is None else [bias]), **around)

    ours = torch.ops.ndrnn
    return {
        torch.ops.aten.conv3d.default: conv3d,
        ours.scan.default: scan,
        ours.linear_layer.default: linear_layer,
        ours.linear_scan.default: linear_scan,
        ours.blocks.default: blocks,
        ours.unblocks.default: unblocks,
    }


def _refuse_states(*given: Any) -> None:
    if any(state is not None and state is not False for state in given):
        raise ValueError(NO_STATES)


def _nothing(g: Nodes, like: Value) -> Value:
    """An output that was not asked for."""
    return g.value(np.zeros(0, _dtype(like)))


def _dtype(value: Value) -> np.dtype:
    assert value.dtype is not None
    return np.dtype(value.dtype.numpy())


def _scan(
    g: Nodes,
    x: Value,
    weight_ih: Value,
    weight_hh: Value | None,
    bias: Value | None,
    extra: Value | None,
    sizes: Value | None,
    kernel: str,
    signs: Sequence[int],
    *states: Any,
) -> Value:
    """y (N, D1, ..., Dn, D, H) of a layer."""
    _refuse_states(*states)
    assert x.shape is not None
    ndim = len(x.shape) - 2
    directions, gates, features = (size_of(weight_ih, axis) for axis in range(3))
    hidden = gates // (ndim + 3) if weight_hh is None else size_of(weight_hh, -1)
    dtype = _dtype(weight_ih)
    weights = Weights(weight_ih, weight_hh, bias, extra, directions, features, ndim, hidden, gates, dtype)
    order = Wavefronts(g, x, signs, ndim, sizes)
    # a 1 beside the features, for the bias
    rows = g("Pad", g("Reshape", x, [-1, features]), np.array([0, 0, 0, 1]), np.array(1, dtype))
    limit = np.array(limit_of(_torch(dtype), kernel in FEEDS_MEMORY), dtype)
    product, memory = matrix(g, kernel, weights), kernel not in WITHOUT_MEMORY
    peepholes: tuple[Value, ...] = ()
    if kernel == "lstm_peephole":
        assert extra is not None
        peepholes = g.several(ndim + 2, "Split", extra, [1] * (ndim + 2), axis=1)

    def step(b: Nodes, given: Value, before: list[States]) -> States:
        # h, then c; what does not enter is not carried
        h, c = before[0], before[-1] if memory else ()
        read = [given]
        if weight_hh is not None:
            read += h
        if kernel in FEEDS_MEMORY:
            read += c
        a = b("MatMul", read[0] if len(read) == 1 else b.joined(*read, axis=2), product)
        return EQUATIONS[kernel](b, Step(a, h, c, peepholes, hidden, limit))

    carried = (1,) if weight_hh is None else (0, 1) if memory else (0,)
    swept = _sweep(g, order, order.enter(rows), step, carried, hidden, dtype)
    return order.leave(swept, hidden)


def _linear_scan(g: Nodes, z: Value, f: Value, sizes: Value | None, signs: Sequence[int]) -> Value:
    """c (N, D1, ..., Dn, H)."""
    assert z.shape is not None
    ndim = len(z.shape) - 2
    hidden, wide, dtype = size_of(z, -1), size_of(f, -1), _dtype(z)
    order = Wavefronts(g, z, signs, ndim, sizes)
    shares = g("Transpose", f, perm=[*range(1, ndim + 2), 0, ndim + 2])
    rows = g.joined(g("Reshape", z, [-1, hidden]), g("Reshape", shares, [-1, ndim * wide]), axis=1)

    def step(b: Nodes, given: Value, before: list[States]) -> States:
        own, *shares = b.several(1 + ndim, "Split", given, [hidden, *[wide] * ndim], axis=2)
        return (b.total(own, *(b("Mul", *pair) for pair in zip(shares, before[0], strict=True))),)

    swept = _sweep(g, order, order.enter(rows), step, (0,), hidden, dtype)
    return g("Squeeze", order.leave(swept, hidden), ndim + 1)


def _sweep(
    g: Nodes,
    order: Wavefronts,
    inputs: Value,
    step: Callable[[Nodes, Value, list[States]], States],
    carried: Sequence[int],
    hidden: int,
    dtype: np.dtype,
) -> Value:
    """A ``Scan`` over the wavefronts.

    Args:
        g: gets the nodes.
        order: of the points.
        inputs: (T, D, M, F).
        step: from the inputs (D, M, F) of a step, and of each state that is carried those (D, M, H) of the predecessors
            along every axis, to the new states.
        carried: which of the new states the next step sees.
        hidden: units H.
        dtype: of the states.

    Returns:
        The first state of every step, (T, D, M, H).
    """
    inner: list[ir.Node] = []
    b = Nodes(inner, f"{g.name}_step")
    kind = ir.TensorType(ir.DataType.from_numpy(dtype))
    shape = ir.Shape([order.directions, None, hidden])
    places = [ir.Value(name=f"{g.name}_state_{number}", type=kind, shape=shape) for number in carried]
    given = ir.Value(name=f"{g.name}_input", type=kind, shape=ir.Shape([order.directions, None, None]))
    if order.ndim == 1:  # a row is its own predecessor
        before: list[States] = [(place,) for place in places]
    else:
        rows, nothing = order.predecessors(), np.zeros((order.directions, 1, hidden), dtype)
        behind = [b.joined(b.value(nothing), place, axis=1) for place in places]
        before = [tuple(b("Gather", states, row, axis=1) for row in rows) for states in behind]
    new = step(b, given, before)
    # the outputs of a graph are all different values
    outputs = [*(new[number] for number in carried), b("Identity", new[0])]
    for value in outputs:
        value.type, value.shape = kind, shape
    body = ir.Graph([*places, given], outputs, nodes=inner, name=f"{g.name}_step")
    zeros = [order.zeros(hidden, dtype)] * len(places)
    *_, swept = g.several(len(outputs), "Scan", *zeros, inputs, body=body, num_scan_inputs=1)
    return swept


def _torch(dtype: np.dtype) -> torch.dtype:
    return torch.float64 if dtype == np.float64 else torch.float32
