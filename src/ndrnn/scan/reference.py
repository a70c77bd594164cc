"""The definition of a scan: direction after direction, point after point, each ragged sample on its own.

Slow and plain on purpose. Whatever another backend computes is compared with this.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product

import torch
from torch import Tensor
from torch.nn.functional import pad

from ..cells import Cell, Params, Tensors
from ..lattice import Direction, face_lattice, pack_faces, unpack_faces
from ..saturation import with_limited_gradient

Faces = tuple[Tensor, ...]
Point = tuple[int, ...]


def scan(
    cell: Cell,
    x: Tensor,
    params: Params,
    directions: Sequence[Direction],
    sizes: Tensor | None,
    h0: Tensor,
    c0: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor | None]:
    """See :func:`ndrnn.scan.scan`."""
    if sizes is None or not len(sizes):
        return _scan_batch(cell, x, params, directions, h0, c0)
    lattice, samples = x.shape[1:-1], []
    for sample, extent in enumerate(sizes.tolist()):
        crop = x[sample : sample + 1][(slice(None), *(slice(size) for size in extent))]
        entry = [
            _resize(state[:, sample : sample + 1], lattice, extent) for state in (h0, c0) if state is not None
        ]
        y, *exits = _scan_batch(cell, crop, params, directions, entry[0], entry[1] if cell.memory else None)
        exits = [_resize(state, extent, lattice) for state in exits if state is not None]
        samples.append((pad(y, (0, 0, 0, 0, *_margins(extent, lattice))), *exits))
    y, hn, *cn = (
        torch.cat(parts, dim) for parts, dim in zip(zip(*samples, strict=True), (0, 1, 1), strict=False)
    )
    return y, hn, cn[0] if cn else None


def _margins(old: Sequence[int], new: Sequence[int]) -> list[int]:
    """What ``pad`` needs to bring the end of every axis from the old to the new size, last axis first."""
    return [margin for a, b in zip(reversed(old), reversed(new), strict=True) for margin in (0, b - a)]


def _resize(faces: Tensor, old: Sequence[int], new: Sequence[int]) -> Tensor:
    """Packed faces of one lattice cut down or filled up with zeros to another lattice's."""
    return pack_faces(
        [
            pad(face, (0, 0, *_margins(face_lattice(old, axis), face_lattice(new, axis))))
            for axis, face in enumerate(unpack_faces(faces, old))
        ]
    )


