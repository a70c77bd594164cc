"""The circumstances of a call that every backend with kernels of its own has to mind."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

TRANSFORMED = "a functional transform or forward-mode differentiation is active"
"""The refusal that needs no warning: such calls are meant for the wavefront backend."""


def transformed() -> bool:
    """Whether a functional transform or forward-mode differentiation is active."""
    functorch = torch._C._functorch.peek_interpreter_stack() is not None
    return functorch or forward_ad._current_level >= 0


def traced() -> bool:
    """Whether operators are being recorded, as for export."""
    return torch._C._get_dispatch_mode(torch._C._TorchDispatchModeKey.PROXY) is not None


def batched(tensor: Tensor) -> bool:
    """Whether a gradient stands for several at once, as in ``torch.autograd.grad(..., is_grads_batched=True)``."""
    return torch._C._functorch.is_legacy_batchedtensor(tensor) or torch._C._functorch.is_batchedtensor(tensor)


def expects_backward(tensors: Sequence[Tensor | None]) -> bool:
    """Whether a way back may follow, so that a scan has to keep what it needs."""
    return (
        torch.is_grad_enabled()
        and any(tensor is not None and tensor.requires_grad for tensor in tensors)
        and not torch.compiler.is_exporting()
    )
