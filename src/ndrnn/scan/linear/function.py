"""``ndrnn.linear_scan``: an exact linear recurrence over the axes of a lattice."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Literal, overload

import torch
from torch import Tensor

from ...lattice import Direction, check_sizes, face_lattice
from .. import cpu as compiled
from .. import triton as device
from ..circumstances import TRANSFORMED, transformed
from ..dispatch import _name_for
from . import cpu, reference, triton, wavefront

Faces = tuple[Tensor, ...]
_warned: set[str] = set()


@overload
def linear_scan(
    z: Tensor,
    f: Tensor,
    *,
    direction: Sequence[int],
    sizes: Tensor | None = None,
    initial_state: Sequence[Tensor] | None = None,
    return_state: Literal[False] = False,
) -> Tensor: ...


@overload
def linear_scan(
    z: Tensor,
    f: Tensor,
    *,
    direction: Sequence[int],
    sizes: Tensor | None = None,
    initial_state: Sequence[Tensor] | None = None,
    return_state: Literal[True],
) -> tuple[Tensor, Faces]: ...


def linear_scan(
    z: Tensor,
    f: Tensor,
    *,
    direction: Sequence[int],
    sizes: Tensor | None = None,
    initial_state: Sequence[Tensor] | None = None,
    return_state: bool = False,
) -> Tensor | tuple[Tensor, Faces]:
    r"""Solve c_x = z_x + f_1x c_(x - e_1) + ... + f_nx c_(x - e_n), element by element, exactly.

    ``x - e_k`` is the predecessor of the point x along axis k, one step towards the corner at which the direction
    starts. Where it lies outside the lattice its c is the initial state, or zero.

    If the absolute shares f into every point sum to at most 1, and to 1 with that by which z was scaled, then c never
    exceeds the largest of what was scaled: no lattice is too large.

    Args:
        z: (N, D1, ..., Dn, H), any number n of axes.
        f: (n, N, D1, ..., Dn, H), or with a last dimension of 1 where all H share it.
        direction: a +1 or -1 for every axis; +1 starts at index 0.
        sizes: true extent (N, n) of each sample, int64. c is 0 outside it, and a backward axis starts at its end.
        initial_state: for every axis k the c that its entry face sees, (N, \*lattice without axis k, H).
        return_state: whether to return also the c on the exit faces, in the form of ``initial_state``: what the next
            tile takes.

    Returns:
        c (N, D1, ..., Dn, H), or the pair (c, exit faces).

    Raises:
        ValueError: a shape does not fit.
        TypeError: a dtype does not, or an argument is of the wrong kind.
        RuntimeError: a backend that was asked for by name cannot serve the call.

    Example:
        >>> z, half = torch.ones(1, 2, 3, 1), torch.full((2, 1, 2, 3, 1), 0.5)
        >>> ndrnn.linear_scan(z, half, direction=(1, 1))[0, :, :, 0]
        tensor([[1.0000, 1.5000, 1.7500],
                [1.5000, 2.5000, 3.1250]])
    """
    axes = _check(z, f, direction)
    lattice = z.shape[1:-1]
    if sizes is not None:
        sizes = check_sizes(sizes, z.shape[0], lattice)
        if sizes.device != z.device:
            raise ValueError(f"sizes must be on the device of z, {z.device}, got {sizes.device}")
    if initial_state is not None:
        _check_state(initial_state, z)
    name = _select(z)
    if name in ("cpu", "triton"):
        c, exits = (cpu if name == "cpu" else triton).scan(z, f, axes, sizes, initial_state, return_state)
    else:
        if initial_state is None:
            shapes = [(z.shape[0], *face_lattice(lattice, axis), z.shape[-1]) for axis in range(len(lattice))]
            initial_state = [z.new_zeros(shape) for shape in shapes]
        run = reference.scan if name == "reference" else wavefront.scan
        c, exits = run(z, f, axes, sizes, initial_state)
    if not return_state:
        return c
    assert exits is not None
    return c, exits


def _check(z: Tensor, f: Tensor, direction: Sequence[int]) -> Direction:
    for name, tensor in (("z", z), ("f", f)):
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name} must be a tensor, got {type(tensor).__name__}")
    if not z.is_floating_point():
        raise TypeError(f"z must be of a floating-point dtype, got {z.dtype}")
    if z.dim() < 3 or z.shape[-1] < 1:
        raise ValueError(
            f"z must have shape (N, D1, ..., Dn, H) with at least one axis and H >= 1, got {tuple(z.shape)}"
        )
    ndim = z.dim() - 2
    if f.dtype != z.dtype:
        raise TypeError(f"f must have the dtype of z, {z.dtype}, got {f.dtype}")
    if f.device != z.device:
        raise ValueError(f"f must be on the device of z, {z.device}, got {f.device}")
    if f.dim() != z.dim() + 1 or f.shape[:-1] != (ndim, *z.shape[:-1]) or f.shape[-1] not in (1, z.shape[-1]):
        raise ValueError(
            f"f must have shape {(ndim, *z.shape)}, its last dimension may be 1, got {tuple(f.shape)}"
        )
    try:
        axes = tuple(direction)
        legal = len(axes) == ndim and all(sign in (1, -1) for sign in axes)
    except TypeError:
        legal = False
    if not legal:
        raise ValueError(f"direction must be a tuple of {ndim} entries +1 or -1, got {direction!r}")
    return tuple(int(sign) for sign in axes)


def _check_state(state: Sequence[Tensor], z: Tensor) -> None:
    ndim = z.dim() - 2
    if not isinstance(state, (tuple, list)) or len(state) != ndim:
        got = f"a {type(state).__name__}" + (f" of {len(state)}" if isinstance(state, (tuple, list)) else "")
        raise TypeError(f"initial_state must be a tuple of {ndim} faces, got {got}")
    for axis, face in enumerate(state):
        where = f"initial_state: face {axis}"
        if not isinstance(face, Tensor):
            raise TypeError(f"{where} must be a tensor, got {type(face).__name__}")
        shape = (z.shape[0], *face_lattice(z.shape[1:-1], axis), z.shape[-1])
        if face.shape != shape:
            raise ValueError(f"{where} must have shape {shape}, got {tuple(face.shape)}")
        if face.device != z.device:
            raise ValueError(f"{where} must be on the device of z, {z.device}, got {face.device}")
        if face.dtype != z.dtype:
            raise TypeError(f"{where} must have the dtype of z, {z.dtype}, got {face.dtype}")


def _refusal(name: str, z: Tensor) -> str | None:
    """Why a compiled backend cannot serve a call, or None."""
    if name == "triton":
        return device.refusal() or device.refusal_of_tensors(z, ())
    reason = compiled.refusal_of_tensor(z)
    if reason is None and z.dim() - 2 > compiled.MOST_AXES:
        reason = f"the compiled kernels take at most {compiled.MOST_AXES} axes, not {z.dim() - 2}"
    if reason is None and not torch.compiler.is_compiling() and transformed():
        return TRANSFORMED
    return reason


def _select(z: Tensor) -> str:
    """The backend for a call: the one asked for, or the one of the device if it can serve it, else wavefront."""
    asked, name = _name_for(z)
    if name in ("reference", "wavefront"):
        return name
    reason = _refusal(name, z)
    if reason is None:
        return name
    # under a functional transform the plain backend is the one that was meant
    if reason == TRANSFORMED:
        return "wavefront"
    if asked != "auto":
        raise RuntimeError(f"backend {asked!r} cannot serve this linear scan: {reason}")
    if not torch.compiler.is_compiling() and reason not in _warned:
        _warned.add(reason)
        warnings.warn(f"backend {asked!r}: {reason}; the wavefront backend runs instead", stacklevel=3)
    return "wavefront"
