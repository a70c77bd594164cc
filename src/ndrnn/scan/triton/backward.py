# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The way back: from the far corner, gradients of all pre-activations in one launch, as the forward pass is cut."""

from typing import NamedTuple

import triton
import triton.language as tl

from . import direct, fronts, gates, products, tiles, walk
from .forward import GEOMETRY, Weights


class Deltas(NamedTuple):
    """Where the way back leaves gradients, and finds those of the successors."""

    p_gates: object  # (N, P, D, G*H)
    p_parts: object  # (N, P, D, n*H)
    p_carry: object  # (n, N, P, D, H)
    carry_size: object  # numbers of an axis there


class Places(NamedTuple):
    """Where the way back finds what it reads; shapes are those of the kernels' parameters."""

    p_gates: object
    p_parts: object
    p_y: object
    p_state: object
    p_h0: object
    p_s0: object
    p_dy: object
    p_dhn: object
    p_dsn: object


@triton.jit
def load_weights(
    p_weights, o_out, outs, first_unit, strip, CELL: tl.constexpr, CUT: tl.constexpr
):  # fmt: skip
    """A tile (out, in) of the first ``outs`` rows of the matrices of all gates, one below the other."""
    o_in, o_part = products.columns(first_unit, strip.directions * CELL.weights, CUT.BU, CUT.stacked)
    mask = (o_out[:, None] < outs) & (o_in[None, :] < CELL.hidden)
    return tl.load(p_weights + o_out[:, None] * CELL.hidden + (o_part + o_in)[None, :], mask=mask, other=0)


@triton.jit
def load_resident(p_hh, strip, CELL: tl.constexpr, CUT: tl.constexpr):
    """All weights of a slice, axis by axis, in chunks of rows."""
    NDIM: tl.constexpr = CELL.ndim
    AXIS: tl.constexpr = CELL.gates * CELL.hidden * CELL.hidden
    OUTS: tl.constexpr = CELL.shared
    BK: tl.constexpr = CUT.BK
    CHUNKS: tl.constexpr = (OUTS + BK - 1) // BK
    resident = ()
    for k in tl.static_range(NDIM):
        for chunk in tl.static_range(CHUNKS):
            o_out = chunk * BK + tl.arange(0, BK)
            resident = resident + (
                load_weights(p_hh + k * AXIS, o_out, OUTS, strip.first_unit, strip, CELL, CUT),
            )
    return resident


@triton.jit
def load_deltas(p_delta, o_after, o_out, following, outs, WIDTH: tl.constexpr):
    """A tile (points, outs) of the gradients of the successors' pre-activations."""
    mask = following[:, None] & (o_out < outs)[None, :]
    return tl.load(p_delta + o_after[:, None] * WIDTH + o_out[None, :], mask=mask, other=0)


@triton.jit
def load_kept(
    p_gates, p_parts, points, tile, CELL: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr
):  # fmt: skip
    """What the forward pass kept of a tile, by lane."""
    LANES: tl.constexpr = CELL.lanes
    p_g = tiles.rows(p_gates, points.o_row, CELL.hidden, CELL.gates)
    kept = ()
    for lane in tl.static_range(LANES):
        if lane < CELL.gates:
            b_k = direct.load(p_g + lane * CELL.hidden, tile.o_unit, tile.mask, CELL.hidden, CUT)
        else:
            p_p = (
                tiles.rows(p_parts, points.o_row, CELL.hidden, CELL.ndim) + (lane - CELL.gates) * CELL.hidden
            )
            b_k = direct.load(p_p, tile.o_unit, tile.mask, CELL.hidden, CUT)
        kept = kept + (b_k.to(MATH.acc),)
    return kept


@triton.jit
def add_exits(
    b_dh, b_ds, p_dhn, p_dsn, strip, points, tile, CELL: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr
):  # fmt: skip
    """The gradients, and those of the states that leave the samples."""
    NDIM: tl.constexpr = CELL.ndim
    for k in tl.static_range(NDIM):
        leaving = tile.mask & (points.x[k] == points.own[k] - 1)[:, None]
        p_f = tiles.on_face(p_dhn, strip, points, CELL, k)
        b_dh += direct.load(p_f, tile.o_unit, leaving, CELL.hidden, CUT).to(MATH.acc)
        if CELL.memory:
            p_f = tiles.on_face(p_dsn, strip, points, CELL, k)
            b_ds += direct.load(p_f, tile.o_unit, leaving, CELL.hidden, CUT).to(MATH.acc)
    return b_dh, b_ds


