"""States on the faces of the lattice: memory for those that leave it, gradients of those that entered."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from ...lattice import face_lattice, face_points, inside
from ...saturation import limited_gradient
from .plan import state_dtype
from .problem import Deltas, Inputs, Problem


def new_exits(problem: Problem, x: Tensor, sizes: Tensor | None, entry: Tensor | None) -> Tensor:
    """Memory (D, N, F, H) for the states that leave the lattice, holding what the scan will not write.

    That is zero outside a ragged sample, and along an empty axis the states that entered.
    """
    shape = (problem.directions, problem.batch, sum(face_points(problem.lattice)), problem.hidden)
    if sizes is None and not problem.empty:
        return x.new_empty(shape)
    if entry is None:
        return x.new_zeros(shape)
    return entry.masked_fill(~_passing(problem, sizes, x.device), 0)


def _passing(problem: Problem, sizes: Tensor | None, device: torch.device) -> Tensor:
    """Mask (N, F, 1): where a state leaves as it entered, because the sample is empty along that axis."""
    masks = []
    for axis, extent in enumerate(problem.lattice):
        others = face_lattice(problem.lattice, axis)
        if sizes is None:
            mask = torch.full((problem.batch, prod(others)), extent == 0, device=device)
        else:
            own = torch.cat([sizes[:, :axis], sizes[:, axis + 1 :]], dim=1)
            mask = inside(own, others).reshape(problem.batch, prod(others)) & (sizes[:, axis, None] == 0)
        masks.append(mask)
    return torch.cat(masks, dim=1).unsqueeze(-1)


def entry_gradients(
    problem: Problem, inputs: Inputs, deltas: Deltas, dhn: Tensor | None, dcn: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """Gradients of the states on the entry faces (D, N, F, H), from the points that met them."""
    if problem.empty:
        dh0 = inputs.x.new_zeros(
            (problem.directions, problem.batch, sum(face_points(problem.lattice)), problem.hidden)
        )
        dc0 = torch.zeros_like(dh0) if problem.shape.memory else None
    else:
        dh0, dc0 = _of_points(problem, inputs, deltas)
        limit = problem.shape.limit(state_dtype(inputs.x.dtype))
        dh0, dc0 = limited_gradient(dh0, limit), None if dc0 is None else limited_gradient(dc0, limit)
    if dhn is not None and (inputs.sizes is not None or problem.empty):
        scanned = ~_passing(problem, inputs.sizes, dhn.device)
        dh0 = dh0 + dhn.masked_fill(scanned, 0)
        dc0 = dc0 if dc0 is None or dcn is None else dc0 + dcn.masked_fill(scanned, 0)
    return dh0.to(inputs.x.dtype), None if dc0 is None else dc0.to(inputs.x.dtype)


def _of_points(problem: Problem, inputs: Inputs, deltas: Deltas) -> tuple[Tensor, Tensor | None]:
    shape, hidden = problem.shape, problem.hidden
    h_faces, c_faces = [], []
    for axis in range(shape.ndim):
        points, met = _entry_points(problem, axis, inputs.sizes, deltas.gates.device)
        taken, weights = _take(deltas.gates, points, met), inputs.weight_hh[:, axis]
        if deltas.parts is None:
            dh = _through(taken, weights)
        else:
            part = _take(deltas.parts[..., axis * hidden : (axis + 1) * hidden], points, met)
            dh = _through(taken[..., :-hidden], weights[:, :-hidden]) + _through(part, weights[:, -hidden:])
        if deltas.carry is not None:
            carried = _take(deltas.carry[axis], points, met)
            if not shape.memory:
                dh = dh + carried
            elif shape.feeds and inputs.extra is not None:
                c_faces.append(carried + _through(taken, inputs.extra[:, axis]))
            else:
                c_faces.append(carried)
        h_faces.append(dh)
    return torch.cat(h_faces, dim=2), torch.cat(c_faces, dim=2) if c_faces else None


def _take(rows: Tensor, points: Tensor, met: Tensor | None) -> Tensor:
    taken = rows.flatten(0, 2)[points]
    return taken if met is None else taken.masked_fill(~met, 0)


def _through(rows: Tensor, matrices: Tensor) -> Tensor:
    """Rows (D, N, F_k, K) times matrices (D, K, H)."""
    return (rows.flatten(1, 2) @ matrices).unflatten(1, rows.shape[1:3])


def _entry_points(
    problem: Problem, axis: int, sizes: Tensor | None, device: torch.device
) -> tuple[Tensor, Tensor | None]:
    """Which row among (N, P, D) meets each point of an entry face, (D, N, F_k), and whether any does, (N, F_k, 1)."""
    lattice, ndim = problem.lattice, problem.shape.ndim  # no axis is empty
    stride, extent = prod(lattice[axis + 1 :]), lattice[axis]
    on_face = torch.arange(prod(face_lattice(lattice, axis)), device=device)
    first = on_face // stride * (stride * extent) + on_face % stride
    samples = torch.arange(problem.batch, device=device)[:, None]
    own = torch.full_like(samples, extent) if sizes is None else sizes[:, axis, None]
    rows = []
    for d in range(problem.directions):
        backward = problem.backward_axes >> (d * ndim + axis) & 1
        at = first + stride * (own - 1).clamp(min=0) if backward else first
        rows.append(((samples * problem.points + at) * problem.directions + d).expand(problem.batch, -1))
    met = None
    if sizes is not None:
        others = torch.cat([sizes[:, :axis], sizes[:, axis + 1 :]], dim=1)
        met = inside(others, face_lattice(lattice, axis)).reshape(problem.batch, len(on_face)) & (own > 0)
        met = met.unsqueeze(-1)
    return torch.stack(rows), met
