"""Lattices: their directions, the extents of ragged samples, and the faces that carry boundary states."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from math import prod

import torch
from torch import Tensor

Direction = tuple[int, ...]

_MOST_AXES = 16  # of which all corners are taken, be it that a file asks for more


def all_directions(ndim: int) -> tuple[Direction, ...]:
    """The 2^n corners at which a scan can start, in the order of ``itertools.product((+1, -1), repeat=ndim)``."""
    return tuple(product((1, -1), repeat=ndim))


def resolve_directions(directions: str | Sequence[Sequence[int]], ndim: int) -> tuple[Direction, ...]:
    """Directions as tuples of +1/-1, one entry an axis; ``"all"`` stands for all 2^n of them.

    Raises:
        ValueError: ``directions`` is empty, means those of more than 16 axes, repeats one, or holds anything but tuples of ndim entries +1 or -1.
    """
    wanted = f'directions must be "all" or a non-empty sequence of distinct {ndim}-tuples of +1 and -1'
    if isinstance(directions, str):
        if directions != "all":
            raise ValueError(f"{wanted}, got {directions!r}")
        if ndim > _MOST_AXES:
            raise ValueError(
                f"directions must be named one by one for more than {_MOST_AXES} axes, got all 2^{ndim} of them"
            )
        return all_directions(ndim)
    try:
        resolved = tuple(tuple(direction) for direction in directions)
        legal = all(len(direction) == ndim and set(direction) <= {1, -1} for direction in resolved)
    except TypeError:  # not iterable, or an entry without a hash
        legal = False
    if not legal or not resolved or len(set(resolved)) != len(resolved):
        raise ValueError(f"{wanted}, got {directions!r}")
    return tuple(tuple(int(sign) for sign in direction) for direction in resolved)


def check_sizes(sizes: Tensor, batch: int, lattice: Sequence[int]) -> Tensor:
    """The true extents of the samples: int64 of shape (N, n), each between 0 and the lattice's size on its axis.

    Raises:
        TypeError: ``sizes`` is no integer tensor.
        ValueError: its shape differs from (N, n), or an extent is out of range.
    """
    if not isinstance(sizes, Tensor) or sizes.dtype not in (torch.int64, torch.int32):
        got = sizes.dtype if isinstance(sizes, Tensor) else type(sizes).__name__
        raise TypeError(f"sizes must be an int64 tensor of shape (N, n), got {got}")
    if sizes.shape != (batch, len(lattice)):
        raise ValueError(
            f"sizes must have shape (N, n) = ({batch}, {len(lattice)}), got {tuple(sizes.shape)}"
        )
    sizes = sizes.to(torch.int64)
    for axis, (extents, limit) in enumerate(zip(_values_by_axis(sizes), lattice, strict=False)):
        if min(extents) < 0 or max(extents) > limit:
            raise ValueError(
                f"sizes on axis {axis} must lie in [0, {limit}], the lattice's size there, "
                f"got {min(extents)} to {max(extents)}"
            )
    return sizes


def _values_by_axis(sizes: Tensor) -> list[list[int]]:
    """The samples' extents on every axis; nothing where there are no values to read."""
    captured = sizes.is_cuda and torch.cuda.is_current_stream_capturing()
    if torch.compiler.is_compiling() or captured or sizes.numel() == 0:
        return []  # reading values would end a traced or captured graph; there the kernels check them
    try:
        return sizes.T.tolist()
    except RuntimeError:  # a meta or fake tensor, or one under vmap
        return []


def face_lattice(lattice: Sequence[int], axis: int) -> tuple[int, ...]:
    """The lattice of face ``axis``: the sizes without that axis."""
    return (*lattice[:axis], *lattice[axis + 1 :])


def face_points(lattice: Sequence[int]) -> list[int]:
    """How many points each face has, by axis."""
    return [prod(face_lattice(lattice, axis)) for axis in range(len(lattice))]


def pack_faces(faces: Sequence[Tensor]) -> Tensor:
    """Faces of shape (D, N, *lattice without axis k, H), one an axis, as one tensor (D, N, all face points, H)."""
    flat = [face.flatten(2, -2) if face.dim() > 3 else face.unsqueeze(2) for face in faces]
    return flat[0].contiguous() if len(flat) == 1 else torch.cat(flat, dim=2)


def unpack_faces(packed: Tensor, lattice: Sequence[int]) -> tuple[Tensor, ...]:
    """The inverse of :func:`pack_faces`."""
    return tuple(
        part.reshape(*packed.shape[:2], *face_lattice(lattice, axis), packed.shape[-1])
        for axis, part in enumerate(packed.split(face_points(lattice), dim=2))
    )


def inside(sizes: Tensor, lattice: Sequence[int]) -> Tensor:
    """Mask (N, *lattice): True at the points within each sample's own extent."""
    mask = torch.ones((sizes.shape[0], *lattice), dtype=torch.bool, device=sizes.device)
    for axis, extent in enumerate(lattice):
        shape = [1] * (len(lattice) + 1)
        shape[axis + 1] = extent
        position = torch.arange(extent, device=sizes.device).view(shape)
        mask = mask & (position < sizes[:, axis].view(-1, *[1] * len(lattice)))
    return mask
