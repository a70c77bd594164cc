"""The compiled linear scan, and the compiled layer on it, for CPU tensors."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...cells import Cell, Params, Tensors
from ...lattice import Direction, pack_faces, unpack_faces
from ..circumstances import expects_backward
from . import operators
from .exits import exits_of


def scan(
    z: Tensor,
    f: Tensor,
    direction: Direction,
    sizes: Tensor | None,
    state: Sequence[Tensor] | None,
    return_state: bool,
) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """See :func:`ndrnn.linear_scan`."""
    entry = None if state is None else pack_faces([face.unsqueeze(0) for face in state])[0]
    tensors = [None if tensor is None else tensor.contiguous() for tensor in (z, f, sizes, entry)]
    c, exits = operators.call_scan(*tensors, list(direction), return_state, keep=expects_backward(tensors))
    if not return_state:
        return c, None
    return c, tuple(face[0] for face in unpack_faces(exits.unsqueeze(0), z.shape[1:-1]))


def scan_layer(
    cell: Cell,
    x: Tensor,
    params: Params,
    directions: Sequence[Direction],
    sizes: Tensor | None,
    h0: Tensor | None,
    c0: Tensor | None,
    return_state: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """See :func:`ndrnn.scan.scan`; for cells without recurrent weights."""
    tensors = [
        None if tensor is None else tensor.contiguous()
        for tensor in (x, params.weight_ih, params.bias, sizes, c0)
    ]
    assert cell.kernel is not None
    rule = cell.kernel.removeprefix("linear_")
    signs = [sign for direction in directions for sign in direction]
    y, cn, _ = operators.call_layer(*tensors, rule, signs, return_state, expects_backward(tensors))
    if not return_state:
        return y, None, None
    return y, exits_of(y, directions, sizes, h0), cn


def step(
    cell: Cell, x: Tensor, params: Params, h: Tensors, c: Tensors, new_h: Tensor, new_c: Tensor | None
) -> None:
    """See :func:`ndrnn.scan.step`; x is (N, 1, ..., 1, C). Each point is a lattice, whose entry faces hold c."""
    assert cell.kernel is not None
    if new_c is None:
        raise RuntimeError("ndrnn: a new c belongs to cells with a memory")
    weights = [None if weight is None else weight.detach() for weight in (params.weight_ih, params.bias)]
    entry, signs = torch.stack(tuple(c), 1).unsqueeze(0), [1] * len(c)
    rule = cell.kernel.removeprefix("linear_")
    y, cn, _ = operators.call_layer(
        x.detach().contiguous(), *weights, None, entry.detach(), rule, signs, True, False
    )
    new_h.copy_(y.view_as(new_h))
    new_c.copy_(cn[0, :, 0])
