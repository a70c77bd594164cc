"""PAGE and ALTO files: where the lines of a page are, what is written in them, and in which units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal
from xml.etree.ElementTree import Element

from ..faults import BadFile, naming
from ..reading import Block
from . import baselines, pagelines
from .pagelines import LINE, Point, number
from .xmltree import tree

Kind = Literal["page", "alto"]

_ROOTS: dict[str, Kind] = {"PcGts": "page", "alto": "alto"}
_UNITS = ("pixel", "mm10", "inch1200")  # of ALTO; PAGE knows pixels alone
_NEAR = 0.02  # by which the scales of both axes may differ, as sizes are rounded


@dataclass(frozen=True)
class PageLine:
    """A line of text."""

    number: int
    """Its place in the order of the file, from 0; the ``TextLine`` elements are counted."""
    name: str
    """Its ``id`` (``ID`` in ALTO), or its number where it has none of its own."""
    outline: tuple[Point, ...]
    """Corners (x, y) in the units of the page; none where only the baseline is known."""
    text: str
    """Empty where nothing is written down."""
    baseline: tuple[Point, ...] = ()
    """What the letters stand on, or nothing where that is not told."""
    block: int = -1
    """The number of its ``TextRegion`` or ``TextBlock`` in the order of the file; -1: it is in none."""


@dataclass(frozen=True)
class Page:
    """What a file says of a page."""

    kind: Kind
    image: str
    """What the file calls the image, perhaps with folders of another machine; may be empty."""
    lines: tuple[PageLine | BadFile, ...]
    names: tuple[str, ...]
    """What each of the lines is called, also one that cannot be used."""
    order: tuple[int, ...]
    """The numbers of the lines in the order of reading."""
    size: tuple[float, float] | None = None
    """Width and height in units, where they are told."""
    unit: str = "pixel"
    blocks: tuple[Block, ...] = ()
    """The ``TextRegion`` or ``TextBlock`` elements in the order of the file."""

    @cached_property
    def distance(self) -> float | None:
        """The distance from baseline to baseline in units, or None where no two lines lie above each other."""
        known = [
            line.baseline for line in self.lines if not isinstance(line, BadFile) and len(line.baseline) > 1
        ]
        return baselines.distance(known)

    def lies_across(self, width: int, height: int) -> bool:
        """Whether the page's size is that of an image with its sides exchanged, rather than that of the image."""
        if self.size is None:
            return False
        page, image = math.log(self.size[0] / self.size[1]), math.log(width / height)
        return abs(page + image) < abs(page - image)

    def scales(self, width: int, height: int, file: str, image: str) -> tuple[float, float]:
        """What x and y are multiplied by to become pixels of the image.

        Raises:
            BadFile: that does not follow from the sizes of page and image, or they contradict each other.
        """
        if self.size is None:
            if self.unit == "pixel":
                return 1.0, 1.0
            raise BadFile(
                file,
                f"is measured in {self.unit} and does not tell the size of its page, so that its places on the image "
                f"{image} of {width} x {height} pixels are not known",
            )
        across, down = width / self.size[0], height / self.size[1]
        if abs(across / down - 1) > _NEAR + 1 / min(width, height, *self.size):
            raise BadFile(
                file,
                f"its page is {self.size[0]:g} x {self.size[1]:g} {self.unit}, its image {image} "
                f"{width} x {height} pixels: these are not of one shape",
            )
        return across, down


