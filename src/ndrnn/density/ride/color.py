"""Colour: luma first, then both chroma channels given luma."""

from __future__ import annotations

from typing import Any, Unpack

from ..lattices.images import luma_chroma
from ..lattices.neighborhood import CausalNeighborhood
from .stacked import Options, StackedModel


class LumaChromaModel(StackedModel):
    """The model of red, green and blue: luma as a grey image, then chroma jointly, which sees luma in the whole window.

    A ``RIDE(channels=3)`` models the same images jointly. Images are (N, H, W, 3).

    Args:
        hidden_size, num_layers, num_components, num_scales, num_features, cell, pad, residual: of both models, as
            in :class:`RIDE`.
        width: of both neighbourhoods.
    """

    def __init__(
        self, hidden_size: int = 64, num_layers: int = 1, *, width: int = 5, **options: Unpack[Options]
    ) -> None:
        luma = self.part(hidden_size, num_layers, CausalNeighborhood.window(width), **options)
        seen = CausalNeighborhood.window(width, observed=True)
        chroma = self.part(hidden_size, num_layers, seen, channels=2, observed_channels=1, **options)
        super().__init__(luma_chroma(), luma, chroma)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments; see :meth:`StackedModel.shared_config`."""
        return self.shared_config()
