# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The way back: from the far corner, gradients of all pre-activations in one launch."""

import triton
import triton.language as tl

from . import gates, walk
from .forward import GEOMETRY, load_before


@triton.jit
def load_weights(p_weights, o_out, o_in, HIDDEN: tl.constexpr):
    """A tile (out, in) of a matrix (out, in)."""
    mask = (o_out[:, None] < HIDDEN) & (o_in[None, :] < HIDDEN)
    return tl.load(p_weights + o_out[:, None] * HIDDEN + o_in[None, :], mask=mask, other=0)


@triton.jit
def load_kept(
    p_gates, p_parts, o_parts, mask, HIDDEN: tl.constexpr, GATES: tl.constexpr, LANES: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """What the forward pass kept of a tile, by lane."""
    kept = ()
    for lane in tl.static_range(LANES):
        if lane < GATES:
            b_k = tl.load(p_gates + lane * HIDDEN, mask=mask, other=0)
        else:
            b_k = tl.load(p_parts + o_parts + (lane - GATES) * HIDDEN, mask=mask, other=0)
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
    p_hh,  # (D, n, G*H, H)
    p_extra,  # (D, ...)
    p_sizes,  # (N, n)
    p_order, p_counters,  # as in the forward kernel
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips,
    CELL: tl.constexpr, NDIM: tl.constexpr, HIDDEN: tl.constexpr, GATES: tl.constexpr, LANES: tl.constexpr,
    MEMORY: tl.constexpr, STATES: tl.constexpr, SPLIT: tl.constexpr, FEEDS: tl.constexpr, PEEPHOLES: tl.constexpr,
    ENTRY: tl.constexpr, EXIT: tl.constexpr, RAGGED: tl.constexpr, RESIDENT: tl.constexpr,
    PRECISION: tl.constexpr, ACC: tl.constexpr, M: tl.constexpr, BU: tl.constexpr, BK: tl.constexpr,
):  # fmt: skip
    # Activations are read ahead of the wait, which hides how long they take; of large tiles they would crowd the
    # registers all through the products, and come after these.
    EARLY: tl.constexpr = M * BU * LANES <= 64 * 32 * 5
    extents = (extent0, extent1, extent2)
    points = extent0 * extent1 * extent2
    reach = extent1 + extent2 - 2
    ticket, p_own = walk.draw(p_counters)
    i_direction = ticket % directions
    i_group = ticket // directions % groups
    i_strip = strips - 1 - ticket // directions // groups
    p_after = p_own - groups * directions * walk.COUNTER_STRIDE
    backward_axes = backward_axes >> (i_direction * NDIM)
    first_row = i_strip * rows
    height = tl.minimum(rows, extent0 - first_row)
    first_sample = i_group * group
    samples = tl.minimum(group, batch - first_sample)
    carry_size = batch.to(tl.int64) * points * directions * HIDDEN
    p_hh += i_direction.to(tl.int64) * (NDIM * GATES * HIDDEN * HIDDEN)
    if FEEDS:
        p_extra += i_direction.to(tl.int64) * (NDIM * GATES * HIDDEN * HIDDEN)
    elif PEEPHOLES:
        p_extra += i_direction * ((NDIM + 2) * HIDDEN)

    resident = ()
    if RESIDENT:
        o_all = tl.arange(0, BU)
        for k in tl.static_range(NDIM):
            for gate in tl.static_range(GATES):
                p_w = p_hh + (k * GATES + gate) * HIDDEN * HIDDEN
                resident = resident + (load_weights(p_w, o_all, o_all, HIDDEN),)

    seen = 0
    done = 0
    while done < height + reach:
        t = height + reach - 1 - done
        begin, end = walk.wavefront_range(p_order, t, height, reach, NDIM)
        needed = walk.needed_after(t, i_strip, strips, rows, extent0, reach)
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
            for u in range(0, HIDDEN, BU):
                o_unit = u + tl.arange(0, BU)
                units = o_unit < HIDDEN
                mask = inside[:, None] & units[None, :]
                o_s = o_row[:, None] * HIDDEN + o_unit[None, :]
                o_g = o_row[:, None] * (GATES * HIDDEN) + o_unit[None, :]
                o_p = o_row[:, None] * (NDIM * HIDDEN) + o_unit[None, :]
                b_h = tl.load(p_y + o_s, mask=mask, other=0).to(ACC)
                b_dh = tl.load(p_dy + o_s, mask=mask, other=0).to(ACC)
                b_s = tl.zeros((M, BU), ACC)
                b_ds = tl.zeros((M, BU), ACC)
                kept = ()
                if STATES:
                    b_s = tl.load(p_state + o_s, mask=mask, other=0).to(ACC)
                    if EARLY:
                        kept = load_kept(p_gates + o_g, p_parts, o_p, mask, HIDDEN, GATES, LANES, ACC)
                states = ()
                for k in tl.static_range(NDIM):
                    o_face = o_row
                    if ENTRY or EXIT:
                        o_face = walk.face_row(o_at, o_chain, extents, NDIM, k)
                    if STATES:
                        inner = inside & (x[k] > 0)
                        entering = inside & (x[k] == 0)
                        o_before = o_row - walk.step_along(extents, backward_axes, k) * directions
                        b_before = load_before(
                            p_state,
                            p_s0,
                            o_before,
                            o_face,
                            o_unit,
                            inner,
                            entering,
                            units,
                            HIDDEN,
                            ENTRY,
                            ACC,
                        )
                        states = states + (b_before,)
                    if EXIT:
                        leaving = mask & (x[k] == own[k] - 1)[:, None]
                        o_f = o_face[:, None] * HIDDEN + o_unit[None, :]
                        b_dh += tl.load(p_dhn + o_f, mask=leaving, other=0).to(ACC)
                        if MEMORY:
                            b_ds += tl.load(p_dsn + o_f, mask=leaving, other=0).to(ACC)
                seen = walk.wait_for(p_after, seen, needed)
                for k in tl.static_range(NDIM):
                    following = inside & (x[k] + 1 < own[k])
                    o_after = o_row + walk.step_along(extents, backward_axes, k) * directions
                    if STATES:
                        p_c = p_carry + k * carry_size + o_after[:, None] * HIDDEN + o_unit[None, :]
                        b_ds += tl.load(p_c, mask=following[:, None] & units[None, :], other=0)
                    for lane in tl.static_range(LANES):
                        if gates.enters(lane, k, GATES, SPLIT):
                            o_w = gates.matrix_of(lane, k, GATES) * HIDDEN * HIDDEN
                            if lane < GATES:
                                p_d = p_delta + o_after * (GATES * HIDDEN) + lane * HIDDEN
                            else:
                                p_d = p_dparts + o_after * (NDIM * HIDDEN) + (lane - GATES) * HIDDEN
                            for i in range(0, HIDDEN, BK):
                                o_out = i + tl.arange(0, BK)
                                outs = following[:, None] & (o_out < HIDDEN)[None, :]
                                b_d = tl.load(p_d[:, None] + o_out[None, :], mask=outs, other=0)
                                if RESIDENT:
                                    b_w = resident[gates.matrix_of(lane, k, GATES)]
                                else:
                                    b_w = load_weights(p_hh + o_w, o_out, o_unit, HIDDEN)
                                b_dh = walk.multiply(b_d, b_w, b_dh, PRECISION, ACC)
                                if FEEDS:
                                    b_w = load_weights(p_extra + o_w, o_out, o_unit, HIDDEN)
                                    b_ds = walk.multiply(b_d, b_w, b_ds, PRECISION, ACC)
                if STATES and not EARLY:
                    kept = load_kept(p_gates + o_g, p_parts, o_p, mask, HIDDEN, GATES, LANES, ACC)
                extra = ()
                if PEEPHOLES:
                    for row in tl.static_range(NDIM + 2):
                        b_p = tl.load(p_extra + row * HIDDEN + o_unit, mask=units, other=0).to(ACC)
                        extra = extra + (b_p[None, :],)
                deltas, carries = gates.backward(b_dh, b_ds, kept, b_h, b_s, states, extra, CELL, NDIM)
                alive = live[:, None] & units[None, :]
                for lane in tl.static_range(LANES):
                    # zero outside a ragged sample: the products over the lattice take in every point
                    b_delta = tl.where(mask, deltas[lane], 0.0).to(p_delta.dtype.element_ty)
                    if lane < GATES:
                        tl.store(p_delta + o_g + lane * HIDDEN, b_delta, mask=alive)
                    else:
                        tl.store(p_dparts + o_p + (lane - GATES) * HIDDEN, b_delta, mask=alive)
                for k in tl.static_range(len(carries)):
                    tl.store(p_carry + k * carry_size + o_s, carries[k], mask=mask)
            first += M
        done += 1
        walk.report(p_own, done)
