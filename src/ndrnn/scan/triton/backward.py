# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The way back: from the far corner, gradients of all pre-activations in one launch."""

import triton
import triton.language as tl

from . import direct, gates, walk
from .forward import GEOMETRY, load_before


@triton.jit
def load_weights(
    p_weights, o_out, outs, first_unit, part, HIDDEN: tl.constexpr, BU: tl.constexpr, STACKED: tl.constexpr
):  # fmt: skip
    """A tile (out, in) of the first ``outs`` rows of the matrices of all gates, one below the other."""
    o_in, o_part = walk.columns(first_unit, part, BU, STACKED)
    mask = (o_out[:, None] < outs) & (o_in[None, :] < HIDDEN)
    return tl.load(p_weights + o_out[:, None] * HIDDEN + (o_part + o_in)[None, :], mask=mask, other=0)


@triton.jit
def load_deltas(p_delta, o_after, o_out, following, outs, WIDTH: tl.constexpr):
    """A tile (points, outs) of the gradients of the successors' pre-activations."""
    mask = following[:, None] & (o_out < outs)[None, :]
    return tl.load(p_delta + o_after[:, None] * WIDTH + o_out[None, :], mask=mask, other=0)


@triton.jit
def load_kept(
    p_gates, p_parts, o_parts, mask, HIDDEN: tl.constexpr, GATES: tl.constexpr, LANES: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """What the forward pass kept of a tile, by lane."""
    kept = ()
    for lane in tl.static_range(LANES):
        if lane < GATES:
            b_k = direct.load(p_gates + lane * HIDDEN, mask, HIDDEN)
        else:
            b_k = direct.load(p_parts + o_parts + (lane - GATES) * HIDDEN, mask, HIDDEN)
        kept = kept + (b_k.to(ACC),)
    return kept


@triton.jit(do_not_specialize=GEOMETRY)
def backward_kernel(
    p_gates, p_parts, p_y, p_state,  # as the forward pass left them
    p_h0, p_s0,  # (D, N, F, H)
    p_dy,  # (N, P, D, H)
    p_dhn, p_dsn,  # (D, N, F, H)
    p_delta,  # (N, P, D, G*H): gradients of the pre-activations
    p_dparts,  # (N, P, D, n*H): likewise of the GRU's parts of the candidate
    p_carry,  # (n, N, P, D, H): what goes straight into the state of the predecessor along each axis
    p_hh,  # (D, n, G*H, H), as in the forward kernel
    p_extra,  # (D, ...)
    p_sizes,  # (N, n)
    p_order, p_counters,  # as in the forward kernel
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips,
    CELL: tl.constexpr, NDIM: tl.constexpr, HIDDEN: tl.constexpr, GATES: tl.constexpr, LANES: tl.constexpr,
    MEMORY: tl.constexpr, STATES: tl.constexpr, SPLIT: tl.constexpr, FEEDS: tl.constexpr, PEEPHOLES: tl.constexpr,
    ENTRY: tl.constexpr, EXIT: tl.constexpr, RAGGED: tl.constexpr, RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr, LIMITS: tl.constexpr, M: tl.constexpr, BU: tl.constexpr, BK: tl.constexpr,
    SPAN: tl.constexpr, SLICES: tl.constexpr,
):  # fmt: skip
    # Activations are read ahead of the wait, which hides how long they take; of large tiles they would crowd the
    # registers all through the products, and come after these.
    EARLY: tl.constexpr = M * BU * LANES <= 64 * 32 * 5
    OUTS: tl.constexpr = (
        GATES - 1 if SPLIT else GATES
    ) * HIDDEN  # rows of weights whose products all axes share
    STACKED: tl.constexpr = RESIDENT and PRECISION == "tf32x3"
    CHUNKS: tl.constexpr = (OUTS + BK - 1) // BK
    extents = (extent0, extent1, extent2)
    points = extent0 * extent1 * extent2
    reach = extent1 + extent2 - 2
    i_slice, part, p_own = walk.draw(p_counters, SLICES)
    i_direction = part % directions
    i_group = part // directions % groups
    i_strip = strips - 1 - part // directions // groups
    p_after = p_own - groups * directions * walk.COUNTER_STRIDE
    backward_axes = backward_axes >> (i_direction * NDIM)
    first_row = i_strip * rows
    height = tl.minimum(rows, extent0 - first_row)
    first_sample = i_group * group
    samples = tl.minimum(group, batch - first_sample)
    carry_size = batch.to(tl.int64) * points * directions * HIDDEN
    o_weights = i_direction.to(tl.int64) * (NDIM * GATES * HIDDEN * HIDDEN)
    p_hh += o_weights
    if FEEDS:
        p_extra += o_weights
    elif PEEPHOLES:
        p_extra += i_direction * ((NDIM + 2) * HIDDEN)

    first_unit = i_slice * SPAN
    part_size = directions * (NDIM * GATES * HIDDEN * HIDDEN)
    resident = ()
    if RESIDENT:
        for k in tl.static_range(NDIM):
            for chunk in tl.static_range(CHUNKS):
                resident = resident + (
                    load_weights(
                        p_hh + k * GATES * HIDDEN * HIDDEN, chunk * BK + tl.arange(0, BK), OUTS, first_unit, part_size,
                        HIDDEN, BU, STACKED,
                    ),
                )  # fmt: skip

    seen = 0
    seen_own = 0
    done = 0
    while done < height + reach:
        t = height + reach - 1 - done
        begin, end = walk.wavefront_range(p_order, t, height, reach, NDIM)
        needed = walk.needed_after(t, i_strip, strips, rows, extent0, reach) * SLICES
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
                o_p = o_row[:, None] * (NDIM * HIDDEN) + o_unit[None, :]
                b_h = direct.load(p_y + o_s, mask, HIDDEN).to(ACC)
                b_dh = direct.load(p_dy + o_s, mask, HIDDEN).to(ACC)
                b_s = tl.zeros((M, BU), ACC)
                b_ds = tl.zeros((M, BU), ACC)
                kept = ()
                if STATES:
                    b_s = direct.load(p_state + o_s, mask, HIDDEN).to(ACC)
                    if EARLY:
                        kept = load_kept(p_gates + o_g, p_parts, o_p, mask, HIDDEN, GATES, LANES, ACC)
                states = ()
                for k in tl.static_range(NDIM):
                    o_before, o_face = walk.before(
                        o_row, o_at, o_chain, extents, backward_axes, directions, NDIM, k, ENTRY or EXIT
                    )
                    if STATES:
                        b_before = load_before(
                            p_state, p_s0, o_before, o_face, o_unit, inside & (x[k] > 0), inside & (x[k] == 0), units,
                            HIDDEN, ENTRY, True,
                        )  # fmt: skip
                        states = states + (b_before.to(ACC),)
                    if EXIT:
                        leaving = mask & (x[k] == own[k] - 1)[:, None]
                        o_f = o_face[:, None] * HIDDEN + o_unit[None, :]
                        b_dh += direct.load(p_dhn + o_f, leaving, HIDDEN).to(ACC)
                        if MEMORY:
                            b_ds += direct.load(p_dsn + o_f, leaving, HIDDEN).to(ACC)
                seen = walk.wait_for(p_after, seen, needed)
                if SLICES > 1:
                    seen_own = walk.wait_for(p_own, seen_own, done * SLICES)
                b_carried = tl.zeros((M, BU), ACC)
                # what comes from outside is added last: it is not limited
                b_zero = tl.zeros((M, BU), ACC)
                b_products = walk.new_sums(b_zero, STACKED)
                b_into_memory = walk.new_sums(b_zero, STACKED)
                for k in tl.static_range(NDIM):
                    following = inside & (x[k] + 1 < own[k])
                    o_after = o_row + walk.step_along(extents, backward_axes, k) * directions
                    if STATES:
                        p_c = p_carry + k * carry_size + o_after[:, None] * HIDDEN + o_unit[None, :]
                        b_carried += direct.load(p_c, following[:, None] & units[None, :], HIDDEN)
                    o_w = k * GATES * HIDDEN * HIDDEN
                    if RESIDENT:
                        deltas = ()
                        if M <= 32:  # all loads before all products
                            for chunk in tl.static_range(CHUNKS):
                                o_out = chunk * BK + tl.arange(0, BK)
                                b_d = load_deltas(p_delta, o_after, o_out, following, OUTS, GATES * HIDDEN)
                                deltas = deltas + (b_d,)
                        for chunk in tl.static_range(CHUNKS):
                            if M <= 32:
                                b_d = deltas[chunk]
                            else:
                                o_out = chunk * BK + tl.arange(0, BK)
                                b_d = load_deltas(p_delta, o_after, o_out, following, OUTS, GATES * HIDDEN)
                            b_d = walk.left_operand(b_d, STACKED)
                            b_w = resident[k * CHUNKS + chunk]
                            b_products = walk.multiply(b_d, b_w, b_products, PRECISION, STACKED, ACC)
                    else:
                        for i in range(0, OUTS, BK):
                            o_out = i + tl.arange(0, BK)
                            b_d = load_deltas(p_delta, o_after, o_out, following, OUTS, GATES * HIDDEN)
                            b_d = walk.left_operand(b_d, STACKED)
                            b_w = load_weights(
                                p_hh + o_w, o_out, OUTS, first_unit + u, part_size, HIDDEN, BU, STACKED
                            )
                            b_products = walk.multiply(b_d, b_w, b_products, PRECISION, STACKED, ACC)
                            if FEEDS:
                                b_w = load_weights(
                                    p_extra + o_w, o_out, OUTS, first_unit + u, part_size, HIDDEN, BU, STACKED
                                )
                                b_into_memory = walk.multiply(
                                    b_d, b_w, b_into_memory, PRECISION, STACKED, ACC
                                )
                    if SPLIT:
                        for i in range(0, HIDDEN, BK):
                            o_out = i + tl.arange(0, BK)
                            b_d = load_deltas(
                                p_dparts + k * HIDDEN, o_after, o_out, following, HIDDEN, NDIM * HIDDEN
                            )
                            b_w = load_weights(
                                p_hh + o_w + OUTS * HIDDEN, o_out, HIDDEN, first_unit + u, part_size, HIDDEN, BU, STACKED
                            )  # fmt: skip
                            b_d = walk.left_operand(b_d, STACKED)
                            b_products = walk.multiply(b_d, b_w, b_products, PRECISION, STACKED, ACC)
                b_returned = walk.summed(b_products, b_zero, STACKED)
                b_carried += walk.summed(b_into_memory, b_zero, STACKED)
                if MEMORY:
                    b_ds += gates.limited(b_carried, LIMITS[1])
                elif STATES:  # the output is the state
                    b_returned += b_carried
                b_dh += gates.limited(b_returned, LIMITS[1])
                if STATES and not EARLY:
                    kept = load_kept(p_gates + o_g, p_parts, o_p, mask, HIDDEN, GATES, LANES, ACC)
                extra = ()
                if PEEPHOLES:
                    for row in tl.static_range(NDIM + 2):
                        b_p = tl.load(p_extra + row * HIDDEN + o_unit, mask=units, other=0).to(ACC)
                        extra = extra + (b_p[None, :],)
                deltas, carries = gates.backward(
                    b_dh, b_ds, kept, b_h, b_s, states, extra, CELL, NDIM, LIMITS
                )
                alive = live[:, None] & units[None, :]
                for lane in tl.static_range(LANES):
                    # zero outside a ragged sample: the products over the lattice take in every point
                    b_delta = tl.where(mask, deltas[lane], 0.0)
                    if lane < GATES:
                        direct.store(p_delta + o_g + lane * HIDDEN, b_delta, alive, HIDDEN)
                    else:
                        direct.store(p_dparts + o_p + (lane - GATES) * HIDDEN, b_delta, alive, HIDDEN)
                for k in tl.static_range(len(carries)):
                    direct.store(p_carry + k * carry_size + o_s, carries[k], mask, HIDDEN)
            first += M
        done += 1
        direct.release(p_own)