def parse(data: bytes, file: str = "page") -> Page | None:
    """What a PAGE or ALTO file says; None for XML of other kinds. A line that cannot be used is a fault in its place.

    Raises:
        BadFile: it is no XML, declares entities, tells of several pages, or of units that are not known.
    """
    root = tree(data, file)
    kind = _ROOTS.get(root.tag)
    if kind is None:
        return None
    pages = list(root.iter("Page"))
    if len(pages) > 1:
        raise BadFile(file, f"tells of {len(pages)} pages, of which one is expected")
    page = pages[0] if pages else Element("Page")
    elements = list(root.iter(LINE))
    regions = [element for element in root.iter() if element.tag in ("TextRegion", "TextBlock")]
    members = {line: block for block, region in enumerate(regions) for line in region.findall(LINE)}
    if kind == "page":
        names, lines = _lines(elements, members, "id", _OF_PAGE, file)
        order = pagelines.reading_order(root, elements, "id")
        size = _size(page, "imageWidth", "imageHeight", file)
        blocks = _blocks(regions, "id", pagelines.page_block)
        return Page(kind, page.get("imageFilename", ""), lines, names, order, size, blocks=blocks)
    unit = (root.findtext("Description/MeasurementUnit") or "pixel").strip()
    if unit not in _UNITS:
        raise BadFile(file, f"its MeasurementUnit must be one of {', '.join(_UNITS)}, got {unit!r}")
    called = root.findtext(".//sourceImageInformation/fileName") or ""
    names, lines = _lines(elements, members, "ID", _OF_ALTO, file)
    order = pagelines.reading_order(root, elements, "ID")
    size = _size(page, "WIDTH", "HEIGHT", file)
    blocks = _blocks(regions, "ID", pagelines.alto_block)
    return Page(kind, called.strip(), lines, names, order, size, unit, blocks)


@dataclass(frozen=True)
class _Parts:
    """What is read of a line's element."""

    outline: Callable[[Element], list[Point]]
    baseline: Callable[[Element], list[Point]]
    text: Callable[[Element], str]


_OF_PAGE = _Parts(pagelines.page_outline, pagelines.page_baseline, pagelines.page_text)
_OF_ALTO = _Parts(pagelines.alto_outline, pagelines.alto_baseline, pagelines.alto_text)


def _lines(
    elements: Sequence[Element], members: Mapping[Element, int], key: str, parts: _Parts, file: str
) -> tuple[tuple[str, ...], tuple[PageLine | BadFile, ...]]:
    """Their names, and what is known of them."""
    names = told_apart([element.get(key, "") for element in elements])
    found: list[PageLine | BadFile] = []
    for place, (element, called) in enumerate(zip(elements, names, strict=True)):
        try:
            corners = parts.outline(element)
            bounded = len(corners) >= 3 and not _flat(corners)
            baseline = _baseline(element, parts, needed=not bounded)
            if not bounded and baseline:
                corners = []  # how programs say that they know nothing but the baseline
            elif len(corners) < 3:
                raise ValueError("has no outline")
            block = members.get(element, -1)
            found.append(PageLine(place, called, tuple(corners), parts.text(element), baseline, block))
        except ValueError as error:
            found.append(BadFile(file, f"line {called} {error}"))
    return names, tuple(found)


def _blocks(
    regions: Sequence[Element], key: str, outline: Callable[[Element], list[Point]]
) -> tuple[Block, ...]:
    found = []
    for region in regions:
        try:
            corners = outline(region)
        except ValueError:  # nothing is cut out by it
            corners = []
        told = len(corners) >= 3 and not _flat(corners)
        found.append(Block(region.get(key, ""), tuple(corners) if told else ()))
    return tuple(found)


def _baseline(element: Element, parts: _Parts, *, needed: bool) -> tuple[Point, ...]:
    try:
        found = tuple(parts.baseline(element))
        if len(found) < 2:
            return ()
        baselines.axes(found)
        return found
    except ValueError:
        if needed:
            raise
        return ()


def _flat(corners: Sequence[Point]) -> bool:
    return any(len({corner[axis] for corner in corners}) == 1 for axis in (0, 1))


def told_apart(names: Sequence[str]) -> tuple[str, ...]:
    """Names of which there are no two: those that are, or the numbers of their places."""
    own = {name for name, times in Counter(names).items() if name and times == 1}
    called = []
    for place, name in enumerate(names):
        if name not in own:
            name = str(place)
            while name in own:  # another line is called so
                name += "_"
        called.append(name)
    return tuple(called)


def _size(page: Element, width: str, height: str, file: str) -> tuple[float, float] | None:
    if not page.get(width) or not page.get(height):
        return None
    with naming(file, f"its {width} and {height} are no numbers"):
        size = number(page.get(width, "")), number(page.get(height, ""))
    if min(size) == 0:  # how some programs say that they do not know
        return None
    if min(size) < 0:
        raise BadFile(file, f"its page has the impossible size {size[0]:g} x {size[1]:g}")
    return size
