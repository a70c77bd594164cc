"""The equations of the cells as nodes of ONNX, for all rows of a step at once.

See :mod:`ndrnn.cells`, whose equations these are. A step multiplies everything that its gates read, laid side by side,
with one matrix: the features and a 1 for the bias, then the outputs of the predecessors along every axis. A slot without
a point has zeros there, the 1 included, and states of zero: every cell here then gives zero again, so that nothing has to
be masked before the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from .nodes import Nodes, Value


class Weights(NamedTuple):
    """The weights of a scan as they come, and their sizes; see :class:`ndrnn.cells.Params`."""

    weight_ih: Value
    weight_hh: Value | None
    bias: Value | None
    extra: Value | None
    directions: int
    ndim: int
    hidden: int
    gates: int
    """G*H, rows of a direction."""
    dtype: np.dtype

    def zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, self.dtype)


class Step(NamedTuple):
    """What a cell has to know of a step; all (D, M, ...)."""

    a: Value
    """The product of the gates' inputs with :func:`matrix`."""
    h: Value
    """Outputs of the predecessors, (D, M, n, H)."""
    c: Value
    """Their memories, (D, M, n, H); of a cell without memory their outputs."""
    extra: Value | None
    ndim: int
    hidden: int
    limit: np.ndarray
    """At which states saturate, see :mod:`ndrnn.saturation`."""


States = tuple[Value, ...]
Equations = Callable[[Nodes, Step], States]
"""From a step to h, and c if the cell has a memory, each (D, M, H)."""


def matrix(g: Nodes, kernel: str, w: Weights) -> Value:
    """What the features, a 1 and, of recurrent cells, the predecessors' states are multiplied with: (D, K, columns)."""
    bias = w.zeros(w.directions, 1, w.gates) if w.bias is None else g("Unsqueeze", w.bias, 1)
    above = g.joined(g("Transpose", w.weight_ih, perm=[0, 2, 1]), g.value(bias), axis=1)
    if w.weight_hh is None:
        return above
    recurrent = [_by_axis(g, w.weight_hh, w)]
    if kernel == "gru":
        return _of_gru(g, above, recurrent[0], w)
    if kernel == "spatial_extended":
        assert w.extra is not None
        recurrent.append(_by_axis(g, w.extra, w))
    stacked = [
        g("Reshape", each, [w.directions, w.ndim * w.hidden, w.gates]) for each in recurrent
    ]
    return g.joined(above, *stacked, axis=1)


def _by_axis(g: Nodes, weight: Value, w: Weights) -> Value:
    """Weights (D, n, G*H, H) as (D, n, H, G*H)."""
    return g("Transpose", weight, perm=[0, 1, 3, 2])


def _of_gru(g: Nodes, above: Value, recurrent: Value, w: Weights) -> Value:
    """The columns of r and z, those of the candidate from the features, and for every axis those of U h + b."""
    count, n, hidden = w.directions, w.ndim, w.hidden
    logits = 2 * n * hidden
    of_logits, of_candidate = g.several(2, "Split", recurrent, [logits, hidden], axis=3)
    of_logits = g("Reshape", of_logits, [count, n * hidden, logits])
    features = _rows(g, above)
    # the candidate's part of the states comes axis by axis, each with a bias of its own
    own_bias = w.zeros(count, 1, n * hidden) if w.extra is None else g("Reshape", w.extra, [count, 1, n * hidden])
    own_rows = g("Pad", g.value(own_bias), g.joined(g.value([0]), g("Sub", features, 1), g.value([0, 0, 0, 0])))
    blocks = [
        g(
            "Pad",
            g("Squeeze", g("Slice", of_candidate, axis, axis + 1, 1), 1),
            np.array([0, 0, axis * hidden, 0, 0, (n - 1 - axis) * hidden]),
        )
        for axis in range(n)
    ]
    left = g.joined(above, g("Pad", of_logits, np.array([0, 0, 0, 0, 0, hidden])), axis=1)
    return g.joined(left, g.joined(own_rows, *blocks, axis=1), axis=2)


def _rows(g: Nodes, tensor: Value) -> Value:
    return g("Shape", tensor, start=1, end=2)


def _split(g: Nodes, values: Value, *parts: int, hidden: int) -> tuple[Value | None, ...]:
    """Parts of the last axis, each so many units wide; None for one of no width."""
    wide = [part * hidden for part in parts if part]
    found = iter(g.several(len(wide), "Split", values, wide, axis=2))
    return tuple(next(found) if part else None for part in parts)


def _blocks(g: Nodes, values: Value, count: int, hidden: int) -> Value:
    """(D, M, count*H) as (D, M, count, H)."""
    return g("Reshape", values, [0, 0, count, hidden])


def _over_axes(g: Nodes, values: Value) -> Value:
    """The sum over the axes of (D, M, n, H)."""
    return g("ReduceSum", values, 2, keepdims=0)


def _limited(g: Nodes, values: Value, step: Step) -> Value:
    return g("Clip", values, np.negative(step.limit, out=np.empty_like(step.limit)), step.limit)


def _rnn_tanh(g: Nodes, step: Step) -> States:
    return (g("Tanh", step.a),)


def _rnn_relu(g: Nodes, step: Step) -> States:
    return (_limited(g, g("Relu", step.a), step),)


