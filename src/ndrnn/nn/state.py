"""Boundary states: what the entry faces of a lattice see, and what leaves on the exit faces."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..lattice import face_lattice, pack_faces, unpack_faces

Faces = tuple[Tensor, ...]


class State(NamedTuple):
    r"""The states on the faces of a lattice, one form for all cells.

    Face k is the lattice without axis k, indexed by position whatever the direction: (D, N, \*lattice without axis k,
    H) with D directions, or (D, \*lattice without axis k, H) for unbatched input. For one axis that is torch's
    (num_directions, N, H).
    """

    h: Faces
    """Outputs, one face an axis."""
    c: Faces | None = None
    """Memories, one face an axis; None for cells without memory."""


InitialState = State | Faces | tuple[Faces, Faces]
"""What layers take as ``initial_state``: a State, or its parts as plain tuples: faces of h for cells without memory,
the pair (faces of h, faces of c) for those with one."""


def as_state(state: Any, memory: bool, ndim: int) -> State:
    """A State from each form in which one may be given.

    Raises:
        TypeError: it is none of them.
    """
    plain = f"a pair of tuples of {ndim} faces, (h, c)" if memory else f"a tuple of {ndim} faces"
    wrong = TypeError(f"initial_state must be a State or {plain}, got {_describe(state)}")
    if not isinstance(state, (tuple, list)):
        raise wrong
    of_parts = len(state) == 2 and isinstance(state[0], (tuple, list)) and (memory or state[1] is None)
    if not (isinstance(state, State) or of_parts):
        if memory:
            raise wrong
        state = (state, None)
    h, c = state
    if memory == (c is None):
        raise wrong
    for faces in (h, c) if memory else (h,):
        if not isinstance(faces, (tuple, list)) or len(faces) != ndim:
            raise wrong
    return State(tuple(h), tuple(c) if memory else None)


def pack(
    state: State,
    x: Tensor,
    directions: int,
    hidden_size: int,
    dtype: torch.dtype,
    *,
    any_float: bool,
    unbatched: bool,
) -> tuple[Tensor, Tensor | None]:
    """The faces as the scan takes them.

    Args:
        state: faces, without the axis N if ``unbatched``.
        x: (N, D1, ..., Dn, C).
        directions, hidden_size, dtype: of the layer.
        any_float: whether other floating-point dtypes will do, too.

    Raises:
        TypeError: a face is no tensor, or of the wrong dtype.
        ValueError: a face has the wrong shape or device.
    """
    packed: list[Tensor | None] = []
    for part, faces in zip(state._fields, state, strict=True):
        for axis, face in enumerate(faces or ()):
            where = f"initial_state: face {axis} of {part}"
            if not isinstance(face, Tensor):
                raise TypeError(f"{where} must be a tensor, got {type(face).__name__}")
            batch = () if unbatched else (x.shape[0],)
            shape = (directions, *batch, *face_lattice(x.shape[1:-1], axis), hidden_size)
            if face.shape != shape:
                raise ValueError(f"{where} must have shape {shape}, got {tuple(face.shape)}")
            if face.device != x.device:
                raise ValueError(f"{where} must be on the device of x, {x.device}, got {face.device}")
            if face.dtype != dtype and not (any_float and face.is_floating_point()):
                raise TypeError(f"{where} must have the dtype of the layer, {dtype}, got {face.dtype}")
        if faces is None:
            packed.append(None)
        else:
            packed.append(pack_faces([face.unsqueeze(1) if unbatched else face for face in faces]).to(dtype))
    h, c = packed
    assert h is not None
    return h, c


def unpack(h: Tensor, c: Tensor | None, lattice: Sequence[int], *, unbatched: bool) -> State:
    """The inverse of :func:`pack`."""

    def faces(packed: Tensor) -> Faces:
        found = unpack_faces(packed, lattice)
        return tuple(face.squeeze(1) for face in found) if unbatched else found

    return State(faces(h), None if c is None else faces(c))


def _describe(value: object) -> str:
    if isinstance(value, State):
        if value.h is None:
            return "a State without h"
        return f"a State {'without' if value.c is None else 'with'} c"
    if isinstance(value, (tuple, list)):
        return f"a {type(value).__name__} of {len(value)}"
    return type(value).__name__
