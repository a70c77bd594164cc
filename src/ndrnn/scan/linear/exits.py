"""What a layer on the linear scan leaves on its exit faces beside its memories."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from ...lattice import Direction, face_points
from ..wavefront import _exit_faces, _mask_faces


def exits_of(y: Tensor, directions: Sequence[Direction], sizes: Tensor | None, h0: Tensor | None) -> Tensor:
    """The outputs y (N, *lattice, D, H) on the exit faces, packed. They enter nothing, but are a part of the state."""
    if h0 is None:
        batch, *lattice, count, hidden = y.shape
        h0 = y.new_zeros((count, batch, sum(face_points(lattice)), hidden))
    elif sizes is not None:
        h0 = _mask_faces(h0, y.shape[1:-2], sizes)
    return _exit_faces(y, directions, sizes, h0)
