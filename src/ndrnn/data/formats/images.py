"""Images from bytes: 8 or 16 bits, grey, colour or palette, with or without alpha; and masks of labels."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import numpy as np
from PIL import Image

from ..faults import BadFile
from .channels import to_channels
from .limits import check_size
from .opening import FORMATS, Pictures, highest, opened, orientation, upright, white_is_zero

SUFFIXES = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".gif", ".bmp", ".webp", ".pgm", ".ppm", ".pbm")
"""Endings of the files that are taken for images."""

_GREYS = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_SWAPPED = {
    ";16B": ";16L",
    ";16L": ";16B",
    ";16N": ";16B" if sys.byteorder == "little" else ";16L",
}


def decode(data: bytes, file: str = "image", *, stacked: bool = False) -> np.ndarray:
    """An image as (H, W, C): uint8, uint16 or float32; C is 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha.

    Palettes become the colours that they stand for, a colour that is said to be transparent (of PNG and GIF) becomes
    alpha, and levels of other than 8 or 16 bits are spread over these. The image is turned as its EXIF data say. ``file`` is what errors
    call the image. With ``stacked`` the pictures of the file, be it one, are the slices of a volume (D, H, W, C).

    Raises:
        BadFile: the bytes are no whole image, or several without ``stacked``.
    """
    with opened(data, file) as pictures:
        return _stacked(pictures, lambda index: _values(pictures, index, data, file), file, stacked)


def decode_turned(data: bytes, file: str = "image") -> tuple[np.ndarray, int]:
    """What :func:`decode` gives of one picture, and how it was turned to be so, EXIF's number from 1 to 8."""
    with opened(data, file) as pictures:
        values = _stacked(pictures, lambda index: _values(pictures, index, data, file), file, stacked=False)
        return values, pictures.turn


def size_of(data: bytes, file: str = "image") -> tuple[int, int]:
    """The rows and columns of an image as it is stored, of several pictures the first; its pixels are not unfolded.

    Raises:
        BadFile: the bytes are no image, or announce more than may be read.
    """
    with opened(data, file) as pictures:
        return pictures.size


def decode_mask(
    data: bytes, file: str = "mask", *, stacked: bool = False, colours: bool = False
) -> np.ndarray:
    """The labels of an image's pixels, (H, W) int64: grey levels, or the entries of a palette as numbers.

    Grey levels are the numbers that the file holds, also where the lowest of them is white. With one bit, which is
    black and white alone, white is 1 whatever the file holds.

    The mask is turned as its EXIF data say, and ``stacked`` as with :func:`decode`. With ``colours`` the numbers are
    those of colours of 8 bits, red * 65536 + green * 256 + blue, be they stored as such, in a palette, or grey.

    Raises:
        BadFile: the bytes are no whole image, one in colour, whose labels are not known, or several pictures; with
            ``colours`` also one with more than 8 bits a value, or with transparent points.
    """
    with opened(data, file) as pictures:
        read = _colours if colours else _labels
        return _stacked(pictures, lambda index: read(pictures, index, file), file, stacked)


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


def _stacked(pictures: Pictures, read: Callable[[int], np.ndarray], file: str, stacked: bool) -> np.ndarray:
    if not stacked:
        if len(pictures.frames) > 1:
            raise BadFile(
                file,
                f"holds {pictures.count} pictures, of which one is expected; "
                "data.stacked reads such files as volumes",
            )
        return read(0)
    first = read(0)
    check_size(first.nbytes * len(pictures.frames), file)
    slices = [first, *(read(index) for index in range(1, len(pictures.frames)))]
    if first.ndim == 3:  # an animation may begin with grey and go on in colour
        channels = max(one.shape[-1] for one in slices)
        slices = [to_channels(one, channels) for one in slices]
    for index, one in enumerate(slices):
        if one.shape != first.shape[:2] + one.shape[2:] or one.dtype != first.dtype:
            expected, got = (
                f"{' x '.join(map(str, part.shape[:2]))} of {part.dtype}" for part in (first, one)
            )
            raise BadFile(file, f"its pictures must be alike, the first is {expected}, number {index} {got}")
    return np.stack(slices)


