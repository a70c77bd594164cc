# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""Tiles of points by hidden units: where they lie in memory, and the states that enter them."""

from typing import NamedTuple

import triton
import triton.language as tl

from . import direct, walk


class Tile(NamedTuple):
    """Units of some points."""

    o_unit: object
    units: object  # which of them there are
    mask: object  # (points, units) inside samples
    alive: object  # (points, units) of the lattice, inside samples or not


class Field(NamedTuple):
    """A number a point, direction and unit, and what enters the lattice."""

    p_lattice: object  # (N, P, D, H)
    p_faces: object  # (D, N, F, H)


@triton.jit
def tile_of(points, first_unit, CELL: tl.constexpr, CUT: tl.constexpr):
    o_unit = first_unit + tl.arange(0, CUT.BU)
    units = o_unit < CELL.hidden
    return Tile(o_unit, units, points.inside[:, None] & units[None, :], points.live[:, None] & units[None, :])


@triton.jit
def rows(p, o_row, HIDDEN: tl.constexpr, COUNT: tl.constexpr):
    """Where rows of COUNT times H numbers begin."""
    return p + o_row * (COUNT * HIDDEN)


@triton.jit
def at(p_row, o_unit):
    """Where the numbers of a tile are, given where its rows begin."""
    return p_row[:, None] + o_unit[None, :]


@triton.jit
def on_face(p, strip, points, CELL: tl.constexpr, K: tl.constexpr):
    """Where the rows of a tile begin on packed faces (D, N, F, H), where axis K meets its points."""
    o_face = walk.face_row(points.o_at, points.o_chain, strip.extents, CELL.ndim, K)
    return rows(p, o_face, CELL.hidden, 1)


@triton.jit
def load_before(
    p_states, p_faces, o_before, o_face, o_unit, inner, entering, units,
    HIDDEN: tl.constexpr, ENTRY: tl.constexpr, DIRECT: tl.constexpr, CUT: tl.constexpr, after=0,
):  # fmt: skip
    """States (rows, units) of the predecessors along one axis: from the lattice, or from its entry face."""
    mask = inner[:, None] & units[None, :]
    p_s = rows(p_states, o_before, HIDDEN, 1)
    if DIRECT:
        b_s = direct.load(p_s, o_unit, mask, HIDDEN, CUT, after)
    else:
        b_s = tl.load(at(p_s, o_unit), mask=mask, other=0)
    if ENTRY:
        mask = entering[:, None] & units[None, :]
        p_f = rows(p_faces, o_face, HIDDEN, 1)
        if DIRECT:
            b_f = direct.load(p_f, o_unit, mask, HIDDEN, CUT)
        else:
            b_f = tl.load(at(p_f, o_unit), mask=mask, other=0)
        b_s = tl.where(mask, b_f.to(b_s.dtype), b_s)
    return b_s


@triton.jit
def load_along(
    field, strip, points, o_unit, units,
    K: tl.constexpr, CELL: tl.constexpr, GIVEN: tl.constexpr, DIRECT: tl.constexpr, CUT: tl.constexpr, after=0,
):  # fmt: skip
    """A tile of the predecessors along axis K."""
    o_face = points.o_row
    if GIVEN.entry:
        o_face = walk.face_row(points.o_at, points.o_chain, strip.extents, CELL.ndim, K)
    o_before = points.o_row - walk.step_along(strip, K)
    inner, entering = points.inside & (points.x[K] > 0), points.inside & (points.x[K] == 0)
    return load_before(
        field.p_lattice, field.p_faces, o_before, o_face, o_unit, inner, entering, units,
        CELL.hidden, GIVEN.entry, DIRECT, CUT, after,
    )  # fmt: skip


@triton.jit
def load_states(
    field, strip, points, tile, CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr, after=0
):  # fmt: skip
    """The predecessors' states by axis."""
    NDIM: tl.constexpr = CELL.ndim
    states = ()
    for k in tl.static_range(NDIM):
        b_s = load_along(field, strip, points, tile.o_unit, tile.units, k, CELL, GIVEN, True, CUT, after)
        states = states + (b_s.to(MATH.acc),)
    return states


@triton.jit
def load_peepholes(p_extra, tile, CELL: tl.constexpr, MATH: tl.constexpr):
    """Those of the input gate, the forget gates by axis, and the output gate."""
    ROWS: tl.constexpr = CELL.ndim + 2
    extra = ()
    for row in tl.static_range(ROWS):
        b_p = tl.load(p_extra + row * CELL.hidden + tile.o_unit, mask=tile.units, other=0).to(MATH.acc)
        extra = extra + (b_p[None, :],)
    return extra
