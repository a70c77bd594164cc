"""What the line elements of PAGE and ALTO files say: their outline or baseline, their text, and their place in reading."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Iterator, Sequence
from xml.etree.ElementTree import Element

Point = tuple[float, float]

LINE = "TextLine"
_HYPHENS = "-\u00ad\u2010\u2011\u2e17\u00ac="  # of old prints too, and what stands for one
_FAR = 1e6  # pixels; nothing that lies beyond is on a page
_REFERENCES = ("regionRef", "REF")  # of PAGE and of ALTO


def number(text: str) -> float:
    """A finite number of a size that occurs on pages; raises ValueError."""
    value = float(text)
    if not math.isfinite(value) or abs(value) > _FAR:
        raise ValueError(f"has the impossible number {text.strip()!r}")
    return value


def page_outline(line: Element) -> list[Point]:
    """The corners of a line of PAGE, or of the box around its words; nothing where it has none."""
    corners = _coords(line.find("Coords"))
    return corners or _around(_coords(word.find("Coords")) for word in line.iter("Word"))


def page_block(region: Element) -> list[Point]:
    """The corners of a region of PAGE, or nothing."""
    return _coords(region.find("Coords"))


def page_baseline(line: Element) -> list[Point]:
    """The baseline of a line of PAGE, or nothing."""
    return _coords(line.find("Baseline"))


def page_text(line: Element) -> str:
    """The line's own text, or that of its words."""
    own = _equivalent(line)
    if own.strip():
        return own
    return " ".join(filter(None, (_word_text(word).strip() for word in line.findall("Word"))))


def alto_outline(line: Element) -> list[Point]:
    """The corners of a line of ALTO, or of the box around its words; nothing where it has none."""
    return alto_block(line) or _around(_box(word) for word in line.iter("String"))


def alto_block(block: Element) -> list[Point]:
    """The corners of a block of ALTO, or nothing."""
    polygon = block.find("Shape/Polygon")
    corners = [] if polygon is None else _points(polygon.get("POINTS", ""), "outline")
    return corners or _box(block)


def alto_baseline(line: Element) -> list[Point]:
    """The baseline of a line of ALTO: points, or in files before 4.2 one height for the whole line; or nothing."""
    told = line.get("BASELINE", "").strip()
    if not told or re.search(r"[\s,]", told):
        return _points(told, "baseline")
    if not line.get("HPOS") or not line.get("WIDTH"):
        return []
    left, width, height = number(line.get("HPOS", "")), number(line.get("WIDTH", "")), number(told)
    return [(left, height), (left + width, height)]


def alto_text(line: Element) -> str:
    """The text of a line's parts."""
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


def reading_order(root: Element, lines: Sequence[Element], key: str) -> tuple[int, ...]:
    """The numbers of the lines as they are read: by the file's ``ReadingOrder`` as far as it goes, then as they stand.

    Args:
        root: of the file.
        lines: elements of the lines.
        key: what ids are called, ``id`` or ``ID``.
    """
    ranks: dict[str, int] = {}
    for order in root.iter("ReadingOrder"):
        for reference in _references(order):
            ranks.setdefault(reference, len(ranks))
    if not ranks:
        return tuple(range(len(lines)))
    above = {child: parent for parent in root.iter() for child in parent}

    def rank(line: Element) -> float:
        element: Element | None = line
        while element is not None:
            if element.get(key) in ranks:
                return ranks[element.get(key, "")]
            element = above.get(element)
        return math.inf

    return tuple(sorted(range(len(lines)), key=lambda index: rank(lines[index])))


def _references(group: Element) -> Iterator[str]:
    def place(child: Element) -> float:
        index = child.get("index", "").strip()
        return int(index) if index.isdecimal() else math.inf

    for child in sorted(group, key=place):
        yield from (child.get(name, "") for name in _REFERENCES if child.get(name))
        yield from _references(child)


def _coords(element: Element | None) -> list[Point]:
    """The points of an element, in its attribute, or before 2013 in elements of their own."""
    if element is None:
        return []
    what = "baseline" if element.tag == "Baseline" else "outline"
    if (points := element.findall("Point")) and not element.get("points"):
        return [(number(point.get("x", "")), number(point.get("y", ""))) for point in points]
    return _points(element.get("points", ""), what)


def _points(text: str, what: str) -> list[Point]:
    try:
        numbers = [number(word) for word in re.split(r"[\s,]+", text.strip()) if word]
    except ValueError as error:
        raise ValueError(f"has a bad {what} ({error})") from error
    if len(numbers) % 2:
        raise ValueError(f"has a bad {what} ({len(numbers)} numbers, which are no pairs)")
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def _box(element: Element) -> list[Point]:
    keys = ("HPOS", "VPOS", "WIDTH", "HEIGHT")
    if any(not element.get(key) for key in keys):
        return []
    left, top, width, height = (number(element.get(key, "")) for key in keys)
    if min(width, height) < 0:
        raise ValueError(f"has the impossible size {width:g} x {height:g}")
    return rectangle(left, top, left + width, top + height)


def _around(outlines: Iterable[list[Point]]) -> list[Point]:
    points = [point for outline in outlines for point in outline]
    if not points:
        return []
    across, down = zip(*points, strict=True)
    return rectangle(min(across), min(down), max(across), max(down))


def rectangle(left: float, top: float, right: float, bottom: float) -> list[Point]:
    """The corners of a box."""
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _equivalent(element: Element) -> str:
    """An element's own text: of several the one with the lowest index, which is the main one."""
    texts = element.findall("TextEquiv")
    if not texts:
        return ""
    main = min(texts, key=_index)
    return main.findtext("Unicode") or main.findtext("PlainText") or ""


def _word_text(word: Element) -> str:
    return _equivalent(word) or "".join(map(_equivalent, word.findall("Glyph")))


def _index(text: Element) -> float:
    index = text.get("index")
    if index is None:
        return math.inf  # min() keeps the first of equals
    if not index.strip().isdecimal():
        raise ValueError(f"has a TextEquiv with the bad index {index!r}")
    return int(index)
