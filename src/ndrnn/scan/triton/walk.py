# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""How programs walk a lattice: strips of the first axis, each swept wavefront by wavefront.

A program owns a strip (some rows of the first axis, all points of the other axes) for one direction, a group of samples
and a slice of the hidden units. It needs the last row of the strip before it, and what the other slices of its own strip
did on the wavefront before. Programs draw their part from a counter, so that a strip only ever waits for one that other
programs have already taken: the grid may be of any size, run in any order, and need not be resident at once, but for
the slices of a strip. Under the interpreter, where programs run one after the other, there is one slice and nothing ever
waits.

Coordinates are those the direction sees, from its corner: (row, and the other axes sorted by their distance from the
corner). All points of a strip on wavefront t have row + distance = t, so they are a contiguous range of that order.

Memory order. Inside a program: all threads store, ``debug_barrier``, all threads load. Between programs: all threads
store, ``debug_barrier``, one thread releases the counter at the scope of the GPU; there every thread that is going to
load acquires it. Loads of states are never moved up by the software pipeliner, since the sweep is a ``while`` loop,
which it leaves alone; loops inside begin after the wait.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from . import direct

COUNTER_STRIDE = tl.constexpr(32)  # a line of the cache for every counter


class Strip(NamedTuple):
    """What a program owns, of a lattice as its direction sees it."""

    extents: tuple
    reach: int  # the last wavefront of the axes after the first
    directions: int
    batch: int
    i_direction: int
    backward_axes: int  # bit k: axis k runs backward
    number: int
    rows: int  # of a whole strip
    first_row: int
    height: int  # rows of this one
    first_sample: int
    samples: int
    first_unit: int
    p_own: object  # its counter, shared by its slices
    p_neighbour: object  # that of the strip it waits for


class Points(NamedTuple):
    """The points of a tile, one a row."""

    live: object  # whether the row has one
    inside: object  # whether it lies in its sample
    x: tuple  # coordinates by axis
    own: tuple  # extents of its sample by axis
    o_at: object  # row-major index in the lattice
    o_row: object  # of (N, P, D)
    o_chain: object  # of (D, N)


