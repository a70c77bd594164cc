"""The compiled linear recurrences as operators of PyTorch: their schemas, shapes and gradients."""

from __future__ import annotations

from math import prod
from typing import Any

import torch
from torch import Tensor

from .. import flops
from ..operators import kernels

_SCAN = ("z", "f", "sizes", "c0", "signs", "exits")
_LAYER = ("x", "weight", "bias", "sizes", "c0", "rule", "signs", "exits", "keep")

# c (N, *lattice, H); the exit faces (N, F, H) if they are wanted, else empty. f is (n, N, *lattice, H or 1).
torch.library.define(
    "ndrnn::linear_scan",
    "(Tensor z, Tensor f, Tensor? sizes, Tensor? c0, int[] signs, bool exits) -> (Tensor, Tensor)",
)
# Gradients of z, f and c0.
torch.library.define(
    "ndrnn::linear_scan_backward",
    "(Tensor dc, Tensor? dcn, Tensor f, Tensor? sizes, Tensor? c0, Tensor c, int[] signs, "
    "bool needs_f, bool needs_state) -> (Tensor, Tensor, Tensor)",
)
# y (N, *lattice, D, H); the exit faces (D, N, F, H) if they are wanted; c in an order of its own for the way back.
torch.library.define(
    "ndrnn::linear_layer",
    "(Tensor x, Tensor weight, Tensor? bias, Tensor? sizes, Tensor? c0, str rule, int[] signs, bool exits, bool keep) "
    "-> (Tensor, Tensor, Tensor)",
)
# Gradients of x, weight, bias and c0.
torch.library.define(
    "ndrnn::linear_layer_backward",
    "(Tensor dy, Tensor? dcn, Tensor x, Tensor weight, Tensor? bias, Tensor? sizes, Tensor? c0, Tensor c, str rule, "
    "int[] signs, bool needs_x, bool needs_weights, bool needs_state) -> (Tensor, Tensor, Tensor, Tensor)",
)

scan = torch.ops.ndrnn.linear_scan.default
scan_backward = torch.ops.ndrnn.linear_scan_backward.default
layer = torch.ops.ndrnn.linear_layer.default
layer_backward = torch.ops.ndrnn.linear_layer_backward.default


def _faces(lattice: list[int]) -> int:
    return sum(prod(lattice[:k] + lattice[k + 1 :]) for k in range(len(lattice)))


def _like(wanted: bool, tensor: Tensor | None, near: Tensor) -> Tensor:
    return near.new_empty(tensor.shape if wanted and tensor is not None else (0,))


@torch.library.register_fake("ndrnn::linear_scan")  # type: ignore[untyped-decorator]
def _scan_shapes(
    z: Tensor, f: Tensor, sizes: Tensor | None, c0: Tensor | None, signs: list[int], exits: bool
) -> tuple[Tensor, Tensor]:
    batch, *lattice, hidden = z.shape
    faces = (batch, _faces(lattice), hidden)
    return z.new_empty(z.shape), z.new_empty(faces if exits else (0,))


