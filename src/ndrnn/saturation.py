"""Where states and gradients end that would otherwise leave the floating-point numbers.

An additive memory grows with the number of lattice paths, and so does a gradient on its way back. Past the largest
number of their type they would be infinite, and infinity times zero, or less itself, is NaN. So both saturate: at a
limit so far below the largest number that no sum of products with weights and inputs of any use comes near that.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# Limits are powers of two: sums of states times weights stay finite, and so do gradients times inputs, summed over
# all points. Where memories enter matrix products, the gradients of these hold memories times gradients.
_EXPONENTS = {
    torch.float64: (640, 384),
    torch.float32: (80, 48),
    torch.bfloat16: (80, 48),
    torch.float16: (15, 15),
}


def limit_of(dtype: torch.dtype, feeds_memory: bool) -> float:
    """The size at which states of a type, and gradients by them, saturate."""
    plain, fed = _EXPONENTS[dtype]
    return 2.0 ** (fed if feeds_memory else plain)


def saturated(value: Tensor, limit: float) -> Tensor:
    """The value within [-limit, limit]; its derivative is 0 from the limits on. NaN stays NaN."""
    return torch.where(value.abs() >= limit, value.detach().clamp(-limit, limit), value)


def limited_gradient(grad: Tensor, limit: float) -> Tensor:
    """A gradient within [-limit, limit]; NaN stays NaN.

    Float16 is left alone: whoever trains in it scales the loss until gradients just do not overflow, and has to see
    when they do.
    """
    return grad if grad.dtype == torch.float16 else grad.clamp(-limit, limit)


def with_limited_gradient(value: Tensor, limit: float) -> Tensor:
    """The same value; its gradient, the sum of all that reaches it, goes through :func:`limited_gradient`."""
    if not torch.is_grad_enabled() or torch.compiler.is_exporting():
        return value
    apply = _traced if torch.compiler.is_compiling() or _functionalized() else _LimitGradient.apply
    limited: Tensor = apply(value, limit)
    return limited


class _LimitGradient(torch.autograd.Function):
    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, limit: float) -> Tensor:
        return value.clone()  # a view would refuse batched tangents

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float], output: Tensor) -> None:
        ctx.limit = inputs[1]

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return limited_gradient(grad, ctx.limit), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:
        return tangent.clone()


def _functionalized() -> bool:
    transform = torch._C._functorch.peek_interpreter_stack()
    return transform is not None and transform.key() == torch._C._functorch.TransformType.Functionalize


# The same for the compiler, which traces no function that has a jvp, and for functionalization, which takes none.
torch.library.define("ndrnn::with_limited_gradient", "(Tensor value, float limit) -> Tensor")
torch.library.impl("ndrnn::with_limited_gradient", "CompositeExplicitAutograd")(
    lambda value, limit: value.clone()
)
torch.library.register_autograd(
    "ndrnn::with_limited_gradient", _LimitGradient.backward, setup_context=_LimitGradient.setup_context
)
_traced = torch.ops.ndrnn.with_limited_gradient.default
