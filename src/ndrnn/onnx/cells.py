"""The equations of the cells as nodes of ONNX, for all rows of a step at once.

See :mod:`ndrnn.cells`, whose equations these are. A step multiplies everything that its gates read, laid side by side,
with one matrix: the features and a 1 for the bias, then the outputs of the predecessors along every axis. A slot that
has no point yet has zeros there, the 1 included, and states of zero: every cell here then gives zero again, as the entry
faces do. What a slot says after its last point no other reads. So nothing has to be masked before the end.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .nodes import Nodes, Value

States = tuple[Value, ...]


class Weights(NamedTuple):
    """The weights of a scan as they come, and their sizes; see :class:`ndrnn.cells.Params`."""

    weight_ih: Value
    weight_hh: Value | None
    bias: Value | None
    extra: Value | None
    directions: int
    features: int
    ndim: int
    hidden: int
    gates: int
    """G*H, rows of a direction."""
    dtype: np.dtype

    def zeros(self, *shape: int) -> np.ndarray:
        return np.zeros(shape, self.dtype)


class Step(NamedTuple):
    """What a cell has to know of a step."""

    a: Value
    """The product of the gates' inputs with :func:`matrix`, (D, M, columns)."""
    h: States
    """Outputs of the predecessors along every axis, each (D, M, H)."""
    c: States
    """Their memories, likewise; empty for a cell without memory."""
    peepholes: States
    """Of i, f1 ... fn, o, each (D, 1, H)."""
    hidden: int
    limit: np.ndarray
    """At which states saturate, see :mod:`ndrnn.saturation`."""

    def gates(self, g: Nodes, count: int) -> list[Value]:
        """So many gates of the product, in the order of :meth:`ndrnn.cells.Cell.gates`, each (D, M, H)."""
        return list(g.several(count, "Split", self.a, [self.hidden] * count, axis=2))


Equations = Callable[[Nodes, Step], States]
"""From a step to h, and c if the cell has a memory, each (D, M, H)."""


def matrix(g: Nodes, kernel: str, w: Weights) -> Value:
    """What the features, a 1 and, of recurrent cells, the predecessors' states are multiplied with: (D, K, columns)."""
    bias = w.zeros(w.directions, 1, w.gates) if w.bias is None else g("Unsqueeze", w.bias, 1)
    above = g.joined(g("Transpose", w.weight_ih, perm=[0, 2, 1]), g.value(bias), axis=1)
    if w.weight_hh is None:
        return above
    recurrent = [_by_axis(g, w.weight_hh)]
    if kernel == "gru":
        return _of_gru(g, above, recurrent[0], w)
    if kernel == "spatial_extended":
        assert w.extra is not None
        recurrent.append(_by_axis(g, w.extra))
    stacked = [g("Reshape", each, [w.directions, w.ndim * w.hidden, w.gates]) for each in recurrent]
    return g.joined(above, *stacked, axis=1)


def _by_axis(g: Nodes, weight: Value) -> Value:
    """Weights (D, n, G*H, H) as (D, n, H, G*H)."""
    return g("Transpose", weight, perm=[0, 1, 3, 2])


def _of_gru(g: Nodes, above: Value, recurrent: Value, w: Weights) -> Value:
    """The columns of r and z, those of the candidate from the features, and for every axis those of U h + b."""
    count, n, hidden = w.directions, w.ndim, w.hidden
    logits = 2 * n * hidden
    of_logits, of_candidate = g.several(2, "Split", recurrent, [logits, hidden], axis=3)
    of_logits = g("Reshape", of_logits, [count, n * hidden, logits])
    # the candidate's part of the states comes axis by axis, each with a bias of its own, in the row of the 1
    bias = w.zeros(count, 1, n * hidden) if w.extra is None else g("Reshape", w.extra, [count, 1, n * hidden])
    own_rows = g("Pad", bias, np.array([0, w.features, 0, 0, 0, 0]))
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


def _limited(g: Nodes, values: Value, step: Step) -> Value:
    lowest = np.negative(step.limit, out=np.empty_like(step.limit))
    return g("Clip", values, lowest, step.limit)


def _weighted(g: Nodes, shares: Sequence[Value], states: Sequence[Value], *start: Value) -> Value:
    terms = [g("Mul", share, state) for share, state in zip(shares, states, strict=True)]
    return g.total(*start, *terms)


