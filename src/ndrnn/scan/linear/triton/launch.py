"""One linear scan on the device."""

from __future__ import annotations

from math import prod
from typing import Any, NamedTuple

import torch
import triton
import triton.language as tl
from torch import Tensor

from ...triton.faces import new_exits
from ...triton.launch import _aligned
from ...triton.packs import Given
from ...triton.plan import Shape, order_of_others, state_dtype
from ...triton.problem import Problem
from .kernels import backward_kernel, forward_kernel

_MOST_ROWS, _MOST_UNITS = 32, 32
"""Of a tile: a row of 32 units is a line of the cache, and 32 rows fill four warps."""


class Traits(NamedTuple):
    """CELL, see :mod:`ndrnn.scan.triton.packs`."""

    ndim: int
    hidden: int
    per_unit: bool  # whether each unit has shares of its own


class Tiles(NamedTuple):
    """CUT: M points by BU units."""

    M: int
    BU: int
    fronts: bool = False  # of strips always


class Numbers(NamedTuple):
    """MATH: the type of sums and states."""

    acc: Any


def problem_of(z: Tensor, backward_axes: int) -> Problem:
    """The sizes of a scan of z (N, *lattice, D, H)."""
    batch, *lattice, directions, hidden = z.shape
    return Problem(Shape("linear", len(lattice)), tuple(lattice), batch, directions, hidden, backward_axes)


def _arguments(
    problem: Problem,
    f: Tensor,
    sizes: Tensor | None,
    entry: Tensor | None,
    *,
    exits: bool,
    apart: bool = False,
) -> dict[str, Any]:
    lattice, device = problem.lattice, f.device
    # points of a row on a wavefront, about; as many rows of the first axis as a tile has room for
    front = min(lattice[1:]) if len(lattice) > 2 else 1
    tile = min(_MOST_ROWS, max(1, lattice[0] if len(lattice) > 1 else problem.batch) * front * 2)
    tile = max(1, 1 << (tile.bit_length() - 1))
    rows = lattice[0] if len(lattice) == 1 else min(lattice[0], max(1, tile // front))
    group = min(problem.batch, max(1, tile // (front * (1 if len(lattice) == 1 else rows))))
    units = min(_MOST_UNITS, triton.next_power_of_2(problem.hidden))
    groups, strips, blocks = -(-problem.batch // group), -(-lattice[0] // rows), -(-problem.hidden // units)
    programs = problem.directions * groups * strips * blocks
    return {
        "grid": (programs,),
        "p_f": _aligned(f),
        "p_c0": _aligned(entry),
        "p_sizes": sizes,
        "p_order": order_of_others(lattice, device),
        "p_counters": torch.zeros((1 + programs) * 32, dtype=torch.int32, device=device),
        **problem.geometry(),
        "group": group,
        "groups": groups,
        "rows": rows,
        "strips": strips,
        "blocks": blocks,
        "CELL": Traits(len(lattice), problem.hidden, per_unit=f.shape[-1] == problem.hidden),
        "GIVEN": Given(entry is not None, exits, sizes is not None, apart=apart),
        "CUT": Tiles(tile, units),
        "MATH": Numbers(tl.float64 if f.dtype == torch.float64 else tl.float32),
        "num_warps": 4,
    }


def forward(
    problem: Problem, z: Tensor, f: Tensor, sizes: Tensor | None, entry: Tensor | None, *, exits: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """c (N, *lattice, D, H), the exit faces (D, N, F, H), and c without loss of digits where the dtype has few."""
    c = torch.empty_like(z)
    apart = state_dtype(z.dtype) != z.dtype
    state = torch.empty_like(z, dtype=state_dtype(z.dtype)) if apart else None
    cn = new_exits(problem, z, sizes, entry) if exits else None
    if not problem.empty:
        arguments = _arguments(problem, f, sizes, entry, exits=exits, apart=apart)
        forward_kernel[arguments.pop("grid")](
            p_z=_aligned(z), p_c=c, p_state=state if apart else c, p_cn=cn, **arguments
        )  # fmt: skip
    return c, cn, state


def backward(
    problem: Problem,
    dc: Tensor,
    dcn: Tensor | None,
    f: Tensor,
    sizes: Tensor | None,
    entry: Tensor | None,
    state: Tensor,
    *,
    needs_f: bool,
    needs_state: bool,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Gradients of z, f and the entry faces."""
    dz = torch.empty_like(dc, dtype=state_dtype(dc.dtype))
    shared = f.shape[-1] != problem.hidden
    df = None
    if needs_f:
        shape = (len(problem.lattice), *dc.shape)
        df = dc.new_empty(shape, dtype=dz.dtype if shared else f.dtype)
    dc0 = None
    if needs_state:
        # the gradients of what no point met: those of the states that passed through
        given = torch.zeros(_faces(problem), dtype=dc.dtype, device=dc.device) if dcn is None else dcn
        dc0 = new_exits(problem, dc, sizes, given)
    if not problem.empty:
        arguments = _arguments(problem, f, sizes, entry, exits=dcn is not None)
        backward_kernel[arguments.pop("grid")](
            p_state=_aligned(state), p_dc=_aligned(dc), p_dcn=_aligned(dcn), p_dz=dz, p_df=df, p_dc0=dc0,
            NEEDS_F=needs_f, NEEDS_STATE=needs_state, **arguments,
        )  # fmt: skip
    if df is not None and shared:
        df = df.sum(-1, keepdim=True).to(f.dtype)
    return dz.to(dc.dtype), df, dc0


def _faces(problem: Problem) -> tuple[int, ...]:
    lattice = problem.lattice
    points = sum(prod(lattice[:k] + lattice[k + 1 :]) for k in range(len(lattice)))
    return problem.directions, problem.batch, points, problem.hidden
