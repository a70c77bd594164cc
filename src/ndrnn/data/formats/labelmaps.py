"""Labels as files: maps with a palette, stacks, arrays, and colours laid over an image."""

from __future__ import annotations

import colorsys
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ...saving.atomic import replacing
from . import npy
from .channels import to_channels
from .pieces import pieces

SCALE = 65535
"""What stands for 1 in a map of shares."""


@cache
def palette(count: int) -> np.ndarray:
    """Colours of the labels 0, 1, ..., (count, 3) uint8: black, then hues a golden angle apart."""
    colors = [(0, 0, 0)]
    for number in range(1, count):
        # neighbours in number differ in hue, and every round of hues in brightness
        hue, value = (number - 1) * 0.618034 % 1, 1 - 0.22 * ((number - 1) // 6 % 3)
        red, green, blue = colorsys.hsv_to_rgb(hue, 0.75, value)
        colors.append((round(255 * red), round(255 * green), round(255 * blue)))
    made = np.array(colors[:count], np.uint8)
    made.flags.writeable = False
    return made


def write_map(labels: np.ndarray, path: str | Path, count: int) -> None:
    """Write labels (H, W) as a PNG whose values are the labels, with a palette where there are at most 256.

    Raises:
        ValueError: a label does not fit into 16 bits.
    """
    if labels.min(initial=0) < 0 or labels.max(initial=0) > 65535:
        raise ValueError(f"labels must lie in [0, 65535], got {labels.min()} to {labels.max()}")
    if count <= 256:
        image = Image.fromarray(labels.astype(np.uint8), "L")
        image.putpalette(palette(count).tobytes())
    else:
        image = Image.fromarray(labels.astype(np.uint16))
    _save(image, path)


def write_shares(shares: np.ndarray, path: str | Path) -> None:
    """Write numbers (H, W) from 0 to 1 as a grey PNG of 16 bits, in which ``SCALE`` is 1."""
    _save(Image.fromarray(np.rint(shares * float(SCALE)).clip(0, SCALE).astype(np.uint16)), path)


def write_stack(values: np.ndarray, path: str | Path, kind: Any = None) -> None:
    """Write slices (D, H, W), or (D, H, W, 3) of 8 bits, as the pages of a TIFF.

    Args:
        values: of the points.
        path: of the file.
        kind: NumPy's type; by default float32, or integers of the fewest bits of 8, 16 and 32.
    """
    if kind is not None:
        values = values.astype(kind)
    elif values.dtype.kind != "f":
        highest = int(values.max(initial=0))
        values = values.astype(np.uint8 if highest < 256 else np.uint16 if highest < 65536 else np.int32)
    first, *others = (Image.fromarray(one) for one in values)
    with replacing(path) as temporary:
        first.save(
            temporary, format="TIFF", save_all=True, append_images=others, compression="tiff_adobe_deflate"
        )


def write_array(values: np.ndarray, path: str | Path, kind: Any) -> None:
    """Write numbers of points, of any axes, as an array (.npy) of one of NumPy's types."""
    with replacing(path) as temporary:
        temporary.write_bytes(npy.encode(values[..., None].astype(kind)))


def write_overlay(image: np.ndarray, labels: np.ndarray, path: str | Path, count: int) -> None:
    """Write an image (H, W, C) as PNG with its labels (H, W) in colour over it; label 0 stays as it is."""
    low = min(float(_shown(image[rows]).min()) for rows in pieces(image))
    high = max(float(_shown(image[rows]).max()) for rows in pieces(image))
    colors = palette(max(count, int(labels.max(initial=0)) + 1)).astype(np.float32)
    mixed = np.empty((*labels.shape, 3), np.uint8)
    for rows in pieces(image):
        shades = (_shown(image[rows]) - low) * (255 / (high - low) if high > low else 0)
        mixed[rows] = np.rint(shades)
        laid, marked = mixed[rows], labels[rows] > 0
        shades = np.broadcast_to(shades, laid.shape)[marked]
        laid[marked] = np.rint(0.55 * shades + 0.45 * colors[labels[rows][marked]])
    _save(Image.fromarray(mixed), path)


def _shown(image: np.ndarray) -> np.ndarray:
    """An image (H, W, C) as shades (H, W, 1), or as colours (H, W, 3), float32."""
    return (image if image.shape[-1] == 1 else to_channels(image[..., :4], 3)).astype(np.float32)


def _save(image: Image.Image, path: str | Path) -> None:
    with replacing(path) as temporary:
        # Pillow's own 6 takes two to three times as long, and leaves a twentieth less
        image.save(temporary, format="PNG", compress_level=3)
