"""Lines of whole pages, as PAGE and ALTO files describe them: XML beside the image, with outlines and texts."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from ...later import Later
from ..faults import BadFile, naming
from ..formats import baselines, pagexml
from ..formats.pagelines import Point
from ..formats.storage import Storage, open_storage
from .lines import Lines, Seen
from .place import locate
from .source import Raw, Source, split_called

if TYPE_CHECKING:
    import numpy as np

    from ..formats import cutting, images, opening
    from ..formats.cutting import Place
else:
    cutting, images = Later("ndrnn.data.formats.cutting"), Later("ndrnn.data.formats.images")
    opening = Later("ndrnn.data.formats.opening")

SUFFIX = ".xml"
"""Ending of the files that describe pages."""

BELOW = ("page", "alto")
"""Folders beside images in which such files often lie."""


@dataclass(frozen=True)
class Pages(Lines):
    """Lines cut out of page images by their PAGE or ALTO files (``*.xml``), which name image, outlines and texts.

    What lies in a line's bounding box but outside its outline takes the middle grey of the line. Of an image that its
    EXIF data turn, outlines are places among the pixels as they are stored, unless the size of the page is that of the
    turned image; lines are upright either way. Of a line that has a baseline alone, a band along it is cut out, which is
    as high as the lines of the page are apart, or as the writing where there is one line. ``table`` and ``text_suffix``
    have no meaning here.
    """

    description: Literal["", "page", "alto"] = ""
    """Which files describe a page that has some of both kinds; by default such a page is named and left out."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.description not in ("", "page", "alto"):
            raise ValueError(f'description must be "page", "alto" or nothing, got {self.description!r}')

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

    def cut(self, scan: Scan, number: int) -> tuple[np.ndarray, Place]:
        """A line's part of the image, upright, and where it lies.

        Raises:
            BadFile: the line has no outline on the image.
        """
        line = self.layout.lines[number]
        if isinstance(line, BadFile):
            raise line
        file = self.line_name(number)
        across, down = self.scales(scan)
        outline = [(x * across, y * down) for x, y in line.outline]
        if not outline:
            outline = self._band(scan, [(x * across, y * down) for x, y in line.baseline], file)
        place = cutting.place_of(scan.pixels, outline, scan.turn, file)
        part = cutting.cut_out(scan.pixels, outline, file, place.box)
        return opening.upright(part, scan.turn), place

    def scales(self, scan: Scan) -> tuple[float, float]:
        """What x and y of the description are multiplied by to become pixels."""
        height, width = scan.pixels.shape[:2]
        return self.layout.scales(width, height, self.where, self.storage.where(self.image))

    def _band(self, scan: Scan, baseline: Sequence[Point], file: str) -> list[Point]:
        if self.layout.distance is None:
            return baselines.band(baseline, *cutting.ink_around(scan.pixels, baseline, file))
        apart = self.layout.distance * self.scales(scan)[1]
        return baselines.band(baseline, baselines.ABOVE * apart, baselines.BELOW * apart)


def find_pages(
    storage: Storage, kind: str = "", named: str = ""
) -> Iterator[tuple[str, FoundPage | BadFile]]:
    """The files of a storage that describe pages, each with its page or with why it cannot be used.

    Where several describe one image, the one that is ``named`` counts, or those of the ``kind``, ``"page"`` or
    ``"alto"``; if that does not leave one, all of them are faults.
    """
    found: list[tuple[str, FoundPage | BadFile]] = []
    of_image: dict[str, list[FoundPage]] = defaultdict(list)
    for name in storage.under("", (SUFFIX,)):
        try:
            page = find_page(storage, name)
        except BadFile as fault:
            found.append((name, fault))
            continue
        if page is not None:
            found.append((name, page))
            of_image[page.image].append(page)
    for name, described in found:
        if isinstance(described, BadFile):
            yield name, described
            continue
        all_of_it = of_image[described.image]
        chosen = [one for one in all_of_it if one.name == named]
        chosen = chosen or [one for one in all_of_it if one.layout.kind == kind] or all_of_it
        if not any(one is described for one in chosen):
            continue
        others = ", ".join(one.where for one in chosen if one is not described)
        if not others:
            yield name, described
            continue
        hint = ""
        if len({one.layout.kind for one in chosen}) > 1:
            hint = "; data.description, or --format of predict, tells whether PAGE or ALTO counts"
        reason = f"its image {described.image} is described by {others} too{hint}"
        yield name, BadFile(described.where, reason)


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
        for name, page in find_pages(storage, options.description):
            folders = PurePosixPath(name).parent.parts
            split = next((called for part in folders if (called := split_called(part))), "")
            if isinstance(page, BadFile):
                self._found.append(page)
                names.append(storage.where(name))
                splits.append(split)
                continue
            count = len(page.layout.lines)
            self._found += [(page, number) for number in range(count)]
            names += map(page.line_name, range(count))
            splits += [split] * count
        if not names:
            raise BadFile(str(storage.path), f"no lines in PAGE or ALTO files (*{SUFFIX})")
        self.names, self.splits = names, splits
        self.seen = Seen()
        self._page: tuple[FoundPage, Scan] | None = None  # the lines of a page follow each other

    def read(self, index: int) -> Raw:
        found = self._found[index]
        if isinstance(found, BadFile):
            raise found
        page, number = found
        line = page.layout.lines[number]
        if isinstance(line, BadFile):
            raise line
        text = self.options.clean(line.text, self.names[index])
        if not text:
            raise BadFile(self.names[index], "its text is empty")
        if self._page is None or self._page[0] is not page:
            self._page = page, page.scan()
        with naming(self.names[index]):
            values, _ = page.cut(self._page[1], number)
            self.seen.note(values.shape, text, self.names[index])
            return Raw(self.options.prepare(values), text)

    def remarks(self) -> list[str]:
        return self.seen.remarks(self.options)


def _image_of(storage: Storage, name: str, called: str) -> str | None:
    """The image that a file names, beside it, or the one of its own name."""
    folder = PurePosixPath(name).parent
    base = PurePosixPath(called.replace("\\", "/")).name
    choices = [str(folder / base)] if base else []
    # PAGE files often lie in a folder of their own
    choices += [str(folder.parent / base)] if base else []
    stem = str(PurePosixPath(name).with_suffix(""))
    choices += [stem + suffix for suffix in images.SUFFIXES]
    if folder.name.lower() in BELOW:
        stem = str(folder.parent / PurePosixPath(name).stem)
        choices += [stem + suffix for suffix in images.SUFFIXES]
    return next((found for choice in choices if (found := storage.named(choice))), None)
