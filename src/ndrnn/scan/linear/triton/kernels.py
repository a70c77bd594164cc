# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The linear scan forward and back, strip by strip and wavefront by wavefront, see :mod:`ndrnn.scan.triton.walk`.

Units do not meet, so that every block of them is a chain of strips of its own: a program draws a block, a direction, a
group of samples and a strip, in this order of what varies fastest.
"""

import triton
import triton.language as tl

from ...triton import direct, walk
from ...triton.forward import GEOMETRY, load_before

_GEOMETRY = (*GEOMETRY, "blocks")


@triton.jit
def load_shares(
    p_f, o_row, o_unit, mask, inside, whole, K: tl.constexpr, HIDDEN: tl.constexpr, PER_UNIT: tl.constexpr,
    ACC: tl.constexpr,
):  # fmt: skip
    """The shares (rows, units) of the predecessors along axis K."""
    if PER_UNIT:
        p = p_f + K * whole * HIDDEN + o_row[:, None] * HIDDEN + o_unit[None, :]
        return tl.load(p, mask=mask, other=0).to(ACC)
    else:
        b_one = tl.load(p_f + K * whole + o_row, mask=inside, other=0).to(ACC)
        return tl.where(mask, b_one[:, None], 0.0)


@triton.jit(do_not_specialize=_GEOMETRY)
def forward_kernel(
    p_z,  # (N, P, D, H)
    p_f,  # (n, N, P, D, H), or without H
    p_c0,  # (D, N, F, H)
    p_c,  # (N, P, D, H)
    p_state,  # (N, P, D, H): c without loss of digits; may be p_c
    p_cn,  # (D, N, F, H)
    p_sizes,  # (N, n)
    p_order, p_counters,
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips, blocks,
    NDIM: tl.constexpr, HIDDEN: tl.constexpr, PER_UNIT: tl.constexpr, APART: tl.constexpr, ENTRY: tl.constexpr,
    EXIT: tl.constexpr, RAGGED: tl.constexpr, ACC: tl.constexpr, M: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    extents = (extent0, extent1, extent2)
    points = extent0 * extent1 * extent2
    whole = batch.to(tl.int64) * points * directions
    reach = extent1 + extent2 - 2
    _, part, p_own = walk.draw(p_counters, 1)
    i_direction = part // blocks % directions
    i_group = part // blocks // directions % groups
    i_strip = part // blocks // directions // groups
    p_before = p_own - blocks * groups * directions * walk.COUNTER_STRIDE
    backward_axes = backward_axes >> (i_direction * NDIM)
    first_row = i_strip * rows
    height = tl.minimum(rows, extent0 - first_row)
    first_sample = i_group * group
    samples = tl.minimum(group, batch - first_sample)
    o_unit = part % blocks * BU + tl.arange(0, BU)
    units = o_unit < HIDDEN
    seen = 0
    t = 0
    while t < height + reach:
        begin, end = walk.wavefront_range(p_order, t, height, reach, NDIM)
        needed = walk.needed_before(t, i_strip, rows, reach)
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
            mask = inside[:, None] & units[None, :]
            o_s = o_row[:, None] * HIDDEN + o_unit[None, :]
            b_c = tl.load(p_z + o_s, mask=mask, other=0).to(ACC)
            shares = ()
            for k in tl.static_range(NDIM):
                shares = shares + (
                    load_shares(p_f, o_row, o_unit, mask, inside, whole, k, HIDDEN, PER_UNIT, ACC),
                )
            seen = walk.wait_for(p_before, seen, needed)
            for k in tl.static_range(NDIM):
                o_before, o_face = walk.before(
                    o_row, o_at, o_chain, extents, backward_axes, directions, NDIM, k, ENTRY
                )
                b_before = load_before(
                    p_state, p_c0, o_before, o_face, o_unit, inside & (x[k] > 0), inside & (x[k] == 0), units,
                    HIDDEN, ENTRY, True,
                )  # fmt: skip
                b_c += shares[k] * b_before.to(ACC)
            # outside a ragged sample it is 0
            b_c = tl.where(mask, b_c, 0.0)
            alive = live[:, None] & units[None, :]
            direct.store(p_c + o_s, b_c, alive, HIDDEN)
            if APART:
                direct.store(p_state + o_s, b_c, alive, HIDDEN)
            if EXIT:
                for k in tl.static_range(NDIM):
                    leaving = mask & (x[k] == own[k] - 1)[:, None]
                    o_f = walk.face_row(o_at, o_chain, extents, NDIM, k)[:, None] * HIDDEN + o_unit[None, :]
                    direct.store(p_cn + o_f, b_c, leaving, HIDDEN)
            first += M
        t += 1
        direct.release(p_own)


@triton.jit(do_not_specialize=_GEOMETRY)
def backward_kernel(
    p_f, p_c0, p_state,  # as in the forward kernel
    p_dc,  # (N, P, D, H)
    p_dcn,  # (D, N, F, H)
    p_dz,  # (N, P, D, H): gradients without loss of digits
    p_df,  # (n, N, P, D, H)
    p_dc0,  # (D, N, F, H)
    p_sizes, p_order, p_counters,
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips, blocks,
    NDIM: tl.constexpr, HIDDEN: tl.constexpr, PER_UNIT: tl.constexpr, ENTRY: tl.constexpr, EXIT: tl.constexpr,
    NEEDS_F: tl.constexpr, NEEDS_STATE: tl.constexpr, RAGGED: tl.constexpr, ACC: tl.constexpr,
    M: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    extents = (extent0, extent1, extent2)
    points = extent0 * extent1 * extent2
    whole = batch.to(tl.int64) * points * directions
    reach = extent1 + extent2 - 2
    _, part, p_own = walk.draw(p_counters, 1)
    i_direction = part // blocks % directions
    i_group = part // blocks // directions % groups
    i_strip = strips - 1 - part // blocks // directions // groups
    p_after = p_own - blocks * groups * directions * walk.COUNTER_STRIDE
    backward_axes = backward_axes >> (i_direction * NDIM)
    first_row = i_strip * rows
    height = tl.minimum(rows, extent0 - first_row)
    first_sample = i_group * group
    samples = tl.minimum(group, batch - first_sample)
    o_unit = part % blocks * BU + tl.arange(0, BU)
    units = o_unit < HIDDEN
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
            mask = inside[:, None] & units[None, :]
            o_s = o_row[:, None] * HIDDEN + o_unit[None, :]
            b_e = tl.load(p_dc + o_s, mask=mask, other=0).to(ACC)
            seen = walk.wait_for(p_after, seen, needed)
            for k in tl.static_range(NDIM):
                o_after = o_row + walk.step_along(extents, backward_axes, k) * directions
                follows = inside & (x[k] < own[k] - 1)
                within = follows[:, None] & units[None, :]
                b_f = load_shares(p_f, o_after, o_unit, within, follows, whole, k, HIDDEN, PER_UNIT, ACC)
                b_after = direct.load(p_dz + o_after[:, None] * HIDDEN + o_unit[None, :], within, HIDDEN)
                b_e += b_f * b_after.to(ACC)
                if EXIT:
                    leaving = mask & (x[k] == own[k] - 1)[:, None]
                    o_f = walk.face_row(o_at, o_chain, extents, NDIM, k)[:, None] * HIDDEN + o_unit[None, :]
                    b_e += tl.load(p_dcn + o_f, mask=leaving, other=0).to(ACC)
            b_e = tl.where(mask, b_e, 0.0)
            alive = live[:, None] & units[None, :]
            direct.store(p_dz + o_s, b_e, alive, HIDDEN)
            for k in tl.static_range(NDIM):
                if NEEDS_F:
                    o_before, o_face = walk.before(
                        o_row, o_at, o_chain, extents, backward_axes, directions, NDIM, k, ENTRY
                    )
                    b_before = load_before(
                        p_state, p_c0, o_before, o_face, o_unit, inside & (x[k] > 0), inside & (x[k] == 0), units,
                        HIDDEN, ENTRY, False,
                    )  # fmt: skip
                    tl.store(
                        p_df + k * whole * HIDDEN + o_s,
                        (b_e * b_before.to(ACC)).to(p_df.dtype.element_ty),
                        mask=alive,
                    )
                if NEEDS_STATE:
                    entering = inside & (x[k] == 0)
                    met = entering[:, None] & units[None, :]
                    b_f = load_shares(p_f, o_row, o_unit, met, entering, whole, k, HIDDEN, PER_UNIT, ACC)
                    o_f = walk.face_row(o_at, o_chain, extents, NDIM, k)[:, None] * HIDDEN + o_unit[None, :]
                    tl.store(p_dc0 + o_f, (b_f * b_e).to(p_dc0.dtype.element_ty), mask=met)
            first += M
        done += 1
        direct.release(p_own)
