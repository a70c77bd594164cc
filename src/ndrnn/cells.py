"""The equations at one point of a lattice, in plain PyTorch: what every backend has to compute.

A cell reads the pre-activation of its gates and the states of its predecessors, one along every axis, and gives
the states of its point. Leading dimensions are free: the reference passes one point of a batch, the wavefront
backend all points of a wavefront in all directions at once. Gates lie along the last dimension in blocks of
``hidden_size``, in the order of :meth:`Cell.gates`; the order is chosen so that for n = 1 the blocks are torch's.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf, log
from typing import ClassVar, Literal, NamedTuple

import torch
from torch import Tensor

from .saturation import limit_of, saturated, with_limited_gradient

Tensors = Sequence[Tensor]


class Params(NamedTuple):
    """The weights of one scan; D directions, n axes, H hidden units, C inputs, G gates.

    ``extra`` is what only some cells have, in the shape that :meth:`Cell.extra_shape` tells.
    """

    weight_ih: Tensor  # (D, G*H, C)
    weight_hh: Tensor  # (D, n, G*H, H)
    bias: Tensor | None  # (D, G*H)
    extra: Tensor | None

    def of_direction(self, d: int) -> Params:
        """The weights of one direction, without the leading dimension."""
        bias, extra = (None if weight is None else weight[d] for weight in self[2:])
        return Params(self.weight_ih[d], self.weight_hh[d], bias, extra)


class Cell(ABC):
    """One kind of recurrent cell. Final subclasses are frozen dataclasses whose fields select its variant.

    To bring a cell of your own, subclass this, write ``gates`` and ``step``, and hand it to
    :class:`ndrnn.nn.layers.ScanLayer`; it runs on the reference and wavefront backends.
    """

    memory: ClassVar[bool] = True
    """Whether the point has a memory c beside its output h."""
    needs_separate_products: ClassVar[bool] = False
    """Whether ``u`` must hold one product an axis rather than their sum."""
    recurrent: ClassVar[bool] = True
    """Whether the predecessors' outputs enter the gates; else the recurrent weights have no rows, (D, n, 0, H)."""

    @property
    def kernel(self) -> str | None:
        """Name of the compiled kernels for this cell, or None where there are none."""
        return None

    @property
    def extra_name(self) -> str | None:
        """Name of the additional parameter, or None without one."""
        return None

    @property
    def feeds_memory(self) -> bool:
        """Whether the additional parameter is a matrix through which the predecessors' memories enter the gates."""
        return False

    def limit(self, dtype: torch.dtype) -> float:
        """The size at which states saturate, and gradients by them on their way from point to point."""
        return limit_of(dtype, self.feeds_memory)

    @abstractmethod
    def gates(self, ndim: int) -> tuple[str, ...]:
        """Names of the gates in the order of their weight blocks."""

    def extra_shape(self, ndim: int, hidden_size: int) -> tuple[int, ...] | None:
        """Shape of the additional parameter without its leading dimension D, or None."""
        return None

    @abstractmethod
    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        """States of a point.

        Args:
            a: W x + b, (..., G*H).
            u: U_k h_k for every axis k, each (..., G*H); a cell that only needs their sum may get it as one.
            h: outputs of the predecessors, one an axis, each (..., H).
            c: memories of the predecessors, one an axis, each (..., H); empty for a cell without memory.
            extra: rows of the additional parameter, each broadcastable to (..., H); empty without one.

        Returns:
            h and c of the point, each (..., H); c is None for a cell without memory.
        """

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        """Values of the gates by name, each (..., H), for the arguments of :meth:`step`; convex weights are all given.

        :func:`ndrnn.diagnose` reads them. A cell of your own may leave this out.
        """
        return {}

    def carries(self, gate: str) -> bool:
        """Whether the value of a gate is the share of the predecessors' states that lives on."""
        return gate.startswith("f")

    def gate_range(self, gate: str) -> tuple[float, float]:
        """The limits of a gate's values."""
        return (-1.0, 1.0) if gate in ("a", "g") else (0.0, 1.0)

    def rests_at_limits(self, gate: str) -> bool:
        """Whether values near a gate's limits are in order, as those of a memory that is to last."""
        return False

    def initial_gate_bias(self, gate: str, ndim: int) -> float:
        """Where the bias of a gate starts, in addition to noise."""
        return 0.0

    def starts_closed_to_input(self, gate: str) -> bool:
        """Whether a gate's weights start at zero, so that its bias alone decides its value at first."""
        return False