def _additive(g: Nodes, step: Step, *, output_first: bool, peepholes: bool = False) -> States:
    """MDLSTM and SpatialLSTM, which differ in where the output gate acts."""
    i, f, c, o = _split(g, step.a, 1, step.ndim, 1, 1, hidden=step.hidden)
    f = _blocks(g, f, step.ndim, step.hidden)
    if peepholes:
        # the rows i, f1 ... fn, o, as (D, n + 2, H)
        p_i, p_f, p_o = g.several(3, "Split", step.extra, [1, step.ndim, 1], axis=1)
        i = g("Add", i, g("Mul", p_i, _over_axes(g, step.c)))
        f = g("Add", f, g("Mul", g("Unsqueeze", p_f, 1), step.c))
    new = g("Mul", g("Sigmoid", i), g("Tanh", c))
    new = _limited(g, g("Add", new, _over_axes(g, g("Mul", g("Sigmoid", f), step.c))), step)
    if peepholes:
        o = g("Add", o, g("Mul", p_o, new))
    o = g("Sigmoid", o)
    return (g("Tanh", g("Mul", o, new)) if output_first else g("Mul", o, g("Tanh", new))), new


def _mixed(g: Nodes, logits: Value | None, step: Step) -> Value:
    """The convex mix of the predecessors' memories; the last one's logit is 0."""
    if logits is None:
        return g("Squeeze", step.c, 2)
    padded = g("Pad", logits, np.array([0, 0, 0, 0, 0, step.hidden]))
    shares = g("Softmax", _blocks(g, padded, step.ndim, step.hidden), axis=2)
    return _over_axes(g, g("Mul", shares, step.c))


def _stable(g: Nodes, step: Step) -> States:
    i, f, m, c, o = _split(g, step.a, 1, 1, step.ndim - 1, 1, 1, hidden=step.hidden)
    new = g("Mul", g("Sigmoid", i), g("Tanh", c))
    new = g("Add", new, g("Mul", g("Sigmoid", f), _mixed(g, m, step)))
    return g("Mul", g("Sigmoid", o), g("Tanh", new)), new


def _leaky(g: Nodes, step: Step) -> States:
    f, m, c, o1, o2 = _split(g, step.a, 1, step.ndim - 1, 1, 1, 1, hidden=step.hidden)
    old, f = _mixed(g, m, step), g("Sigmoid", f)
    fresh = g("Mul", g("Sub", np.ones(1, step.limit.dtype), f), g("Tanh", c))
    new = g("Add", fresh, g("Mul", f, old))
    o1, o2 = g("Sigmoid", o1), g("Sigmoid", o2)
    return g("Tanh", g("Add", g("Mul", o1, new), g("Mul", o2, old))), new


def _gru(g: Nodes, step: Step) -> States:
    n, hidden = step.ndim, step.hidden
    r, z, c, through = _split(g, step.a, n, n, 1, n, hidden=hidden)
    reset = _blocks(g, g("Mul", g("Sigmoid", r), through), n, hidden)
    c = g("Tanh", g("Add", c, _over_axes(g, reset)))
    padded = g("Pad", z, np.array([0, 0, 0, 0, 0, hidden]))
    shares = g("Softmax", _blocks(g, padded, n + 1, hidden), axis=2)
    kept, fresh = g.several(2, "Split", shares, [n, 1], axis=2)
    return (g("Add", g("Mul", g("Squeeze", fresh, 2), c), _over_axes(g, g("Mul", kept, step.h))),)


def _linear(g: Nodes, step: Step, i: Value, f: Value, c: Value, o: Value) -> States:
    new = g("Add", g("Mul", i, g("Tanh", c)), _over_axes(g, g("Mul", f, step.c)))
    return g("Mul", g("Sigmoid", o), new), new


def _linear_softmax(g: Nodes, step: Step) -> States:
    logits, c, o = _split(g, step.a, step.ndim + 1, 1, 1, hidden=step.hidden)
    shares = g("Softmax", _blocks(g, logits, step.ndim + 1, step.hidden), axis=2)
    i, f = g.several(2, "Split", shares, [1, step.ndim], axis=2)
    return _linear(g, step, g("Squeeze", i, 2), f, c, o)


def _linear_even(g: Nodes, step: Step) -> States:
    i, f, c, o = _split(g, step.a, 1, step.ndim, 1, 1, hidden=step.hidden)
    f, axes = _blocks(g, f, step.ndim, step.hidden), np.array([step.ndim], step.limit.dtype)
    # 1 minus the sum of the shares without its loss of digits
    rest = g("Div", _over_axes(g, g("Sigmoid", g("Neg", f))), axes)
    return _linear(g, step, g("Mul", g("Sigmoid", i), rest), g("Div", g("Sigmoid", f), axes), c, o)


def _lstm(g: Nodes, step: Step) -> States:
    return _additive(g, step, output_first=False)


def _lstm_peephole(g: Nodes, step: Step) -> States:
    return _additive(g, step, output_first=False, peepholes=True)


def _spatial(g: Nodes, step: Step) -> States:
    return _additive(g, step, output_first=True)


EQUATIONS: dict[str, Equations] = {
    "rnn_tanh": _rnn_tanh,
    "rnn_relu": _rnn_relu,
    "lstm": _lstm,
    "lstm_peephole": _lstm_peephole,
    "stable": _stable,
    "leaky": _leaky,
    "spatial": _spatial,
    "spatial_extended": _spatial,
    "gru": _gru,
    "linear_softmax": _linear_softmax,
    "linear_even": _linear_even,
}
"""By the names of the compiled kernels, :attr:`ndrnn.cells.Cell.kernel`."""
WITHOUT_MEMORY = {"rnn_tanh", "rnn_relu", "gru"}
FEEDS_MEMORY = {"spatial_extended"}
