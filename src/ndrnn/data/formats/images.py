"""Images from bytes: 8 or 16 bits, grey, colour or palette, with or without alpha; and masks of labels."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from ..faults import BadFile

try:
    from PIL import Image, UnidentifiedImageError
except ModuleNotFoundError as error:
    raise ImportError("reading images needs Pillow: pip install 'ndrnn[vision]'") from error

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp", ".pgm", ".ppm", ".pbm")
"""Endings of the files that are taken for images."""

_SWAPPED = {";16B": ";16L", ";16L": ";16B"}


def decode(data: bytes, file: str = "image") -> np.ndarray:
    """An image as (H, W, C): uint8, uint16 or float32; C is 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha.

    Palettes become the colours that they stand for. ``file`` is what errors call the image.

    Raises:
        BadFile: the bytes are no whole image.
    """
    with _opened(data, file) as image:
        if image.mode == "P":
            image = image.convert("RGBA" if "transparency" in image.info else "RGB")
        elif image.mode == "1":
            image = image.convert("L")
        elif image.mode in ("I", "I;16", "I;16B", "I;16L", "I;16N"):
            return _sixteen(np.asarray(image), file)[..., None]
        elif image.mode == "F":
            return np.array(image, np.float32)[..., None]
        elif image.mode not in ("L", "LA", "RGB", "RGBA"):
            image = image.convert("RGBA" if image.mode in ("PA", "La", "RGBa") else "RGB")
        low = _low_bytes(data, image) if image.mode in ("RGB", "RGBA") else None
        array = np.array(image)
    if low is not None:
        array = array.astype(np.uint16) << 8 | low
    return array if array.ndim == 3 else array[..., None]


def decode_mask(data: bytes, file: str = "mask") -> np.ndarray:
    """The labels of an image's pixels, (H, W) int64: grey levels, or the entries of a palette as numbers.

    Raises:
        BadFile: the bytes are no whole image, or one in colour, whose labels are not known.
    """
    with _opened(data, file) as image:
        if image.mode == "1":
            return np.asarray(image).astype(np.int64)
        if image.mode in ("L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"):
            return np.asarray(image).astype(np.int64)
        if image.mode in ("LA", "RGB", "RGBA"):
            array = np.asarray(image).astype(np.int64)
            grey = array[..., : 1 if image.mode == "LA" else 3]
            if (grey == grey[..., :1]).all():
                return grey[..., 0]
        raise BadFile(file, f"a mask must hold labels as grey levels or palette entries, got {image.mode}")


@contextmanager
def _opened(data: bytes, file: str) -> Iterator[Image.Image]:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # large scans are common here
            with Image.open(io.BytesIO(data)) as image:
                image.load()
                if 0 in image.size:
                    raise BadFile(file, f"image of {image.size[1]} x {image.size[0]} pixels")
                yield image
    except UnidentifiedImageError as error:
        raise BadFile(file, "not an image, or one of an unknown format") from error
    except BadFile:
        raise
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadFile(file, f"damaged image ({error})") from error


def _sixteen(array: np.ndarray, file: str) -> np.ndarray:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise BadFile(file, f"values must lie in [0, 65535], got {low} to {high}")
    return array.astype(np.uint16)


def _low_bytes(data: bytes, image: Image.Image) -> np.ndarray | None:
    """The second byte of each value of a 16-bit colour image, of which Pillow keeps only the first."""
    again = Image.open(io.BytesIO(data))
    if not again.tile or again.mode != image.mode:
        return None
    tiles = []
    for tile in again.tile:
        args = (tile.args,) if isinstance(tile.args, str) else tile.args or ("",)
        mode, rest = str(args[0]), args[1:]
        if mode[-4:] not in _SWAPPED or mode[:-4] != image.mode:
            return None
        swapped = mode[:-4] + _SWAPPED[mode[-4:]]
        tiles.append(tile._replace(args=swapped if isinstance(tile.args, str) else (swapped, *rest)))
    again.tile = tiles
    return np.array(again).astype(np.uint16)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """An image (H, W, C) at another size, each output pixel the mean of what it covers or an interpolation."""
    planes = [
        np.asarray(
            Image.fromarray(image[..., index].astype(np.float32)).resize(
                (width, height), Image.Resampling.BILINEAR
            )
        )
        for index in range(image.shape[-1])
    ]
    result = np.stack(planes, -1)
    return result if image.dtype.kind == "f" else np.rint(result).astype(image.dtype)
