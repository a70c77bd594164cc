"""Lines of whole pages, as PAGE and ALTO files describe them: XML beside the image, with outlines and texts."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile, naming
from ..formats import pagexml
from ..formats.storage import Storage, open_storage
from .lines import Lines
from .place import locate
from .source import Raw, Source, split_called

if TYPE_CHECKING:
    import numpy as np
    from PIL import Image, ImageDraw

    from ..formats import images, opening
else:
    np = Later("numpy")
    Image, ImageDraw = Later("PIL.Image"), Later("PIL.ImageDraw")
    images, opening = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.opening")

SUFFIX = ".xml"
"""Ending of the files that describe pages."""

_FAR = 1e7  # pixels


@dataclass(frozen=True)
class Pages(Lines):
    """Lines cut out of page images by their PAGE or ALTO files (``*.xml``), which name image, outlines and texts.

    What lies in a line's bounding box but outside its outline takes the middle grey of the line. Of an image that its
    EXIF data turn, outlines are places among the pixels as they are stored, unless the size of the page is that of the
    turned image; lines are upright either way. ``table`` has no meaning here.
    """

    def open(self) -> Source:
        return _Pages(self, open_storage(locate(self.path, self.root)))


@dataclass(frozen=True)
class Scan:
    """The image of a page, as its outlines see it."""

    pixels: np.ndarray
    """(H, W, C)."""
    turn: int
    """How a piece of it becomes upright, EXIF's number."""


@dataclass(frozen=True)
class FoundPage:
    """A page of a storage: its description, and its image."""

    storage: Storage
    name: str
    """The file that describes it."""
    image: str
    layout: pagexml.Page

    @property
    def where(self) -> str:
        """What to call the description."""
        return self.storage.where(self.name)

    def line_name(self, number: int) -> str:
        """What messages and results call a line: the description, and the line's id or number."""
        return f"{self.where}#{self.layout.names[number]}"

    def scan(self) -> Scan:
        """The image.

        Programs that turn it by its EXIF data are told from those that do not by the size of the page, where the turn
        exchanges the sides; where that does not tell, the outlines are taken for places in what is stored.
        """
        seen, turn = images.decode_turned(self.storage.read(self.image), self.storage.where(self.image))
        stored = opening.as_stored(seen, turn)
        height, width = stored.shape[:2]
        if seen.shape != stored.shape and self.layout.lies_across(width, height):
            return Scan(seen, 1)
        return Scan(stored, turn)

    def cut(self, scan: Scan, number: int) -> np.ndarray:
        """A line's part of the image, upright.

        Raises:
            BadFile: the line has no outline on the image.
        """
        line = self.layout.lines[number]
        if isinstance(line, BadFile):
            raise line
        height, width = scan.pixels.shape[:2]
        across, down = self.layout.scales(width, height, self.where, self.storage.where(self.image))
        outline = [(x * across, y * down) for x, y in line.outline]
        return opening.upright(cut_out(scan.pixels, outline, self.line_name(number)), scan.turn)


def find_page(storage: Storage, name: str) -> FoundPage | None:
    """The page that a file describes, or None if the file is of another kind.

    Raises:
        BadFile: the file is damaged, or its image is missing.
    """
    where = storage.where(name)
    layout = pagexml.parse(storage.read(name, text=True), where)
    if layout is None:
        return None
    image = _image_of(storage, name, layout.image)
    if image is None:
        raise BadFile(where, f"its image {layout.image!r} is neither beside it nor has its name")
    return FoundPage(storage, name, image, layout)


class _Pages(Source):
    def __init__(self, options: Pages, storage: Storage) -> None:
        self.options = options
        self.storage = storage
        self.faults = storage.faults
        self._found: list[tuple[FoundPage, int] | BadFile] = []
        names: list[str] = []
        splits: list[str] = []
        for name in storage.under("", (SUFFIX,)):
            folders = PurePosixPath(name).parent.parts
            split = next((called for part in folders if (called := split_called(part))), "")
            try:
                page = find_page(storage, name)
            except BadFile as fault:
                self._found.append(fault)
                names.append(storage.where(name))
                splits.append(split)
                continue
            if page is None:
                continue
            count = len(page.layout.lines)
            self._found += [(page, number) for number in range(count)]
            names += map(page.line_name, range(count))
            splits += [split] * count
        if not names:
            raise BadFile(str(storage.path), f"no lines in PAGE or ALTO files (*{SUFFIX})")
        self.names, self.splits = names, splits
        self._page: tuple[FoundPage, Scan] | None = None  # the lines of a page follow each other

    def read(self, index: int) -> Raw:
        found = self._found[index]
        if isinstance(found, BadFile):
            raise found
        page, number = found
        line = page.layout.lines[number]
        if isinstance(line, BadFile):
            raise line
        text = unicodedata.normalize("NFC", line.text).strip()
        if not text:
            raise BadFile(self.names[index], "its text is empty")
        if self._page is None or self._page[0] is not page:
            self._page = page, page.scan()
        with naming(self.names[index]):
            return Raw(self.options.prepare(page.cut(self._page[1], number)), text)


def cut_out(page: np.ndarray, outline: Sequence[pagexml.Point], file: str) -> np.ndarray:
    """The part of a page (H, W, C) within an outline of (x, y), as far as it lies on the page.

    Raises:
        BadFile: that is nothing.
    """
    if not all(abs(value) < _FAR for point in outline for value in point):
        raise BadFile(file, "its outline lies far from any page")
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


def _image_of(storage: Storage, name: str, called: str) -> str | None:
    """The image that a file names, beside it, or the one of its own name."""
    folder = PurePosixPath(name).parent
    base = PurePosixPath(called.replace("\\", "/")).name
    choices = [str(folder / base)] if base else []
    # PAGE files often lie in a folder of their own
    choices += [str(folder.parent / base)] if base else []
    stem = str(PurePosixPath(name).with_suffix(""))
    choices += [stem + suffix for suffix in images.SUFFIXES]
    return next((found for choice in choices if (found := storage.named(choice))), None)