def _softmax(g: Nodes, logits: Sequence[Value], *, and_zero: bool = False) -> list[Value]:
    """The shares of some logits, each (D, M, H), and with ``and_zero`` of one of 0 that follows them.

    Over an axis that is not the last, the operator of ONNX Runtime is slow.
    """
    zero = [g("CastLike", np.zeros(1, np.float32), logits[0])] if and_zero else []
    most = g("Max", *logits, *zero)
    risen = [g("Exp", g("Sub", logit, most)) for logit in (*logits, *zero)]
    total = g.total(*risen)
    return [g("Div", one, total) for one in risen]


def _rnn_tanh(g: Nodes, step: Step) -> States:
    return (g("Tanh", step.a),)


def _rnn_relu(g: Nodes, step: Step) -> States:
    return (_limited(g, g("Relu", step.a), step),)


def _memory_of_lstm(g: Nodes, step: Step) -> tuple[Value, Value]:
    """The memory, and the pre-activation of the output gate."""
    i, *f, new, o = step.gates(g, len(step.c) + 3)
    if step.peepholes:
        p_i, *p_f, p_o = step.peepholes
        i = g("Add", i, g("Mul", p_i, g.total(*step.c)))
        f = [g("Add", f_k, g("Mul", p_k, c_k)) for f_k, p_k, c_k in zip(f, p_f, step.c, strict=True)]
    start = g("Mul", g("Sigmoid", i), g("Tanh", new))
    c = _limited(g, _weighted(g, [g("Sigmoid", f_k) for f_k in f], step.c, start), step)
    return c, g("Add", o, g("Mul", p_o, c)) if step.peepholes else o


def _lstm(g: Nodes, step: Step) -> States:
    c, o = _memory_of_lstm(g, step)
    return g("Mul", g("Sigmoid", o), g("Tanh", c)), c


def _spatial(g: Nodes, step: Step) -> States:
    c, o = _memory_of_lstm(g, step)
    return g("Tanh", g("Mul", g("Sigmoid", o), c)), c


def _mixed(g: Nodes, logits: Sequence[Value], step: Step) -> Value:
    """The convex mix of the predecessors' memories; the last one's logit is 0."""
    return _weighted(g, _softmax(g, logits, and_zero=True), step.c) if logits else step.c[0]


def _stable(g: Nodes, step: Step) -> States:
    i, f, *m, new, o = step.gates(g, len(step.c) + 3)
    kept = g("Mul", g("Sigmoid", f), _mixed(g, m, step))
    c = g("Add", g("Mul", g("Sigmoid", i), g("Tanh", new)), kept)
    return g("Mul", g("Sigmoid", o), g("Tanh", c)), c


def _leaky(g: Nodes, step: Step) -> States:
    f, *m, new, o1, o2 = step.gates(g, len(step.c) + 3)
    old = _mixed(g, m, step)
    # 1 - f without its loss of digits
    fresh = g("Mul", g("Sigmoid", g("Neg", f)), g("Tanh", new))
    c = g("Add", fresh, g("Mul", g("Sigmoid", f), old))
    return g("Tanh", _weighted(g, [g("Sigmoid", o1), g("Sigmoid", o2)], [c, old])), c


def _gru(g: Nodes, step: Step) -> States:
    n = len(step.h)
    gates = step.gates(g, 3 * n + 1)
    r, z, new, through = gates[:n], gates[n : 2 * n], gates[2 * n], gates[2 * n + 1 :]
    new = g("Tanh", _weighted(g, [g("Sigmoid", r_k) for r_k in r], through, new))
    *kept, fresh = _softmax(g, z, and_zero=True)
    return (_weighted(g, [fresh, *kept], [new, *step.h]),)


def _linear(g: Nodes, step: Step, i: Value, f: Sequence[Value], new: Value, o: Value) -> States:
    c = _weighted(g, [i, *f], [g("Tanh", new), *step.c])
    return g("Mul", g("Sigmoid", o), c), c


def _linear_softmax(g: Nodes, step: Step) -> States:
    *logits, new, o = step.gates(g, len(step.c) + 3)
    i, *f = _softmax(g, logits)
    return _linear(g, step, i, f, new, o)


def _linear_even(g: Nodes, step: Step) -> States:
    i, *f, new, o = step.gates(g, len(step.c) + 3)
    axes = np.array([len(f)], step.limit.dtype)
    # 1 minus the sum of the shares without its loss of digits
    rest = g("Div", g.total(*(g("Sigmoid", g("Neg", f_k)) for f_k in f)), axes)
    shares = [g("Div", g("Sigmoid", f_k), axes) for f_k in f]
    return _linear(g, step, g("Mul", g("Sigmoid", i), rest), shares, new, o)


EQUATIONS: dict[str, Equations] = {
    "rnn_tanh": _rnn_tanh,
    "rnn_relu": _rnn_relu,
    "lstm": _lstm,
    "lstm_peephole": _lstm,
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