@triton.jit
def multiply_resident(
    b_sums, p_delta, o_after, following, resident, K: tl.constexpr, CELL: tl.constexpr, CUT: tl.constexpr,
    MATH: tl.constexpr,
):  # fmt: skip
    """The sums, and the products of the successors along axis K with weights that stay in shared memory."""
    OUTS: tl.constexpr = CELL.shared
    WIDTH: tl.constexpr = CELL.gates * CELL.hidden
    BK: tl.constexpr = CUT.BK
    CHUNKS: tl.constexpr = (OUTS + BK - 1) // BK
    deltas = ()
    if CUT.M <= 32:  # all loads before all products
        for chunk in tl.static_range(CHUNKS):
            b_d = load_deltas(p_delta, o_after, chunk * BK + tl.arange(0, BK), following, OUTS, WIDTH)
            deltas = deltas + (b_d,)
    for chunk in tl.static_range(CHUNKS):
        if CUT.M <= 32:
            b_d = deltas[chunk]
        else:
            b_d = load_deltas(p_delta, o_after, chunk * BK + tl.arange(0, BK), following, OUTS, WIDTH)
        b_d = products.left_operand(b_d, CUT.stacked)
        b_sums = products.multiply(b_d, resident[K * CHUNKS + chunk], b_sums, CUT, MATH)
    return b_sums


