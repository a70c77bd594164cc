"""The layers: one class for each cell."""

from __future__ import annotations

from typing import Literal, Unpack

from torch import nn

from ..cells import GRUCell, LeakyLSTMCell, LSTMCell, RNNCell, SpatialLSTMCell, StableLSTMCell
from .from_torch import converted
from .layouts import TimeFirst
from .scan_layer import CommonOptions, Directions, Merge, Options, ScanLayer
from .stack import Stack
from .state import State

__all__ = [
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "Directions",
    "LeakyMDLSTM",
    "Merge",
    "Options",
    "ScanLayer",
    "SpatialLSTM",
    "StableMDLSTM",
    "State",
]


class MDRNN(ScanLayer):
    """The plain multi-dimensional RNN, h = tanh(a) or relu(a) (Graves, Fernandez & Schmidhuber 2007).

    For n = 1 it is :class:`torch.nn.RNN`. Arguments and shapes as in :class:`ScanLayer`, and
    ``nonlinearity``: ``"tanh"`` or ``"relu"``.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        ndim: int = 2,
        *,
        nonlinearity: Literal["tanh", "relu"] = "tanh",
        **options: Unpack[Options],
    ) -> None:
        super().__init__(RNNCell(nonlinearity), input_size, hidden_size, ndim, **options)

    @classmethod
    def from_torch(cls, module: nn.RNN) -> MDRNN | Stack | TimeFirst:
        """The counterpart of a :class:`torch.nn.RNN`, see :func:`ndrnn.nn.from_torch.converted`."""
        return converted(cls, module, nn.RNN, nonlinearity=module.nonlinearity)


class MDLSTM(ScanLayer):
    """Graves' multi-dimensional LSTM, one forget gate an axis (Graves, Fernandez & Schmidhuber 2007).

    For n = 1 it is :class:`torch.nn.LSTM`. Arguments and shapes as in :class:`ScanLayer`, and
    ``peepholes``: whether the gates see the memories, through ``weight_peephole`` (D, n+2, H), rows i, f1 ... fn, o.

    The forget gates start with their sum just below 1 whatever the input: above it a memory grows with the number of
    lattice paths, C(2L, L) on a square. Without biases they start at 1/2 each, too much for n > 2.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        ndim: int = 2,
        *,
        peepholes: bool = False,
        **options: Unpack[Options],
    ) -> None:
        super().__init__(LSTMCell(peepholes), input_size, hidden_size, ndim, **options)

    @classmethod
    def from_torch(cls, module: nn.LSTM) -> MDLSTM | Stack | TimeFirst:
        """The counterpart of a :class:`torch.nn.LSTM`, see :func:`ndrnn.nn.from_torch.converted`."""
        return converted(cls, module, nn.LSTM)


class StableMDLSTM(ScanLayer):
    """The stable cell: one forget gate on a convex mix of the memories (Leifert et al. 2016).

    For n = 1 it is :class:`torch.nn.LSTM`. Arguments and shapes as in :class:`ScanLayer`. Its memory cannot grow
    with the number of lattice paths, so that the forget gate may start at the customary bias 1.
    """

    def __init__(self, input_size: int, hidden_size: int, ndim: int = 2, **options: Unpack[Options]) -> None:
        super().__init__(StableLSTMCell(), input_size, hidden_size, ndim, **options)

    @classmethod
    def from_torch(cls, module: nn.LSTM) -> StableMDLSTM | Stack | TimeFirst:
        """The counterpart of a :class:`torch.nn.LSTM`, see :func:`ndrnn.nn.from_torch.converted`."""
        return converted(cls, module, nn.LSTM)


class LeakyMDLSTM(ScanLayer):
    """The leaky cell with two output gates, LeakyLP (Leifert et al. 2016); no memory exceeds 1.

    Arguments and shapes as in :class:`ScanLayer`.
    """

    def __init__(self, input_size: int, hidden_size: int, ndim: int = 2, **options: Unpack[Options]) -> None:
        super().__init__(LeakyLSTMCell(), input_size, hidden_size, ndim, **options)


class SpatialLSTM(ScanLayer):
    """The spatial LSTM, h = tanh(o * c), by default in the one direction (+1, ..., +1) (Theis & Bethge 2015).

    Arguments and shapes as in :class:`ScanLayer`, and ``extended``: whether the memories of the predecessors enter
    the gates too, through ``weight_ch`` (D, n, G*H, H).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        ndim: int = 2,
        *,
        extended: bool = False,
        directions: Directions | None = None,
        **options: Unpack[CommonOptions],
    ) -> None:
        if directions is None:
            directions = ((1,) * ndim,) if isinstance(ndim, int) else "all"
        super().__init__(
            SpatialLSTMCell(extended), input_size, hidden_size, ndim, directions=directions, **options
        )


class MDGRU(ScanLayer):
    """A gated recurrent unit for n axes: a reset gate an axis, and a convex choice between the candidate and the
    predecessors. For n = 1 it is :class:`torch.nn.GRU`.

    Arguments and shapes as in :class:`ScanLayer`; with biases it has also ``bias_hn`` (D, n, H), which acts within
    the reset gate.
    """

    def __init__(self, input_size: int, hidden_size: int, ndim: int = 2, **options: Unpack[Options]) -> None:
        super().__init__(GRUCell(), input_size, hidden_size, ndim, **options)

    @classmethod
    def from_torch(cls, module: nn.GRU) -> MDGRU | Stack | TimeFirst:
        """The counterpart of a :class:`torch.nn.GRU`, see :func:`ndrnn.nn.from_torch.converted`."""
        return converted(cls, module, nn.GRU)
