"""Bits per pixel with their base measure and their uncertainty."""

from __future__ import annotations

from math import log
from typing import Literal

import torch
from torch import Tensor

Base = Literal["continuous", "discrete"]


class Rate(float):
    """Bits per pixel (per channel): a float that knows its base measure and a bootstrap confidence interval.

    With the continuous base it is the mean log2-density, larger is better; with the discrete base the code length
    -log2 P, smaller is better.
    """

    base: Base
    interval: tuple[float, float]
    images: int
    pixels_per_image: int

    def __new__(
        cls, value: float, base: Base, interval: tuple[float, float], images: int, pixels_per_image: int
    ) -> Rate:
        self = super().__new__(cls, value)
        self.base, self.interval = base, interval
        self.images, self.pixels_per_image = images, pixels_per_image
        return self

    def __getnewargs__(self) -> tuple[float, Base, tuple[float, float], int, int]:  # type: ignore[override]
        return float(self), self.base, self.interval, self.images, self.pixels_per_image

    def __str__(self) -> str:
        low, high = self.interval
        what = "log2-density" if self.base == "continuous" else "code length"
        count = f"{self.images} images of {self.pixels_per_image} predicted pixels"
        return f"{float(self):.4f} bit/px [{low:.4f}, {high:.4f}] ({self.base} base, {what}; {count})"


def rate_of(
    nats_per_image: Tensor, base: Base, pixels_per_image: int, confidence: float = 0.95, seed: int = 0
) -> Rate:
    """Rate from the mean log-probabilities (nats per pixel and channel) of equally large images (N,).

    Raises:
        ValueError: ``base`` or ``confidence`` is out of range, or there is not one value per image.
    """
    if nats_per_image.dim() != 1 or not len(nats_per_image):
        raise ValueError(
            f"nats_per_image must hold one value per image, (N,), got {tuple(nats_per_image.shape)}"
        )
    if base not in ("continuous", "discrete"):
        raise ValueError(f'base must be "continuous" or "discrete", got {base!r}')
    if not 0 < confidence < 1:
        raise ValueError(f"confidence must lie between 0 and 1, got {confidence}")
    bits = nats_per_image.double().cpu() / log(2.0) * (1 if base == "continuous" else -1)
    generator = torch.Generator().manual_seed(seed)
    draws = torch.randint(len(bits), (1000, len(bits)), generator=generator)
    ends = torch.tensor([(1 - confidence) / 2, (1 + confidence) / 2], dtype=torch.float64)
    low, high = bits[draws].mean(1).quantile(ends).tolist()
    return Rate(float(bits.mean()), base, (low, high), len(bits), pixels_per_image)
