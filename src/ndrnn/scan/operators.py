"""The scan as operators of PyTorch: ``ndrnn::scan`` and ``ndrnn::scan_backward``.

Their kernels for CPU tensors live in a shared library beside this package; here are their schemas, the shapes that
they give (for tracing without running) and their gradients.
"""

from __future__ import annotations

import ctypes
import sys
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from . import flops

_WEIGHTS = "Tensor weight_ih, Tensor weight_hh, Tensor? bias, Tensor? extra"
_INPUTS = f"Tensor x, {_WEIGHTS}, Tensor? sizes, Tensor? h0, Tensor? c0"
_NAMES = (
    "x",
    "weight_ih",
    "weight_hh",
    "bias",
    "extra",
    "sizes",
    "h0",
    "c0",
    "cell",
    "signs",
    "exits",
    "keep",
)

# y (N, *lattice, D, H); hn and cn (D, N, F, H) if the exits are wanted; c and what else is kept for the way back.
# Whatever is not wanted is empty.
torch.library.define(
    "ndrnn::scan",
    f"({_INPUTS}, str cell, int[] signs, bool exits, bool keep) -> (Tensor, Tensor, Tensor, Tensor, Tensor)",
)
# The states h_new and c_new (N, H) of N points, x (N, 1, ..., 1, C), from those of their predecessors, h and c (N, H)
# for every axis. Without gradients; c and c_new belong to cells with a memory.
torch.library.define(
    "ndrnn::step",
    f"(Tensor x, {_WEIGHTS}, Tensor[] h, Tensor[] c, Tensor(a!) h_new, Tensor(b!)? c_new, str cell) -> ()",
)
# Gradients of x, weight_ih, weight_hh, bias, extra, h0 and c0.
torch.library.define(
    "ndrnn::scan_backward",
    f"(Tensor dy, Tensor? dhn, Tensor? dcn, {_INPUTS}, Tensor y, Tensor c, Tensor kept, str cell, int[] signs, "
    "bool needs_x, bool needs_weights, bool needs_state) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

scan = torch.ops.ndrnn.scan.default
step = torch.ops.ndrnn.step.default
scan_backward = torch.ops.ndrnn.scan_backward.default


class Kernels:
    """The shared library, or why there is none."""

    isa: str = ""
    """The instruction set that was chosen: avx512, avx2 or portable."""
    refusal: str | None = None

    def __init__(self) -> None:
        # an editable installation keeps the library in another entry of the package's path than the sources
        folders = [Path(folder) for folder in sys.modules[__name__.partition(".")[0]].__path__]
        found = [path for folder in folders if (path := folder / "ndrnn_cpu.so").is_file()]
        if not found:
            self.refusal = "the compiled kernels (ndrnn_cpu.so) were not built with this installation"
            return
        try:
            torch.ops.load_library(found[0])
            self._library = ctypes.CDLL(str(found[0]))
        except OSError as error:
            self.refusal = f"the compiled kernels do not load: {error}"
            return
        for name in ("ndrnn_error", "ndrnn_isa"):
            getattr(self._library, name).restype = ctypes.c_char_p
        for name in ("ndrnn_width", "ndrnn_kept", "ndrnn_memory", "ndrnn_release_memory"):
            getattr(self._library, name).restype = ctypes.c_int64
        self.isa = self._library.ndrnn_isa().decode()
        self.refusal = self._library.ndrnn_error().decode() or None

    @property
    def library(self) -> ctypes.CDLL:
        """What else it exports, for those who call it directly; only without a refusal."""
        return self._library

    def release_memory(self) -> int:
        return 0 if self.refusal else int(self._library.ndrnn_release_memory())

    def has_memory(self, cell: str) -> bool:
        return bool(self._library.ndrnn_memory(cell.encode()))

    def kept(self, cell: str, ndim: int, hidden: int, dtype: torch.dtype) -> tuple[int, int]:
        """Blocks of units that the forward scan keeps of a point, and units in a block with their padding."""
        return self._library.ndrnn_kept(cell.encode(), ndim), self.width(hidden, dtype)

    def width(self, hidden: int, dtype: torch.dtype) -> int:
        """Hidden units with their padding."""
        return int(self._library.ndrnn_width(ctypes.c_int64(hidden), dtype.itemsize))


kernels = Kernels()


@torch.library.register_fake("ndrnn::scan")  # type: ignore[untyped-decorator]
def _scan_shapes(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    cell: str,
    signs: list[int],
    exits: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    batch, *lattice, _ = x.shape
    directions, _, _, hidden = weight_hh.shape
    faces = sum(prod(lattice[:k] + lattice[k + 1 :]) for k in range(len(lattice)))
    lanes, width = kernels.kept(cell, len(lattice), hidden, x.dtype)
    memory = kernels.has_memory(cell)

    def new(wanted: bool, *shape: int) -> Tensor:
        return x.new_empty(shape if wanted else (0,))

    return (
        new(True, batch, *lattice, directions, hidden),
        new(exits, directions, batch, faces, hidden),
        new(exits and memory, directions, batch, faces, hidden),
        new(keep and memory, batch, prod(lattice), directions, width),
        new(keep, batch * prod(lattice) * directions, lanes, width),
    )


@torch.library.register_fake("ndrnn::step")  # type: ignore[untyped-decorator]
def _step_shapes(*_: Any) -> None:
    pass


@torch.library.register_fake("ndrnn::scan_backward")  # type: ignore[untyped-decorator]
def _scan_backward_shapes(
    dy: Tensor,
    dhn: Tensor | None,
    dcn: Tensor | None,
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    y: Tensor,
    c: Tensor,
    kept: Tensor,
    cell: str,
    signs: list[int],
    needs_x: bool,
    needs_weights: bool,
    needs_state: bool,
) -> tuple[Tensor, ...]:
    def like(wanted: bool, tensor: Tensor | None) -> Tensor:
        return x.new_empty(tensor.shape if wanted and tensor is not None else (0,))

    weights = (weight_ih, weight_hh, bias, extra)
    return (
        like(needs_x, x),
        *(like(needs_weights, weight) for weight in weights),
        like(needs_state, h0),
        like(needs_state, c0),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, _, _, c, kept = output
    *tensors, ctx.cell, ctx.signs, _, ctx.keep = inputs
    ctx.save_for_backward(*tensors, y, c, kept)
    ctx.mark_non_differentiable(c, kept)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    *tensors, y, c, kept = ctx.saved_tensors
    needs = dict(zip(_NAMES, ctx.needs_input_grad, strict=True))
    needs_state = needs["h0"] or needs["c0"]
    if not ctx.keep:
        # whoever called expected no gradients, as in an exported program: the scan is run again
        _, _, _, c, kept = scan(*tensors, ctx.cell, ctx.signs, False, True)
    # outputs that were not asked for are empty, and so are their gradients
    dhn, dcn = (grad.contiguous() if grad is not None and grad.numel() else None for grad in (dhn, dcn))
    dx, *weights, dh0, dc0 = scan_backward(
        torch.zeros_like(y) if dy is None else dy.contiguous(),
        dhn,
        dcn,
        *tensors,
        y,
        c,
        kept,
        ctx.cell,
        ctx.signs,
        needs["x"],
        any(needs[name] for name in ("weight_ih", "weight_hh", "bias", "extra")),
        needs_state,
    )
    grads = {
        "x": dx,
        **dict(zip(("weight_ih", "weight_hh", "bias", "extra"), weights, strict=True)),
        "h0": dh0,
        "c0": dc0,
    }
    return tuple(grads[name] if needs[name] else None for name in _NAMES)


class _Scan(torch.autograd.Function):
    """The operator with the gradients that are registered for it, at half of what the registered way costs a call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            output = scan(*inputs)
        _remember(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return _differentiate(ctx, *grads)


def call(*inputs: Any) -> tuple[Tensor, ...]:
    """``ndrnn::scan``, called the cheapest way; the arguments are the operator's."""
    if torch.compiler.is_compiling():
        return scan(*inputs)
    keep = inputs[-1]
    if keep:
        return _Scan.apply(*inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return scan(*inputs)


def _refuse(ctx: Any, *grads: Tensor | None) -> None:
    raise RuntimeError(
        "the cpu backend has no second derivatives; run the scan under ndrnn.backend('wavefront'), which has them"
    )


torch.library.register_autograd("ndrnn::scan", _differentiate, setup_context=_remember)
torch.library.register_autograd("ndrnn::scan_backward", _refuse)
flops.offer(torch.ops.ndrnn.scan, flops.of_scan)
flops.offer(
    torch.ops.ndrnn.scan_backward,
    lambda *given, **_: flops.of_scan_backward(given[3], given[4:8], *given[-3:-1]),
)
