"""A scan in plain PyTorch, one batched step per wavefront for all samples and directions at once.

Runs on any device and dtype and through every transform of PyTorch: double backward, ``jvp``, ``vmap``, tracing.
The lattice is brought into the order of its wavefronts (points sorted by their L1 distance from the starting
corner), so that a wavefront is a slice, and the predecessors of its points lie in the slice before.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from math import prod

import torch
from torch import Tensor

from ..cells import Cell, Params
from ..lattice import Direction, face_lattice, inside, pack_faces, unpack_faces
from ..saturation import with_limited_gradient


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
    lattice = tuple(x.shape[1:-1])
    states = [h0] if c0 is None else [h0, c0]
    within = None
    if sizes is not None:
        # whatever lies outside counts as zero, also in the backward pass, where 0 times inf would be NaN
        within = inside(sizes, lattice)
        x = x.masked_fill(~within[..., None], 0)
        states = [_mask_faces(state, lattice, sizes) for state in states]
    order = _WavefrontOrder(lattice, x.device)
    samples = x.flatten(1, -2).expand(len(directions), *(-1,) * 3)
    inputs = _take(samples, _oriented(order.points, lattice, directions, sizes))
    entries = [_faces_in_order(state, order, lattice, directions, sizes) for state in states]
    mask = None if within is None else within.flatten(1)[:, order.points, None]
    swept = _sweep(cell, inputs, params, order, entries, mask)
    # turning a lattice round is its own inverse
    points = torch.arange(prod(lattice), device=x.device)
    back = order.rank[_oriented(points, lattice, directions, sizes)]
    outputs = [_take(state, back).permute(1, 2, 0, 3).unflatten(1, lattice) for state in swept]
    hn, *cn = (_exit_faces(y, directions, sizes, state) for y, state in zip(outputs, states, strict=True))
    return outputs[0], hn, cn[0] if cn else None


def _wavefront_starts(lattice: Sequence[int]) -> list[int]:
    """Where each wavefront begins among the points sorted by wavefront, and last the number of points."""
    counts = [1]
    for extent in lattice:
        sums = [0, *accumulate(counts + [0] * (extent - 1))]
        counts = [sums[t + 1] - sums[max(0, t + 1 - extent)] for t in range(len(sums) - 1)]
    return [0, *accumulate(counts)]


def _coordinates(points: Tensor, lattice: Sequence[int]) -> list[Tensor]:
    strides = [prod(lattice[axis + 1 :]) for axis in range(len(lattice))]
    return [points // stride % extent for stride, extent in zip(strides, lattice, strict=True)]


def _distances(points: Tensor, lattice: Sequence[int]) -> Tensor:
    """Of row-major points, by how many steps each is away from the first: the numbers of their wavefronts."""
    return sum(_coordinates(points, lattice), torch.zeros_like(points))


def by_wavefront(lattice: Sequence[int], device: torch.device) -> Tensor:
    """Row-major indices of the points, sorted by wavefront and within one by row-major order."""
    points = torch.arange(prod(lattice), device=device)
    return _distances(points, lattice).argsort(stable=True)


class _WavefrontOrder:
    """The points of a lattice and of its faces sorted by wavefront, and where the predecessors lie.

    ``predecessors[k]`` counts along the wavefront before, followed by the points of entry face k that the wavefront
    touches: both in the common order, so that two slices laid end to end hold every predecessor.

    All indices are computed on the device: to copy them there would wait for it, and cannot be captured in a graph.
    """

    def __init__(self, lattice: tuple[int, ...], device: torch.device) -> None:
        self.starts = _wavefront_starts(lattice)
        self.points = by_wavefront(lattice, device)
        self.rank = self.points.argsort()
        face_lattices = [face_lattice(lattice, axis) for axis in range(len(lattice))]
        self.faces = [by_wavefront(face, device) for face in face_lattices]
        self.face_starts = []
        coordinates = _coordinates(self.points, lattice)
        wavefront = _distances(self.points, lattice)
        start_before = torch.searchsorted(wavefront, wavefront - 1)
        width_before = torch.searchsorted(wavefront, wavefront) - start_before
        self.predecessors = []
        for axis, coordinate in enumerate(coordinates):
            starts = _wavefront_starts(face_lattices[axis])
            starts += starts[-1:] * (len(self.starts) - len(starts))  # the last wavefronts miss the face
            self.face_starts.append(starts)
            before = self.points - prod(lattice[axis + 1 :])
            on_face = coordinate == 0
            on_face_before = torch.searchsorted(_distances(self.faces[axis], face_lattices[axis]), wavefront)
            nth_on_face = on_face.cumsum(0) - 1 - on_face_before
            inner = self.rank[before.clamp(min=0)] - start_before
            self.predecessors.append(torch.where(on_face, width_before + nth_on_face, inner))


def _oriented(
    points: Tensor, lattice: Sequence[int], directions: Sequence[Direction], sizes: Tensor | None
) -> Tensor:
    """Row-major index, as each direction sees it, of every point: (D, P), or (D, N, P) for ragged samples.

    A backward axis is turned within each sample's own extent; points beyond it stay where they are.
    """
    strides = [prod(lattice[axis + 1 :]) for axis in range(len(lattice))]
    coordinates = _coordinates(points, lattice)
    turned = []
    for axis, coordinate in enumerate(coordinates):
        extent = lattice[axis] if sizes is None else sizes[:, axis, None]
        mirrored = extent - 1 - coordinate
        turned.append(torch.where(mirrored < 0, coordinate, mirrored))
    shape = points.shape if sizes is None else (sizes.shape[0], *points.shape)
    return torch.stack(
        [
            sum(
                (
                    stride * (there if sign < 0 else here)
                    for sign, stride, here, there in zip(direction, strides, coordinates, turned, strict=True)
                ),
                points.new_zeros(shape),
            )
            for direction in directions
        ]
    )


def _take(values: Tensor, index: Tensor) -> Tensor:
    """Values (D, N, P, F) at points (D, Q) or (D, N, Q) as (D, N, Q, F)."""
    index = index.unsqueeze(1) if index.dim() == 2 else index
    return values.gather(2, index.unsqueeze(-1).expand(*values.shape[:2], -1, values.shape[-1]))


def _face_sizes(sizes: Tensor, axis: int) -> Tensor:
    """The extents (N, n - 1) of the samples' faces ``axis``."""
    return torch.cat([sizes[:, :axis], sizes[:, axis + 1 :]], dim=1)


