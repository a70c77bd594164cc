# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
# ruff: noqa: RUF005
"""The states of all predecessors along one axis, laid out for the products that give the gradients of weights."""

import triton
import triton.language as tl

from . import walk
from .tiles import load_before


@triton.jit(do_not_specialize=("backward_axes", "directions", "batch", "extent0", "extent1", "extent2"))
def predecessors_kernel(
    p_states,  # (N, P, D, H)
    p_faces,  # (D, N, F, H)
    p_out,  # (N, P, D, H)
    p_sizes,  # (N, n)
    backward_axes, directions, batch, extent0, extent1, extent2,
    NDIM: tl.constexpr, K: tl.constexpr, HIDDEN: tl.constexpr, ENTRY: tl.constexpr, RAGGED: tl.constexpr,
    M: tl.constexpr, BU: tl.constexpr,
):  # fmt: skip
    extents = (extent0, extent1, extent2)
    strides = walk.strides_of(extents)
    points = extent0 * extent1 * extent2
    o_row = tl.program_id(0).to(tl.int64) * M + tl.arange(0, M)
    live = o_row < batch.to(tl.int64) * points * directions
    o_direction = (o_row % directions).to(tl.int32)
    o_at = (o_row // directions % points).to(tl.int32)
    o_sample = (o_row // directions // points).to(tl.int32)
    own = walk.extents_of(p_sizes, o_sample, live, extents, NDIM, RAGGED)
    x = ()
    for k in tl.static_range(NDIM):
        x = x + (o_at // strides[k] % extents[k],)
    inside = walk.within(x, own, live, NDIM)
    o_backward = (backward_axes >> (o_direction * NDIM + K)) & 1
    from_corner = tl.where(o_backward != 0, own[K] - 1 - x[K], x[K])
    o_before = o_row - tl.where(o_backward != 0, -strides[K], strides[K]) * directions
    o_face = o_row
    if ENTRY:
        o_face = walk.face_row(o_at, o_direction * batch + o_sample, extents, NDIM, K)
    for u in range(0, HIDDEN, BU):
        o_unit = u + tl.arange(0, BU)
        units = o_unit < HIDDEN
        b_s = load_before(
            p_states, p_faces, o_before, o_face, o_unit, inside & (from_corner > 0), inside & (from_corner == 0),
            units, HIDDEN, ENTRY, False, None,
        )  # fmt: skip
        tl.store(
            p_out + o_row[:, None] * HIDDEN + o_unit[None, :],
            b_s.to(p_out.dtype.element_ty),
            mask=live[:, None] & units[None, :],
        )
