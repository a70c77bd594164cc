"""The points of a lattice in the order of its wavefronts, as a ``Scan`` of ONNX meets them.

A wavefront t holds the points whose coordinates, as a direction sees them, sum to t; each depends on the wavefront before
alone. A ``Scan`` wants the same number of rows at every step. So every line of points along the longest axis has a slot,
and at step t holds its point of wavefront t, if it has one; the lattice is skewed. The slots are those of the lattice
without its longest axis, so that of S slots at T = D1 + ... + Dn - n + 1 steps hardly more are empty than must be. Which
axis is the longest is found when the file runs.

All arithmetic here is on int64 tensors; a size is a tensor (1,).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce

import numpy as np

from .nodes import Nodes, Value


class Wavefronts:
    """Where everything lies, for a batch of lattices and the directions from which they are scanned.

    Args:
        g: gets the nodes.
        x: features (N, D1, ..., Dn, C).
        signs: +1 or -1 of every axis, direction after direction, as the operators have them.
        ndim: number n of axes.
        sizes: the extents (N, n) of ragged samples, or None.
    """

    def __init__(self, g: Nodes, x: Value, signs: Sequence[int], ndim: int, sizes: Value | None) -> None:
        self.g, self.ndim = g, ndim
        self.directions = len(signs) // ndim
        self._backward = np.array(signs).reshape(-1, ndim) < 0
        self._sizes = sizes
        self.batch = g("Shape", x, start=0, end=1)
        self.lattice = g("Shape", x, start=1, end=ndim + 1)
        self._extents = [g("Shape", x, start=axis + 1, end=axis + 2) for axis in range(ndim)]
        longest = g("ArgMax", self.lattice, axis=0, keepdims=1)
        self._is_longest = [g("Equal", longest, axis) for axis in range(ndim)]
        self._length = g("Gather", self.lattice, longest)
        counts = [
            g("Where", is_longest, 1, extent)
            for is_longest, extent in zip(self._is_longest, self._extents, strict=True)
        ]
        self._strides = self._strides_of(counts)
        self._slots = g("Mul", self._strides[0], counts[0])
        self._numbers = g.steps(self._slots)
        self._slot = [
            g("Mod", g("Div", self._numbers, stride), count)
            for stride, count in zip(self._strides, counts, strict=True)
        ]
        total = g("ReduceSum", self.lattice, keepdims=1)
        self._steps = g("Max", g("Sub", total, ndim - 1), 1)
        self.rows = g("Mul", self._slots, self.batch)
        """How many rows M a step has of each direction: slot after slot, of each all samples."""
        self._positions = [self._oriented(axis) for axis in range(ndim)]

    def _strides_of(self, extents: Sequence[Value]) -> list[Value]:
        """How many points apart neighbours are along each axis, the last being the fastest."""
        strides = [self.g.value(1)]
        for extent in reversed(extents[1:]):
            strides.insert(0, self.g("Mul", strides[0], extent))
        return strides

    def _oriented(self, axis: int) -> Value:
        """The coordinate of every position along an axis as the directions see it, (N, Dk, D); N or D may be 1.

        Those that run backward turn the axis round within each sample's own extent; what lies beyond stays.
        """
        g = self.g
        here = g("Unsqueeze", g.steps(self._extents[axis]), [0, 2])
        backward = self._backward[:, axis]
        if not backward.any():
            return here
        end = self._extents[axis] if self._sizes is None else g("Unsqueeze", self._size(axis), 1)
        there = g("Sub", g("Sub", end, 1), here)
        if self._sizes is not None:
            there = g("Where", g("Less", there, 0), here, there)
        return g("Where", backward, there, here)

    def _size(self, axis: int) -> Value:
        """The samples' extents along an axis, (N, 1)."""
        return self.g("Slice", self._sizes, axis, axis + 1, 1)

    def _samples(self, axes: int) -> Value:
        """The number of every sample, (N, 1, ..., 1) with so many axes of 1."""
        return self.g("Unsqueeze", self.g.steps(self.batch), list(range(1, axes + 1)))

    def enter(self, features: Value) -> Value:
        """Features (N*P, F) of the points as (T, D, M, F), zeros for slots without a point."""
        g = self.g
        points = g("ReduceProd", self.lattice, keepdims=1)
        # how far along the longest axis a slot's point lies
        step, slot = g("Unsqueeze", g.steps(self._steps), 1), reduce(lambda a, b: g("Add", a, b), self._slot)
        along = g("Sub", step, slot)
        filled = g("And", g("GreaterOrEqual", along, 0), g("Less", along, self._length))
        along = g("Where", filled, along, 0)
        parts = []
        for axis, stride in enumerate(self._strides_of(self._extents)):
            coordinate = g("Where", self._is_longest[axis], along, self._slot[axis])
            parts.append(g("Gather", g("Mul", self._positions[axis], stride), coordinate, axis=1))
        index = g.total(g("Mul", self._samples(3), points), *parts)
        nothing = g("Mul", self.batch, points)  # the row of zeros behind the points
        index = g("Where", g("Unsqueeze", filled, 2), index, nothing)
        # (N, T, S, D), perhaps of one direction for all
        shape = g.joined(self._steps, self.directions, self.rows)
        index = g("Reshape", g("Transpose", index, perm=[1, 3, 2, 0]), shape, allowzero=1)
        return g("Gather", g("Pad", features, np.array([0, 0, 1, 0])), index, axis=0)

    def predecessors(self) -> list[Value]:
        """For every axis the row of each row's predecessor in the step before, (M,), counted from 1; 0 for none."""
        g, found = self.g, []
        for axis in range(self.ndim):
            before = g("Sub", self._numbers, self._strides[axis])
            inner = g("Where", g("Greater", self._slot[axis], 0), before, -1)
            slot = g("Unsqueeze", g("Where", self._is_longest[axis], self._numbers, inner), 1)
            row = g.total(g("Mul", slot, self.batch), g.steps(self.batch), g.value(1))
            found.append(g("Reshape", g("Where", g("Less", slot, 0), 0, row), [-1]))
        return found

    def leave(self, states: Value, hidden: int) -> Value:
        """States (T, D, M, H) of the steps as (N, D1, ..., Dn, D, H), zeros beyond the samples."""
        g, n = self.g, self.ndim
        parts = [self._samples(n + 1)]
        for axis in range(n):
            apart = g("Where", self._is_longest[axis], 0, g("Mul", self._strides[axis], self.batch))
            apart = g("Add", apart, g("Mul", self.rows, self.directions))
            part = g("Mul", self._positions[axis], apart)
            parts.append(self._along(part, axis))
        parts.append(g("Mul", np.arange(self.directions), self.rows))
        flat = g("Reshape", states, [-1, hidden])
        y = g("Gather", flat, g.total(*parts), axis=0)
        if self._sizes is None:
            return y
        inside = [
            self._along(g("Less", g("Unsqueeze", g.steps(self._extents[axis]), [0, 2]), size), axis)
            for axis in range(n)
            for size in [g("Unsqueeze", self._size(axis), 1)]
        ]
        mask = g("Unsqueeze", reduce(lambda a, b: g("And", a, b), inside), -1)
        return g("Where", mask, y, g("CastLike", np.zeros(1, np.float32), y))

    def _along(self, values: Value, axis: int) -> Value:
        """Values (N, Dk, D) as (N, 1, ..., Dk, ..., 1, D)."""
        others = [other + 1 for other in range(self.ndim) if other != axis]
        return self.g("Unsqueeze", values, others) if others else values

    def zeros(self, hidden: int, dtype: np.dtype) -> Value:
        """The states before the first step, (D, M, H)."""
        shape = self.g.joined(self.directions, self.rows, hidden)
        return self.g("Expand", np.zeros(1, dtype), shape)
