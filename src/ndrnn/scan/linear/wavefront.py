"""The linear scan in plain PyTorch, one batched step per wavefront: every device, dtype and transform."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from torch import Tensor

from ...lattice import Direction, inside, pack_faces, unpack_faces
from ..wavefront import _exit_faces, _faces_in_order, _mask_faces, _oriented, _take, _WavefrontOrder


def scan(
    z: Tensor, f: Tensor, direction: Direction, sizes: Tensor | None, state: Sequence[Tensor]
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """See :func:`ndrnn.linear_scan`; with the exit faces."""
    lattice, ndim = tuple(z.shape[1:-1]), len(direction)
    entry = pack_faces([face.unsqueeze(0) for face in state])
    within = None
    if sizes is not None:
        # whatever lies outside counts as zero, also in the backward pass, where 0 times inf would be NaN
        within = inside(sizes, lattice)
        z = z.masked_fill(~within[..., None], 0)
        f = f.masked_fill(~within[..., None], 0)
        entry = _mask_faces(entry, lattice, sizes)
    order = _WavefrontOrder(lattice, z.device)
    index = _oriented(order.points, lattice, [direction], sizes)
    inputs = _take(z.flatten(1, -2).unsqueeze(0), index)[0]
    shares = _take(f.flatten(2, -2), index.expand(ndim, *index.shape[1:]))
    faces = [face[0] for face in _faces_in_order(entry, order, lattice, [direction], sizes)]
    last, wavefronts = inputs[:, :0], []
    for t, (start, stop) in enumerate(zip(order.starts, order.starts[1:], strict=False)):
        c = inputs[:, start:stop]
        for axis in range(ndim):
            touched = faces[axis][:, slice(*order.face_starts[axis][t : t + 2])]
            before = torch.cat([last, touched], 1).index_select(1, order.predecessors[axis][start:stop])
            c = c + shares[axis, :, start:stop] * before
        if within is not None:
            c = c.masked_fill(~within.flatten(1)[:, order.points[start:stop], None], 0)
        last = c
        wavefronts.append(c)
    swept = torch.cat(wavefronts, 1)
    points = torch.arange(prod(lattice), device=z.device)
    back = order.rank[_oriented(points, lattice, [direction], sizes)]
    c = _take(swept.unsqueeze(0), back)[0].unflatten(1, lattice)
    exits = _exit_faces(c.unsqueeze(-2), [direction], sizes, entry)
    return c, tuple(face[0] for face in unpack_faces(exits, lattice))
