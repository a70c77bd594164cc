"""From the values of a file to the features of a network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor

from .channels import to_channels
from .pieces import pieces

Span = tuple[np.ndarray, np.ndarray]
"""The lowest and the highest value of a sample (1,), or of each of its channels (C,), float64."""

FAR = 2.0
"""Floating-point values beyond it do not have the scale that integers get, which become 1 at most."""


def same_scale(one: float, other: float) -> bool:
    """Whether samples of one :meth:`Intensities.reach` may have the scale of those of another; 0: it is not known."""
    return not one or not other or (one > FAR) == (other > FAR)


@dataclass(frozen=True)
class Intensities:
    """How stored values become numbers about 0 to 1; what a network was trained with is what it must be used with."""

    channels: int = 0
    """Channels of a point: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha; 0: as in the first file."""
    scale: Literal["type", "sample", "channel"] = "type"
    """0 to 1 is from 0 to the largest value of the file's integer type, of 8 or 16 bits, so that negative values of a
    signed type stay negative (floating-point values stay as they are); or the range of each sample, or of each of its
    channels."""
    invert: bool = False
    """Whether dark becomes 1, as for ink on paper."""
    learned: float = 0.0
    """The :meth:`reach` of what a network has learned from, by which samples of another scale are known; 0: unknown."""

    def convert(self, stored: np.ndarray, *, colour: bool = True, span: Span | None = None) -> Tensor:
        """Features (D1, ..., Dn, C) float32 from stored values of the same shape.

        Args:
            stored: the values.
            colour: whether channels are grey, alpha and colour, which can be converted; if not, and they are others
                than expected, they are refused.
            span: of the sample of which ``stored`` is a part, as :meth:`span` gives it; without it, of ``stored``.

        Raises:
            ValueError: the channels are others than expected, a value is NaN or infinite, the type is one whose
                range tells nothing of its values, or the values have another scale than those learned from.
        """
        values = self._arranged(stored, colour)
        self._compare(stored)
        if self.scale != "type":
            low, high = self.span(stored, colour=colour) if span is None else span
            with np.errstate(over="ignore"):
                extent = high - low
            if np.isinf(extent).any():
                raise ValueError(
                    f"has values from {low.min():g} to {high.max():g}, a range that is no number"
                )
            kind = values.dtype
            extent = np.where(extent > 0, extent, 1).astype(kind)
            values = ((values - low.astype(kind)) / extent).astype(np.float32)
        elif stored.dtype.kind in "iu":
            if stored.dtype.itemsize > 2:
                raise ValueError(
                    f"holds {stored.dtype}, whose range would leave next to nothing of its values; "
                    "choose data.scale sample, or store 8 or 16 bits or floating-point values"
                )
            values = values / np.float32(np.iinfo(stored.dtype).max)
        return torch.from_numpy(1 - values if self.invert else values)

    def restored(self, features: np.ndarray, kind: Any, span: Span | None = None) -> np.ndarray:
        """Stored values (D1, ..., Dn, C) of a file's type from features of the same shape: what :meth:`convert` undoes.

        Args:
            features: floating-point numbers; of what an integer type cannot hold the nearest that it can.
            kind: NumPy's type of the values.
            span: of the sample, where values are scaled to its range; without it the range is that of the type.
        """
        kind = np.dtype(kind)
        values = 1 - features if self.invert else features
        whole = np.iinfo(kind) if kind.kind in "iu" else None
        if self.scale != "type" and span is not None:
            low, high = span
            values = values * np.where(high > low, high - low, 1) + low
        elif whole is not None:
            values = values * whole.max
        if whole is not None:
            values = np.rint(values).clip(whole.min, whole.max)
        elif kind.kind == "b":
            values = values >= 0.5
        result: np.ndarray = values.astype(kind)
        return result

    def levels(self, stored: np.ndarray) -> int:
        """How many values from 0 to 1 the features of a sample can have: as many as its integer type, of a signed one
        those that are not negative; 0 for floating-point values.

        Values that are scaled to the range of their sample or channel count as 256: their steps differ from sample to sample.
        """
        if self.scale != "type":
            return 256
        if stored.dtype.kind == "b":
            return 2
        return int(np.iinfo(stored.dtype).max) + 1 if stored.dtype.kind in "iu" else 0

    def reach(self, stored: np.ndarray) -> float:
        """How far from 0 the features of a sample can lie where its type tells their scale: 1 for integers, for
        floating-point values as far as they do; 0 where the scale is that of the sample or the channel."""
        if self.scale != "type":
            return 0.0
        if stored.dtype.kind != "f":
            return 1.0
        return float(max(stored.max(initial=0), -stored.min(initial=0)))

    def _compare(self, stored: np.ndarray) -> None:
        """Refuse values of another scale than those learned from."""
        if not self.learned or self.scale != "type":
            return
        whole = stored.dtype.kind != "f"
        if whole and self.learned > FAR:
            raise ValueError(
                f"holds {stored.dtype}, which becomes 1 at most, and the network learned from floating-point values of up "
                f"to {self.learned:g}; store values of that scale as floating-point numbers"
            )
        # floating-point values often reach a little beyond 1, as by interpolation
        most = max(1.0, self.learned)
        if not whole and most <= FAR and (reach := self.reach(stored)) > FAR * most:
            raise ValueError(
                f"has floating-point values of up to {reach:g}, and the network learned from values of at most {most:g}; "
                "store them in 8 or 16 bits, which become 1 at most, or scale them so"
            )

    def span(self, stored: np.ndarray, *, colour: bool = True) -> Span:
        """The range of a sample's values, or of each of its channels', found piece by piece, as large ones need it."""
        low, high = np.array([np.inf]), np.array([-np.inf])
        for rows in pieces(stored):
            values = self._arranged(stored[rows], colour)
            axes = tuple(range(values.ndim - (self.scale == "channel")))
            low = np.minimum(low, values.min(axes, initial=np.inf))
            high = np.maximum(high, values.max(axes, initial=-np.inf))
        return low.astype(np.float64), high.astype(np.float64)

    def _arranged(self, stored: np.ndarray, colour: bool) -> np.ndarray:
        """The values in the channels that are expected, float32 or float64, not scaled yet."""
        if self.channels and colour:
            # in the type of the file, which tells what white is
            arranged = to_channels(stored, self.channels)
        elif self.channels in (0, stored.shape[-1]):
            arranged = stored
        else:
            raise ValueError(
                f"has {stored.shape[-1]} channels, expected {self.channels}; they are no colours that could be converted"
            )
        if stored.dtype.kind not in "iufb":
            raise ValueError(f"must hold real numbers, got {stored.dtype}")
        # a range may be wider than that of float32, or narrow and far from 0
        wide = self.scale != "type" and stored.dtype.itemsize > 2
        with np.errstate(over="ignore"):
            values = np.array(arranged, np.float64 if wide else np.float32)
        if stored.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("has values that are NaN or infinite")
        return values
