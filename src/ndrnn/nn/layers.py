"""Layers: modules that own the parameters of a scan and call it."""

from __future__ import annotations

from collections.abc import Sequence
from math import sqrt
from typing import Any, Literal, TypedDict, TypeVar, Unpack

import torch
from torch import Tensor, nn

from ..cells import Cell, GRUCell, LeakyLSTMCell, LSTMCell, Params, RNNCell, SpatialLSTMCell, StableLSTMCell
from ..lattice import all_directions, check_sizes, face_lattice, pack_faces, resolve_directions, unpack_faces
from ..scan import scan
from ..scan.recompute import check_checkpoint, scan_in_strips, strip_count

Merge = Literal["concat", "sum", "mean"]
Directions = Literal["all"] | Sequence[Sequence[int]]
Faces = tuple[Tensor, ...]
State = Faces | tuple[Faces, Faces]
Layer = TypeVar("Layer", bound="ScanLayer")


class Options(TypedDict, total=False):
    """What every layer takes by keyword, see :class:`ScanLayer`."""

    directions: Directions
    merge: Merge
    bias: bool
    checkpoint: bool | int
    device: torch.device | str | None
    dtype: torch.dtype | None


class ScanLayer(nn.Module):
    r"""A cell scanned over an n-dimensional lattice in one or several directions.

    The base of all layers; use it directly with a cell of your own.

    Args:
        cell: the equations at one point.
        input_size: features C at each point of the input.
        hidden_size: units H of the cell.
        ndim: number n of lattice axes.
        directions: ``"all"`` 2^n corners to start from, or a sequence of tuples of +1/-1; +1 starts at index 0.
        merge: how the directions' outputs become one: ``"concat"`` in their order, ``"sum"`` or ``"mean"``.
        bias: whether the gates have biases.
        checkpoint: whether to save memory in training: of the scan only the states on the cuts between strips are
            kept, and the strips scanned again in the backward pass; ``True`` for about as many as the root of the
            longest axis, or their number. Gradients of gradients are then not to be had.
        device, dtype: of the parameters.

    Shapes:
        Input (N, D1, ..., Dn, C); output (N, D1, ..., Dn, F) with F = D*H for ``"concat"``, else H.
        Parameters, with G gates: ``weight_ih`` (D, G*H, C), ``weight_hh`` (D, n, G*H, H), ``bias`` (D, G*H), and for
        some cells one more. A state holds a tensor (D, N, \*lattice without axis k, H) for every axis k.

    Recurrent weights start uniform within 1/sqrt(n*H), the others within 1/sqrt(H); the gates that decide how much
    of the predecessors' memories is kept start with zero weights and a bias at which the memory cannot grow.
    """

    def __init__(
        self,
        cell: Cell,
        input_size: int,
        hidden_size: int,
        ndim: int = 2,
        *,
        directions: Directions = "all",
        merge: Merge = "concat",
        bias: bool = True,
        checkpoint: bool | int = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not isinstance(cell, Cell):
            raise TypeError(f"cell must be a Cell, got {type(cell).__name__}")
        for name, value in (("input_size", input_size), ("hidden_size", hidden_size), ("ndim", ndim)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an int, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if merge not in ("concat", "sum", "mean"):
            raise ValueError(f'merge must be "concat", "sum" or "mean", got {merge!r}')
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype must be a floating-point torch.dtype, got {dtype!r}")
        self.cell = cell
        self.input_size = input_size
        self.hidden_size = hidden_size
        self.ndim = ndim
        self.directions = resolve_directions(directions, ndim)
        self.merge = merge
        self.checkpoint = check_checkpoint(checkpoint)
        gates, count = len(cell.gates(ndim)) * hidden_size, len(self.directions)
        shapes: dict[str, tuple[int, ...] | None] = {
            "weight_ih": (count, gates, input_size),
            "weight_hh": (count, ndim, gates, hidden_size),
            "bias": (count, gates) if bias else None,
        }
        extra = cell.extra_shape(ndim, hidden_size)
        if cell.extra_name is not None and extra is not None:
            is_bias = cell.extra_name.startswith("bias")
            shapes[cell.extra_name] = (count, *extra) if bias or not is_bias else None
        for name, shape in shapes.items():
            empty = None if shape is None else nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, empty)
        self.reset_parameters()

    weight_ih: nn.Parameter
    weight_hh: nn.Parameter
    bias: nn.Parameter | None

    @property
    def output_size(self) -> int:
        """Features at each point of the output."""
        return self.hidden_size * (len(self.directions) if self.merge == "concat" else 1)

    @property
    def params(self) -> Params:
        """The parameters in the form that the scan takes."""
        extra = None if self.cell.extra_name is None else getattr(self, self.cell.extra_name)
        return Params(self.weight_ih, self.weight_hh, self.bias, extra)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew."""
        bound = 1 / sqrt(self.hidden_size)
        for name, parameter in self.named_parameters(recurse=False):
            if name == "weight_peephole":
                parameter.zero_()  # a cell starts as one without peepholes
                continue
            scale = bound / sqrt(self.ndim) if name in ("weight_hh", "weight_ch") else bound
            parameter.uniform_(-scale, scale)
        for index, gate in enumerate(self.cell.gates(self.ndim)):
            rows = slice(index * self.hidden_size, (index + 1) * self.hidden_size)
            start = self.cell.initial_gate_bias(gate, self.ndim)
            if self.cell.starts_closed_to_input(gate):
                for name, parameter in self.named_parameters(recurse=False):
                    if name in ("weight_ih", "weight_hh", "weight_ch"):
                        parameter[..., rows, :] = 0
                if self.bias is not None:
                    self.bias[:, rows] = 0
            if self.bias is not None:
                self.bias[:, rows] += start

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        every = self.directions == all_directions(self.ndim)
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "ndim": self.ndim,
            "directions": "all" if every else self.directions,
            "merge": self.merge,
            "bias": self.bias is not None,
            "checkpoint": self.checkpoint,
            **vars(self.cell),
        }

    def extra_repr(self) -> str:
        directions = "all" if self.directions == all_directions(self.ndim) else list(self.directions)
        shown = f"{self.input_size}, {self.hidden_size}, ndim={self.ndim}, directions={directions!r}, merge={self.merge!r}"
        variant = "".join(f", {name}={value!r}" for name, value in vars(self.cell).items())
        bias = "" if self.bias is not None else ", bias=False"
        return shown + variant + bias + (f", checkpoint={self.checkpoint}" if self.checkpoint else "")

    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: State | None = None,
        return_state: bool = False,
    ) -> Any:
        r"""Scan ``x``.

        Args:
            x: (N, D1, ..., Dn, C).
            sizes: true extent (N, n) of each sample, int64; y is 0 outside it.
            initial_state: what the entry faces see, zero by default: faces of h, for cells with a memory a pair
                (faces of h, faces of c); face k has shape (D, N, \*lattice without axis k, H).
            return_state: whether to return also the state on the exit faces, in the form of ``initial_state``.

        Returns:
            y (N, D1, ..., Dn, F), or the pair (y, state).

        Raises:
            ValueError: a shape or a device does not fit the layer.
            TypeError: a dtype does not, or an argument is of the wrong kind.
        """
        self.check_input(x)
        lattice = x.shape[1:-1]
        if sizes is not None:
            sizes = check_sizes(sizes, x.shape[0], lattice)
            if sizes.device != x.device:
                raise ValueError(f"sizes must be on the device of x, {x.device}, got {sizes.device}")
        packed = None if initial_state is None else self._pack_state(initial_state, x)
        lowered = None
        if _autocasts(x.device):
            # rounding would add up along the recurrence: the scan keeps full precision, only the output is lowered
            if self.weight_ih.dtype == torch.float32:
                lowered = torch.get_autocast_dtype(x.device.type)
            with torch.autocast(x.device.type, enabled=False):
                y, exits = self._scan(x.to(self.weight_ih.dtype), sizes, packed, return_state)
        else:
            y, exits = self._scan(x, sizes, packed, return_state)
        y = y.flatten(-2) if self.merge == "concat" else y.sum(-2) if self.merge == "sum" else y.mean(-2)
        y = y if lowered is None else y.to(lowered)
        if exits is None:
            return y
        h, c = exits
        h_faces = unpack_faces(h, lattice)
        return y, h_faces if c is None else (h_faces, unpack_faces(c, lattice))

    def _scan(
        self, x: Tensor, sizes: Tensor | None, state: tuple[Tensor, Tensor | None] | None, return_state: bool
    ) -> tuple[Tensor, tuple[Tensor, Tensor | None] | None]:
        call = (self.cell, x, self.params, self.directions, sizes, state)
        if self.checkpoint:
            strips = strip_count(self.checkpoint, x.shape[1:-1])
            return scan_in_strips(*call, strips=strips, return_state=return_state)
        return scan(*call, return_state=return_state)

    def check_input(self, x: Tensor) -> None:
        """Raise what :meth:`forward` raises for an ``x`` of the wrong kind, shape, device or dtype."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {type(x).__name__}")
        if x.dim() != self.ndim + 2 or x.shape[-1] != self.input_size:
            axes = ", ".join(f"D{axis + 1}" for axis in range(self.ndim))
            raise ValueError(f"x must have shape (N, {axes}, {self.input_size}), got {tuple(x.shape)}")
        weight = self.weight_ih
        if x.device != weight.device:
            raise ValueError(f"x must be on the device of the layer, {weight.device}, got {x.device}")
        if x.dtype != weight.dtype and not (x.is_floating_point() and _autocasts(x.device)):
            raise TypeError(f"x must have the dtype of the layer, {weight.dtype}, got {x.dtype}")

    def _pack_state(self, state: State, x: Tensor) -> tuple[Tensor, Tensor | None]:
        parts, dtype = ("h", "c") if self.cell.memory else ("h",), self.weight_ih.dtype
        form = (
            f"a tuple of {self.ndim} faces"
            if len(parts) == 1
            else f"a pair of tuples of {self.ndim} faces, (h, c)"
        )
        groups = (state,) if len(parts) == 1 else state
        if not isinstance(groups, (tuple, list)) or len(groups) != len(parts):
            raise TypeError(f"initial_state must be {form}, got {_describe(state)}")
        for part, faces in zip(parts, groups, strict=True):
            if not isinstance(faces, (tuple, list)) or len(faces) != self.ndim:
                raise TypeError(f"initial_state must be {form}, got {_describe(state)}")
            for axis, face in enumerate(faces):
                where = f"initial_state: face {axis} of {part}"
                if not isinstance(face, Tensor):
                    raise TypeError(f"{where} must be a tensor, got {type(face).__name__}")
                others = face_lattice(x.shape[1:-1], axis)
                shape = (len(self.directions), x.shape[0], *others, self.hidden_size)
                if face.shape != shape:
                    raise ValueError(f"{where} must have shape {shape}, got {tuple(face.shape)}")
                if face.device != x.device:
                    raise ValueError(f"{where} must be on the device of x, {x.device}, got {face.device}")
                if face.dtype != dtype and not (face.is_floating_point() and _autocasts(x.device)):
                    raise TypeError(f"{where} must have the dtype of the layer, {dtype}, got {face.dtype}")
        packed = [pack_faces(faces).to(dtype) for faces in groups]  # type: ignore[arg-type]
        return packed[0], packed[1] if len(packed) > 1 else None