def _total(a: Tensor, u: Sequence[Tensor]) -> Tensor:
    for product in u:
        a = a + product
    return a


def _convex(logits: Sequence[Tensor], last: Tensor) -> tuple[Tensor, ...]:
    """The softmax over some logits and one of zero, of the shape of ``last``, that follows them."""
    return torch.softmax(torch.stack([*logits, torch.zeros_like(last)]), 0).unbind()


def _add_shares(start: Tensor, shares: Tensors, states: Tensors) -> Tensor:
    for share, state in zip(shares, states, strict=True):
        start = start + share * state
    return start


def _additive_memory(start: Tensor, forget: Tensors, c: Tensors, limit: float) -> Tensor:
    """``start`` and what the forget gates leave of the predecessors' memories. The gates' gradients hold memories."""
    forget = [with_limited_gradient(gate, limit) for gate in forget]
    return saturated(_add_shares(start, forget, c), limit)


def _through_peephole(weight: Tensor, c: Tensor, limit: float) -> Tensor:
    """``weight * c``; the weight's gradient, which holds memories, is limited at every point."""
    return with_limited_gradient(weight.expand_as(c), limit) * c


def _numbered(prefix: str, values: Tensors, first: int = 1) -> dict[str, Tensor]:
    return {f"{prefix}{number}": value for number, value in enumerate(values, first)}


_FORGET_SUM = 0.995


def _neutral_forget_bias(ndim: int) -> float:
    """The bias at which n forget gates sum to just below 1, so that a memory neither grows nor fades along paths.

    Gates above 1/n each make it grow with the number of lattice paths, C(2L, L) for two axes. At a sum s it cannot
    exceed 1 / (1 - s), here 200, on however large a lattice; at 1 it could still grow with the number of wavefronts.
    A single gate cannot exceed 1 and starts at the customary bias 1.
    """
    return log(_FORGET_SUM / (ndim - _FORGET_SUM)) if ndim > 1 else 1.0


def _axes(prefix: str, count: int) -> tuple[str, ...]:
    return tuple(f"{prefix}{axis + 1}" for axis in range(count))


@dataclass(frozen=True)
class RNNCell(Cell):
    """h = tanh(a) or relu(a) (Graves, Fernandez & Schmidhuber 2007)."""

    nonlinearity: Literal["tanh", "relu"] = "tanh"
    memory: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.nonlinearity not in ("tanh", "relu"):
            raise ValueError(f'nonlinearity must be "tanh" or "relu", got {self.nonlinearity!r}')

    @property
    def kernel(self) -> str | None:
        return f"rnn_{self.nonlinearity}"

    def gates(self, ndim: int) -> tuple[str, ...]:
        return ("a",)

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        return self.gate_values(a, u, h, c, extra)["a"], None

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        a = _total(a, u)
        if self.nonlinearity == "tanh":
            return {"a": torch.tanh(a)}
        return {"a": saturated(torch.relu(a), self.limit(a.dtype))}

    def gate_range(self, gate: str) -> tuple[float, float]:
        return (-1.0, 1.0) if self.nonlinearity == "tanh" else (0.0, inf)


