"""What a scan on the device is about: its sizes, and the tensors that it reads and leaves.

N samples, P points of the lattice, D directions, n axes, C inputs, H hidden units, G gates, F points of all faces.
"""

from __future__ import annotations

from math import prod
from typing import NamedTuple

from torch import Tensor

from .plan import Shape


class Problem(NamedTuple):
    """The sizes of a scan."""

    shape: Shape
    lattice: tuple[int, ...]
    batch: int
    directions: int
    hidden: int
    backward_axes: int  # bit d*n + k: direction d runs axis k backward

    @classmethod
    def of(cls, cell: str, x: Tensor, weight_hh: Tensor, backward_axes: int) -> Problem:
        directions, ndim, _, hidden = weight_hh.shape
        return cls(Shape(cell, ndim), tuple(x.shape[1:-1]), x.shape[0], directions, hidden, backward_axes)

    @property
    def points(self) -> int:
        return prod(self.lattice)

    @property
    def empty(self) -> bool:
        return self.batch == 0 or self.points == 0

    def geometry(self) -> dict[str, int]:
        """As all kernels take it; a lattice of fewer axes ends in axes of one point."""
        extent0, extent1, extent2, *_ = (*self.lattice, 1, 1)
        return {
            "backward_axes": self.backward_axes,
            "directions": self.directions,
            "batch": self.batch,
            "extent0": extent0,
            "extent1": extent1,
            "extent2": extent2,
        }


class Inputs(NamedTuple):
    """What a scan reads; F points of all faces together."""

    x: Tensor  # (N, *lattice, C)
    weight_ih: Tensor  # (D, G*H, C)
    weight_hh: Tensor  # (D, n, G*H, H)
    bias: Tensor | None  # (D, G*H)
    extra: Tensor | None  # (D, ...)
    sizes: Tensor | None  # (N, n)
    h0: Tensor | None  # (D, N, F, H)
    c0: Tensor | None


class Scanned(NamedTuple):
    """What it leaves."""

    y: Tensor  # (N, *lattice, D, H)
    hn: Tensor | None  # (D, N, F, H)
    cn: Tensor | None
    state: Tensor | None  # (N, P, D, H), or None where y holds the states
    gates: Tensor | None  # (N, P, D, G*H): activations
    parts: Tensor | None  # (N, P, D, n*H): the GRU's parts of the candidate


class Deltas(NamedTuple):
    """What the sweep back leaves: gradients of all pre-activations, zero outside ragged samples."""

    gates: Tensor  # (N, P, D, G*H)
    parts: Tensor | None  # (N, P, D, n*H): of the GRU's parts of the candidate
    carry: (
        Tensor | None
    )  # (n, N, P, D, H): what goes straight into the state of the predecessor along each axis


class Gradients(NamedTuple):
    x: Tensor | None
    weight_ih: Tensor | None
    weight_hh: Tensor | None
    bias: Tensor | None
    extra: Tensor | None
    h0: Tensor | None
    c0: Tensor | None