@torch.library.register_fake("ndrnn::linear_scan_backward")  # type: ignore[untyped-decorator]
def _scan_backward_shapes(
    dc: Tensor,
    dcn: Tensor | None,
    f: Tensor,
    sizes: Tensor | None,
    c0: Tensor | None,
    c: Tensor,
    signs: list[int],
    needs_f: bool,
    needs_state: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, *lattice, hidden = c.shape
    faces = (batch, _faces(lattice), hidden)
    return c.new_empty(c.shape), _like(needs_f, f, c), c.new_empty(faces if needs_state else (0,))


@torch.library.register_fake("ndrnn::linear_layer")  # type: ignore[untyped-decorator]
def _layer_shapes(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sizes: Tensor | None,
    c0: Tensor | None,
    rule: str,
    signs: list[int],
    exits: bool,
    keep: bool,
) -> tuple[Tensor, Tensor, Tensor]:
    batch, *lattice, _ = x.shape
    directions, rows, _ = weight.shape
    hidden = rows // (len(lattice) + 3)
    width = kernels.width(hidden, x.dtype)
    return (
        x.new_empty((batch, *lattice, directions, hidden)),
        x.new_empty((directions, batch, _faces(lattice), hidden) if exits else (0,)),
        x.new_empty((directions, batch, prod(lattice), width) if keep else (0,)),
    )


@torch.library.register_fake("ndrnn::linear_layer_backward")  # type: ignore[untyped-decorator]
def _layer_backward_shapes(
    dy: Tensor,
    dcn: Tensor | None,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    sizes: Tensor | None,
    c0: Tensor | None,
    c: Tensor,
    rule: str,
    signs: list[int],
    needs_x: bool,
    needs_weights: bool,
    needs_state: bool,
) -> tuple[Tensor, ...]:
    directions, batch, *_ = c.shape
    _, *lattice, _, hidden = dy.shape
    faces = (directions, batch, _faces(lattice), hidden)
    return (
        _like(needs_x, x, x),
        _like(needs_weights, weight, x),
        _like(needs_weights, bias, x),
        x.new_empty(faces if needs_state else (0,)),
    )


def _given(grad: Tensor | None) -> Tensor | None:
    """A gradient as the kernels take it; outputs that were not asked for are empty, and so are their gradients."""
    return grad.contiguous() if grad is not None and grad.numel() else None


def _remember_scan(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    _, f, sizes, c0, ctx.signs, _ = inputs
    ctx.save_for_backward(f, sizes, c0, output[0])
    ctx.set_materialize_grads(False)


def _differentiate_scan(ctx: Any, dc: Tensor | None, dcn: Tensor | None) -> tuple[Tensor | None, ...]:
    f, sizes, c0, c = ctx.saved_tensors
    needs = dict(zip(_SCAN, ctx.needs_input_grad, strict=True))
    dc = torch.zeros_like(c) if dc is None else dc.contiguous()
    dz, df, dc0 = scan_backward(dc, _given(dcn), f, sizes, c0, c, ctx.signs, needs["f"], needs["c0"])
    grads = {"z": dz, "f": df, "c0": dc0}
    return tuple(grads[name] if needs[name] else None for name in _SCAN)


def _remember_layer(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    *tensors, ctx.rule, ctx.signs, _, ctx.keep = inputs
    ctx.save_for_backward(*tensors, output[2])
    ctx.shape = output[0].shape
    ctx.mark_non_differentiable(output[2])
    ctx.set_materialize_grads(False)


def _differentiate_layer(
    ctx: Any, dy: Tensor | None, dcn: Tensor | None, *_: None
) -> tuple[Tensor | None, ...]:
    *tensors, c = ctx.saved_tensors
    needs = dict(zip(_LAYER, ctx.needs_input_grad, strict=True))
    if not ctx.keep:
        # whoever called expected no gradients, as in an exported program: the scan is run again
        _, _, c = layer(*tensors, ctx.rule, ctx.signs, False, True)
    dy = tensors[0].new_zeros(ctx.shape) if dy is None else dy.contiguous()
    weights = needs["weight"] or needs["bias"]
    dx, dweight, dbias, dc0 = layer_backward(
        dy, _given(dcn), *tensors, c, ctx.rule, ctx.signs, needs["x"], weights, needs["c0"]
    )
    grads = {"x": dx, "weight": dweight, "bias": dbias, "c0": dc0}
    return tuple(grads[name] if needs[name] else None for name in _LAYER)


class _Scan(torch.autograd.Function):
    """An operator with the gradients that are registered for it, at half of what the registered way costs a call."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            output = scan(*inputs)
        _remember_scan(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return _differentiate_scan(ctx, *grads)


class _Layer(torch.autograd.Function):
    """Likewise."""

    @staticmethod
    def forward(ctx: Any, *inputs: Any) -> tuple[Tensor, ...]:
        with torch._C._AutoDispatchBelowAutograd():
            output = layer(*inputs)
        _remember_layer(ctx, inputs, output)
        return output

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Tensor | None, ...]:
        return _differentiate_layer(ctx, *grads)


def call_scan(*inputs: Any, keep: bool) -> tuple[Tensor, Tensor]:
    """``ndrnn::linear_scan``, called the cheapest way; the arguments are the operator's."""
    if torch.compiler.is_compiling():
        return scan(*inputs)
    if keep:
        return _Scan.apply(*inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return scan(*inputs)


def call_layer(*inputs: Any) -> tuple[Tensor, Tensor, Tensor]:
    """``ndrnn::linear_layer``, likewise."""
    if torch.compiler.is_compiling():
        return layer(*inputs)
    if inputs[-1]:
        return _Layer.apply(*inputs)
    with torch._C._AutoDispatchBelowAutograd():
        return layer(*inputs)


def _refuse(ctx: Any, *grads: Tensor | None) -> None:
    raise RuntimeError(
        "the cpu backend has no second derivatives; run the scan under ndrnn.backend('wavefront'), which has them"
    )


torch.library.register_autograd("ndrnn::linear_scan", _differentiate_scan, setup_context=_remember_scan)
torch.library.register_autograd("ndrnn::linear_layer", _differentiate_layer, setup_context=_remember_layer)
torch.library.register_autograd("ndrnn::linear_scan_backward", _refuse)
torch.library.register_autograd("ndrnn::linear_layer_backward", _refuse)
flops.offer(torch.ops.ndrnn.linear_layer, flops.of_linear_layer)
flops.offer(
    torch.ops.ndrnn.linear_layer_backward,
    lambda *given, **_: flops.of_linear_layer_backward(given[2], given[3], *given[-3:-1]),
)
