# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The scan forward: one launch for all directions, samples and wavefronts."""

import triton
import triton.language as tl

from . import direct, gates, walk

GEOMETRY = (
    "backward_axes", "directions", "batch", "extent0", "extent1", "extent2", "group", "groups", "rows", "strips",
)  # fmt: skip


@triton.jit
def load_before(
    p_states, p_faces, o_before, o_face, o_unit, inner, entering, units,
    HIDDEN: tl.constexpr, ENTRY: tl.constexpr, DIRECT: tl.constexpr,
):  # fmt: skip
    """States (rows, units) of the predecessors along one axis: from the lattice, or from its entry face."""
    mask = inner[:, None] & units[None, :]
    p_s = p_states + o_before[:, None] * HIDDEN + o_unit[None, :]
    b_s = direct.load(p_s, mask, HIDDEN) if DIRECT else tl.load(p_s, mask=mask, other=0)
    if ENTRY:
        mask = entering[:, None] & units[None, :]
        p_f = p_faces + o_face[:, None] * HIDDEN + o_unit[None, :]
        b_f = direct.load(p_f, mask, HIDDEN) if DIRECT else tl.load(p_f, mask=mask, other=0)
        b_s = tl.where(mask, b_f.to(b_s.dtype), b_s)
    return b_s


@triton.jit
def load_weights(
    p_weights, first_unit, o_in, part, HIDDEN: tl.constexpr, BU: tl.constexpr, STACKED: tl.constexpr
):  # fmt: skip
    """A tile (in, out) of a matrix (out, in)."""
    o_out, o_part = walk.columns(first_unit, part, BU, STACKED)
    mask = (o_in[:, None] < HIDDEN) & (o_out[None, :] < HIDDEN)
    return tl.load(p_weights + (o_part + o_out * HIDDEN)[None, :] + o_in[:, None], mask=mask, other=0)


