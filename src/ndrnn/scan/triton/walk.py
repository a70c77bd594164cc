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

import triton
import triton.language as tl

from . import direct

COUNTER_STRIDE = tl.constexpr(32)  # a line of the cache for every counter


@triton.jit
def draw(p_counters, SLICES: tl.constexpr):
    """What the next program is to do: its slice of the units, its part of the lattice, and that part's counter."""
    ticket = tl.atomic_add(p_counters, 1, sem="relaxed", scope="gpu")
    return ticket % SLICES, ticket // SLICES, p_counters + (1 + ticket // SLICES) * COUNTER_STRIDE


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
def step_along(extents, backward_axes, K: tl.constexpr):
    """How far the row-major index moves by one step forward along axis K, as the direction sees it."""
    stride = strides_of(extents)[K]
    return tl.where(((backward_axes >> K) & 1) != 0, -stride, stride)


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


@triton.jit
def before(
    o_row, o_at, o_chain, extents, backward_axes, directions, NDIM: tl.constexpr, K: tl.constexpr, ENTRY: tl.constexpr
):  # fmt: skip
    """Where the predecessors along axis K have their rows: in the lattice, and on the face where they would enter."""
    o_face = o_row
    if ENTRY:
        o_face = face_row(o_at, o_chain, extents, NDIM, K)
    return o_row - step_along(extents, backward_axes, K) * directions, o_face


@triton.jit
def high_bits(b_tile):
    """Float32 numbers rounded to the bits of tf32."""
    return ((b_tile.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def low_bits(b_tile, b_high):
    """What these leave out; where they are infinite, nothing."""
    return tl.where(tl.abs(b_high) < float("inf"), b_tile - b_high, 0.0)


@triton.jit
def columns(first_unit, part, BU: tl.constexpr, STACKED: tl.constexpr):
    """The units of a tile of weights by column, and where their bits begin: if stacked, the high before the low ones."""
    if STACKED:
        o_column = tl.arange(0, 2 * BU)
        return first_unit + o_column % BU, o_column // BU * part
    else:
        return first_unit + tl.arange(0, BU), tl.arange(0, BU) * 0


@triton.jit
def left_operand(b_tile, STACKED: tl.constexpr):
    """The left operand of :func:`multiply`: if stacked, the high bits above the low ones, (2 * rows, columns)."""
    if STACKED:
        b_high = high_bits(b_tile)
        b_both = tl.join(b_high, low_bits(b_tile, b_high)).permute(2, 0, 1)
        return b_both.reshape(2 * b_tile.shape[0], b_tile.shape[1])
    else:
        return b_tile


@triton.jit
def new_sums(b_start, STACKED: tl.constexpr):
    """Sums for :func:`multiply` to add to: from ``b_start`` on, or if stacked from zero, (2 * rows, 2 * columns)."""
    if STACKED:
        return tl.zeros((2 * b_start.shape[0], 2 * b_start.shape[1]), b_start.dtype)
    else:
        return b_start


@triton.jit
def summed(b_sums, b_start, STACKED: tl.constexpr):
    """``b_start`` and all products."""
    if STACKED:
        b_of_rows = tl.sum(b_sums.reshape(2, b_start.shape[0], 2 * b_start.shape[1]), 0)
        return b_start + tl.sum(b_of_rows.reshape(b_start.shape[0], 2, b_start.shape[1]), 1)
    else:
        return b_sums


@triton.jit
def multiply(b_left, b_right, b_sums, PRECISION: tl.constexpr, STACKED: tl.constexpr, ACC: tl.constexpr):
    """``b_sums`` and the product of two operands.

    Tensor cores multiply float32 numbers as tf32; float32 to rounding takes the products of the bits that tf32 leaves
    out as well ("tf32x3"). Weights that stay in shared memory are stacked, their high bits beside their low ones, and
    so are the left operands; then one product gives all. Each tile of weights is named just once that way: what is
    used twice, the compiler would carry in registers.
    """
    if STACKED:
        return tl.dot(b_left, b_right, b_sums, input_precision="tf32", out_dtype=ACC)
    elif PRECISION == "widened":  # the interpreter takes the bits of bfloat16 operands for integers
        return tl.dot(b_left.to(ACC), b_right.to(ACC), b_sums, input_precision="ieee", out_dtype=ACC)
    else:
        return tl.dot(b_left, b_right, b_sums, input_precision=PRECISION, out_dtype=ACC)
