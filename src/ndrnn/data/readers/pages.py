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
    from PIL import Image, ImageDraw

    from ..formats import images, opening
else:
    np = Later("numpy")
    Image, ImageDraw = Later("PIL.Image"), Later("PIL.ImageDraw")
    images, opening = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.opening")

SUFFIX = ".xml"
"""Ending of the files that describe pages."""

_FAR = 1e7  # pixels

Box = tuple[int, int, int, int]


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

    def cut(self, scan: Scan, number: int) -> np.ndarray:
        """A line's part of the image, upright.

        Raises:
            BadFile: the line has no outline on the image.
        """
        box, inside = self._place(scan, number)
        return opening.upright(cut_out(scan.pixels, inside, self.line_name(number), box), scan.turn)

    def corners(self, scan: Scan, number: int) -> np.ndarray:
        """Where on the page the corners of what :meth:`cut` gives are: (2, 2, 2), by row, by column, x and y in units."""
        box, _ = self._place(scan, number)
        across, down = self._scales(scan)
        columns = np.array([box[0], box[2]]) / across
        rows = np.array([box[1], box[3]]) / down
        return opening.upright(np.stack(np.meshgrid(columns, rows), -1), scan.turn)

    def _place(self, scan: Scan, number: int) -> tuple[Box, list[Point]]:
        """Of a line the box (left, top, right, bottom) on the image, and the outline, in pixels."""
        line = self.layout.lines[number]
        if isinstance(line, BadFile):
            raise line
        across, down = self._scales(scan)
        outline = [(x * across, y * down) for x, y in line.outline]
        if not outline:
            baseline = [(x * across, y * down) for x, y in line.baseline]
            outline = self._band(scan, baseline, self.line_name(number))
        return bounds(scan.pixels, outline, self.line_name(number)), outline

    def _band(self, scan: Scan, baseline: Sequence[Point], file: str) -> list[Point]:
        if self.layout.distance is None:
            return baselines.band(baseline, *ink_around(scan.pixels, baseline, file))
        apart = self.layout.distance * self._scales(scan)[1]
        return baselines.band(baseline, baselines.ABOVE * apart, baselines.BELOW * apart)

    def _scales(self, scan: Scan) -> tuple[float, float]:
        height, width = scan.pixels.shape[:2]
        return self.layout.scales(width, height, self.where, self.storage.where(self.image))


def find_pages(
    storage: Storage, kind: Literal["", "page", "alto"] = ""
) -> Iterator[tuple[str, FoundPage | BadFile]]:
    """The files of a storage that describe pages, each with its page or with why it cannot be used.

    Where several describe one image, those of the ``kind`` count; if that does not leave one, all of them are faults.
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
    for name, page in found:
        if isinstance(page, BadFile):
            yield name, page
            continue
        all_of_it = of_image[page.image]
        chosen = [one for one in all_of_it if one.layout.kind == kind] or all_of_it
        if len(chosen) > 1:
            others = ", ".join(one.where for one in chosen if one is not page)
            mixed = len({one.layout.kind for one in chosen}) > 1
            hint = (
                "; data.description, or --format of predict, tells whether PAGE or ALTO counts"
                if mixed
                else ""
            )
            yield name, BadFile(page.where, f"its image {page.image} is described by {others} too{hint}")
        elif chosen[0] is page:
            yield name, page


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
            values = page.cut(self._page[1], number)
            self.seen.note(values.shape, text, self.names[index])
            return Raw(self.options.prepare(values), text)

    def remarks(self) -> list[str]:
        return self.seen.remarks(self.options)


def bounds(page: np.ndarray, outline: Sequence[Point], file: str) -> Box:
    """The box (left, top, right, bottom) of an outline of (x, y), as far as it lies on the page (H, W, C).

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
    return left, top, right, bottom


def cut_out(page: np.ndarray, outline: Sequence[Point], file: str, box: Box | None = None) -> np.ndarray:
    """The part of a page (H, W, C) within an outline of (x, y), as far as it lies on the page.

    Raises:
        BadFile: that is nothing.
    """
    left, top, right, bottom = box or bounds(page, outline, file)
    part = page[top:bottom, left:right].copy()
    inside = Image.new("1", (right - left, bottom - top))
    ImageDraw.Draw(inside).polygon([(x - left, y - top) for x, y in outline], fill=1, outline=1)
    mask = np.asarray(inside)
    if mask.any() and not mask.all():
        part[~mask] = np.median(part[mask], axis=0).astype(part.dtype)
    return part


def ink_around(page: np.ndarray, baseline: Sequence[Point], file: str) -> tuple[float, float]:
    """How far the writing on a baseline reaches above and below it, in pixels of the page (H, W, C).

    It is what holds all but a hundredth at either end of what differs from the paper, within half the baseline's length.

    Raises:
        BadFile: there is nothing to be seen.
    """
    along, up = baselines.axes(baseline)
    height, width = page.shape[:2]
    if not all(abs(value) < _FAR for point in baseline for value in point):
        raise BadFile(file, "its baseline lies far from any page")
    points = np.array(sorted(baseline, key=lambda point: point[0] * along[0] + point[1] * along[1]))
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    steps = np.linspace(0, lengths[-1], min(int(lengths[-1]) + 2, 512))
    middle = np.stack([np.interp(steps, lengths, points[:, axis]) for axis in (0, 1)])
    reach = min(int(lengths[-1] / 2) + 1, max(height, width))
    offsets = np.arange(-reach, reach + 1)
    columns, rows = (np.rint(middle[axis][:, None] + offsets * up[axis]).astype(int) for axis in (0, 1))
    on_page = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    grey = page.mean(-1, dtype=np.float32)
    seen = np.where(on_page, grey[rows.clip(0, height - 1), columns.clip(0, width - 1)], np.nan)
    if not on_page.any():
        raise BadFile(file, "its baseline lies beside the page")
    ink = np.nan_to_num(np.abs(seen - np.nanmedian(seen))).sum(0)
    ink = np.maximum(ink - np.quantile(ink, 0.25), 0)
    if not ink.any():
        raise BadFile(
            file, "there is no writing on its baseline, and no other line that would tell its height"
        )
    share = np.cumsum(ink) / ink.sum()
    low, high = np.searchsorted(share, (0.01, 0.99))
    return max(2.0, offsets[high] + 1.0), max(1.0, 1.0 - offsets[low])


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