def _autocasts(device: torch.device) -> bool:
    # torch.amp.is_autocast_available would say which devices have none, but torch 2.11 cannot trace it
    return device.type != "meta" and torch.is_autocast_enabled(device.type)


def _describe(value: object) -> str:
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__


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
    def from_torch(cls, module: nn.RNN) -> MDRNN:
        """The layer with the weights of a one-layer :class:`torch.nn.RNN`, uni- or bidirectional."""
        options = _torch_options(module, nn.RNN)
        return _with_torch_weights(cls(**options, nonlinearity=module.nonlinearity), module)


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
    def from_torch(cls, module: nn.LSTM) -> MDLSTM:
        """The layer with the weights of a one-layer :class:`torch.nn.LSTM`, uni- or bidirectional."""
        return _with_torch_weights(cls(**_torch_options(module, nn.LSTM)), module)


class StableMDLSTM(ScanLayer):
    """The stable cell: one forget gate on a convex mix of the memories (Leifert et al. 2016).

    For n = 1 it is :class:`torch.nn.LSTM`. Arguments and shapes as in :class:`ScanLayer`. Its memory cannot grow
    with the number of lattice paths, so that the forget gate may start at the customary bias 1.
    """

    def __init__(self, input_size: int, hidden_size: int, ndim: int = 2, **options: Unpack[Options]) -> None:
        super().__init__(StableLSTMCell(), input_size, hidden_size, ndim, **options)

    @classmethod
    def from_torch(cls, module: nn.LSTM) -> StableMDLSTM:
        """The layer with the weights of a one-layer :class:`torch.nn.LSTM`, uni- or bidirectional."""
        return _with_torch_weights(cls(**_torch_options(module, nn.LSTM)), module)


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
        **options: Unpack[Options],
    ) -> None:
        if isinstance(ndim, int):
            options.setdefault("directions", ((1,) * ndim,))
        super().__init__(SpatialLSTMCell(extended), input_size, hidden_size, ndim, **options)


