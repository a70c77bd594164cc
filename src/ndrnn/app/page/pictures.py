"""Pictures that were dropped on the page: checked, kept in a temporary folder, and shown as a browser can show them."""

from __future__ import annotations

import io
import secrets
import shutil
import threading
from collections import OrderedDict
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from PIL import Image

from ...data.faults import BadFile, printable
from ...data.formats import images, pagexml
from ...data.formats.channels import to_channels
from ...data.readers.pictures import is_volume
from ..inputs import Input, find

Range = tuple[float, float]
"""The lowest and the highest value."""

KEPT = 8
"""Pictures that are kept; the oldest makes way for a new one."""


@dataclass(frozen=True)
class Picture:
    """A picture that was dropped on the page."""

    id: str
    name: str
    file: Input
    """Where its bytes lie."""
    height: int
    width: int
    shown: bytes
    """PNG of 8 bits, grey or colour, upright."""
    span: Range
    """The range over which deeper values were stretched to be shown."""


class Pictures:
    """Keeps the pictures in a folder of its own.

    Args:
        folder: an empty one; nothing is written elsewhere.
        most_bytes: of a file.
        most_pixels: of a picture.
    """

    def __init__(self, folder: Path, most_bytes: int, most_pixels: int) -> None:
        self.folder, self.most_bytes, self.most_pixels = folder, most_bytes, most_pixels
        self._kept: OrderedDict[str, Picture] = OrderedDict()
        self._lock = threading.Lock()

    def find(self, key: str) -> Picture | None:
        """The picture of this name, if it is still kept."""
        return self._kept.get(key)

    def add(self, name: str, data: bytes) -> Picture:
        """Keep a file.

        Raises:
            BadFile: it is no picture that can be read, or has too many pixels.
        """
        name = _plain(name)
        self._check(name, data)
        key = secrets.token_hex(8)
        path = self.folder / key / name
        path.parent.mkdir()
        try:
            path.write_bytes(data)
            (file,) = find([path])
            file = replace(file, where=name)  # errors call it as the person does, who knows of no folder
            pixels = images.decode(data, name)
            height, width = pixels.shape[:2]
            span = _span(pixels, name)
            picture = Picture(key, name, file, height, width, _png(eight_bits(pixels, span)), span)
        except BaseException:
            shutil.rmtree(path.parent)
            raise
        with self._lock:
            self._kept[key] = picture
            while len(self._kept) > KEPT:
                oldest, _ = self._kept.popitem(last=False)
                shutil.rmtree(self.folder / oldest)
        return picture

    def _check(self, name: str, data: bytes) -> None:
        if not data:
            raise BadFile(name, "is empty")
        if is_volume(name):
            raise BadFile(name, "is a volume, and the page shows pictures; ndrnn predict takes volumes")
        if data[:4] == b"PK\x03\x04":
            raise BadFile(name, "is a zip archive; drop one picture of it, or give it to ndrnn predict")
        if data.removeprefix(b"\xef\xbb\xbf").lstrip()[:1] == b"<" or data[:2] in (b"\xff\xfe", b"\xfe\xff"):
            raise BadFile(name, _told_of_xml(data, name))
        height, width = images.size_of(data, name)
        if height * width > self.most_pixels:
            raise BadFile(
                name,
                f"has {height} x {width} pixels, {height * width / 1e6:.1f} million, and at most "
                f"{self.most_pixels / 1e6:g} million are taken (--max-megapixels sets the limit)",
            )


def _told_of_xml(data: bytes, name: str) -> str:
    """Why XML is not taken, and what is to be done with it."""
    try:
        layout = pagexml.parse(data, name)
    except BadFile:
        layout = None
    if layout is None:
        return "is XML, and the page shows pictures"
    count = len(layout.lines)
    return (
        f"is {'a PAGE' if layout.kind == 'page' else 'an ALTO'} file of {count:,} line{'' if count == 1 else 's'}, without the "
        "image; ndrnn predict reads whole pages, from a folder of images and such files, and here the image of one line is read"
    )


def _plain(name: str) -> str:
    """The last part of a name, such as a file may have anywhere."""
    name = (
        printable(PurePosixPath(name.replace("\\", "/")).name)
        .lstrip(".")
        .replace("\\", "_")
        .replace(":", "_")
    )
    stem, suffix = PurePosixPath(name).stem[:80], PurePosixPath(name).suffix[:8]
    # an archive would be looked into, and what a file is does not depend on its name
    return f"{stem or 'picture'}{suffix if suffix.lower() != '.zip' else ''}"


def eight_bits(pixels: np.ndarray, span: Range | None = None) -> np.ndarray:
    """What is shown of pixels (H, W, C): (H, W, 1) or (H, W, 3) uint8, deeper ones stretched over a range, or over their
    own."""
    pixels = to_channels(pixels, 1 if pixels.shape[-1] < 3 else 3)
    if pixels.dtype == np.uint8:
        return np.ascontiguousarray(pixels)
    values = pixels.astype(np.float32)
    low, high = span or (float(values.min()), float(values.max()))
    return np.rint(((values - low) * (255 / (high - low) if high > low else 0)).clip(0, 255)).astype(np.uint8)


def _span(pixels: np.ndarray, name: str) -> Range:
    """The range of a picture's colours."""
    if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
        raise BadFile(name, "has values that are NaN or infinite")
    colours = pixels[..., : 1 if pixels.shape[-1] < 3 else 3]
    return float(colours.min()), float(colours.max())


def _png(pixels: np.ndarray) -> bytes:
    to = io.BytesIO()
    Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(to, "PNG", compress_level=1)
    return to.getvalue()
