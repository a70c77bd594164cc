"""The part by which a network of convolutions hears of what is far away."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from ...lattice import check_sizes
from ...registry import layers
from ..batching import add_batch
from ..layers import Directions
from .parts import NormKind, StochasticDepth, Style, make_norm
from .ragged import cleared, mask_of


class ScanBlock(nn.Module):
    r"""norm → recurrent layer in all directions → linear map, added to the input.

    Args:
        features: C of input and output.
        hidden_size: units of each direction.
        ndim: number n of lattice axes.
        layer: the kind of recurrent layer, a name in :data:`ndrnn.registry.layers`.
        directions: corners to scan from, see :class:`ndrnn.MDLSTM`.
        norm: ``"layer"`` or ``"rms"`` over the features of each point, or ``"batch"``, over the points inside the
            samples.
        dropout: share of the layer's outputs that are set to zero in training.
        stochastic_depth: share of the samples that pass by the block in training.
        recompute: of the recurrent layer, see :class:`ndrnn.nn.ScanLayer`.

    Shapes:
        x (N, D1, ..., Dn, C) to the same; ``sizes`` (N, n) int64 are the true extents of the samples, outside of which
        y is 0; unbatched all without the axis N.
    """

    def __init__(
        self,
        features: int,
        hidden_size: int,
        ndim: int = 2,
        *,
        layer: str = "MDGRU",
        directions: Directions = "all",
        norm: NormKind = "batch",
        dropout: float = 0.0,
        stochastic_depth: float = 0.0,
        recompute: bool | int = False,
    ) -> None:
        super().__init__()
        self._config = {name: value for name, value in locals().items() if name not in ("self", "__class__")}
        Style(layer, directions, norm, False, dropout, stochastic_depth, recompute)  # looks at them
        self.ndim, self.input_size, self.output_size = ndim, features, features
        # a layer of a user's own need not know of recomputation
        options: dict[str, Any] = {"recompute": recompute} if recompute else {}
        self.norm = make_norm(features, norm)
        self.layer = layers.find(layer)(features, hidden_size, ndim, directions=directions, **options)
        self.dropout = nn.Dropout(dropout)
        self.linear = nn.Linear(int(self.layer.output_size), features)
        nn.init.zeros_(self.linear.bias)
        self.stochastic_depth = StochasticDepth(stochastic_depth)

    @classmethod
    def in_style(cls, features: int, hidden_size: int, ndim: int, style: Style) -> ScanBlock:
        """The block of a network."""
        options = {name: value for name, value in vars(style).items() if name != "separable"}
        return cls(features, hidden_size, ndim, **options)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, for :mod:`ndrnn.saving.models`."""
        return dict(self._config)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        x, sizes, unbatched = add_batch(x, sizes, self.ndim)
        if sizes is not None:
            sizes = check_sizes(sizes, x.shape[0], x.shape[1:-1])
        mask = mask_of(sizes, x.shape[1:-1])
        x = cleared(x, mask)
        branch = self.linear(self.dropout(self.layer(self.norm(x, mask), sizes=sizes)))
        y = cleared(x + self.stochastic_depth(branch), mask)
        return y.squeeze(0) if unbatched else y