class MDGRU(ScanLayer):
    """A gated recurrent unit for n axes: a reset gate an axis, and a convex choice between the candidate and the
    predecessors. For n = 1 it is :class:`torch.nn.GRU`.

    Arguments and shapes as in :class:`ScanLayer`; with biases it has also ``bias_hn`` (D, n, H), which acts within
    the reset gate.
    """

    def __init__(self, input_size: int, hidden_size: int, ndim: int = 2, **options: Unpack[Options]) -> None:
        super().__init__(GRUCell(), input_size, hidden_size, ndim, **options)

    @classmethod
    def from_torch(cls, module: nn.GRU) -> MDGRU:
        """The layer with the weights of a one-layer :class:`torch.nn.GRU`, uni- or bidirectional."""
        return _with_torch_weights(cls(**_torch_options(module, nn.GRU)), module)


def _torch_options(module: nn.RNNBase, kind: type[nn.RNNBase]) -> dict[str, Any]:
    """Constructor arguments of the layer that equals a recurrent module of torch."""
    if not isinstance(module, kind):
        raise TypeError(f"module must be a torch.nn.{kind.__name__}, got {type(module).__name__}")
    if module.num_layers != 1 or module.proj_size != 0:
        raise ValueError(
            "module must have num_layers=1 and proj_size=0, "
            f"got num_layers={module.num_layers}, proj_size={module.proj_size}"
        )
    return {
        "input_size": module.input_size,
        "hidden_size": module.hidden_size,
        "ndim": 1,
        "directions": "all" if module.bidirectional else [(1,)],
        "bias": module.bias,
        "device": module.weight_ih_l0.device,
        "dtype": module.weight_ih_l0.dtype,
    }


@torch.no_grad()
def _with_torch_weights(layer: Layer, module: nn.RNNBase) -> Layer:
    for d in range(len(layer.directions)):
        suffix = "_l0" + "_reverse" * d
        layer.weight_ih[d] = getattr(module, "weight_ih" + suffix)
        layer.weight_hh[d, 0] = getattr(module, "weight_hh" + suffix)
        if layer.bias is None:
            continue
        bias_ih, bias_hh = getattr(module, "bias_ih" + suffix), getattr(module, "bias_hh" + suffix)
        layer.bias[d] = bias_ih + bias_hh
        if isinstance(layer, MDGRU):
            # torch adds this half of the candidate's bias within the reset gate
            own = slice(2 * layer.hidden_size, None)
            layer.bias[d, own] = bias_ih[own]
            layer.get_parameter("bias_hn")[d, 0] = bias_hh[own]
    return layer