def _mask_faces(state: Tensor, lattice: Sequence[int], sizes: Tensor) -> Tensor:
    """Packed boundary states with zeros beyond the samples' own extents."""
    return pack_faces(
        [
            face.masked_fill(~inside(_face_sizes(sizes, axis), face_lattice(lattice, axis))[..., None], 0)
            for axis, face in enumerate(unpack_faces(state, lattice))
        ]
    )


def _faces_in_order(
    state: Tensor,
    order: _WavefrontOrder,
    lattice: Sequence[int],
    directions: Sequence[Direction],
    sizes: Tensor | None,
) -> list[Tensor]:
    """Packed boundary states (D, N, F, H) by axis, each turned and sorted as the sweep meets it."""
    faces = []
    for axis, face in enumerate(unpack_faces(state, lattice)):
        others = [face_lattice(direction, axis) for direction in directions]
        own = None if sizes is None else _face_sizes(sizes, axis)
        index = _oriented(order.faces[axis], face_lattice(lattice, axis), others, own)
        faces.append(_take(pack_faces([face]), index))
    return faces


def _sweep(
    cell: Cell,
    inputs: Tensor,
    params: Params,
    order: _WavefrontOrder,
    entries: Sequence[Sequence[Tensor]],
    mask: Tensor | None,
) -> list[Tensor]:
    """Run the cell wavefront by wavefront; h (and c) of all points in wavefront order, (D, N, P, H).

    States are zero where ``mask`` (N, P, 1), in wavefront order too, is False.
    """
    directions, batch, points, _ = inputs.shape
    ndim, hidden = params.weight_hh.shape[1], params.weight_hh.shape[-1]
    a = inputs.flatten(1, 2) @ params.weight_ih.mT
    if params.bias is not None:
        a = a + params.bias.unsqueeze(1)
    a = a.unflatten(1, (batch, points))
    weights = params.weight_hh.mT.unbind(1)
    rows = () if params.extra is None else params.extra.unbind(1)
    memory_weights = [row.mT for row in rows] if cell.feeds_memory else []
    extra = [row[:, None, None] for row in rows] if not cell.feeds_memory else []

    def through(states: Tensor, weight: Tensor) -> Tensor:
        return (states.flatten(1, 2) @ weight).unflatten(1, states.shape[1:3])

    # what comes back to a state from all successors together is limited
    limit = cell.limit(inputs.dtype)
    entries = [[with_limited_gradient(face, limit) for face in entry] for entry in entries]
    last = [inputs.new_zeros(directions, batch, 0, hidden) for _ in entries]
    wavefronts: list[list[Tensor]] = [[] for _ in entries]
    for t, (start, stop) in enumerate(zip(order.starts, order.starts[1:], strict=False)):
        previous = [
            [
                torch.cat(
                    [state, entry[axis][:, :, slice(*order.face_starts[axis][t : t + 2])]], 2
                ).index_select(2, order.predecessors[axis][start:stop])
                for axis in range(ndim)
            ]
            for state, entry in zip(last, entries, strict=True)
        ]
        h, c = previous[0], previous[1] if len(previous) > 1 else []
        u = [through(h_k, weight) for h_k, weight in zip(h, weights, strict=True)]
        u += [through(c_k, weight) for c_k, weight in zip(c, memory_weights, strict=False)]
        new_h, new_c = cell.step(a[:, :, start:stop], u, h, c, extra)
        last = [new_h] if new_c is None else [new_h, new_c]
        if mask is not None:
            last = [state.masked_fill(~mask[:, start:stop], 0) for state in last]
        for states, state in zip(wavefronts, last, strict=True):
            states.append(state)
        last = [with_limited_gradient(state, limit) for state in last]
    return [torch.cat(states, dim=2) for states in wavefronts]


def _exit_faces(
    states: Tensor, directions: Sequence[Direction], sizes: Tensor | None, entry: Tensor
) -> Tensor:
    """The states (N, *lattice, D, H) that leave the lattice on every face, packed; an empty axis lets its entry pass."""
    lattice = tuple(states.shape[1:-2])
    faces = []
    for axis, passing in enumerate(unpack_faces(entry, lattice)):
        if lattice[axis] == 0:
            faces.append(passing)
            continue
        by_direction = []
        for d, direction in enumerate(directions):
            one = states[..., d, :].movedim(axis + 1, 1)  # (N, D_k, *others, H)
            if direction[axis] < 0:
                by_direction.append(one[:, 0])
            elif sizes is None:
                by_direction.append(one[:, -1])
            else:
                last = (sizes[:, axis] - 1).clamp(min=0).view(-1, *(1,) * (one.dim() - 1))
                by_direction.append(one.gather(1, last.expand(-1, 1, *one.shape[2:])).squeeze(1))
        face = torch.stack(by_direction)
        if sizes is not None:
            empty = (sizes[:, axis] == 0).view(-1, *(1,) * (face.dim() - 2))
            face = torch.where(empty, passing, face)
        faces.append(face)
    return pack_faces(faces)
