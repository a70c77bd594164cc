"""The scan on CUDA: one launch for all directions, samples and wavefronts, forward and backward.

Also under Triton's interpreter (``TRITON_INTERPRET=1``), where the same kernels run on CPU tensors, slowly: that is
how they are tested without a GPU. Importing this package imports neither Triton nor the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch
from torch import Tensor

from ...cells import Cell, Params
from ...lattice import Direction
from ..circumstances import TRANSFORMED, expects_backward, transformed
from ..linear import triton as linear
from .interpreted import INTERPRETED
from .plan import CELLS, MAX_NDIM

_DTYPES = (torch.float32, torch.bfloat16, torch.float16, torch.float64)


_INSTALLED = find_spec("triton") is not None


def refusal() -> str | None:
    """Why the backend is not available here, or None."""
    if not _INSTALLED:
        return "triton is not installed"
    if INTERPRETED:
        return None
    if torch.version.hip is not None:
        return "the triton kernels were never run on ROCm"
    if not torch.cuda.is_available():
        return "there is no CUDA device, and TRITON_INTERPRET=1 is not set"
    return None


def refusal_of(cell: Cell, x: Tensor, params: Params) -> str | None:
    """Why it cannot serve a call, or None."""
    if not _INSTALLED:
        return "triton is not installed"
    if cell.recurrent and cell.kernel not in CELLS:
        return f"there are no triton kernels for {type(cell).__name__}"
    return refusal_of_tensors(x, params)


def refusal_of_tensors(x: Tensor, others: Sequence[Tensor | None]) -> str | None:
    """Why no kernel takes x (N, D1, ..., Dn, features) and what comes with it, or None."""
    home = "cpu" if INTERPRETED else "cuda"
    if x.device.type != home:
        under = " under its interpreter" if INTERPRETED else ""
        return f"the triton kernels take {home} tensors{under}, not {x.device.type} tensors"
    if x.dtype not in _DTYPES or any(weight is not None and weight.dtype != x.dtype for weight in others):
        return f"the triton kernels take float32, bfloat16, float16 and float64 throughout, not {x.dtype}"
    if x.dim() - 2 > MAX_NDIM:
        return f"the triton kernels take at most {MAX_NDIM} axes, not {x.dim() - 2}"
    if torch.compiler.is_compiling():
        return None
    if home == "cuda" and (
        torch.version.hip is not None or torch.cuda.get_device_capability(x.device) < (8, 0)
    ):
        return "the triton kernels need a CUDA device of compute capability 8.0 or above"
    return TRANSFORMED if transformed() else None


def scan(
    cell: Cell,
    x: Tensor,
    params: Params,
    directions: Sequence[Direction],
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    return_state: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :func:`ndrnn.scan.scan`; hn and cn are None if they are not asked for."""
    from . import operators

    if not cell.recurrent:
        return linear.scan_layer(cell, x, params, directions, sizes, h0, c0, return_state)

    tensors = [None if tensor is None else tensor.contiguous() for tensor in (x, *params, sizes, h0, c0)]
    keep = expects_backward(tensors)
    signs = [sign for direction in directions for sign in direction]
    backward_axes = sum(1 << bit for bit, sign in enumerate(signs) if sign < 0)
    y, hn, cn, *_ = operators.scan(*tensors, cell.kernel, backward_axes, return_state, keep)
    if not return_state:
        return y, None, None
    return y, hn, cn if cell.memory else None
