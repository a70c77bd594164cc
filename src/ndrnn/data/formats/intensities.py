"""From the values of a file to the features of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from .channels import to_channels


@dataclass(frozen=True)
class Intensities:
    """How stored values become numbers about 0 to 1; what a network was trained with is what it must be used with."""

    channels: int = 0
    """Channels of a point: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha; 0: as in the first file."""
    scale: Literal["type", "sample"] = "type"
    """0 to 1 is the range of the file's number type (floating-point values stay), or that of each sample."""
    invert: bool = False
    """Whether dark becomes 1, as for ink on paper."""

    def convert(self, stored: np.ndarray) -> Tensor:
        """Features (D1, ..., Dn, C) float32 from stored values of the same shape.

        Raises:
            ValueError: the channels are others than expected, or a value is NaN or infinite.
        """
        if self.channels:
            stored = to_channels(stored, self.channels)
        values = np.array(stored, np.float32)
        if stored.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("has values that are NaN or infinite")
        if self.scale == "sample":
            low, high = float(values.min()), float(values.max())
            values = (values - low) / (high - low if high > low else 1)
        elif stored.dtype.kind in "iu":
            values /= np.iinfo(stored.dtype).max
        return torch.from_numpy(1 - values if self.invert else values)