@triton.jit(do_not_specialize=GEOMETRY)
def forward_kernel(
    p_gates,  # (N, P, D, G*H): W x + b; becomes what the backward pass wants if KEEP
    p_parts,  # (N, P, D, n*H): likewise the GRU's parts of the candidate, written only
    p_y,  # (N, P, D, H)
    p_state,  # (N, P, D, H): memories, for the GRU the outputs; may be p_y
    p_h0, p_s0,  # (D, N, F, H)
    p_hn, p_sn,  # (D, N, F, H)
    p_hh,  # (D, n, G*H, H); if stacked (2, D, n, G*H, H), first the high bits
    p_extra,  # (D, ...)
    p_sizes,  # (N, n)
    p_order,  # the axes after the first by wavefront: starts, then row-major indices; only for n = 3
    p_counters,
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips,
    CELL: tl.constexpr, NDIM: tl.constexpr, HIDDEN: tl.constexpr, GATES: tl.constexpr, LANES: tl.constexpr,
    MEMORY: tl.constexpr,  # whether the state is a memory beside the output
    STATES: tl.constexpr,  # whether the predecessors' states enter elementwise
    SPLIT: tl.constexpr,  # whether the last gate's products stay apart, by axis
    FEEDS: tl.constexpr,  # whether the memories enter the products
    PEEPHOLES: tl.constexpr, BIASED: tl.constexpr,  # what p_extra holds otherwise
    APART: tl.constexpr, KEEP: tl.constexpr, ENTRY: tl.constexpr, EXIT: tl.constexpr,
    RAGGED: tl.constexpr, RESIDENT: tl.constexpr, PRECISION: tl.constexpr, ACC: tl.constexpr,
    LIMITS: tl.constexpr,  # where states and gradients saturate
    M: tl.constexpr, BU: tl.constexpr, BK: tl.constexpr,
    SPAN: tl.constexpr,  # units of a slice
    SLICES: tl.constexpr,
):  # fmt: skip
    OPERAND: tl.constexpr = p_hh.dtype.element_ty
    STACKED: tl.constexpr = RESIDENT and PRECISION == "tf32x3"
    extents = (extent0, extent1, extent2)
    points = extent0 * extent1 * extent2
    reach = extent1 + extent2 - 2
    i_slice, part, p_own = walk.draw(p_counters, SLICES)
    i_direction = part % directions
    i_group = part // directions % groups
    i_strip = part // directions // groups
    p_before = p_own - groups * directions * walk.COUNTER_STRIDE
    backward_axes = backward_axes >> (i_direction * NDIM)
    first_row = i_strip * rows
    height = tl.minimum(rows, extent0 - first_row)
    first_sample = i_group * group
    samples = tl.minimum(group, batch - first_sample)
    o_weights = i_direction.to(tl.int64) * (NDIM * GATES * HIDDEN * HIDDEN)
    p_hh += o_weights
    if FEEDS:
        p_extra += o_weights
    elif PEEPHOLES:
        p_extra += i_direction * ((NDIM + 2) * HIDDEN)
    elif BIASED:
        p_extra += i_direction * (NDIM * HIDDEN)

    first_unit = i_slice * SPAN
    part_size = directions * (NDIM * GATES * HIDDEN * HIDDEN)
    resident = ()
    if RESIDENT:
        o_all = tl.arange(0, BK)
        for matrix in tl.static_range(NDIM * GATES):
            p_w = p_hh + matrix * HIDDEN * HIDDEN
            resident = resident + (load_weights(p_w, first_unit, o_all, part_size, HIDDEN, BU, STACKED),)

    seen = 0
    seen_own = 0
    t = 0
    while t < height + reach:
        begin, end = walk.wavefront_range(p_order, t, height, reach, NDIM)
        needed = walk.needed_before(t, i_strip, rows, reach) * SLICES
        first = 0
        while first < (end - begin) * samples:
            o_e = first + tl.arange(0, M)
            live = o_e < (end - begin) * samples
            o_sample = first_sample + o_e % samples
            x = walk.coordinates(p_order, begin + o_e // samples, live, t, first_row, reach, extents, NDIM)
            own = walk.extents_of(p_sizes, o_sample, live, extents, NDIM, RAGGED)
            inside = walk.within(x, own, live, NDIM)
            o_at = walk.lattice_index(x, own, extents, backward_axes, NDIM)
            o_row = (o_sample.to(tl.int64) * points + o_at) * directions + i_direction
            o_chain = i_direction * batch + o_sample
            for u in range(0, SPAN, BU):
                o_unit = first_unit + u + tl.arange(0, BU)
                units = o_unit < HIDDEN
                mask = inside[:, None] & units[None, :]
                o_s = o_row[:, None] * HIDDEN + o_unit[None, :]
                o_g = o_row[:, None] * (GATES * HIDDEN) + o_unit[None, :]
                a = ()
                for lane in tl.static_range(LANES):
                    if lane < GATES:
                        a = a + (direct.load(p_gates + o_g + lane * HIDDEN, mask, HIDDEN).to(ACC),)
                    elif BIASED:
                        b_b = tl.load(p_extra + (lane - GATES) * HIDDEN + o_unit, mask=units, other=0).to(ACC)
                        a = a + (tl.zeros((M, BU), ACC) + b_b[None, :],)
                    else:
                        a = a + (tl.zeros((M, BU), ACC),)
                seen = walk.wait_for(p_before, seen, needed)
                if SLICES > 1:
                    seen_own = walk.wait_for(p_own, seen_own, t * SLICES)
                states = ()
                if STATES:
                    for k in tl.static_range(NDIM):
                        o_before, o_face = walk.before(
                            o_row, o_at, o_chain, extents, backward_axes, directions, NDIM, k, ENTRY
                        )
                        b_s = load_before(
                            p_state, p_s0, o_before, o_face, o_unit, inside & (x[k] > 0), inside & (x[k] == 0), units,
                            HIDDEN, ENTRY, True,
                        )  # fmt: skip
                        states = states + (b_s.to(ACC),)
                products = ()
                for lane in tl.static_range(LANES):
                    products = products + (walk.new_sums(a[lane], STACKED),)
                for i in range(0, HIDDEN, BK):
                    o_in = i + tl.arange(0, BK)
                    # all loads before all products
                    outputs = ()
                    memories = ()
                    for k in tl.static_range(NDIM):
                        o_before, o_face = walk.before(
                            o_row, o_at, o_chain, extents, backward_axes, directions, NDIM, k, ENTRY
                        )
                        b_h = load_before(
                            p_y, p_h0, o_before, o_face, o_in, inside & (x[k] > 0), inside & (x[k] == 0),
                            o_in < HIDDEN, HIDDEN, ENTRY, False,
                        )  # fmt: skip
                        outputs = outputs + (b_h,)
                        if FEEDS:
                            b_c = load_before(
                                p_state, p_s0, o_before, o_face, o_in, inside & (x[k] > 0), inside & (x[k] == 0),
                                o_in < HIDDEN, HIDDEN, ENTRY, False,
                            )  # fmt: skip
                            memories = memories + (b_c.to(OPERAND),)
                    for k in tl.static_range(NDIM):
                        if FEEDS:
                            b_from_memories = walk.left_operand(memories[k], STACKED)
                        b_from_outputs = walk.left_operand(outputs[k], STACKED)
                        sums = ()
                        for lane in tl.static_range(LANES):
                            b_a = products[lane]
                            if gates.enters(lane, k, GATES, SPLIT):
                                o_w = gates.matrix_of(lane, k, GATES) * HIDDEN * HIDDEN
                                if RESIDENT:
                                    b_w = resident[gates.matrix_of(lane, k, GATES)]
                                else:
                                    b_w = load_weights(
                                        p_hh + o_w, first_unit + u, o_in, part_size, HIDDEN, BU, STACKED
                                    )
                                b_a = walk.multiply(b_from_outputs, b_w, b_a, PRECISION, STACKED, ACC)
                                if FEEDS:
                                    b_w = load_weights(
                                        p_extra + o_w, first_unit + u, o_in, part_size, HIDDEN, BU, STACKED
                                    )
                                    b_a = walk.multiply(b_from_memories, b_w, b_a, PRECISION, STACKED, ACC)
                            sums = sums + (b_a,)
                        products = sums
                sums = ()
                for lane in tl.static_range(LANES):
                    sums = sums + (walk.summed(products[lane], a[lane], STACKED),)
                extra = ()
                if PEEPHOLES:
                    for row in tl.static_range(NDIM + 2):
                        b_p = tl.load(p_extra + row * HIDDEN + o_unit, mask=units, other=0).to(ACC)
                        extra = extra + (b_p[None, :],)
                b_h, b_s, kept = gates.forward(sums, states, extra, CELL, NDIM, LIMITS)
                # outside a ragged sample the output is 0, and so are what the products of the way back will meet
                b_h = tl.where(mask, b_h, 0.0)
                b_s = tl.where(mask, b_s, 0.0)
                alive = live[:, None] & units[None, :]
                direct.store(p_y + o_s, b_h, alive, HIDDEN)
                if APART:
                    direct.store(p_state + o_s, b_s, alive, HIDDEN)
                if KEEP:
                    tl.debug_barrier()  # all threads have read what is overwritten now
                    o_p = o_row[:, None] * (NDIM * HIDDEN) + o_unit[None, :]
                    for lane in tl.static_range(len(kept)):
                        if lane < GATES:
                            direct.store(p_gates + o_g + lane * HIDDEN, kept[lane], mask, HIDDEN)
                        else:
                            direct.store(p_parts + o_p + (lane - GATES) * HIDDEN, kept[lane], mask, HIDDEN)
                if EXIT:
                    for k in tl.static_range(NDIM):
                        leaving = mask & (x[k] == own[k] - 1)[:, None]
                        o_f = (
                            walk.face_row(o_at, o_chain, extents, NDIM, k)[:, None] * HIDDEN + o_unit[None, :]
                        )
                        direct.store(p_hn + o_f, b_h, leaving, HIDDEN)
                        if MEMORY:
                            direct.store(p_sn + o_f, b_s, leaving, HIDDEN)
            first += M
        t += 1
        direct.release(p_own)
