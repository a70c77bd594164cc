# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The scan forward: one launch for all directions, samples and wavefronts, cut in strips or in wavefronts."""

from typing import NamedTuple

import triton
import triton.language as tl

from . import direct, fronts, gates, products, tiles, walk

# Ten numbers rather than a tuple of them: those in a tuple are specialized one by one, whatever is asked for.
GEOMETRY = (
    "backward_axes", "directions", "batch", "extent0", "extent1", "extent2", "group", "groups", "rows", "strips",
)  # fmt: skip


class Weights(NamedTuple):
    """Where the weights of a direction are."""

    p_hh: object
    p_extra: object
    resident: tuple


class Places(NamedTuple):
    """Where a scan finds its inputs and leaves what it computes; shapes are those of the kernels' parameters."""

    p_gates: object
    p_parts: object
    p_y: object
    p_state: object
    p_h0: object
    p_s0: object
    p_hn: object
    p_sn: object
    p_x: object = None
    p_ih: object = None
    p_bias: object = None


@triton.jit
def load_weights(p_weights, first_unit, o_in, strip, CELL: tl.constexpr, CUT: tl.constexpr):
    """A tile (in, out) of a matrix (out, in)."""
    o_out, o_part = products.columns(first_unit, strip.directions * CELL.weights, CUT.BU, CUT.stacked)
    mask = (o_in[:, None] < CELL.hidden) & (o_out[None, :] < CELL.hidden)
    return tl.load(p_weights + (o_part + o_out * CELL.hidden)[None, :] + o_in[:, None], mask=mask, other=0)


@triton.jit
def load_resident(p_hh, strip, CELL: tl.constexpr, CUT: tl.constexpr):
    """All matrices of a slice, axis by axis."""
    MATRICES: tl.constexpr = CELL.ndim * CELL.gates
    MATRIX: tl.constexpr = CELL.hidden * CELL.hidden
    resident = ()
    o_in = tl.arange(0, CUT.BK)
    for matrix in tl.static_range(MATRICES):
        resident = resident + (
            load_weights(p_hh + matrix * MATRIX, strip.first_unit, o_in, strip, CELL, CUT),
        )
    return resident


@triton.jit
def load_inputs(
    p_gates, p_extra, points, tile, CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr
):  # fmt: skip
    """W x + b by lane; those of the GRU's parts of the candidate are their biases."""
    LANES: tl.constexpr = CELL.lanes
    M: tl.constexpr = CUT.M
    BU: tl.constexpr = CUT.BU
    ACC: tl.constexpr = MATH.acc
    p_g = tiles.rows(p_gates, points.o_row, CELL.hidden, CELL.gates)
    a = ()
    for lane in tl.static_range(LANES):
        if lane < CELL.gates:
            a = a + (direct.load(p_g + lane * CELL.hidden, tile.o_unit, tile.mask, CELL.hidden, CUT).to(ACC),)
        elif GIVEN.biased:
            p_b = p_extra + (lane - CELL.gates) * CELL.hidden + tile.o_unit
            b_b = tl.load(p_b, mask=tile.units, other=0).to(ACC)
            a = a + (tl.zeros((M, BU), ACC) + b_b[None, :],)
        else:
            a = a + (tl.zeros((M, BU), ACC),)
    return a


@triton.constexpr_function
def block_of(count):
    """As many as tensor cores take, and a power of two."""
    return max(16, 1 << (count - 1).bit_length())


