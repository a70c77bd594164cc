"""Two scales: a coarse image first, then the details that an orthonormal 2x2 Haar transform splits off, given it."""

from __future__ import annotations

from typing import Any, Unpack

from ..lattices.images import Haar
from ..lattices.neighborhood import CausalNeighborhood
from .stacked import Options, StackedModel


class MultiscaleModel(StackedModel):
    """The model of grey images (N, H, W, 1) with even sides in two scales (Theis, Hosseini & Bethge 2012).

    The coarse image is four times smaller, so a neighbourhood and a memory of equal size reach twice as far. The
    log-density is that of a 2x2 block, four values; ``sample`` takes the sides of the coarse image.

    Args:
        hidden_size, num_layers, num_components, num_scales, num_features, cell, pad, residual: of both models, as
            in :class:`RIDE`.
        width: of both neighbourhoods.
    """

    def __init__(
        self, hidden_size: int = 64, num_layers: int = 1, *, width: int = 5, **options: Unpack[Options]
    ) -> None:
        coarse = self.part(hidden_size, num_layers, CausalNeighborhood.window(width), **options)
        seen = CausalNeighborhood.window(width, observed=True)
        details = self.part(hidden_size, num_layers, seen, channels=3, observed_channels=1, **options)
        super().__init__(Haar(), coarse, details)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; see :meth:`StackedModel.shared_config`."""
        return self.shared_config()