@triton.jit
def multiply_streamed(
    b_sums, b_into_memory, p_delta, o_after, following, weights, first_unit, strip,
    K: tl.constexpr, CELL: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """The sums, and the products of the successors along axis K with weights that are read again."""
    OUTS: tl.constexpr = CELL.shared
    WIDTH: tl.constexpr = CELL.gates * CELL.hidden
    BK: tl.constexpr = CUT.BK
    o_w = K * WIDTH * CELL.hidden
    for i in range(0, OUTS, BK):
        o_out = i + tl.arange(0, BK)
        b_d = load_deltas(p_delta, o_after, o_out, following, OUTS, WIDTH)
        b_d = products.left_operand(b_d, CUT.stacked)
        b_w = load_weights(weights.p_hh + o_w, o_out, OUTS, first_unit, strip, CELL, CUT)
        b_sums = products.multiply(b_d, b_w, b_sums, CUT, MATH)
        if CELL.feeds:
            b_w = load_weights(weights.p_extra + o_w, o_out, OUTS, first_unit, strip, CELL, CUT)
            b_into_memory = products.multiply(b_d, b_w, b_into_memory, CUT, MATH)
    return b_sums, b_into_memory


@triton.jit
def multiply_parts(
    b_sums, p_parts, o_after, following, p_hh, first_unit, strip,
    K: tl.constexpr, CELL: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """The sums, and the products of the GRU's parts of the candidate, of which each axis has its own."""
    HIDDEN: tl.constexpr = CELL.hidden
    WIDTH: tl.constexpr = CELL.ndim * CELL.hidden
    BK: tl.constexpr = CUT.BK
    o_w = (K * CELL.gates * HIDDEN + CELL.shared) * HIDDEN
    for i in range(0, HIDDEN, BK):
        o_out = i + tl.arange(0, BK)
        b_d = load_deltas(p_parts + K * HIDDEN, o_after, o_out, following, HIDDEN, WIDTH)
        b_w = load_weights(p_hh + o_w, o_out, HIDDEN, first_unit, strip, CELL, CUT)
        b_sums = products.multiply(products.left_operand(b_d, CUT.stacked), b_w, b_sums, CUT, MATH)
    return b_sums


@triton.jit
def gather(
    deltas, weights, first_unit, strip, points, tile, after,
    CELL: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """What comes from the successors along all axes: into the outputs, and into the states."""
    NDIM: tl.constexpr = CELL.ndim
    M: tl.constexpr = CUT.M
    BU: tl.constexpr = CUT.BU
    ACC: tl.constexpr = MATH.acc
    b_zero = tl.zeros((M, BU), ACC)
    b_carried = tl.zeros((M, BU), ACC)
    b_products = products.new_sums(b_zero, CUT.stacked)
    b_into_memory = products.new_sums(b_zero, CUT.stacked)
    for k in tl.static_range(NDIM):
        following = points.inside & (points.x[k] + 1 < points.own[k])
        o_after = points.o_row + walk.step_along(strip, k)
        if CELL.states:
            p_c = tiles.rows(deltas.p_carry + k * deltas.carry_size, o_after, CELL.hidden, 1)
            b_carried += direct.load(
                p_c, tile.o_unit, following[:, None] & tile.units[None, :], CELL.hidden, CUT, after
            )
        if CUT.resident:
            b_products = multiply_resident(
                b_products, deltas.p_gates, o_after, following, weights.resident, k, CELL, CUT, MATH
            )  # fmt: skip
        else:
            b_products, b_into_memory = multiply_streamed(
                b_products, b_into_memory, deltas.p_gates, o_after, following, weights, first_unit, strip,
                k, CELL, CUT, MATH,
            )  # fmt: skip
        if CELL.split:
            b_products = multiply_parts(
                b_products, deltas.p_parts, o_after, following, weights.p_hh, first_unit, strip, k, CELL, CUT, MATH
            )  # fmt: skip
    b_returned = products.summed(b_products, b_zero, CUT.stacked)
    b_carried += products.summed(b_into_memory, b_zero, CUT.stacked)
    return b_returned, b_carried


@triton.jit
def store_deltas(deltas, found, carries, points, tile, CELL: tl.constexpr, CUT: tl.constexpr):
    """Gradients of pre-activations by lane, and what goes straight into the predecessors' states by axis."""
    LANES: tl.constexpr = CELL.lanes
    CARRIES: tl.constexpr = len(carries)
    p_g = tiles.rows(deltas.p_gates, points.o_row, CELL.hidden, CELL.gates)
    for lane in tl.static_range(LANES):
        # zero outside a ragged sample: the products over the lattice take in every point
        b_delta = tl.where(tile.mask, found[lane], 0.0)
        if lane < CELL.gates:
            direct.store(p_g + lane * CELL.hidden, tile.o_unit, b_delta, tile.alive, CELL.hidden, CUT)
        else:
            p_p = tiles.rows(deltas.p_parts, points.o_row, CELL.hidden, CELL.ndim)
            p_p += (lane - CELL.gates) * CELL.hidden
            direct.store(p_p, tile.o_unit, b_delta, tile.alive, CELL.hidden, CUT)
    for k in tl.static_range(CARRIES):
        p_c = tiles.rows(deltas.p_carry + k * deltas.carry_size, points.o_row, CELL.hidden, 1)
        direct.store(p_c, tile.o_unit, carries[k], tile.mask, CELL.hidden, CUT)


@triton.jit
def compute_tile(
    places, deltas, weights, strip, points, first_unit, seen, needed, seen_own, needed_own,
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """Some units of some points of a wavefront, as soon as others have got far enough: how far is known then."""
    # Activations are read ahead of the wait, which hides how long they take; of large tiles they would crowd the
    # registers all through the products, and come after these.
    EARLY: tl.constexpr = CUT.M * CUT.BU * CELL.lanes <= 64 * 32 * 5
    M: tl.constexpr = CUT.M
    BU: tl.constexpr = CUT.BU
    ACC: tl.constexpr = MATH.acc
    states_of = tiles.Field(places.p_state, places.p_s0)
    tile = tiles.tile_of(points, first_unit, CELL, CUT)
    p_y = tiles.rows(places.p_y, points.o_row, CELL.hidden, 1)
    p_dy = tiles.rows(places.p_dy, points.o_row, CELL.hidden, 1)
    b_h = direct.load(p_y, tile.o_unit, tile.mask, CELL.hidden, CUT).to(ACC)
    b_dh = direct.load(p_dy, tile.o_unit, tile.mask, CELL.hidden, CUT).to(ACC)
    b_s = tl.zeros((M, BU), ACC)
    b_ds = tl.zeros((M, BU), ACC)
    kept = ()
    states = ()
    if CELL.states:
        p_s = tiles.rows(places.p_state, points.o_row, CELL.hidden, 1)
        b_s = direct.load(p_s, tile.o_unit, tile.mask, CELL.hidden, CUT).to(ACC)
        if EARLY:
            kept = load_kept(places.p_gates, places.p_parts, points, tile, CELL, CUT, MATH)
        states = tiles.load_states(states_of, strip, points, tile, CELL, GIVEN, CUT, MATH)
    if GIVEN.exit:
        b_dh, b_ds = add_exits(
            b_dh, b_ds, places.p_dhn, places.p_dsn, strip, points, tile, CELL, CUT, MATH
        )  # fmt: skip
    seen = walk.wait_for(strip.p_neighbour, seen, needed)
    if CUT.slices > 1 and not CUT.fronts:
        seen_own = walk.wait_for(strip.p_own, seen_own, needed_own)
    b_returned, b_carried = gather(
        deltas, weights, first_unit, strip, points, tile, seen + seen_own, CELL, CUT, MATH
    )  # fmt: skip
    # what comes from outside is added last: it is not limited
    if CELL.memory:
        b_ds += gates.limited(b_carried, MATH.largest_gradient)
    elif CELL.states:  # the output is the state
        b_returned += b_carried
    b_dh += gates.limited(b_returned, MATH.largest_gradient)
    if CELL.states and not EARLY:
        kept = load_kept(places.p_gates, places.p_parts, points, tile, CELL, CUT, MATH)
    extra = tiles.load_peepholes(weights.p_extra, tile, CELL, MATH) if CELL.peepholes else ()
    found, carries = gates.backward(b_dh, b_ds, kept, b_h, b_s, states, extra, CELL, MATH)
    store_deltas(deltas, found, carries, points, tile, CELL, CUT)
    return seen, seen_own


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
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,  # see packs.py
):  # fmt: skip
    SPAN: tl.constexpr = CUT.span
    BU: tl.constexpr = CUT.BU
    extents = (extent0, extent1, extent2)
    strip = walk.draw(
        p_counters, extents, backward_axes, directions, batch, group, groups, rows, strips, True, CELL, CUT
    )
    p_hh += strip.i_direction.to(tl.int64) * CELL.weights
    if CELL.feeds or CELL.peepholes:
        p_extra += strip.i_direction.to(tl.int64) * CELL.extras
    weights = Weights(p_hh, p_extra, load_resident(p_hh, strip, CELL, CUT) if CUT.resident else ())
    places = Places(p_gates, p_parts, p_y, p_state, p_h0, p_s0, p_dy, p_dhn, p_dsn)
    carry_size = batch.to(tl.int64) * (extent0 * extent1 * extent2) * directions * CELL.hidden
    deltas = Deltas(p_delta, p_dparts, p_carry, carry_size)

    seen = 0
    seen_own = 0
    done = 0
    while done < strip.height + strip.reach:
        t = strip.height + strip.reach - 1 - done
        begin, end = walk.wavefront_range(p_order, t, strip.height, strip.reach, CELL.ndim)
        needed = walk.needed_after(t, strip.number, strips, rows, extent0, strip.reach) * CUT.slices
        first = 0
        while first < (end - begin) * strip.samples:
            points = walk.points_of(p_order, p_sizes, strip, t, begin, end, first, CELL, GIVEN, CUT)
            for u in range(0, SPAN, BU):
                seen, seen_own = compute_tile(
                    places, deltas, weights, strip, points, strip.first_unit + u, seen, needed,
                    seen_own, done * CUT.slices, CELL, GIVEN, CUT, MATH,
                )  # fmt: skip
            first += CUT.M
        done += 1
        direct.release(strip.p_own)


@triton.jit(do_not_specialize=GEOMETRY)
def backward_fronts_kernel(  # as the one above, whole wavefronts instead of strips; see fronts.py
    p_gates, p_parts, p_y, p_state,
    p_h0, p_s0,
    p_dy,
    p_dhn, p_dsn,
    p_delta,
    p_dparts,
    p_carry,
    p_hh,
    p_extra,
    p_sizes,
    p_order, p_counters,
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips,
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    SPAN: tl.constexpr = CUT.span
    BU: tl.constexpr = CUT.BU
    extents = (extent0, extent1, extent2)
    crew = fronts.join(p_counters, directions, groups, CUT)
    whole = fronts.whole(crew, extents, backward_axes, directions, batch, CELL)
    p_hh += whole.i_direction.to(tl.int64) * CELL.weights
    if CELL.feeds or CELL.peepholes:
        p_extra += whole.i_direction.to(tl.int64) * CELL.extras
    weights = Weights(p_hh, p_extra, load_resident(p_hh, whole, CELL, CUT) if CUT.resident else ())
    places = Places(p_gates, p_parts, p_y, p_state, p_h0, p_s0, p_dy, p_dhn, p_dsn)
    carry_size = batch.to(tl.int64) * (extent0 * extent1 * extent2) * directions * CELL.hidden
    deltas = Deltas(p_delta, p_dparts, p_carry, carry_size)

    ticket = fronts.draw(crew)
    done = fronts.begun()
    while done.wavefronts < extent0 + whole.reach:
        t = extent0 + whole.reach - 1 - done.wavefronts
        begin, end = walk.wavefront_range(p_order, t, extent0, whole.reach, CELL.ndim)
        front = fronts.front_of(end - begin, batch, group, groups, CUT)
        while ticket < done.tickets + front.tickets:
            strip, first, needed = fronts.part_of(
                ticket - done.tickets, whole, crew, front, done, group, groups, CUT
            )
            points = walk.points_of(p_order, p_sizes, strip, t, begin, end, first, CELL, GIVEN, CUT)
            seen = 0
            for u in range(0, SPAN, BU):
                seen, _ = compute_tile(
                    places, deltas, weights, strip, points, strip.first_unit + u, seen, needed, 0, 0,
                    CELL, GIVEN, CUT, MATH,
                )  # fmt: skip
            direct.release(strip.p_own)
            ticket = fronts.draw(crew)
        done = fronts.after(done, front)
