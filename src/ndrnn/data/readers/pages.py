"""Lines of whole pages, as PAGE and ALTO files describe them: XML beside the image, with outlines and texts."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple
from xml.etree import ElementTree

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage
from .lines import Lines
from .place import locate
from .source import Raw, Source, split_called

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

    from ..formats import images
else:
    np = Later("numpy")
    Image, ImageDraw = Later("PIL.Image"), Later("PIL.ImageDraw")
    images = Later("ndrnn.data.formats.images")

Point = tuple[float, float]


@dataclass(frozen=True)
class Pages(Lines):
    """Lines cut out of page images by their PAGE or ALTO files (``*.xml``), which name image, outlines and texts.

    What lies in a line's bounding box but outside its outline takes the middle grey of the line. ``table`` has no
    meaning here.
    """

    def open(self) -> Source:
        return _Pages(self, open_storage(locate(self.path, self.root)))


class _Line(NamedTuple):
    image: str
    outline: list[Point]
    text: str


class _Pages(Source):
    def __init__(self, options: Pages, storage: Storage) -> None:
        self.options = options
        self.storage = storage
        self._found: list[_Line | BadFile] = []
        names: list[str] = []
        splits: list[str] = []
        for name in storage.under("", (".xml",)):
            folders = PurePosixPath(name).parent.parts
            split = next((called for part in folders if (called := split_called(part))), "")
            lines = _lines_of(storage, name)
            self._found += lines
            names += [f"{storage.where(name)}#{number}" for number in range(len(lines))]
            splits += [split] * len(lines)
        if not names:
            raise BadFile(str(storage.path), "no lines in PAGE or ALTO files (*.xml)")
        self.names, self.splits = names, splits
        self._page: tuple[str, np.ndarray] | None = None  # the lines of a page follow each other

    def read(self, index: int) -> Raw:
        line = self._found[index]
        if isinstance(line, BadFile):
            raise line
        file = self.names[index]
        text = unicodedata.normalize("NFC", line.text).strip()
        if not text:
            raise BadFile(file, "its text is empty")
        if self._page is None or self._page[0] != line.image:
            where = self.storage.where(line.image)
            self._page = line.image, images.decode(self.storage.read(line.image), where)
        return Raw(self.options.prepare(cut_out(self._page[1], line.outline, file)), text)


def cut_out(page: np.ndarray, outline: list[Point], file: str) -> np.ndarray:
    """The part of a page (H, W, C) within an outline of (x, y), as far as it lies on the page.

    Raises:
        BadFile: that is nothing.
    """
    columns, rows = zip(*outline, strict=True)
    left, top = max(0, int(min(columns))), max(0, int(min(rows)))
    right, bottom = min(page.shape[1], int(max(columns)) + 1), min(page.shape[0], int(max(rows)) + 1)
    if right - left < 2 or bottom - top < 2:
        raise BadFile(
            file, f"its outline encloses nothing of the page of {page.shape[0]} x {page.shape[1]} pixels"
        )
    part = page[top:bottom, left:right].copy()
    inside = Image.new("1", (right - left, bottom - top))
    ImageDraw.Draw(inside).polygon([(x - left, y - top) for x, y in outline], fill=1, outline=1)
    mask = np.asarray(inside)
    if mask.any() and not mask.all():
        part[~mask] = np.median(part[mask], axis=0).astype(part.dtype)
    return part


def _lines_of(storage: Storage, name: str) -> list[_Line | BadFile]:
    """The lines of a file; a file, or an image, that cannot be used is one fault."""
    where = storage.where(name)
    try:
        root = ElementTree.fromstring(storage.read(name))
    except ElementTree.ParseError as error:
        return [BadFile(where, f"not XML ({error})")]
    except BadFile as fault:
        return [fault]
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]  # versions differ in their namespaces
    if root.tag == "PcGts":
        page = root.find("Page")
        called = "" if page is None else page.get("imageFilename", "")
        found = [(_page_outline(line), _page_text(line)) for line in root.iter("TextLine")]
    elif root.tag == "alto":
        called = root.findtext(".//sourceImageInformation/fileName", "")
        found = [(_alto_outline(line), _alto_text(line)) for line in root.iter("TextLine")]
    else:
        return []
    image = _image_of(storage, name, called)
    if image is None:
        return [BadFile(where, f"its image {called!r} is neither beside it nor has its name")]
    return [
        _Line(image, outline, text) if len(outline) > 2 else BadFile(where, f"line {number} has no outline")
        for number, (outline, text) in enumerate(found)
    ]


def _image_of(storage: Storage, name: str, called: str) -> str | None:
    """The image that a file names, beside it, or the one of its own name."""
    folder, known = PurePosixPath(name).parent, set(storage.names)
    base = PurePosixPath(called.replace("\\", "/")).name
    choices = [str(folder / base)] if base else []
    # PAGE files often lie in a folder of their own
    choices += [str(folder.parent / base)] if base else []
    stem = str(PurePosixPath(name).with_suffix(""))
    choices += [stem + suffix for suffix in images.SUFFIXES]
    return next((choice for choice in choices if choice in known), None)


def _points(text: str) -> list[Point]:
    numbers = [float(number) for number in re.findall(r"-?\d+(?:\.\d+)?", text)]
    return list(zip(numbers[::2], numbers[1::2], strict=False))


def _page_outline(line: ElementTree.Element) -> list[Point]:
    coords = line.find("Coords")
    return [] if coords is None else _points(coords.get("points", ""))


def _page_text(line: ElementTree.Element) -> str:
    # the line's own text, not that of its words
    return line.findtext("TextEquiv/Unicode", "") or ""


def _alto_outline(line: ElementTree.Element) -> list[Point]:
    polygon = line.find("Shape/Polygon")
    if polygon is not None:
        return _points(polygon.get("POINTS", ""))
    try:
        left, top, width, height = (float(line.get(key, "")) for key in ("HPOS", "VPOS", "WIDTH", "HEIGHT"))
    except ValueError:
        return []
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def _alto_text(line: ElementTree.Element) -> str:
    parts = [
        " " if part.tag == "SP" else part.get("CONTENT", "")
        for part in line
        if part.tag in ("String", "SP", "HYP")
    ]
    # some writers leave the spaces out
    return "".join(parts) if " " in parts or len(parts) < 2 else " ".join(parts)
