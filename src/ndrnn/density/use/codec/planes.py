"""Channels to planes and back: reversible transforms of integers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Samples = NDArray[np.uint16]

TRANSFORMS = ("none", "ycocg", "green")
"""In the order of their numbers in a file."""


def plane_bits(bits: int, channels: int, transform: str) -> list[int]:
    """Bits of every plane."""
    wide = transform == "ycocg"
    return [bits + (wide and plane in (1, 2)) for plane in range(channels)]


def split(samples: Samples, bits: int, transform: str) -> list[Samples]:
    """The planes, (\\*lattice) each, of samples (\\*lattice, C). Channels after the third stay as they are."""
    channels = [samples[..., c] for c in range(samples.shape[-1])]
    if transform == "none":
        return [np.ascontiguousarray(channel) for channel in channels]
    red, green, blue = (channel.astype(np.int32) for channel in channels[:3])
    if transform == "green":
        half, mask = 1 << bits >> 1, (1 << bits) - 1
        planes = [green, (red - green + half) & mask, (blue - green + half) & mask]
    else:  # YCoCg-R (Malvar & Sullivan 2003)
        orange = red - blue
        middle = blue + (orange >> 1)
        chroma = green - middle
        offset = 1 << bits
        planes = [middle + (chroma >> 1), orange + offset, chroma + offset]
    return [plane.astype(np.uint16) for plane in planes] + [np.ascontiguousarray(c) for c in channels[3:]]


def join(planes: list[Samples], bits: int, transform: str) -> Samples:
    """The samples (\\*lattice, C) of which :func:`split` made planes; of other planes, some samples of ``bits`` bits."""
    mask = (1 << bits) - 1
    if transform == "none":
        return np.stack(planes, -1)
    first, second, third = (plane.astype(np.int32) for plane in planes[:3])
    if transform == "green":
        half = 1 << bits >> 1
        colour = [second + first - half, first, third + first - half]
    else:
        offset = 1 << bits
        orange, chroma = second - offset, third - offset
        middle = first - (chroma >> 1)
        blue = middle - (orange >> 1)
        colour = [blue + orange, chroma + middle, blue]
    return np.stack([(c & mask).astype(np.uint16) for c in colour] + planes[3:], -1)
