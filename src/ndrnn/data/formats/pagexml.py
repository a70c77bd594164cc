"""PAGE and ALTO files: where the lines of a page are, what is written in them, and in which units."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn
from xml.etree.ElementTree import Element, TreeBuilder
from xml.parsers import expat

from ..faults import BadFile, naming

Point = tuple[float, float]

_UNITS = ("pixel", "mm10", "inch1200")  # of ALTO; PAGE knows pixels alone
_DEPTH = 100  # elements within each other; files of these kinds need about ten
_NEAR = 0.02  # by which the scales of both axes may differ, as sizes are rounded
_HYPHENS = "-\u00ad\u2010\u2011\u2e17\u00ac="  # of old prints too, and what stands for one
_FAR = 1e6  # pixels; nothing that lies beyond is on a page


@dataclass(frozen=True)
class PageLine:
    """A line of text."""

    number: int
    """Its place in the order of the file, from 0; the ``TextLine`` elements are counted."""
    name: str
    """Its ``id`` (``ID`` in ALTO), or its number where it has none of its own."""
    outline: tuple[Point, ...]
    """Corners (x, y) in the units of the page."""
    text: str
    """Empty where nothing is written down."""


@dataclass(frozen=True)
class Page:
    """What a file says of a page."""

    image: str
    """What the file calls the image, perhaps with folders of another machine; may be empty."""
    lines: tuple[PageLine | BadFile, ...]
    names: tuple[str, ...]
    """What each of the lines is called, also one that cannot be used."""
    size: tuple[float, float] | None = None
    """Width and height in units, where they are told."""
    unit: str = "pixel"

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
    root = _tree(data, file)
    if root.tag not in ("PcGts", "alto"):
        return None
    pages = list(root.iter("Page"))
    if len(pages) > 1:
        raise BadFile(file, f"tells of {len(pages)} pages, of which one is expected")
    page = pages[0] if pages else Element("Page")
    if root.tag == "PcGts":
        names, lines = _lines(root, "id", _page_outline, _page_text, file)
        return Page(
            page.get("imageFilename", ""), lines, names, _size(page, "imageWidth", "imageHeight", file)
        )
    unit = (root.findtext("Description/MeasurementUnit") or "pixel").strip()
    if unit not in _UNITS:
        raise BadFile(file, f"its MeasurementUnit must be one of {', '.join(_UNITS)}, got {unit!r}")
    called = root.findtext(".//sourceImageInformation/fileName") or ""
    names, lines = _lines(root, "ID", _alto_outline, _alto_text, file)
    return Page(called.strip(), lines, names, _size(page, "WIDTH", "HEIGHT", file), unit)


def _tree(data: bytes, file: str) -> Element:
    """The elements, without their namespaces, which differ with the version."""
    builder = TreeBuilder()
    depth = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > _DEPTH:
            raise BadFile(file, f"has more than {_DEPTH} elements within each other")
        builder.start(_local(tag), {_local(key): value for key, value in attributes.items()})

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        builder.end(_local(tag))

    def entity(*declaration: object) -> NoReturn:
        # entities of entities grow without end, and others name files and addresses
        raise BadFile(file, f"declares an entity ({declaration[0]}); such files are not read")

    def skipped(name: str, _: object) -> NoReturn:
        # one that a file elsewhere declares; what it stands for would be missing in the text
        raise BadFile(file, f"uses the entity {name}, which it does not declare")

    parser = expat.ParserCreate(namespace_separator="}")
    parser.buffer_text = True
    parser.StartElementHandler, parser.EndElementHandler = start, end
    parser.CharacterDataHandler = builder.data
    parser.EntityDeclHandler = entity
    parser.SkippedEntityHandler = skipped
    try:
        with naming(file, "not XML"):
            parser.Parse(data, True)
            root = builder.close()
    finally:
        # the handlers hold the parser, and it holds them
        parser.StartElementHandler = parser.EndElementHandler = None
        parser.CharacterDataHandler = parser.EntityDeclHandler = parser.SkippedEntityHandler = None
    return root


def _local(name: str) -> str:
    return name.rpartition("}")[2]


def _lines(
    root: Element,
    key: str,
    outline: Callable[[Element], list[Point]],
    text: Callable[[Element], str],
    file: str,
) -> tuple[tuple[str, ...], tuple[PageLine | BadFile, ...]]:
    """Their names, and what is known of them."""
    elements = list(root.iter("TextLine"))
    names = _told_apart([element.get(key, "") for element in elements])
    found: list[PageLine | BadFile] = []
    for number, (element, called) in enumerate(zip(elements, names, strict=True)):
        try:
            corners = tuple(outline(element))
            if len(corners) < 3:
                raise ValueError("has no outline")
            found.append(PageLine(number, called, corners, text(element)))
        except ValueError as error:
            found.append(BadFile(file, f"line {called} {error}"))
    return names, tuple(found)


def _told_apart(names: list[str]) -> tuple[str, ...]:
    """Names of which there are no two: those that are, or the numbers of their places."""
    own = {name for name, times in Counter(names).items() if name and times == 1}
    called = []
    for number, name in enumerate(names):
        if name not in own:
            name = str(number)
            while name in own:  # another line is called so
                name += "_"
        called.append(name)
    return tuple(called)


def _size(page: Element, width: str, height: str, file: str) -> tuple[float, float] | None:
    if not page.get(width) or not page.get(height):
        return None
    with naming(file, f"its {width} and {height} are no numbers"):
        size = _number(page.get(width, "")), _number(page.get(height, ""))
    if min(size) == 0:  # how some programs say that they do not know
        return None
    if min(size) < 0:
        raise BadFile(file, f"its page has the impossible size {size[0]:g} x {size[1]:g}")
    return size


def _number(text: str) -> float:
    number = float(text)
    if not math.isfinite(number) or abs(number) > _FAR:
        raise ValueError(f"has the impossible number {text.strip()!r}")
    return number


def _points(text: str) -> list[Point]:
    try:
        numbers = [_number(word) for word in re.split(r"[\s,]+", text.strip()) if word]
    except ValueError as error:
        raise ValueError(f"has a bad outline ({error})") from error
    if len(numbers) % 2:
        raise ValueError(f"has a bad outline ({len(numbers)} numbers, which are no pairs)")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _page_outline(line: Element) -> list[Point]:
    coords = line.find("Coords")
    return [] if coords is None else _points(coords.get("points", ""))


def _page_text(line: Element) -> str:
    """The line's own text, not that of its words: of several the one with the lowest index, which is the main one."""
    texts = line.findall("TextEquiv")
    if not texts:
        return ""
    return min(texts, key=_index).findtext("Unicode") or ""


