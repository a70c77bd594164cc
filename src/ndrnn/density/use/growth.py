"""Whether the memory of an additive cell has grown to its limit, past which it tells nothing of what it has seen."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from math import inf, log
from types import TracebackType
from typing import Any, Self

import torch
from torch import Tensor, nn

from ...cells import Cell, GRUCell, LeakyLSTMCell, LSTMCell, RNNCell, SpatialLSTMCell, StableLSTMCell, Tensors
from ...lattice import face_points
from ...nn.layers import ScanLayer
from ...scan import wavefront
from ..ride.model import RideModel

AT_LIMIT = (
    "the model's memory grew to its limit, so that its bits say little; cut the image smaller, or train with a bounded "
    "cell, such as --cell leaky"
)
"""What to say of an image."""


class Growth:
    """While this context is open, looks at the memories of a RIDE's layers whenever it is given images.

    Only layers whose equations let the memory reach the limit on a lattice of this size are looked at: they are scanned
    a second time, by the wavefront backend, which takes a few times as long as the first.
    """

    def __init__(self, ride: RideModel) -> None:
        self._layers = ride.scan_layers()
        self._handles: list[Any] = []
        self.peaks: Tensor | None = None
        """The largest absolute state of each image, (N,), over its limit; None where none can grow so far."""

    def __enter__(self) -> Self:
        self._handles = [layer.register_forward_pre_hook(self._look) for layer in self._layers]
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for handle in self._handles:
            handle.remove()

    @property
    def reached(self) -> list[int]:
        """The images, counted from 0, for which a memory is at its limit."""
        return [] if self.peaks is None else (self.peaks >= 1).nonzero().flatten().tolist()

    @torch.no_grad()
    def _look(self, layer: nn.Module, given: tuple[Tensor, ...]) -> None:
        assert isinstance(layer, ScanLayer)
        x, dtype = given[0], layer.params.weight_ih.dtype
        limit = layer.cell.limit(dtype)
        if most(layer.cell, x.shape[1:-1]) < limit:
            return
        peaks = largest(layer, x) / limit
        self.peaks = peaks if self.peaks is None else torch.maximum(self.peaks, peaks)


def most(cell: Cell, lattice: Sequence[int]) -> float:
    """A bound on the states of a cell on a lattice: infinite where its equations, with any weights, have none."""
    bounded = isinstance(cell, (StableLSTMCell, LeakyLSTMCell, GRUCell))
    if bounded or (isinstance(cell, RNNCell) and cell.nonlinearity == "tanh"):
        return 1.0
    if not isinstance(cell, (LSTMCell, SpatialLSTMCell)):
        return inf
    # each wavefront adds less than 1 to the sum of what came along every axis
    steps, axes = sum(lattice) - len(lattice) + 1, len(lattice)
    if axes == 1:
        return float(steps)
    return inf if steps * log(axes) > 700 else float(axes) ** steps


@torch.no_grad()
def largest(layer: ScanLayer, x: Tensor) -> Tensor:
    """The largest absolute memory, or output of a cell without one, of a layer for each input (N, D1, ..., Dn, C)."""
    watched = _Watched(layer.cell, x.new_zeros(len(x)))
    faces = x.new_zeros(len(layer.directions), len(x), sum(face_points(x.shape[1:-1])), layer.hidden_size)
    memory = faces if layer.cell.memory else None
    wavefront.scan(watched, x, layer.params, layer.directions, None, faces, memory)
    return watched.peaks


class _Watched(Cell):
    """A cell that keeps the largest state of each sample."""

    def __init__(self, cell: Cell, peaks: Tensor) -> None:
        self.cell, self.peaks = cell, peaks

    @property
    def feeds_memory(self) -> bool:
        return self.cell.feeds_memory

    def limit(self, dtype: torch.dtype) -> float:
        return self.cell.limit(dtype)

    def gates(self, ndim: int) -> tuple[str, ...]:
        return self.cell.gates(ndim)

    def step(
        self, a: Tensor, u: Tensors, h: Tensors, c: Tensors, extra: Tensors
    ) -> tuple[Tensor, Tensor | None]:
        new_h, new_c = self.cell.step(a, u, h, c, extra)
        state = new_h if new_c is None else new_c
        self.peaks = torch.maximum(self.peaks, state.abs().amax((0, 2, 3)))
        return new_h, new_c


def warn_of(reached: Sequence[int], count: int, stacklevel: int = 5) -> None:
    """Warn of the images of ``count`` for which a memory is at its limit, if there are any."""
    if reached:
        names = ", ".join(map(str, reached[:5])) + (", ..." if len(reached) > 5 else "")
        warnings.warn(
            f"image {names} of {count} (counted from 0): {AT_LIMIT}", RuntimeWarning, stacklevel=stacklevel
        )