@triton.jit
def multiply_inputs(
    places, p_extra, strip, points, tile, CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr
):  # fmt: skip
    """W x + b by lane, like :func:`load_inputs`, from the inputs themselves."""
    LANES: tl.constexpr = CELL.lanes
    GATES: tl.constexpr = CELL.gates
    C: tl.constexpr = GIVEN.inputs
    BC: tl.constexpr = block_of(C)
    M: tl.constexpr = CUT.M
    BU: tl.constexpr = CUT.BU
    o_c = tl.arange(0, BC)
    o_sample = points.o_chain - strip.i_direction * strip.batch
    o_point = o_sample.to(tl.int64) * (strip.extents[0] * strip.extents[1] * strip.extents[2]) + points.o_at
    b_x = tl.load(
        places.p_x + o_point[:, None] * C + o_c[None, :],
        mask=points.inside[:, None] & (o_c < C)[None, :],
        other=0,
    )
    # all loads before all products
    matrices = ()
    for lane in tl.static_range(GATES):
        o_out = (strip.i_direction * CELL.gates + lane) * CELL.hidden + tile.o_unit
        mask = (o_c < C)[:, None] & tile.units[None, :]
        matrices = matrices + (tl.load(places.p_ih + o_out[None, :] * C + o_c[:, None], mask=mask, other=0),)
    a = ()
    for lane in tl.static_range(LANES):
        b_a = tl.zeros((M, BU), MATH.acc)
        if lane < CELL.gates:
            if places.p_bias is not None:
                o_out = (strip.i_direction * CELL.gates + lane) * CELL.hidden + tile.o_unit
                b_a += tl.load(places.p_bias + o_out, mask=tile.units, other=0).to(MATH.acc)[None, :]
            b_a = products.multiply(b_x, matrices[lane], b_a, CUT, MATH)
        elif GIVEN.biased:
            p_b = p_extra + (lane - CELL.gates) * CELL.hidden + tile.o_unit
            b_a += tl.load(p_b, mask=tile.units, other=0).to(MATH.acc)[None, :]
        a = a + (b_a,)
    return a


@triton.jit
def load_operands(
    outputs, memories, o_in, strip, points,
    OPERAND: tl.constexpr, CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr,
):  # fmt: skip
    """Left operands by axis, over some units of the predecessors: their outputs, and if these are fed their memories."""
    NDIM: tl.constexpr = CELL.ndim
    from_outputs = ()
    from_memories = ()
    for k in tl.static_range(NDIM):
        b_h = tiles.load_along(outputs, strip, points, o_in, o_in < CELL.hidden, k, CELL, GIVEN, False, CUT)
        from_outputs = from_outputs + (b_h,)
        if CELL.feeds:
            b_c = tiles.load_along(
                memories, strip, points, o_in, o_in < CELL.hidden, k, CELL, GIVEN, False, CUT
            )
            from_memories = from_memories + (b_c.to(OPERAND),)
    return from_outputs, from_memories


