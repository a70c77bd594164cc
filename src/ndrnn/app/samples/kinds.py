"""What files hold, and the names of what they hold beside their samples."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

PROFILE, EXIF, PALETTE, OPACITY, PNG = "ICCP", "EXIF", "PLTE", "TRNS", "PNGC"
"""Of an image: its colour profile, EXIF data, palette, the palette's opacities, and other chunks of PNG."""
VOLUME, ARRAY = "NIFT", "NPYA"
"""Of a volume and an array: what stands before the voxels, or the numbers."""
NEGATIVE = "NEGA"
"""That the samples are those of the negative."""


@dataclass(frozen=True)
class Samples:
    """What a file holds."""

    values: np.ndarray
    """uint8 or uint16, (\\*lattice) or (\\*lattice, C)."""
    bits: int
    alpha: bool = False
    chunks: Mapping[str, bytes] = field(default_factory=dict)
    axes: int = 2
    """Of the lattice."""

    @property
    def channels(self) -> int:
        """All of them, opacity too."""
        return int(self.values.shape[-1]) if self.values.ndim > self.axes else 1

    @property
    def suffix(self) -> str:
        """The ending of the file that is made of them."""
        if VOLUME in self.chunks:
            return ".nii"
        picture = ARRAY not in self.chunks and self.axes == 2 and self.channels <= 4
        return ".png" if picture else ".npy"


def negative(samples: Samples) -> Samples:
    """The negative, which says so itself: what a model that learned from negatives codes."""
    values = samples.values.dtype.type((1 << samples.bits) - 1) - samples.values
    return replace(samples, values=values, chunks={**samples.chunks, NEGATIVE: b""})


def full_range(samples: Samples) -> Samples:
    """With no more bits than the values need, of more than 8: those of a camera of 12 bits are 0 to 4095, and to a model
    of pictures of another depth they are to be all from black to white."""
    needed = max(9, int(samples.values.max(initial=0)).bit_length())
    return replace(samples, bits=min(samples.bits, needed))


def unsigned(stored: np.ndarray) -> tuple[np.ndarray, int]:
    """Integers of at most 16 bits as unsigned ones, and how many bits they need: those of a signed type without the
    sign's if none is negative, and else all, moved up by half of their range."""
    native = np.ascontiguousarray(stored.astype(stored.dtype.newbyteorder("=")))
    if native.dtype.kind == "b":
        return native.astype(np.uint8), 1
    bits, values = 8 * native.itemsize, native.view(f"u{native.itemsize}")
    if native.dtype.kind == "u":
        return values, bits
    if int(native.min(initial=0)) >= 0:
        return values, bits - 1
    return values ^ values.dtype.type(1 << bits - 1), bits


def is_moved(kind: np.dtype, bits: int) -> bool:
    """Whether :func:`unsigned` moved integers of this type, and gave them so many bits."""
    return kind.kind == "i" and bits == 8 * kind.itemsize


def signed(values: np.ndarray, bits: int, kind: np.dtype) -> np.ndarray:
    """Of what :func:`unsigned` made of integers of this type, these again."""
    if kind.kind == "b":
        return values.astype(kind)
    native = values.astype(f"u{kind.itemsize}")
    if is_moved(kind, bits):
        native ^= native.dtype.type(1 << bits - 1)
    return native.view(kind.newbyteorder("=")).astype(kind)
