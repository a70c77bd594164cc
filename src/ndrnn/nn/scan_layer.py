"""The base of all layers: a module that owns the parameters of a scan and calls it."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from math import sqrt
from typing import TYPE_CHECKING, Any, Literal, TypedDict, TypeVar, overload

import torch
from torch import Tensor, nn

from ..cells import Cell, Params
from ..lattice import all_directions, check_sizes, resolve_directions
from ..scan import scan
from ..scan.circumstances import transformed
from ..scan.recompute import check_recompute, scan_in_strips, strip_count
from .batching import add_batch
from .state import InitialState, State, as_state, pack, unpack

Merge = Literal["concat", "sum", "mean"]
Directions = Literal["all"] | Sequence[Sequence[int]]
Layer = TypeVar("Layer", bound="ScanLayer")


class CommonOptions(TypedDict, total=False):
    """What every layer takes by keyword, see :class:`ScanLayer`; ``checkpoint`` is the old name of ``recompute``."""

    merge: Merge
    bias: bool
    recompute: bool | int
    checkpoint: bool | int | None
    device: torch.device | str | None
    dtype: torch.dtype | None


class Options(CommonOptions, total=False):
    """The same, with the directions."""

    directions: Directions


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
        recompute: whether to save memory in training: of the scan only the states on the cuts between strips are
            kept, and the strips scanned again in the backward pass; ``True`` for about as many as the root of the
            longest axis, or their number. Gradients of gradients are then not to be had. (``checkpoint`` is the
            name that this option had before, deprecated.)
        device, dtype: of the parameters.

    Shapes:
        Input (N, D1, ..., Dn, C); output (N, D1, ..., Dn, F) with F = D*H for ``"concat"``, else H. Unbatched input
        (D1, ..., Dn, C) gives (D1, ..., Dn, F).
        Parameters, with G gates: ``weight_ih`` (D, G*H, C), ``weight_hh`` (D, n, G*H, H), ``bias`` (D, G*H), and for
        some cells one more. A :class:`ndrnn.State` holds a tensor (D, N, \*lattice without axis k, H) for every axis k.

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
        recompute: bool | int = False,
        checkpoint: bool | int | None = None,
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
        if checkpoint is not None:
            warnings.warn(
                "the layers' option checkpoint is now called recompute",
                DeprecationWarning,
                stacklevel=2 if type(self) is ScanLayer else 3,
            )
            if recompute is not False:
                raise TypeError("recompute and checkpoint are one option, give recompute alone")
            recompute = checkpoint
        self.recompute = check_recompute(recompute)
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

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        signature = _expanded(cls)
        if signature is not None:
            cls.__signature__ = signature  # type: ignore[attr-defined]

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

    @property
    def _scans_all(self) -> bool:
        # of many axes there are more than can be listed
        return len(self.directions) == 2**self.ndim and self.directions == all_directions(self.ndim)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """Draw all parameters anew, those with a :mod:`torch.nn.utils.parametrize` too."""
        fresh: dict[str, Tensor] = {}
        bound = 1 / sqrt(self.hidden_size)
        for name, weight in self._weights().items():
            scale = bound / sqrt(self.ndim) if name in ("weight_hh", "weight_ch") else bound
            # a cell starts as one without peepholes
            fresh[name] = (
                torch.empty_like(weight).uniform_(-scale, scale)
                if name != "weight_peephole"
                else torch.zeros_like(weight)
            )
        bias = fresh.get("bias")
        for index, gate in enumerate(self.cell.gates(self.ndim)):
            rows = slice(index * self.hidden_size, (index + 1) * self.hidden_size)
            if self.cell.starts_closed_to_input(gate):
                for name in fresh.keys() & {"weight_ih", "weight_hh", "weight_ch"}:
                    fresh[name][..., rows, :] = 0
                if bias is not None:
                    bias[:, rows] = 0
            if bias is not None:
                bias[:, rows] += self.cell.initial_gate_bias(gate, self.ndim)
        for name, value in fresh.items():
            if name in self._parameters:
                self.get_parameter(name).copy_(value)
            else:  # torch finds the parameters that give this value
                setattr(self, name, value)

    def _weights(self) -> dict[str, Tensor]:
        """The weights by name, parametrised ones by their values."""
        names = ["weight_ih", "weight_hh", "bias", *([self.cell.extra_name] if self.cell.extra_name else [])]
        values = {name: getattr(self, name) for name in names}
        return {name: value for name, value in values.items() if value is not None}

    def config(self) -> dict[str, Any]:
        """The constructor's arguments as plain values."""
        every = self._scans_all
        return {
            "input_size": self.input_size,
            "hidden_size": self.hidden_size,
            "ndim": self.ndim,
            "directions": "all" if every else self.directions,
            "merge": self.merge,
            "bias": self.bias is not None,
            "recompute": self.recompute,
            **vars(self.cell),
        }

    @classmethod
    def from_config(cls: type[Layer], config: Mapping[str, Any]) -> Layer:
        """The layer that a saved config describes; those of version 0.1 have ``checkpoint`` for ``recompute``."""
        config = dict(config)
        if "checkpoint" in config:
            config.setdefault("recompute", config.pop("checkpoint"))
        return cls(**config)

    def extra_repr(self) -> str:
        directions = "all" if self._scans_all else list(self.directions)
        shown = f"{self.input_size}, {self.hidden_size}, ndim={self.ndim}, directions={directions!r}, merge={self.merge!r}"
        variant = "".join(f", {name}={value!r}" for name, value in vars(self.cell).items())
        bias = "" if self.bias is not None else ", bias=False"
        return shown + variant + bias + (f", recompute={self.recompute}" if self.recompute else "")

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: InitialState | None = None,
        return_state: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: InitialState | None = None,
        *,
        return_state: Literal[True],
    ) -> tuple[Tensor, State]: ...

    @overload
    def forward(
        self, x: Tensor, sizes: Tensor | None, initial_state: InitialState | None, return_state: Literal[True]
    ) -> tuple[Tensor, State]: ...

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: InitialState | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, State]: ...

    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: InitialState | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, State]:
        r"""Scan ``x``.

        Args:
            x: (N, D1, ..., Dn, C), or (D1, ..., Dn, C) unbatched; what follows then has no axis N either.
            sizes: true extent (N, n) of each sample, int64; y is 0 outside it.
            initial_state: what the entry faces see, zero by default: a :class:`ndrnn.State`, or plain tuples (faces of h
                for cells without memory, the pair (faces of h, faces of c) for those with one); face k has shape
                (D, N, \*lattice without axis k, H).
            return_state: whether to return also the state on the exit faces.

        Returns:
            y (N, D1, ..., Dn, F), or the pair (y, :class:`ndrnn.State`).

        Raises:
            ValueError: a shape or a device does not fit the layer.
            TypeError: a dtype does not, or an argument is of the wrong kind.
        """
        params = self.params  # read once: a parametrised weight is computed at every look
        dtype = params.weight_ih.dtype
        self._check_input(x, params.weight_ih)
        x, sizes, unbatched = add_batch(x, sizes, self.ndim)
        lattice = x.shape[1:-1]
        if sizes is not None:
            sizes = check_sizes(sizes, x.shape[0], lattice)
            if sizes.device != x.device:
                raise ValueError(f"sizes must be on the device of x, {x.device}, got {sizes.device}")
        packed = None
        if initial_state is not None:
            state = as_state(initial_state, self.cell.memory, self.ndim)
            form = len(self.directions), self.hidden_size, dtype
            packed = pack(state, x, *form, any_float=_autocasts(x.device), unbatched=unbatched)
        lowered = None
        if _autocasts(x.device):
            # rounding would add up along the recurrence: the scan keeps full precision, only the output is lowered
            if dtype == torch.float32:
                lowered = torch.get_autocast_dtype(x.device.type)
            with torch.autocast(x.device.type, enabled=False):
                y, exits = self._scan(x.to(dtype), params, sizes, packed, return_state)
        else:
            y, exits = self._scan(x, params, sizes, packed, return_state)
        y = y.flatten(-2) if self.merge == "concat" else y.sum(-2) if self.merge == "sum" else y.mean(-2)
        y = y if lowered is None else y.to(lowered)
        y = y.squeeze(0) if unbatched else y
        return y if exits is None else (y, unpack(*exits, lattice, unbatched=unbatched))

    if TYPE_CHECKING:
        __call__ = forward

    def _scan(
        self,
        x: Tensor,
        params: Params,
        sizes: Tensor | None,
        state: tuple[Tensor, Tensor | None] | None,
        return_state: bool,
    ) -> tuple[Tensor, tuple[Tensor, Tensor | None] | None]:
        call = (self.cell, x, params, self.directions, sizes, state)
        # under a functional transform, or in a program for inference, strips would be in the way
        transforming = not torch.compiler.is_compiling() and transformed()
        if self.recompute and not transforming and not torch.compiler.is_exporting():
            strips = strip_count(self.recompute, x.shape[1:-1])
            return scan_in_strips(*call, strips=strips, return_state=return_state)
        return scan(*call, return_state=return_state)

    def check_input(self, x: Tensor) -> None:
        """Raise what :meth:`forward` raises for an ``x`` of the wrong kind, shape, device or dtype."""
        self._check_input(x, self.weight_ih)

    def _check_input(self, x: Tensor, weight: Tensor) -> None:
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {type(x).__name__}")
        if x.dim() not in (self.ndim + 1, self.ndim + 2) or x.shape[-1] != self.input_size:
            form = f"{', '.join(f'D{axis + 1}' for axis in range(self.ndim))}, {self.input_size})"
            raise ValueError(f"x must have shape (N, {form}, or ({form} unbatched, got {tuple(x.shape)}")
        if x.device != weight.device:
            raise ValueError(f"x must be on the device of the layer, {weight.device}, got {x.device}")
        if x.dtype != weight.dtype and not (x.is_floating_point() and _autocasts(x.device)):
            raise TypeError(f"x must have the dtype of the layer, {weight.dtype}, got {x.dtype}")


def _expanded(cls: type[ScanLayer]) -> inspect.Signature | None:
    """The signature of a layer's class with what ``**options`` stands for, as help() and skip_init want it."""
    _, *parameters = inspect.signature(cls.__init__).parameters.values()
    if not parameters or not str(parameters[-1].annotation).startswith("Unpack["):
        return None
    names = {parameter.name for parameter in parameters}
    common = [
        parameter
        for parameter in inspect.signature(ScanLayer.__init__).parameters.values()
        if parameter.kind is parameter.KEYWORD_ONLY and parameter.name not in names
    ]
    return inspect.Signature([*parameters[:-1], *common])


def _autocasts(device: torch.device) -> bool:
    # torch.amp.is_autocast_available would say which devices have none, but torch 2.11 cannot trace it
    return device.type != "meta" and torch.is_autocast_enabled(device.type)