@triton.jit
def draw(
    p_counters, extents, backward_axes, directions, batch, group, groups, rows, strips, FROM_END: tl.constexpr,
    CELL: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """The strip that a program does next: the slices of one are drawn in turn, after those of the one it waits for."""
    reach = (
        extents[1] + extents[2] - 2
    )  # before the draw: after it, one kernel spilled registers that now does not
    ticket = tl.atomic_add(p_counters, 1, sem="relaxed", scope="gpu")
    part = ticket // CUT.slices
    p_own = p_counters + (1 + part) * COUNTER_STRIDE
    i_direction = part % directions
    i_group = part // directions % groups
    number = part // directions // groups
    if FROM_END:
        number = strips - 1 - number
    first_row = number * rows
    first_sample = i_group * group
    return Strip(
        extents,
        reach,
        directions,
        batch,
        i_direction,
        backward_axes >> (i_direction * CELL.ndim),
        number,
        rows,
        first_row,
        tl.minimum(rows, extents[0] - first_row),
        first_sample,
        tl.minimum(group, batch - first_sample),
        ticket % CUT.slices * CUT.span,
        p_own,
        p_own - groups * directions * COUNTER_STRIDE,
    )


@triton.jit
def wait_for(p_progress, seen, needed):
    """Waits until the counter is at least ``needed``; ``seen`` is the progress known so far."""
    while seen < needed:
        seen = direct.acquire(p_progress)
    return seen


@triton.jit
def needed_before(t, i_strip, rows, reach):
    """How many wavefronts the strip before must have reported, when this one is to start its wavefront t.

    Row 0 meets on wavefront t the points that the last row of the strip before, a whole one of ``rows`` rows, met on
    its wavefront t + rows - 1.
    """
    return tl.where((i_strip > 0) & (t <= reach), t + rows, 0)


@triton.jit
def needed_after(t, i_strip, strips, rows, extent, reach):
    """Likewise on the way back, where wavefronts come in falling order: how many the strip after must have reported.

    The last row meets on wavefront t the points that row 0 of the strip after, of what rows are left, met on its
    wavefront t - rows + 1.
    """
    rows_after = tl.minimum(rows, extent - (i_strip + 1) * rows)
    return tl.where((i_strip < strips - 1) & (t >= rows - 1), rows_after + reach - (t - rows + 1), 0)


@triton.jit
def strides_of(extents):
    return (extents[1] * extents[2], extents[2], 1)


@triton.jit
def wavefront_start(p_order, t, reach, NDIM: tl.constexpr):
    """Where wavefront t of the axes after the first begins in their order, for t from 0 to reach + 1."""
    if NDIM > 2:
        return tl.load(p_order + t)
    else:
        return t


@triton.jit
def wavefront_range(p_order, t, rows, reach, NDIM: tl.constexpr):
    """The points of the other axes that some row of the strip meets on wavefront t."""
    first = tl.maximum(t - rows + 1, 0)
    last = tl.minimum(t, reach)
    return wavefront_start(p_order, first, reach, NDIM), wavefront_start(p_order, last + 1, reach, NDIM)


@triton.jit
def coordinates(p_order, o_rank, live, t, first_row, reach, extents, NDIM: tl.constexpr):
    """Coordinates by axis of the points that a strip meets on wavefront t, given their place in the order."""
    if NDIM == 1:
        return (first_row + t + o_rank * 0,)
    elif NDIM == 2:
        return (first_row + t - o_rank, o_rank)
    else:
        o_flat = tl.load(p_order + reach + 2 + o_rank, mask=live, other=0)
        o_1 = o_flat // extents[2]
        o_2 = o_flat % extents[2]
        return (first_row + t - o_1 - o_2, o_1, o_2)


@triton.jit
def extents_of(p_sizes, o_sample, live, extents, NDIM: tl.constexpr, RAGGED: tl.constexpr):
    """The true extents of each row's sample by axis, never more than the lattice's."""
    own = ()
    for k in tl.static_range(NDIM):
        if RAGGED:
            b_size = tl.load(p_sizes + o_sample * NDIM + k, mask=live, other=0).to(tl.int32)
            own = own + (tl.minimum(tl.maximum(b_size, 0), extents[k]),)
        else:
            own = own + (o_sample * 0 + extents[k],)
    return own


@triton.jit
def within(x, own, live, NDIM: tl.constexpr):
    """Whether each point lies in its sample."""
    inside = live
    for k in tl.static_range(NDIM):
        inside = inside & (x[k] < own[k])
    return inside


@triton.jit
def lattice_index(x, own, extents, backward_axes, NDIM: tl.constexpr):
    """Row-major index in the lattice: a backward axis is turned within the sample, what lies beyond stays."""
    strides = strides_of(extents)
    o_at = x[0] * 0
    for k in tl.static_range(NDIM):
        turned = (((backward_axes >> k) & 1) != 0) & (x[k] < own[k])
        o_at += strides[k] * tl.where(turned, own[k] - 1 - x[k], x[k])
    return o_at


@triton.jit
def points_of(
    p_order, p_sizes, strip, t, begin, end, first, CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr
):  # fmt: skip
    """Those that a strip meets on wavefront t, from number ``first`` on; the samples of a point are neighbours."""
    o_e = first + tl.arange(0, CUT.M)
    live = o_e < (end - begin) * strip.samples
    o_sample = strip.first_sample + o_e % strip.samples
    o_rank = begin + o_e // strip.samples
    x = coordinates(p_order, o_rank, live, t, strip.first_row, strip.reach, strip.extents, CELL.ndim)
    own = extents_of(p_sizes, o_sample, live, strip.extents, CELL.ndim, GIVEN.ragged)
    inside = within(x, own, live, CELL.ndim)
    o_at = lattice_index(x, own, strip.extents, strip.backward_axes, CELL.ndim)
    points = strip.extents[0] * strip.extents[1] * strip.extents[2]
    o_row = (o_sample.to(tl.int64) * points + o_at) * strip.directions + strip.i_direction
    return Points(live, inside, x, own, o_at, o_row, strip.i_direction * strip.batch + o_sample)


@triton.jit
def step_along(strip, K: tl.constexpr):
    """How far the row of a point moves by one step forward along axis K, as the direction sees it."""
    stride = strides_of(strip.extents)[K]
    return tl.where(((strip.backward_axes >> K) & 1) != 0, -stride, stride) * strip.directions


@triton.jit
def face_row(o_at, o_chain, extents, NDIM: tl.constexpr, K: tl.constexpr):
    """Row of packed faces (D, N, all face points, ...) where axis K meets the point ``o_at`` of the lattice."""
    stride = strides_of(extents)[K]
    points = extents[0] * extents[1] * extents[2]
    start = 0
    total = 0
    for k in tl.static_range(NDIM):
        if k < K:
            start += points // extents[k]
        total += points // extents[k]
    o_on_face = o_at // (stride * extents[K]) * stride + o_at % stride
    return o_chain.to(tl.int64) * total + start + o_on_face
