"""Texts that were read, written into a copy of the PAGE or ALTO file that describes their lines.

Of each line that was read the words and texts become those that were read; everything else stays as it is: other lines,
outlines, the order of reading, metadata, and what stands in comments. Texts of whole regions of PAGE, where a file has
such, are put together anew from their lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from xml.etree.ElementTree import Element

from ..faults import BadFile
from ..reading import Outline, ReadLine, Word
from .outlines import alto_box, fitted, page_points
from .pagelines import LINE
from .pagexml import Page
from .xmltree import local_name, tree, written

_NEWEST = 9999
_IMPOSSIBLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML
_REFERENCES = ("regionRef", "REF")


def write_back(
    data: bytes, layout: Page, lines: Mapping[int, ReadLine], scales: tuple[float, float], file: str
) -> bytes:
    """The file with the texts of some of its lines, in UTF-8.

    Args:
        data: the file.
        layout: what it says.
        lines: what was read, by the numbers of the lines.
        scales: pixels of a unit of the file, in x and y.
        file: what messages call it.

    Raises:
        BadFile: it refers to words that would be replaced.
    """
    root = tree(data, file, as_written=True)
    within = _Units(scales)
    removed: set[str] = set()
    elements = [element for element in root.iter() if local_name(element.tag) == LINE]
    if layout.kind == "page":
        page = _PageWriter(root, within, removed)
        for number, line in lines.items():
            page.line(elements[number], line, number)
        page.regions(layout, lines)
    else:
        for number, line in lines.items():
            _alto_line(elements[number], line, within, removed)
        for element in root.iter():
            if local_name(element.tag) == "Page" and lines:
                element.set("PC", confidence(sum(line.confidence for line in lines.values()) / len(lines)))
    gone = removed - {value for element in root.iter() for value in _ids(element)}
    for element in root.iter():
        if lost := [element.get(name) for name in _REFERENCES if element.get(name) in gone]:
            raise BadFile(file, f"refers to the word {lost[0]}, which a text that was read would replace")
    return written(root)


def legal(text: str) -> str:
    """A text as XML can hold it."""
    return _IMPOSSIBLE.sub("\ufffd", text)


def confidence(value: float) -> str:
    """A confidence as both formats write it, 0 to 1."""
    return f"{min(max(value, 0.0), 1.0):.4f}"


def alto_parts(line: ReadLine, prefix: str, within: _Units) -> list[Element]:
    """The elements of a line of ALTO: words and the spaces between them; at least one word, as the schema asks for."""
    if not line.words:
        box = alto_box(within(line.outline)) if line.outline else {}
        return [Element(f"{prefix}String", {"CONTENT": "", **box, "WC": confidence(line.confidence)})]
    parts: list[Element] = []
    for word, outline in line.words:
        if parts:
            parts.append(Element(f"{prefix}SP"))
        attributes = {
            "CONTENT": legal(word.text),
            **alto_box(within.part(outline, line, 100)),
            "WC": confidence(word.confidence),
        }
        parts.append(Element(f"{prefix}String", attributes))
    return parts


class _Units:
    """Turns pixels into the units of a file."""

    def __init__(self, scales: tuple[float, float] = (1.0, 1.0)) -> None:
        self.scales = scales

    def __call__(self, outline: Outline) -> Outline:
        return [(x / self.scales[0], y / self.scales[1]) for x, y in outline]

    def part(self, outline: Outline, line: ReadLine, steps: int = 1) -> Outline:
        """What lies within a line, in steps of a unit or as many in one."""
        return fitted(self(outline), self(line.outline), steps)


PIXELS = _Units()


class _PageWriter:
    """Writes into the tree of a PAGE file, as its version of the format wants it."""

    def __init__(self, root: Element, within: _Units, removed: set[str]) -> None:
        self.root, self.within, self.removed = root, within, removed
        version = re.search(r"/pagecontent/(\d{4})-", " ".join(root.attrib.values()))
        self.year = int(version[1]) if version else _NEWEST
        self.taken = {value for element in root.iter() for value in _ids(element)}

    def line(self, element: Element, line: ReadLine, number: int) -> None:
        prefix = _prefix(element)
        called = element.get("id") or f"line_{number}"
        for old in _children(element, "Word"):
            self.taken.difference_update(value for part in old.iter() for value in _ids(part))
        new = [
            self._word(prefix, called, word, self.within.part(outline, line)) for word, outline in line.words
        ]
        new.append(self._text(prefix, line.text, line.confidence))
        _replace(
            element, ("Word", "TextEquiv"), new, ("AlternativeImage", "Coords", "Baseline"), self.removed
        )

    def regions(self, layout: Page, lines: Mapping[int, ReadLine]) -> None:
        """Mend the texts of regions in which lines were read."""
        numbers: dict[Element, int] = {}
        for element in self.root.iter():
            if local_name(element.tag) == LINE:
                numbers[element] = len(numbers)
        for region in self.root.iter():
            if local_name(region.tag) != "TextRegion" or not _children(region, "TextEquiv"):
                continue
            inside = [numbers[element] for element in region.iter() if element in numbers]
            if not lines.keys() & set(inside):
                continue
            texts = [
                lines[number].text if number in lines else getattr(layout.lines[number], "text", "")
                for number in inside
            ]
            new = [self._text(_prefix(region), "\n".join(texts), None)]
            before = {local_name(child.tag) for child in region} - {"TextEquiv", "TextStyle"}
            _replace(region, ("TextEquiv",), new, tuple(before), self.removed)

    def _word(self, prefix: str, line: str, word: Word, outline: Outline) -> Element:
        number = 0
        while (name := f"{line}_w{number}") in self.taken:
            number += 1
        self.taken.add(name)
        element = Element(f"{prefix}Word", {"id": name})
        element.append(self._coords(prefix, page_points(outline)))
        element.append(self._text(prefix, word.text, word.confidence))
        return element

    def _coords(self, prefix: str, points: str) -> Element:
        if self.year >= 2013:
            return Element(f"{prefix}Coords", {"points": points})
        coords = Element(f"{prefix}Coords")
        for point in points.split():
            x, y = point.split(",")
            coords.append(Element(f"{prefix}Point", {"x": x, "y": y}))
        return coords

    def _text(self, prefix: str, text: str, sure: float | None) -> Element:
        told = sure is not None and self.year >= 2013
        element = Element(
            f"{prefix}TextEquiv", {"conf": confidence(sure)} if told and sure is not None else {}
        )
        for name in ("PlainText", "Unicode") if self.year < 2013 else ("Unicode",):
            part = Element(f"{prefix}{name}")
            part.text = legal(text)
            element.append(part)
        return element


def _alto_line(element: Element, line: ReadLine, within: _Units, removed: set[str]) -> None:
    _replace(
        element, ("String", "SP", "HYP"), alto_parts(line, _prefix(element), within), ("Shape",), removed
    )


def _replace(
    parent: Element, old: Iterable[str], new: list[Element], before: Iterable[str], removed: set[str]
) -> None:
    """Put ``new`` in place of the children called ``old``, after the last of those called ``before``."""
    spaces, closing = parent.text, parent[-1].tail if len(parent) else None
    for name in old:
        for child in _children(parent, name):
            removed.update(value for element in child.iter() for value in _ids(element))
            parent.remove(child)
    place = max(
        (place for place, child in enumerate(parent, start=1) if local_name(child.tag) in before), default=0
    )
    parent[place:place] = new
    if spaces is not None and spaces.isspace() and "\n" in spaces:  # the file is laid out in lines
        for child in parent:
            child.tail = spaces
        for child in new:
            _lay_out(child, spaces)
        parent[-1].tail = closing if closing is not None and closing.isspace() else spaces


def _lay_out(element: Element, spaces: str) -> None:
    if not len(element):
        return
    element.text = spaces + "  "
    for child in element:
        child.tail = element.text
        _lay_out(child, element.text)
    element[-1].tail = spaces


def _children(parent: Element, name: str) -> list[Element]:
    return [child for child in parent if local_name(child.tag) == name]


def _ids(element: Element) -> Iterator[str]:
    yield from (element.attrib[name] for name in ("id", "ID") if name in element.attrib)


def _prefix(element: Element) -> str:
    return element.tag[: -len(local_name(element.tag))]
