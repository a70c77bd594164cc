# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""How programs walk a lattice: strips of the first axis, each swept wavefront by wavefront.

A program owns a strip (some rows of the first axis, all points of the other axes) for one direction and a group of
samples. It needs the last row of the strip before it and nothing else. Programs draw their strip from a counter, so
that a strip only ever waits for one that another program has already taken: the grid may be of any size, run in any
order, and need not be resident at once. Under the interpreter, where programs run one after the other, nothing ever
waits.

Coordinates are those the direction sees, from its corner: (row, and the other axes sorted by their distance from the
corner). All points of a strip on wavefront t have row + distance = t, so they are a contiguous range of that order.

Memory order. Inside a program: all threads store, ``debug_barrier``, all threads load. Between programs: all threads
store, ``debug_barrier``, one thread releases the counter at the scope of the GPU; there one thread acquires it, and
its value reaches the others through a barrier. Loads of states are never moved up by the software pipeliner, since
the sweep is a ``while`` loop, which it leaves alone.
"""

import triton
import triton.language as tl

COUNTER_STRIDE = tl.constexpr(32)  # a line of the cache for every counter


@triton.jit
def draw(p_counters):
    """The next ticket, and the counter with which its owner reports progress."""
    ticket = tl.atomic_add(p_counters, 1, sem="relaxed", scope="gpu")
    return ticket, p_counters + (1 + ticket) * COUNTER_STRIDE


@triton.jit
def wait_for(p_progress, seen, needed):
    """Waits until at least ``needed`` wavefronts are reported; ``seen`` is the progress known so far."""
    while seen < needed:
        seen = tl.atomic_add(p_progress, 0, sem="acquire", scope="gpu")
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
def report(p_progress, wavefronts):
    """All that this program has stored so far becomes visible to whoever waits for this progress."""
    tl.debug_barrier()
    tl.atomic_xchg(p_progress, wavefronts, sem="release", scope="gpu")


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
def multiply(b_left, b_right, b_sum, PRECISION: tl.constexpr, ACC: tl.constexpr):
    """``b_sum`` and the product of two tiles, summed in the precision of the states."""
    if PRECISION == "widened":  # the interpreter takes the bits of bfloat16 operands for integers
        return tl.dot(b_left.to(ACC), b_right.to(ACC), b_sum, input_precision="ieee", out_dtype=ACC)
    else:
        return tl.dot(b_left, b_right, b_sum, input_precision=PRECISION, out_dtype=ACC)
