"""The compiled scan for CPU tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ..cells import Cell, Params, Tensors
from ..lattice import Direction
from . import operators
from .circumstances import TRANSFORMED, expects_backward, transformed
from .linear import cpu as linear

MOST_AXES = 8


def refusal() -> str | None:
    """Why the compiled scan is not available here, or None."""
    return operators.kernels.refusal


def refusal_of(cell: Cell, x: Tensor, params: Params) -> str | None:
    """Why it cannot serve a call, or None."""
    reason = refusal_of_tensor(x)
    if reason is not None:
        return reason
    if cell.kernel is None:
        return f"there are no compiled kernels for {type(cell).__name__}"
    if x.dim() - 2 > MOST_AXES:
        return f"the compiled kernels take at most {MOST_AXES} axes, not {x.dim() - 2}"
    if not torch.compiler.is_compiling() and transformed():
        return TRANSFORMED
    return None


def refusal_of_tensor(x: Tensor) -> str | None:
    """Why no compiled kernel takes a tensor, or None."""
    if operators.kernels.refusal is not None:
        return operators.kernels.refusal
    if x.device.type != "cpu":
        return f"the compiled kernels take CPU tensors, not {x.device.type} tensors"
    if x.dtype not in (torch.float32, torch.float64):
        return f"the compiled kernels take float32 and float64, not {x.dtype}"
    return None


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
    if not cell.recurrent:
        return linear.scan_layer(cell, x, params, directions, sizes, h0, c0, return_state)
    tensors = [None if tensor is None else tensor.contiguous() for tensor in (x, *params, sizes, h0, c0)]
    keep = expects_backward(tensors)
    signs = [sign for direction in directions for sign in direction]
    assert cell.kernel is not None
    y, hn, cn, _, _ = operators.call(*tensors, cell.kernel, signs, return_state, keep)
    if not return_state:
        return y, None, None
    return y, hn, cn if cell.memory else None


def step(
    cell: Cell, x: Tensor, params: Params, h: Tensors, c: Tensors, new_h: Tensor, new_c: Tensor | None
) -> None:
    """See :func:`ndrnn.scan.step`; x is (N, 1, ..., 1, C)."""
    if not cell.recurrent:
        return linear.step(cell, x, params, h, c, new_h, new_c)
    assert cell.kernel is not None
    with torch._C._AutoDispatchBelowAutograd():
        operators.step(x.contiguous(), *params, h, c, new_h, new_c, cell.kernel)


def release_memory() -> int:
    """Hand memory that the compiled scans keep for their next call back to the system.

    Results of a megabyte and more, and work space, lie in blocks that wait for the next call when they are free, never
    more of them than were once in use. Whoever has trained a large lattice and goes on with something else may want
    them back; the next scan is slower by what the system takes to clear them.

    Returns:
        How many bytes were handed back.
    """
    return operators.kernels.release_memory()
