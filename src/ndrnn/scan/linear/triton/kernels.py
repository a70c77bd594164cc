# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The linear scan forward and back, strip by strip and wavefront by wavefront, see :mod:`ndrnn.scan.triton.walk`.

Units do not meet, so that every block of them is a chain of strips of its own: a program draws a block, a direction, a
group of samples and a strip, in this order of what varies fastest.
"""

import triton
import triton.language as tl

from ...triton import direct, tiles, walk
from ...triton.forward import GEOMETRY

_GEOMETRY = (*GEOMETRY, "blocks")


@triton.jit
def draw(
    p_counters, extents, backward_axes, directions, batch, group, groups, rows, strips, blocks, FROM_END: tl.constexpr,
    CELL: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """The strip that a program does next, like :func:`walk.draw`, for a block of units that waits for no other."""
    part = tl.atomic_add(p_counters, 1, sem="relaxed", scope="gpu")
    i_direction = part // blocks % directions
    i_group = part // blocks // directions % groups
    number = part // blocks // directions // groups
    p_own = p_counters + (1 + part) * walk.COUNTER_STRIDE
    if FROM_END:
        number = strips - 1 - number
    first_row = number * rows
    first_sample = i_group * group
    return walk.Strip(
        extents,
        extents[1] + extents[2] - 2,
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
        part % blocks * CUT.BU,
        p_own,
        p_own - blocks * groups * directions * walk.COUNTER_STRIDE,
    )


@triton.jit
def load_shares(p_f, o_row, o_unit, mask, inside, CELL: tl.constexpr, MATH: tl.constexpr):
    """The shares (rows, units) of the predecessors along the axis that p_f is of."""
    if CELL.per_unit:
        p_share = tiles.at(tiles.rows(p_f, o_row, CELL.hidden, 1), o_unit)
        return tl.load(p_share, mask=mask, other=0).to(MATH.acc)
    else:
        b_one = tl.load(p_f + o_row, mask=inside, other=0).to(MATH.acc)
        return tl.where(mask, b_one[:, None], 0.0)


@triton.jit
def along_axis(p, strip, K: tl.constexpr, COUNT: tl.constexpr):
    """Where the part of axis K begins in (n, N, P, D, COUNT)."""
    points = strip.extents[0] * strip.extents[1] * strip.extents[2]
    return p + strip.batch.to(tl.int64) * points * strip.directions * (K * COUNT)


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
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,  # see launch.py
):  # fmt: skip
    NDIM: tl.constexpr = CELL.ndim
    strip = draw(
        p_counters, (extent0, extent1, extent2), backward_axes, directions, batch, group, groups, rows, strips,
        blocks, False, CELL, CUT,
    )  # fmt: skip
    states_of = tiles.Field(p_state, p_c0)
    seen = 0
    t = 0
    while t < strip.height + strip.reach:
        begin, end = walk.wavefront_range(p_order, t, strip.height, strip.reach, CELL.ndim)
        needed = walk.needed_before(t, strip.number, strip.rows, strip.reach)
        first = 0
        while first < (end - begin) * strip.samples:
            points = walk.points_of(p_order, p_sizes, strip, t, begin, end, first, CELL, GIVEN, CUT)
            tile = tiles.tile_of(points, strip.first_unit, CELL, CUT)
            p_in = tiles.at(tiles.rows(p_z, points.o_row, CELL.hidden, 1), tile.o_unit)
            b_c = tl.load(p_in, mask=tile.mask, other=0).to(MATH.acc)
            # ahead of the wait, which hides how long they take
            shares = ()
            for k in tl.static_range(NDIM):
                p_share = along_axis(p_f, strip, k, CELL.hidden if CELL.per_unit else 1)
                shares = shares + (
                    load_shares(p_share, points.o_row, tile.o_unit, tile.mask, points.inside, CELL, MATH),
                )
            seen = walk.wait_for(strip.p_neighbour, seen, needed)
            states = tiles.load_states(states_of, strip, points, tile, CELL, GIVEN, CUT, MATH, seen)
            for k in tl.static_range(NDIM):
                b_c += shares[k] * states[k]
            # outside a ragged sample it is 0
            b_c = tl.where(tile.mask, b_c, 0.0)
            p_out = tiles.rows(p_c, points.o_row, CELL.hidden, 1)
            direct.store(p_out, tile.o_unit, b_c, tile.alive, CELL.hidden, CUT)
            if GIVEN.apart:
                p_out = tiles.rows(p_state, points.o_row, CELL.hidden, 1)
                direct.store(p_out, tile.o_unit, b_c, tile.alive, CELL.hidden, CUT)
            if GIVEN.exit:
                for k in tl.static_range(NDIM):
                    leaving = tile.mask & (points.x[k] == points.own[k] - 1)[:, None]
                    p_face = tiles.on_face(p_cn, strip, points, CELL, k)
                    direct.store(p_face, tile.o_unit, b_c, leaving, CELL.hidden, CUT)
            first += CUT.M
        t += 1
        direct.release(strip.p_own)


@triton.jit
def store_gradients(
    p_df, p_dc0, p_f, states_of, b_e, strip, points, tile, K: tl.constexpr, NEEDS_F: tl.constexpr,
    NEEDS_STATE: tl.constexpr, CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """Along axis K, those of the shares, and of the states that entered, from those of the memories."""
    if NEEDS_F:
        b_before = tiles.load_along(
            states_of, strip, points, tile.o_unit, tile.units, K, CELL, GIVEN, False, CUT
        )
        p_d = tiles.rows(along_axis(p_df, strip, K, CELL.hidden), points.o_row, CELL.hidden, 1)
        tl.store(
            tiles.at(p_d, tile.o_unit),
            (b_e * b_before.to(MATH.acc)).to(p_df.dtype.element_ty),
            mask=tile.alive,
        )
    if NEEDS_STATE:
        entering = points.inside & (points.x[K] == 0)
        met = entering[:, None] & tile.units[None, :]
        p_share = along_axis(p_f, strip, K, CELL.hidden if CELL.per_unit else 1)
        b_f = load_shares(p_share, points.o_row, tile.o_unit, met, entering, CELL, MATH)
        p_face = tiles.on_face(p_dc0, strip, points, CELL, K)
        tl.store(tiles.at(p_face, tile.o_unit), (b_f * b_e).to(p_dc0.dtype.element_ty), mask=met)


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
    NEEDS_F: tl.constexpr, NEEDS_STATE: tl.constexpr,
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    NDIM: tl.constexpr = CELL.ndim
    strip = draw(
        p_counters, (extent0, extent1, extent2), backward_axes, directions, batch, group, groups, rows, strips,
        blocks, True, CELL, CUT,
    )  # fmt: skip
    states_of = tiles.Field(p_state, p_c0)
    seen = 0
    done = 0
    while done < strip.height + strip.reach:
        t = strip.height + strip.reach - 1 - done
        begin, end = walk.wavefront_range(p_order, t, strip.height, strip.reach, CELL.ndim)
        needed = walk.needed_after(t, strip.number, strips, rows, extent0, strip.reach)
        first = 0
        while first < (end - begin) * strip.samples:
            points = walk.points_of(p_order, p_sizes, strip, t, begin, end, first, CELL, GIVEN, CUT)
            tile = tiles.tile_of(points, strip.first_unit, CELL, CUT)
            p_in = tiles.at(tiles.rows(p_dc, points.o_row, CELL.hidden, 1), tile.o_unit)
            b_e = tl.load(p_in, mask=tile.mask, other=0).to(MATH.acc)
            seen = walk.wait_for(strip.p_neighbour, seen, needed)
            for k in tl.static_range(NDIM):
                o_after = points.o_row + walk.step_along(strip, k)
                follows = points.inside & (points.x[k] + 1 < points.own[k])
                following = follows[:, None] & tile.units[None, :]
                p_share = along_axis(p_f, strip, k, CELL.hidden if CELL.per_unit else 1)
                b_f = load_shares(p_share, o_after, tile.o_unit, following, follows, CELL, MATH)
                p_after = tiles.rows(p_dz, o_after, CELL.hidden, 1)
                b_after = direct.load(p_after, tile.o_unit, following, CELL.hidden, CUT, seen)
                b_e += b_f * b_after.to(MATH.acc)
                if GIVEN.exit:
                    leaving = tile.mask & (points.x[k] == points.own[k] - 1)[:, None]
                    p_face = tiles.at(tiles.on_face(p_dcn, strip, points, CELL, k), tile.o_unit)
                    b_e += tl.load(p_face, mask=leaving, other=0).to(MATH.acc)
            b_e = tl.where(tile.mask, b_e, 0.0)
            p_out = tiles.rows(p_dz, points.o_row, CELL.hidden, 1)
            direct.store(p_out, tile.o_unit, b_e, tile.alive, CELL.hidden, CUT)
            for k in tl.static_range(NDIM):
                store_gradients(
                    p_df, p_dc0, p_f, states_of, b_e, strip, points, tile, k, NEEDS_F, NEEDS_STATE,
                    CELL, GIVEN, CUT, MATH,
                )  # fmt: skip
            first += CUT.M
        done += 1
        direct.release(strip.p_own)