def _index(text: Element) -> float:
    index = text.get("index")
    if index is None:
        return math.inf  # min() keeps the first of equals
    if not index.strip().isdecimal():
        raise ValueError(f"has a TextEquiv with the bad index {index!r}")
    return int(index)


def _alto_outline(line: Element) -> list[Point]:
    polygon = line.find("Shape/Polygon")
    if polygon is not None:
        return _points(polygon.get("POINTS", ""))
    keys = ("HPOS", "VPOS", "WIDTH", "HEIGHT")
    if any(not line.get(key) for key in keys):
        return []
    left, top, width, height = (_number(line.get(key, "")) for key in keys)
    if min(width, height) < 0:
        raise ValueError(f"has the impossible size {width:g} x {height:g}")
    return [(left, top), (left + width, top), (left + width, top + height), (left, top + height)]


def _alto_text(line: Element) -> str:
    parts = [part for part in line if part.tag in ("String", "SP", "HYP")]
    spaced = any(part.tag == "SP" for part in parts)
    text = ""
    for part in parts:
        if part.tag == "SP":
            text += " "
            continue
        if part.tag == "HYP":
            text = text.rstrip(" ")
            if text.endswith(tuple(_HYPHENS)):  # some writers leave it in its word as well
                continue
        # some writers leave the spaces out; the hyphen at a line's end belongs to its word
        if text and not spaced and part.tag == "String":
            text += " "
        text += part.get("CONTENT", "")
    return text
