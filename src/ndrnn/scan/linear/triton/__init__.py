"""The linear scan on CUDA: one launch for all directions, samples and units, and one for the way back.

Also under Triton's interpreter, as the scan's. Importing this package imports neither Triton nor the kernels.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ....cells import Cell, LinearCell, Params
from ....lattice import Direction, pack_faces, unpack_faces
from ...circumstances import expects_backward
from ..exits import exits_of


def _axes(directions: Sequence[Direction]) -> int:
    """Bit d*n + k: direction d runs axis k backward."""
    signs = [sign for direction in directions for sign in direction]
    return sum(1 << bit for bit, sign in enumerate(signs) if sign < 0)


def _call(*tensors: Tensor | None, directions: Sequence[Direction], exits: bool) -> tuple[Tensor, Tensor]:
    from . import operators

    given = [None if tensor is None else tensor.contiguous() for tensor in tensors]
    c, cn, _ = operators.scan(*given, _axes(directions), exits, expects_backward(given))
    return c, cn


def scan(
    z: Tensor,
    f: Tensor,
    direction: Direction,
    sizes: Tensor | None,
    state: Sequence[Tensor] | None,
    return_state: bool,
) -> tuple[Tensor, tuple[Tensor, ...] | None]:
    """See :func:`ndrnn.linear_scan`."""
    entry = None if state is None else pack_faces([face.unsqueeze(0) for face in state])
    c, exits = _call(
        z.unsqueeze(-2), f.unsqueeze(-2), sizes, entry, directions=[direction], exits=return_state
    )
    c = c.squeeze(-2)
    return c, tuple(face[0] for face in unpack_faces(exits, z.shape[1:-1])) if return_state else None


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
    """See :func:`ndrnn.scan.scan`; for cells without recurrent weights. The gates come from plain PyTorch."""
    assert isinstance(cell, LinearCell)
    if sizes is not None:
        from ....lattice import inside

        x = x.masked_fill(~inside(sizes, x.shape[1:-1])[..., None], 0)
    rows, matrix = x.reshape(-1, x.shape[-1]), params.weight_ih.flatten(0, 1).T
    a = rows @ matrix if params.bias is None else torch.addmm(params.bias.flatten(), rows, matrix)
    a = a.view(*x.shape[:-1], *params.weight_ih.shape[:2])
    i, *f, g, o = cell.values(a, len(directions[0])).values()
    c, cn = _call(i * g, torch.stack(f), sizes, c0, directions=directions, exits=return_state)
    y = o * c
    if not return_state:
        return y, None, None
    return y, exits_of(y, directions, sizes, h0), cn