@triton.jit
def add_axis(
    sums, b_outputs, b_memories, p_hh, p_extra, resident, first_unit, o_in, strip,
    K: tl.constexpr, CELL: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """Adds to the sums of all lanes what comes along axis K, over some units of the predecessors."""
    LANES: tl.constexpr = CELL.lanes
    added = ()
    for lane in tl.static_range(LANES):
        b_sum = sums[lane]
        if gates.enters(lane, K, CELL.gates, CELL.split):
            o_w = gates.matrix_of(lane, K, CELL.gates) * CELL.hidden * CELL.hidden
            if CUT.resident:
                b_w = resident[gates.matrix_of(lane, K, CELL.gates)]
            else:
                b_w = load_weights(p_hh + o_w, first_unit, o_in, strip, CELL, CUT)
            b_sum = products.multiply(b_outputs, b_w, b_sum, CUT, MATH)
            if CELL.feeds:
                b_w = load_weights(p_extra + o_w, first_unit, o_in, strip, CELL, CUT)
                b_sum = products.multiply(b_memories, b_w, b_sum, CUT, MATH)
        added = added + (b_sum,)
    return added


@triton.jit
def add_products(
    a, outputs, memories, p_hh, p_extra, resident, first_unit, strip, points,
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """Pre-activations by lane: ``a``, and the products of the predecessors along all axes."""
    OPERAND: tl.constexpr = p_hh.dtype.element_ty
    NDIM: tl.constexpr = CELL.ndim
    LANES: tl.constexpr = CELL.lanes
    HIDDEN: tl.constexpr = CELL.hidden
    BK: tl.constexpr = CUT.BK
    sums = ()
    for lane in tl.static_range(LANES):
        sums = sums + (products.new_sums(a[lane], CUT.stacked),)
    for i in range(0, HIDDEN, BK):
        o_in = i + tl.arange(0, BK)
        # all loads before all products
        from_outputs, from_memories = load_operands(
            outputs, memories, o_in, strip, points, OPERAND, CELL, GIVEN, CUT
        )
        for k in tl.static_range(NDIM):
            b_memories = products.left_operand(from_memories[k], CUT.stacked) if CELL.feeds else None
            b_outputs = products.left_operand(from_outputs[k], CUT.stacked)
            sums = add_axis(
                sums, b_outputs, b_memories, p_hh, p_extra, resident, first_unit, o_in, strip, k, CELL, CUT, MATH
            )  # fmt: skip
    summed = ()
    for lane in tl.static_range(LANES):
        summed = summed + (products.summed(sums[lane], a[lane], CUT.stacked),)
    return summed


@triton.jit
def store_kept(p_gates, p_parts, kept, points, tile, CELL: tl.constexpr, CUT: tl.constexpr):
    """What the way back wants, by lane; activations replace W x + b."""
    KEPT: tl.constexpr = len(kept)
    p_g = tiles.rows(p_gates, points.o_row, CELL.hidden, CELL.gates)
    tl.debug_barrier()  # all threads have read what is overwritten now
    for lane in tl.static_range(KEPT):
        if lane < CELL.gates:
            direct.store(p_g + lane * CELL.hidden, tile.o_unit, kept[lane], tile.mask, CELL.hidden, CUT)
        else:
            p_p = (
                tiles.rows(p_parts, points.o_row, CELL.hidden, CELL.ndim) + (lane - CELL.gates) * CELL.hidden
            )
            direct.store(p_p, tile.o_unit, kept[lane], tile.mask, CELL.hidden, CUT)


@triton.jit
def store_exits(p_hn, p_sn, b_h, b_s, strip, points, tile, CELL: tl.constexpr, CUT: tl.constexpr):
    """What leaves the samples, on the faces of all axes."""
    NDIM: tl.constexpr = CELL.ndim
    for k in tl.static_range(NDIM):
        leaving = tile.mask & (points.x[k] == points.own[k] - 1)[:, None]
        p_f = tiles.on_face(p_hn, strip, points, CELL, k)
        direct.store(p_f, tile.o_unit, b_h, leaving, CELL.hidden, CUT)
        if CELL.memory:
            p_f = tiles.on_face(p_sn, strip, points, CELL, k)
            direct.store(p_f, tile.o_unit, b_s, leaving, CELL.hidden, CUT)


@triton.jit
def compute_tile(
    places, weights, strip, points, first_unit, seen, needed, seen_own, needed_own,
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    """Some units of some points of a wavefront, as soon as others have got far enough: how far is known then."""
    outputs, states_of = (
        tiles.Field(places.p_y, places.p_h0),
        tiles.Field(places.p_state, places.p_s0),
    )
    tile = tiles.tile_of(points, first_unit, CELL, CUT)
    if GIVEN.inputs > 0:
        a = multiply_inputs(places, weights.p_extra, strip, points, tile, CELL, GIVEN, CUT, MATH)
    else:
        a = load_inputs(places.p_gates, weights.p_extra, points, tile, CELL, GIVEN, CUT, MATH)
    seen = walk.wait_for(strip.p_neighbour, seen, needed)
    if CUT.slices > 1 and not CUT.fronts:
        seen_own = walk.wait_for(strip.p_own, seen_own, needed_own)
    states = ()
    if CELL.states:
        states = tiles.load_states(states_of, strip, points, tile, CELL, GIVEN, CUT, MATH, seen + seen_own)
    sums = add_products(
        a, outputs, states_of, weights.p_hh, weights.p_extra, weights.resident, first_unit, strip, points,
        CELL, GIVEN, CUT, MATH,
    )  # fmt: skip
    extra = tiles.load_peepholes(weights.p_extra, tile, CELL, MATH) if CELL.peepholes else ()
    b_h, b_s, kept = gates.forward(sums, states, extra, CELL, MATH)
    # outside a ragged sample the output is 0, and so are what the products of the way back will meet
    b_h = tl.where(tile.mask, b_h, 0.0)
    b_s = tl.where(tile.mask, b_s, 0.0)
    p_y = tiles.rows(places.p_y, points.o_row, CELL.hidden, 1)
    direct.store(p_y, tile.o_unit, b_h, tile.alive, CELL.hidden, CUT)
    if GIVEN.apart:
        p_s = tiles.rows(places.p_state, points.o_row, CELL.hidden, 1)
        direct.store(p_s, tile.o_unit, b_s, tile.alive, CELL.hidden, CUT)
    if GIVEN.keep:
        store_kept(places.p_gates, places.p_parts, kept, points, tile, CELL, CUT)
    if GIVEN.exit:
        store_exits(places.p_hn, places.p_sn, b_h, b_s, strip, points, tile, CELL, CUT)
    return seen, seen_own


@triton.jit(do_not_specialize=GEOMETRY)
def forward_kernel(
    p_gates,  # (N, P, D, G*H): W x + b; becomes what the backward pass wants if kept
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
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,  # see packs.py
):  # fmt: skip
    SPAN: tl.constexpr = CUT.span
    BU: tl.constexpr = CUT.BU
    strip = walk.draw(
        p_counters, (extent0, extent1, extent2), backward_axes, directions, batch, group, groups, rows, strips,
        False, CELL, CUT,
    )  # fmt: skip
    p_hh += strip.i_direction.to(tl.int64) * CELL.weights
    if CELL.feeds or CELL.peepholes or GIVEN.biased:
        p_extra += strip.i_direction.to(tl.int64) * CELL.extras
    weights = Weights(p_hh, p_extra, load_resident(p_hh, strip, CELL, CUT) if CUT.resident else ())
    places = Places(p_gates, p_parts, p_y, p_state, p_h0, p_s0, p_hn, p_sn)

    seen = 0
    seen_own = 0
    t = 0
    while t < strip.height + strip.reach:
        begin, end = walk.wavefront_range(p_order, t, strip.height, strip.reach, CELL.ndim)
        needed = walk.needed_before(t, strip.number, strip.rows, strip.reach) * CUT.slices
        first = 0
        while first < (end - begin) * strip.samples:
            points = walk.points_of(p_order, p_sizes, strip, t, begin, end, first, CELL, GIVEN, CUT)
            for u in range(0, SPAN, BU):
                seen, seen_own = compute_tile(
                    places, weights, strip, points, strip.first_unit + u, seen, needed, seen_own, t * CUT.slices,
                    CELL, GIVEN, CUT, MATH,
                )  # fmt: skip
            first += CUT.M
        t += 1
        direct.release(strip.p_own)


@triton.jit(do_not_specialize=GEOMETRY)
def forward_fronts_kernel(  # as the one above, whole wavefronts instead of strips; see fronts.py
    p_gates,
    p_parts,
    p_y,
    p_state,
    p_h0, p_s0,
    p_hn, p_sn,
    p_hh,
    p_extra,
    p_sizes,
    p_order,
    p_counters,
    p_x,  # (N, P, C), (D, G*H, C) and (D, G*H): read where the scan multiplies them
    p_ih,
    p_bias,
    backward_axes, directions, batch, extent0, extent1, extent2, group, groups, rows, strips,
    CELL: tl.constexpr, GIVEN: tl.constexpr, CUT: tl.constexpr, MATH: tl.constexpr,
):  # fmt: skip
    SPAN: tl.constexpr = CUT.span
    BU: tl.constexpr = CUT.BU
    extents = (extent0, extent1, extent2)
    crew = fronts.join(p_counters, directions, groups, CUT)
    whole = fronts.whole(crew, extents, backward_axes, directions, batch, CELL)
    p_hh += whole.i_direction.to(tl.int64) * CELL.weights
    if CELL.feeds or CELL.peepholes or GIVEN.biased:
        p_extra += whole.i_direction.to(tl.int64) * CELL.extras
    weights = Weights(p_hh, p_extra, load_resident(p_hh, whole, CELL, CUT) if CUT.resident else ())
    places = Places(p_gates, p_parts, p_y, p_state, p_h0, p_s0, p_hn, p_sn, p_x, p_ih, p_bias)

    ticket = fronts.draw(crew)
    done = fronts.begun()
    while done.wavefronts < extent0 + whole.reach:
        t = done.wavefronts
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
                    places, weights, strip, points, strip.first_unit + u, seen, needed, 0, 0,
                    CELL, GIVEN, CUT, MATH,
                )  # fmt: skip
            direct.release(strip.p_own)
            ticket = fronts.draw(crew)
        done = fronts.after(done, front)
