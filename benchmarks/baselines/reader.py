"""Convolutions, a bidirectional LSTM along the line, and CTC: what Puigcerver 2017 sets against the 2-D LSTM."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from .parts import Convolution, Standardized, cleared, coarser, mask_of, pooled

_FEATURES = (1, 2, 3, 4, 4)
"""Of the convolutions, in widths."""
_HALVED = 5
"""Convolutions that halve the height: 48 rows become 2."""
_UNITS = 5
"""Of the LSTM's directions, in widths."""


class LineReader(nn.Module):
    """Reads images (N, H, W, C), of any height, along their width.

    Args:
        channels: features C of a point.
        outputs: features of a frame, before the softmax.
        width: what all layers' features are multiples of.
        steps: columns that become one at each of the first convolutions; their product is the width of a frame.
        layers: of the LSTM.
        dropout: share that is set to zero before each layer of the LSTM and before the output, in training.
    """

    def __init__(
        self,
        channels: int,
        outputs: int,
        *,
        width: int,
        steps: Sequence[int],
        layers: int = 2,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        if len(steps) > _HALVED:
            raise ValueError(f"steps must be at most {_HALVED} numbers, got {len(steps)}")
        self.blocks = [(2, step) for step in (*steps, *[1] * (_HALVED - len(steps)))]
        self.input = Standardized(channels)
        features = [width * factor for factor in _FEATURES]
        self.convolutions = nn.ModuleList(
            Convolution(before, after, 2)
            for before, after in zip([channels, *features], features, strict=False)
        )
        self.dropout = nn.Dropout(dropout)
        units = _UNITS * width
        self.lstms = nn.ModuleList(
            _Both(features[-1] if layer == 0 else 2 * units, units) for layer in range(layers)
        )
        self.output = nn.Linear(2 * units, outputs)

    def standardize(self, mean: Tensor, std: Tensor) -> None:
        """Set the centre and scale (C,) of each feature."""
        self.input.set(mean, std)

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """How many frames (N, 1) images of these extents (N, 2) have."""
        for block in self.blocks:
            sizes = coarser(sizes, block)
        return sizes[:, 1:]

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Scores (N, T, outputs), without meaning beyond ``output_sizes(sizes)``."""
        x = self.input(x).movedim(-1, 1)
        mask = mask_of(sizes, x.shape[2:])
        x = cleared(x, mask)
        for convolution, block in zip(self.convolutions, self.blocks, strict=True):
            x = pooled(convolution(x, mask), block)
            sizes = None if sizes is None else coarser(sizes, block)
            mask = mask_of(sizes, x.shape[2:])
        frames = x.amax(2).transpose(1, 2)  # of rows that are left, each feature's largest
        for lstm in self.lstms:
            frames = lstm(self.dropout(frames), None if sizes is None else sizes[:, 1])
        scores: Tensor = self.output(self.dropout(frames))
        return scores


class _Both(nn.Module):
    """An LSTM along the frames (N, T, C) and one against them, each line from its own end.

    That is ``nn.LSTM(bidirectional=True)`` on packed sequences, without packing.
    """

    def __init__(self, before: int, units: int) -> None:
        super().__init__()
        self.along = nn.LSTM(before, units, batch_first=True)
        self.against = nn.LSTM(before, units, batch_first=True)

    def forward(self, x: Tensor, counts: Tensor | None) -> Tensor:
        """(N, T, 2 * units), without meaning beyond ``counts`` (N,) frames."""
        along = self.along(x)[0]
        against = _reversed(self.against(_reversed(x, counts))[0], counts)
        return torch.cat([along, against], -1)


def _reversed(x: Tensor, counts: Tensor | None) -> Tensor:
    """The first ``counts`` (N,) frames of each line the other way round; the others stay where they are."""
    if counts is None:
        return x.flip(1)
    places = torch.arange(x.shape[1], device=x.device)
    back = counts[:, None] - 1 - places
    places = torch.where(back >= 0, back, places)
    return x.gather(1, places[..., None].expand_as(x))
