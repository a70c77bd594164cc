"""The linear scan on a GPU as operators of PyTorch, see :mod:`ndrnn.scan.triton.operators`."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from ...triton.operators import _on, _present
from ...triton.plan import state_dtype

_NAMES = ("z", "f", "sizes", "c0", "backward_axes", "exits", "keep")

# c (N, *lattice, D, H); the exit faces (D, N, F, H) if they are wanted; c without loss of digits if that is another
# tensor. f is (n, N, *lattice, D, H or 1). Whatever is not wanted is empty.
torch.library.define(
    "ndrnn::triton_linear_scan",
    "(Tensor z, Tensor f, Tensor? sizes, Tensor? c0, int backward_axes, bool exits, bool keep) "
    "-> (Tensor, Tensor, Tensor)",
)
# Gradients of z, f and c0.
torch.library.define(
    "ndrnn::triton_linear_scan_backward",
    "(Tensor dc, Tensor? dcn, Tensor f, Tensor? sizes, Tensor? c0, Tensor state, int backward_axes, "
    "bool needs_f, bool needs_state) -> (Tensor, Tensor, Tensor)",
)

scan = torch.ops.ndrnn.triton_linear_scan.default
scan_backward = torch.ops.ndrnn.triton_linear_scan_backward.default


@torch.library.impl("ndrnn::triton_linear_scan", ("CUDA", "CPU"))
def _scan(
    z: Tensor,
    f: Tensor,
    sizes: Tensor | None,
    c0: Tensor | None,
    backward_axes: int,
    exits: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    from . import launch

    with _on(z):
        c, cn, state = launch.forward(launch.problem_of(z, backward_axes), z, f, sizes, c0, exits=exits)
        return _present(z, (c, cn, state if keep else None))


@torch.library.impl("ndrnn::triton_linear_scan_backward", ("CUDA", "CPU"))
def _scan_backward(
    dc: Tensor,
    dcn: Tensor | None,
    f: Tensor,
    sizes: Tensor | None,
    c0: Tensor | None,
    state: Tensor,
    backward_axes: int,
    needs_f: bool,
    needs_state: bool,
) -> tuple[Tensor, ...]:
    from . import launch

    problem = launch.problem_of(dc, backward_axes)
    with _on(dc):
        found = launch.backward(
            problem, dc, dcn, f, sizes, c0, state, needs_f=needs_f, needs_state=needs_state
        )
        return _present(dc, found)


def _faces(z: Tensor) -> tuple[int, ...]:
    batch, *lattice, directions, hidden = z.shape
    points = sum(prod(lattice[:k] + lattice[k + 1 :]) for k in range(len(lattice)))
    return directions, batch, points, hidden


@torch.library.register_fake("ndrnn::triton_linear_scan")  # type: ignore[untyped-decorator]
def _scan_shapes(
    z: Tensor,
    f: Tensor,
    sizes: Tensor | None,
    c0: Tensor | None,
    backward_axes: int,
    exits: bool,
    keep: bool,
) -> tuple[Tensor, ...]:
    dtype = state_dtype(z.dtype)
    state = z.new_empty(z.shape, dtype=dtype) if keep and dtype != z.dtype else z.new_empty((0,))
    return z.new_empty(z.shape), z.new_empty(_faces(z) if exits else (0,)), state


@torch.library.register_fake("ndrnn::triton_linear_scan_backward")  # type: ignore[untyped-decorator]
def _scan_backward_shapes(
    dc: Tensor,
    dcn: Tensor | None,
    f: Tensor,
    sizes: Tensor | None,
    c0: Tensor | None,
    state: Tensor,
    backward_axes: int,
    needs_f: bool,
    needs_state: bool,
) -> tuple[Tensor, ...]:
    return (
        dc.new_empty(dc.shape),
        f.new_empty(f.shape if needs_f else (0,)),
        dc.new_empty(_faces(dc) if needs_state else (0,)),
    )


def _remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    _, f, sizes, c0, ctx.backward_axes, _, ctx.keep = inputs
    c, _, state = output
    ctx.low = state_dtype(c.dtype) != c.dtype
    ctx.save_for_backward(
        f, sizes, c0, state if ctx.low else c, inputs[0] if ctx.low and not ctx.keep else None
    )
    ctx.mark_non_differentiable(state)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, dc: Tensor | None, dcn: Tensor | None, *_: None) -> tuple[Tensor | None, ...]:
    f, sizes, c0, state, z = ctx.saved_tensors
    needs = dict(zip(_NAMES, ctx.needs_input_grad, strict=True))
    if z is not None:
        # whoever called expected no gradients, as in an exported program: the scan is run again
        _, _, state = scan(z, f, sizes, c0, ctx.backward_axes, False, True)
    dc = torch.zeros_like(state, dtype=f.dtype) if dc is None else dc.contiguous()
    dcn = dcn.contiguous() if dcn is not None and dcn.numel() else None
    dz, df, dc0 = scan_backward(dc, dcn, f, sizes, c0, state, ctx.backward_axes, needs["f"], needs["c0"])
    grads = {"z": dz, "f": df, "c0": dc0}
    return tuple(grads[name] if needs[name] else None for name in _NAMES)


def _refuse(ctx: Any, *grads: Tensor | None) -> None:
    raise RuntimeError(
        "the triton backend has no second derivatives; run the scan under ndrnn.backend('wavefront'), which has them"
    )


torch.library.register_autograd("ndrnn::triton_linear_scan", _differentiate, setup_context=_remember)
torch.library.register_autograd("ndrnn::triton_linear_scan_backward", _refuse)