def _values(pictures: Pictures, index: int, data: bytes, file: str) -> np.ndarray:
    image = pictures.load(index)
    if image.mode in _GREYS:
        array = _sixteen(np.asarray(image), file)
        full = highest(image)
        if white_is_zero(image):
            array = full - array
        if full < 65535:
            array = ((array.astype(np.uint32) * 65535 + full // 2) // full).astype(np.uint16)
    elif image.mode == "F":
        array = np.array(image, np.float32)
    elif pictures.sixteen:
        array = _deep(data, image, pictures.frames[index], file)
    else:
        array = np.array(_plain(image))
    array = array if array.ndim == 3 else array[..., None]
    return upright(_with_opacity(array, image, pictures.stretched), orientation(image))


def _with_opacity(array: np.ndarray, image: Image.Image, stretched: tuple[int, int] | None) -> np.ndarray:
    """Colours (H, W, C) with a channel of opacity, where one of them is transparent, as chunks tRNS of PNG say."""
    key = image.info.get("transparency")
    if image.mode == "P" or not (image.format == "PNG" or (image.format == "GIF" and image.mode == "L")):
        return array
    if not isinstance(key, int | tuple):
        return array
    full = np.iinfo(array.dtype).max
    top = stretched[0] if stretched is not None else full
    # 16 bits tell it, of which no more count than the levels have
    wanted = (np.ravel(key) & top) * (full // top)
    opaque = (array != wanted).any(-1, keepdims=True)
    return np.concatenate([array, np.where(opaque, full, 0).astype(array.dtype)], -1)


def _plain(image: Image.Image) -> Image.Image:
    """The picture as one of the modes L, LA, RGB, RGBA."""
    if image.mode == "P":
        return image.convert("RGBA" if "transparency" in image.info else "RGB")
    if image.mode == "1":
        return image.convert("L")
    if image.mode in ("L", "LA", "RGB", "RGBA"):
        return image
    return image.convert("RGBA" if image.mode in ("PA", "La", "RGBa") else "RGB")


def _labels(pictures: Pictures, index: int, file: str) -> np.ndarray:
    image = pictures.load(index)
    array = np.asarray(image)
    if image.mode in ("LA", "RGB", "RGBA"):
        grey = array[..., : 1 if image.mode == "LA" else 3]
        if not (grey == grey[..., :1]).all():
            raise BadFile(
                file,
                f"a mask must hold labels as grey levels or palette entries, got {image.mode}{_told(array)}",
            )
        if pictures.sixteen:
            raise BadFile(
                file,
                f"a mask of 16 bits must hold labels as grey levels alone, got {image.mode} (Pillow drops the low bits)",
            )
        array = grey[..., 0]
    elif image.mode not in ("1", "L", "P", *_GREYS):
        raise BadFile(file, f"a mask must hold labels as grey levels or palette entries, got {image.mode}")
    labels = array.astype(np.int64)
    if image.mode == "L" and white_is_zero(image):
        labels = 255 - labels  # Pillow minds it with 8 bits and less
    if image.mode != "P" and pictures.stretched is not None:
        # levels of other than 8 or 16 bits are spread over them, which is right for shades alone
        highest, full = pictures.stretched
        labels = (labels * highest + full // 2) // full
    return upright(labels, orientation(image))


def _colours(pictures: Pictures, index: int, file: str) -> np.ndarray:
    image = pictures.load(index)
    if image.mode in (*_GREYS, "F") or pictures.sixteen:
        raise BadFile(file, f"colours of masks have 8 bits, got {image.mode} of more")
    plain = _plain(image)
    array = np.asarray(plain)
    if plain.mode in ("LA", "RGBA"):
        if (array[..., -1] < 255).any():
            raise BadFile(file, "has transparent points, of which a mask's colour is not clear")
        array = array[..., :-1]
    parts = (array if array.ndim == 3 else array[..., None]).astype(np.int64)
    red, green, blue = (parts[..., min(place, parts.shape[-1] - 1)] for place in range(3))
    return upright(red << 16 | green << 8 | blue, orientation(image))


def _told(array: np.ndarray) -> str:
    """What to write into data.classes for the colours of a mask, if they are few."""
    if array.shape[-1] < 3 or array.dtype != np.uint8:
        return ""
    red, green, blue = (array[..., place].astype(np.int64) for place in range(3))
    found = np.flatnonzero(np.bincount((red << 16 | green << 8 | blue).reshape(-1)))
    words = " ".join(f"'#{number:06x}=NAME'" for number in found[:8])
    more = " ..." if len(found) > 8 else ""
    return f" of {len(found):,} colours; data.classes {words}{more} says which labels they are"


def _sixteen(array: np.ndarray, file: str) -> np.ndarray:
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > 65535:
        raise BadFile(file, f"values must lie in [0, 65535], got {low} to {high}")
    return array.astype(np.uint16)


def _deep(data: bytes, image: Image.Image, frame: int, file: str) -> np.ndarray:
    """An image of several channels of 16 bits, of which Pillow keeps only the first byte of each value."""
    pairs = _decoded_as(data, image, frame, lambda raw: "RGBA" if raw == "LA;16B" else None)
    if pairs is not None:  # of a PNG: four bytes a pixel
        return pairs.view(">u2").astype(np.uint16)

    def swapped(raw: str) -> str | None:
        order = _SWAPPED.get(raw[-4:])
        return None if order is None or raw[:-4] != image.mode else raw[:-4] + order

    low = _decoded_as(data, image, frame, swapped)
    if low is None:
        raise BadFile(
            file,
            "holds 16 bits a value in channels of which Pillow keeps 8; store grey or RGB, with or without alpha",
        )
    return np.array(image).astype(np.uint16) << 8 | low


def _decoded_as(
    data: bytes, image: Image.Image, frame: int, layout: Callable[[str], str | None]
) -> np.ndarray | None:
    """The bytes of an image as if its pixels were laid out otherwise; None if ``layout`` knows no other."""
    with Image.open(io.BytesIO(data), formats=FORMATS) as again:
        if frame:
            again.seek(frame)
        if not again.tile or again.mode != image.mode:
            return None
        tiles = []
        for tile in again.tile:
            args = (tile.args,) if isinstance(tile.args, str) else tile.args or ("",)
            other, rest = layout(str(args[0])), args[1:]
            if other is None:
                return None
            tiles.append(tile._replace(args=other if isinstance(tile.args, str) else (other, *rest)))
        again.tile = tiles
        return np.array(again)