def _scan_batch(
    cell: Cell, x: Tensor, params: Params, directions: Sequence[Direction], h0: Tensor, c0: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    lattice, results = x.shape[1:-1], []
    for d, direction in enumerate(directions):
        backward_axes = [axis for axis, sign in enumerate(direction) if sign < 0]
        weights = params.of_direction(d)
        h_faces = _flip_faces(unpack_faces(h0[d : d + 1], lattice), backward_axes)
        c_faces = () if c0 is None else _flip_faces(unpack_faces(c0[d : d + 1], lattice), backward_axes)
        flipped = x.flip([axis + 1 for axis in backward_axes])
        out, h_exit, c_exit = _scan_points(cell, flipped, weights, h_faces, c_faces)
        results.append(
            (
                out.flip([axis + 1 for axis in backward_axes]),
                pack_faces(_flip_faces(h_exit, backward_axes)),
                pack_faces(_flip_faces(c_exit, backward_axes)) if c_exit else None,
            )
        )
    y = torch.stack([out for out, _, _ in results], dim=-2)
    hn = torch.cat([h for _, h, _ in results])
    return y, hn, torch.cat([c for _, _, c in results if c is not None]) if cell.memory else None


def _flip_faces(faces: Faces, backward_axes: Sequence[int]) -> Faces:
    """Faces (1, N, *lattice without axis k, H) turned along every axis that the direction runs backward."""
    return tuple(
        face.flip([2 + axis - (axis > k) for axis in backward_axes if axis != k])
        for k, face in enumerate(faces)
    )


def _scan_points(
    cell: Cell, x: Tensor, weights: Params, h_faces: Faces, c_faces: Faces
) -> tuple[Tensor, Faces, Faces]:
    """Scan x (N, *lattice, C) from its first corner; the weights are those of one direction."""
    lattice = tuple(x.shape[1:-1])
    axes = range(len(lattice))
    # a boundary state is the state of a point one step outside the lattice
    h, c = _outside(h_faces, lattice), _outside(c_faces, lattice)
    limit = cell.limit(x.dtype)
    # as the successors see them: what comes back from all of these together is limited
    h_seen, c_seen = (
        {point: with_limited_gradient(state, limit) for point, state in states.items()} for states in (h, c)
    )
    inputs = x.flatten(1, -2).unbind(1)
    for point, x_point in zip(_points(lattice), inputs, strict=True):
        h_prev = [h_seen[_at(point, k, point[k] - 1)] for k in axes]
        c_prev = [c_seen[_at(point, k, point[k] - 1)] for k in axes if cell.memory]
        h[point], memory = step(cell, x_point, weights, h_prev, c_prev)
        h_seen[point] = with_limited_gradient(h[point], limit)
        if memory is not None:
            c[point], c_seen[point] = memory, with_limited_gradient(memory, limit)

    def exits(states: dict[Point, Tensor], faces: Faces) -> Faces:
        last = [
            [_at(q, k, lattice[k] - 1, insert=True) for q in _points(face_lattice(lattice, k))] for k in axes
        ]
        return tuple(_stack(states, points, face) for points, face in zip(last, faces, strict=False))

    empty = x.new_empty(1, x.shape[0], *lattice, weights.weight_hh.shape[-1])
    if not empty.numel():  # no point ties it to what it would depend on, whose gradients are zero
        empty = empty + sum(given.sum() for given in (x, *weights, *h_faces, *c_faces) if given is not None)
    return _stack(h, list(_points(lattice)), empty)[0], exits(h, h_faces), exits(c, c_faces)


def step(
    cell: Cell, x: Tensor, weights: Params, h_prev: Tensors, c_prev: Tensors
) -> tuple[Tensor, Tensor | None]:
    """States h and c (N, H) of a point of every sample.

    Args:
        x: inputs (N, C).
        weights: those of one direction.
        h_prev: outputs (N, H) of the predecessors, one an axis.
        c_prev: their memories; empty for a cell without memory.
    """
    extra = () if weights.extra is None else weights.extra.unbind()
    a = x @ weights.weight_ih.T
    if weights.bias is not None:
        a = a + weights.bias
    u = [h_k @ weights.weight_hh[k].T for k, h_k in enumerate(h_prev)]
    if cell.feeds_memory:
        u = [u_k + c_k @ v_k.T for u_k, c_k, v_k in zip(u, c_prev, extra, strict=True)]
    return cell.step(a, u, h_prev, c_prev, extra)


def _points(lattice: Sequence[int]) -> Iterator[Point]:
    return product(*map(range, lattice))


def _at(point: Point, axis: int, position: int, *, insert: bool = False) -> Point:
    """A point moved to a position along one axis; ``insert`` adds that axis to a point of a face."""
    return (*point[:axis], position, *point[axis + (not insert) :])


def _outside(faces: Faces, lattice: Sequence[int]) -> dict[Point, Tensor]:
    return {
        _at(q, k, -1, insert=True): state
        for k, face in enumerate(faces)
        for q, state in zip(_points(face_lattice(lattice, k)), pack_faces([face])[0].unbind(1), strict=True)
    }


def _stack(states: dict[Point, Tensor], points: Sequence[Point], like: Tensor) -> Tensor:
    """The states at some points in the shape (1, N, ..., H) of ``like``."""
    return torch.stack([states[point] for point in points], 1).reshape(like.shape) if points else like
