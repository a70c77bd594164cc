"""The scan on a GPU as operators of PyTorch: ``ndrnn::triton_scan`` and ``ndrnn::triton_scan_backward``.

Here are their schemas, the shapes that they give (for tracing without running) and their gradients. The kernels, and
Triton with them, are imported when one first runs.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from math import prod
from typing import Any

import torch
from torch import Tensor

from ...lattice import face_points
from .. import flops
from .plan import Shape, holds_state_apart, state_dtype
from .problem import Inputs, Problem, Scanned

_INPUTS = (
    "Tensor x, Tensor weight_ih, Tensor weight_hh, Tensor? bias, Tensor? extra, "
    "Tensor? sizes, Tensor? h0, Tensor? c0"
)
_NAMES = (
    "x", "weight_ih", "weight_hh", "bias", "extra", "sizes", "h0", "c0", "cell", "backward_axes", "exits", "keep",
)  # fmt: skip
_DIFFERENTIABLE = ("x", "weight_ih", "weight_hh", "bias", "extra", "h0", "c0")

# y (N, *lattice, D, H); hn and cn (D, N, F, H) if the exits are wanted; then for the way back the states
# (N, P, D, H), the gates (N, P, D, G*H) and the GRU's parts of the candidate (N, P, D, n*H).
# Whatever is not wanted, or is not there, is empty. Bit d*n + k of backward_axes: direction d runs axis k backward.
torch.library.define(
    "ndrnn::triton_scan",
    f"({_INPUTS}, str cell, int backward_axes, bool exits, bool keep) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)
# Gradients of x, weight_ih, weight_hh, bias, extra, h0 and c0.
torch.library.define(
    "ndrnn::triton_scan_backward",
    f"(Tensor dy, Tensor? dhn, Tensor? dcn, {_INPUTS}, Tensor y, Tensor state, Tensor gates, Tensor parts, "
    "str cell, int backward_axes, bool[] wanted) "
    "-> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)

scan = torch.ops.ndrnn.triton_scan.default
scan_backward = torch.ops.ndrnn.triton_scan_backward.default


def _present(like: Tensor, results: tuple[Tensor | None, ...]) -> tuple[Tensor, ...]:
    return tuple(like.new_empty(0) if result is None else result for result in results)


def _on(x: Tensor) -> AbstractContextManager[object]:
    """Triton launches on the current device, whatever its arguments are on."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


# CPU tensors get here only under Triton's interpreter
@torch.library.impl("ndrnn::triton_scan", ("CUDA", "CPU"))
def _scan(
    x: Tensor,
    weight_ih: Tensor,
    weight_hh: Tensor,
    bias: Tensor | None,
    extra: Tensor | None,
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    cell: str,
    backward_axes: int,
    exits: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    from . import launch

    problem = Problem.of(cell, x, weight_hh, backward_axes)
    inputs = Inputs(x, weight_ih, weight_hh, bias, extra, sizes, h0, c0)
    with _on(x):
        return _present(x, launch.forward(problem, inputs, keep=keep, exits=exits))


@torch.library.impl("ndrnn::triton_scan_backward", ("CUDA", "CPU"))
def _scan_backward(
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
    state: Tensor,
    gates: Tensor,
    parts: Tensor,
    cell: str,
    backward_axes: int,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    from . import launch

    problem = Problem.of(cell, x, weight_hh, backward_axes)
    inputs = Inputs(x, weight_ih, weight_hh, bias, extra, sizes, h0, c0)
    apart = holds_state_apart(problem.shape, x.dtype)
    scanned = Scanned(y, None, None, state if apart else None, gates, parts)
    # exits that were not asked for are empty, and so are their gradients where autograd makes them up
    dhn, dcn = (grad if grad is not None and grad.numel() else None for grad in (dhn, dcn))
    with _on(x):
        return _present(x, launch.backward(problem, inputs, scanned, dy, dhn, dcn, wanted))


@torch.library.register_fake("ndrnn::triton_scan")  # type: ignore[untyped-decorator]
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
    backward_axes: int,
    exits: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    batch, *lattice, _ = x.shape
    directions, ndim, _, hidden = weight_hh.shape
    shape = Shape(cell, ndim)
    points = prod(lattice)
    faces = sum(face_points(lattice))

    def new(wanted: bool, *size: int, dtype: torch.dtype = x.dtype) -> Tensor:
        return x.new_empty(size if wanted else (0,), dtype=dtype)

    apart = keep and holds_state_apart(shape, x.dtype)
    return (
        new(True, batch, *lattice, directions, hidden),
        new(exits, directions, batch, faces, hidden),
        new(exits and shape.memory, directions, batch, faces, hidden),
        new(apart, batch, points, directions, hidden, dtype=state_dtype(x.dtype) if apart else x.dtype),
        new(keep and shape.states, batch, points, directions, shape.gates * hidden),
        new(keep and shape.split, batch, points, directions, ndim * hidden),
    )


@torch.library.register_fake("ndrnn::triton_scan_backward")  # type: ignore[untyped-decorator]
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
    state: Tensor,
    gates: Tensor,
    parts: Tensor,
    cell: str,
    backward_axes: int,
    wanted: list[bool],
) -> tuple[Tensor, ...]:
    inputs = (x, weight_ih, weight_hh, bias, extra, h0, c0)
    return tuple(
        x.new_empty(tensor.shape if want and tensor is not None else (0,))
        for want, tensor in zip(wanted, inputs, strict=True)
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    y, _, _, *kept = output
    *tensors, ctx.cell, ctx.backward_axes, _, ctx.keep = inputs
    ctx.save_for_backward(*tensors, y, *kept)
    ctx.mark_non_differentiable(*kept)
    ctx.set_materialize_grads(False)


def _differentiate(
    ctx: Any, dy: Tensor | None, dhn: Tensor | None, dcn: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    *tensors, y, state, gates, parts = ctx.saved_tensors
    needs = dict(zip(_NAMES, ctx.needs_input_grad, strict=True))
    if not ctx.keep:
        # whoever called expected no gradients, as in an exported program: the scan is run again
        _, _, _, state, gates, parts = scan(*tensors, ctx.cell, ctx.backward_axes, False, True)
    dy, dhn, dcn = (grad if grad is None else grad.contiguous() for grad in (dy, dhn, dcn))
    wanted = [bool(needs[name]) for name in _DIFFERENTIABLE]
    grads = scan_backward(
        torch.zeros_like(y) if dy is None else dy,
        dhn,
        dcn,
        *tensors,
        y,
        state,
        gates,
        parts,
        ctx.cell,
        ctx.backward_axes,
        wanted,
    )
    found = dict(zip(_DIFFERENTIABLE, grads, strict=True))
    return tuple(found[name] if needs[name] else None for name in _NAMES)


def _refuse(ctx: Any, *grads: Tensor | None) -> None:
    raise RuntimeError(
        "the triton backend has no second derivatives; run the scan under ndrnn.backend('wavefront'), which has them"
    )


torch.library.register_autograd("ndrnn::triton_scan", _differentiate, setup_context=_remember)
torch.library.register_autograd("ndrnn::triton_scan_backward", _refuse)

flops.offer(torch.ops.ndrnn.triton_scan, flops.of_scan)
flops.offer(
    torch.ops.ndrnn.triton_scan_backward,
    lambda *given, **_: flops.of_scan_backward(given[3], given[4:8], given[-1][0], any(given[-1][1:3])),
)
