"""The definition of a linear scan, point after point, each ragged sample on its own. Slow and plain on purpose."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

from ...lattice import Direction, face_lattice

Faces = Sequence[Tensor]


def scan(
    z: Tensor, f: Tensor, direction: Direction, sizes: Tensor | None, state: Faces
) -> tuple[Tensor, tuple[Tensor, ...]]:
    """See :func:`ndrnn.linear_scan`; with the exit faces."""
    lattice = tuple(z.shape[1:-1])
    if not len(z):
        return z + f.sum(0), tuple(state)
    results = []
    for sample in range(len(z)):
        extent = lattice if sizes is None else tuple(sizes[sample].tolist())
        results.append(
            _scan_sample(z[sample], f[:, sample], direction, extent, [face[sample] for face in state])
        )
    c = torch.stack([one for one, _ in results])
    exits = tuple(torch.stack(faces) for faces in zip(*(each for _, each in results), strict=True))
    return c, exits


def _scan_sample(
    z: Tensor, f: Tensor, direction: Direction, extent: tuple[int, ...], state: Faces
) -> tuple[Tensor, list[Tensor]]:
    lattice, ndim, hidden = tuple(z.shape[:-1]), len(direction), z.shape[-1]
    orders = [
        range(size) if sign > 0 else range(size - 1, -1, -1)
        for size, sign in zip(extent, direction, strict=True)
    ]
    c: dict[tuple[int, ...], Tensor] = {}
    for point in product(*orders):
        total = z[point]
        for axis in range(ndim):
            before = point[axis] - direction[axis]
            others = (*point[:axis], *point[axis + 1 :])
            inside = 0 <= before < extent[axis]
            previous = c[(*point[:axis], before, *point[axis + 1 :])] if inside else state[axis][others]
            total = total + f[(axis, *point)] * previous
        c[point] = total
    zero = z.new_zeros(hidden)
    exits = []
    for axis in range(ndim):
        others = face_lattice(lattice, axis)
        last = extent[axis] - 1 if direction[axis] > 0 else 0
        within = face_lattice(extent, axis)
        rows = []
        for place in product(*map(range, others)):
            point = (*place[:axis], last, *place[axis:])
            covered = all(index < size for index, size in zip(place, within, strict=True))
            # without a point on the axis the states pass from face to face
            through = c[point] if covered and extent[axis] else state[axis][place]
            rows.append(through if covered else zero)
        exits.append(torch.stack(rows).view(*others, hidden) if rows else z.new_zeros(*others, hidden))
    values = [c.get(point, zero) for point in product(*map(range, lattice))]
    if not prod(lattice):
        return z + f.sum(0), exits
    return torch.stack(values).view(z.shape), exits