@dataclass(frozen=True)
class LSTMCell(Cell):
    """Graves' MDLSTM: one forget gate an axis (Graves, Fernandez & Schmidhuber 2007, section 3).

    With peepholes the additional parameter has the rows i, f1 ... fn, o; the input gate's peephole is one weight a
    unit, shared by all axes, which is what the published weight counts say.
    """

    peepholes: bool = False

    @property
    def kernel(self) -> str | None:
        return "lstm_peephole" if self.peepholes else "lstm"

    @property
    def extra_name(self) -> str | None:
        return "weight_peephole" if self.peepholes else None

    def gates(self, ndim: int) -> tuple[str, ...]:
        return ("i", *_axes("f", ndim), "g", "o")

    def extra_shape(self, ndim: int, hidden_size: int) -> tuple[int, ...] | None:
        return (ndim + 2, hidden_size) if self.peepholes else None

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        gates, new = self._gates_and_memory(a, u, c, extra)
        return gates["o"] * torch.tanh(new), new

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        return self._gates_and_memory(a, u, c, extra)[0]

    def _gates_and_memory(
        self, a: Tensor, u: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[dict[str, Tensor], Tensor]:
        i, *f, g, o = _total(a, u).chunk(len(c) + 3, -1)
        limit = self.limit(a.dtype)
        if self.peepholes:
            p_i, *p_f, p_o = extra
            i = i + _through_peephole(p_i, sum(c[1:], c[0]), limit)
            f = [f_k + _through_peephole(p_k, c_k, limit) for f_k, p_k, c_k in zip(f, p_f, c, strict=True)]
        i, f, g = torch.sigmoid(i), [torch.sigmoid(f_k) for f_k in f], torch.tanh(g)
        new = _additive_memory(i * g, f, c, limit)
        if self.peepholes:
            o = o + _through_peephole(p_o, new, limit)
        return {"i": i, **_numbered("f", f), "g": g, "o": torch.sigmoid(o)}, new

    def initial_gate_bias(self, gate: str, ndim: int) -> float:
        return _neutral_forget_bias(ndim) if gate.startswith("f") else 0.0

    def starts_closed_to_input(self, gate: str) -> bool:
        return gate.startswith("f")


@dataclass(frozen=True)
class StableLSTMCell(Cell):
    """The stable cell: one forget gate on a convex mix of the memories (Leifert et al. 2016)."""

    @property
    def kernel(self) -> str | None:
        return "stable"

    def gates(self, ndim: int) -> tuple[str, ...]:
        return ("i", "f", *_axes("m", ndim - 1), "g", "o")

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        i, f, *m, g, o = self.gate_values(a, u, h, c, extra).values()
        new = i * g + f * _add_shares(m[0] * c[0], m[1:], c[1:])
        return o * torch.tanh(new), new

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        i, f, *m, g, o = _total(a, u).chunk(len(c) + 3, -1)
        return {
            "i": torch.sigmoid(i),
            "f": torch.sigmoid(f),
            **_numbered("m", _convex(m, f)),
            "g": torch.tanh(g),
            "o": torch.sigmoid(o),
        }

    def initial_gate_bias(self, gate: str, ndim: int) -> float:
        return 1.0 if gate == "f" else 0.0

    def starts_closed_to_input(self, gate: str) -> bool:
        return gate.startswith("m")


@dataclass(frozen=True)
class LeakyLSTMCell(Cell):
    """The leaky cell with two output gates, LeakyLP (Leifert et al. 2016): |c| never exceeds 1."""

    @property
    def kernel(self) -> str | None:
        return "leaky"

    def gates(self, ndim: int) -> tuple[str, ...]:
        return ("f", *_axes("m", ndim - 1), "g", "o1", "o2")

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        f, *m, g, o1, o2 = self.gate_values(a, u, h, c, extra).values()
        old = _add_shares(m[0] * c[0], m[1:], c[1:])
        new = (1 - f) * g + f * old
        return torch.tanh(o1 * new + o2 * old), new

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        f, *m, g, o1, o2 = _total(a, u).chunk(len(c) + 3, -1)
        return {
            "f": torch.sigmoid(f),
            **_numbered("m", _convex(m, f)),
            "g": torch.tanh(g),
            "o1": torch.sigmoid(o1),
            "o2": torch.sigmoid(o2),
        }

    def starts_closed_to_input(self, gate: str) -> bool:
        return gate.startswith("m")


@dataclass(frozen=True)
class SpatialLSTMCell(Cell):
    """The spatial LSTM (Theis & Bethge 2015): the output gate acts before the tanh, h = tanh(o * c).

    In the extended form the predecessors' memories also enter the gates, through the additional parameter.
    """

    extended: bool = False

    @property
    def kernel(self) -> str | None:
        return "spatial_extended" if self.extended else "spatial"

    @property
    def extra_name(self) -> str | None:
        return "weight_ch" if self.extended else None

    @property
    def feeds_memory(self) -> bool:
        return self.extended

    def gates(self, ndim: int) -> tuple[str, ...]:
        return ("i", *_axes("f", ndim), "g", "o")

    def extra_shape(self, ndim: int, hidden_size: int) -> tuple[int, ...] | None:
        return (ndim, (ndim + 3) * hidden_size, hidden_size) if self.extended else None

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        i, *f, g, o = self.gate_values(a, u, h, c, extra).values()
        limit = self.limit(a.dtype)
        new = _additive_memory(g * i, f, c, limit)
        return torch.tanh(with_limited_gradient(o, limit) * new), new

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        i, *f, g, o = _total(a, u).chunk(len(c) + 3, -1)
        f = [torch.sigmoid(f_k) for f_k in f]
        return {"i": torch.sigmoid(i), **_numbered("f", f), "g": torch.tanh(g), "o": torch.sigmoid(o)}

    def initial_gate_bias(self, gate: str, ndim: int) -> float:
        return _neutral_forget_bias(ndim) if gate.startswith("f") else 0.0

    def starts_closed_to_input(self, gate: str) -> bool:
        return gate.startswith("f")


@dataclass(frozen=True)
class GRUCell(Cell):
    """A gated recurrent unit for n axes; for n = 1 it is torch's. The additional parameter is b_hn, a row an axis."""

    memory: ClassVar[bool] = False
    needs_separate_products: ClassVar[bool] = True

    @property
    def kernel(self) -> str | None:
        return "gru"

    @property
    def extra_name(self) -> str | None:
        return "bias_hn"

    def gates(self, ndim: int) -> tuple[str, ...]:
        return (*_axes("r", ndim), *_axes("z", ndim), "g")

    def extra_shape(self, ndim: int, hidden_size: int) -> tuple[int, ...] | None:
        return (ndim, hidden_size)

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        values = list(self.gate_values(a, u, h, c, extra).values())
        fresh, *kept, g = values[len(h) :]
        return _add_shares(fresh * g, kept, h), None

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        ndim, hidden = len(h), h[0].shape[-1]
        logits = 2 * ndim * hidden
        candidate = a[..., logits:]
        rz = _total(a[..., :logits], [product[..., :logits] for product in u]).chunk(2 * ndim, -1)
        r = [torch.sigmoid(r_k) for r_k in rz[:ndim]]
        for r_k, product, b_k in zip(r, u, extra or (None,) * ndim, strict=True):
            term = product[..., logits:] if b_k is None else product[..., logits:] + b_k
            candidate = candidate + r_k * term
        # the share of the candidate, whose logit is 0, comes first
        *z, fresh = _convex(rz[ndim:], candidate)
        return {**_numbered("r", r), **_numbered("z", [fresh, *z], 0), "g": torch.tanh(candidate)}

    def carries(self, gate: str) -> bool:
        return gate.startswith("z") and gate != "z0"


@dataclass(frozen=True)
class LinearCell(Cell):
    """A recurrence that is linear in its memories, c = i g + sum of f_k c_k, with gates of the input alone, h = o c.

    The shares i, f1 ... fn are never negative and sum to at most 1, so that c stays within 1 on any lattice:
    ``"softmax"`` of their logits, or ``"even"``, in which no predecessor keeps more than an even share,
    f_k = sigma(a_fk) / n and i = sigma(a_i) (1 - sum of f_k). Then the shares that leave a point, too, sum to at most
    1, so that gradients cannot grow either.
    """

    normalize: Literal["softmax", "even"] = "softmax"
    recurrent: ClassVar[bool] = False

    def __post_init__(self) -> None:
        if self.normalize not in ("softmax", "even"):
            raise ValueError(f'normalize must be "softmax" or "even", got {self.normalize!r}')

    @property
    def kernel(self) -> str | None:
        return f"linear_{self.normalize}"

    def gates(self, ndim: int) -> tuple[str, ...]:
        return ("i", *_axes("f", ndim), "g", "o")

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        i, *f, g, o = self.gate_values(a, u, h, c, extra).values()
        new = _add_shares(i * g, f, c)
        return o * new, new

    def gate_values(self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors) -> dict[str, Tensor]:
        return self.values(a, len(c))

    def rests_at_limits(self, gate: str) -> bool:
        # of a memory that reaches back r points the shares sum to 1 - 1/r, and 1/r is left for the candidate
        return gate not in ("g", "o")

    def values(self, a: Tensor, ndim: int) -> dict[str, Tensor]:
        """The gates (..., H) by name, from their pre-activations (..., G*H)."""
        *logits, g, o = a.chunk(ndim + 3, -1)
        if self.normalize == "softmax":
            i, *f = torch.softmax(torch.stack(logits), 0).unbind()
        else:
            f = [torch.sigmoid(logit) / ndim for logit in logits[1:]]
            # 1 minus the sum of f without its loss of digits
            i = torch.sigmoid(logits[0]) * sum(torch.sigmoid(-logit) for logit in logits[1:]) / ndim
        return {"i": i, **_numbered("f", f), "g": torch.tanh(g), "o": torch.sigmoid(o)}
