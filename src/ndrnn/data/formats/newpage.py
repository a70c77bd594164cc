"""Texts that were read as new files: PAGE (2019-07-15), ALTO (4.2) and hOCR (1.2), all in pixels.

Lines come in the order of reading, in the blocks that the description of the page had. Lines and blocks keep the ids that
they had there, as far as these are names in XML and there are no two of them; blocks keep their outlines.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from itertools import groupby
from typing import NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ...version import __version__
from ..reading import Block, Outline, ReadLine
from .outlines import alto_box, around, box_of, fitted, page_points
from .pagelines import rectangle
from .writeback import PIXELS, alto_parts, confidence, legal
from .xmltree import written

_PAGE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
_ALTO = "http://www.loc.gov/standards/alto/ns-v4#"
_XHTML = "http://www.w3.org/1999/xhtml"

_FIRST = (
    "A-Z_a-z\xc0-\xd6\xd8-\xf6\xf8-\u02ff\u0370-\u037d\u037f-\u1fff\u200c\u200d\u2070-\u218f\u2c00-\u2fef"
    "\u3001-\ud7ff\uf900-\ufdcf\ufdf0-\ufffd\U00010000-\U000effff"
)
_NAME = re.compile(f"[{_FIRST}][{_FIRST}.0-9\xb7\u0300-\u036f\u203f\u2040-]*")
"""What may be an id: a name without a colon, by the definition of XML."""


class _Laid(NamedTuple):
    """A block with the ids and outlines that are written."""

    name: str
    outline: Outline
    lines: list[ReadLine]


def page(lines: Sequence[ReadLine], image: str, size: tuple[int, int], blocks: Sequence[Block] = ()) -> bytes:
    """A PAGE file of lines on an image of this name and size, width first, and of the blocks that they are in."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S")
    root = Element("PcGts", {"xmlns": _PAGE})
    metadata = SubElement(root, "Metadata")
    for name, text in (("Creator", f"ndrnn {__version__}"), ("Created", now), ("LastChange", now)):
        SubElement(metadata, name).text = text
    sheet = SubElement(
        root,
        "Page",
        {"imageFilename": legal(image), "imageWidth": str(size[0]), "imageHeight": str(size[1])},
    )
    ids = _Ids(lines, blocks)
    for block in _laid_out(lines, size, blocks, ids):
        region = SubElement(sheet, "TextRegion", {"id": block.name})
        SubElement(region, "Coords", {"points": page_points(block.outline)})
        for line in block.lines:
            element = SubElement(region, "TextLine", {"id": line.name})
            SubElement(element, "Coords", {"points": page_points(line.outline)})
            for place, (word, outline) in enumerate(line.words):
                part = SubElement(element, "Word", {"id": ids(f"{line.name}_w{place}")})
                SubElement(part, "Coords", {"points": page_points(outline)})
                _text(part, word.text, word.confidence)
            _text(element, line.text, line.confidence)
    indent(root)
    return written(root)


def alto(lines: Sequence[ReadLine], image: str, size: tuple[int, int], blocks: Sequence[Block] = ()) -> bytes:
    """An ALTO file of lines on an image of this name and size, width first, and of the blocks that they are in."""
    root = Element("alto", {"xmlns": _ALTO})
    description = SubElement(root, "Description")
    SubElement(description, "MeasurementUnit").text = "pixel"
    SubElement(SubElement(description, "sourceImageInformation"), "fileName").text = legal(image)
    extent = {"WIDTH": str(size[0]), "HEIGHT": str(size[1])}
    ids = _Ids(lines, blocks)
    told = {"ID": ids("page"), "PHYSICAL_IMG_NR": "1", **extent}
    sheet = SubElement(SubElement(root, "Layout"), "Page", told)
    if lines:
        sheet.set("PC", confidence(sum(line.confidence for line in lines) / len(lines)))
    space = SubElement(sheet, "PrintSpace", {"HPOS": "0", "VPOS": "0", **extent})
    for block in _laid_out(lines, size, blocks, ids):
        region = SubElement(space, "TextBlock", {"ID": block.name, **alto_box(block.outline)})
        _shape(region, block.outline)
        for line in block.lines:
            element = SubElement(region, "TextLine", {"ID": line.name, **alto_box(line.outline)})
            _shape(element, line.outline)
            element.extend(alto_parts(line, "", PIXELS))
    indent(root)
    return written(root)


def hocr(lines: Sequence[ReadLine], image: str, size: tuple[int, int], blocks: Sequence[Block] = ()) -> bytes:
    """An hOCR file of lines on an image of this name and size, width first, and of the blocks that they are in."""
    root = Element("html", {"xmlns": _XHTML})
    head = SubElement(root, "head")
    SubElement(head, "title").text = legal(image)
    SubElement(head, "meta", {"name": "ocr-system", "content": f"ndrnn {__version__}"})
    SubElement(head, "meta", {"name": "ocr-capabilities", "content": "ocr_page ocr_carea ocr_line ocrx_word"})
    called = legal(image).replace('"', "_")
    title = f'image "{called}"; bbox 0 0 {size[0]} {size[1]}'
    ids = _Ids(lines, blocks)
    told = {"class": "ocr_page", "id": ids("page"), "title": title}
    sheet = SubElement(SubElement(root, "body"), "div", told)
    for block in _laid_out(lines, size, blocks, ids):
        titled = {"class": "ocr_carea", "id": block.name, "title": _bbox(block.outline)}
        region = SubElement(sheet, "div", titled)
        for line in block.lines:
            told = {"class": "ocr_line", "id": line.name, "dir": "auto", "title": _bbox(line.outline)}
            element = SubElement(region, "span", told)
            for place, (word, outline) in enumerate(line.words):
                part = SubElement(element, "span", {"class": "ocrx_word"})
                part.set("id", ids(f"{line.name}_w{place}"))
                part.set("title", f"{_bbox(outline)}; x_wconf {100 * word.confidence:.0f}")
                part.text = legal(word.text)
                part.tail = " " if place + 1 < len(line.words) else None
            element.tail = "\n"
    return b"<!DOCTYPE html>\n" + tostring(root, encoding="utf-8") + b"\n"


def plain(lines: Sequence[ReadLine]) -> bytes:
    """The texts, each on a line of its own."""
    return "".join(f"{legal(line.text)}\n" for line in lines).encode()


class _Ids:
    """Hands out ids of which there are no two; what lines and blocks are called comes before all that is made up."""

    def __init__(self, lines: Iterable[ReadLine], blocks: Iterable[Block]) -> None:
        own = [*(line.name for line in lines), *(block.name for block in blocks)]
        self._own = {name for name in own if _NAME.fullmatch(name)}
        self._given: set[str] = set()

    def __call__(self, made: str, own: str = "") -> str:
        """Its own, or if that is none, or was given before, the one that was made for it, perhaps with a number."""
        name, number = own, 1
        if own not in self._own - self._given:
            name = made
            while name in self._own | self._given:
                number += 1
                name = f"{made}_{number}"
        self._given.add(name)
        return name


def _laid_out(
    lines: Sequence[ReadLine], size: tuple[int, int], blocks: Sequence[Block], ids: _Ids
) -> list[_Laid]:
    """Blocks of lines with their ids, all within the page, and words within their lines; one to which the order of
    reading comes back later is divided, and its first part keeps its id and outline."""
    page = rectangle(0, 0, *size)
    found: list[_Laid] = []
    told = dict(enumerate(blocks))
    number = 0
    for index, members in groupby(lines, key=lambda line: line.block):
        inside = []
        block = told.pop(index, Block())
        name = ids(f"r{len(found)}", block.name)
        for line in members:
            outline = fitted(line.outline, page)
            words = tuple((word, fitted(corners, outline)) for word, corners in line.words)
            inside.append(line._replace(name=ids(f"l{number}", line.name), outline=outline, words=words))
            number += 1
        own = fitted(block.outline, page) if block.outline else around(line.outline for line in inside)
        found.append(_Laid(name, own, inside))
    return found


def _shape(element: Element, outline: Outline) -> None:
    """Says of what is in ALTO a box what it is more exactly."""
    points = page_points(outline).replace(",", " ")
    SubElement(SubElement(element, "Shape"), "Polygon").set("POINTS", points)


def _bbox(outline: Outline) -> str:
    return "bbox " + " ".join(str(round(value)) for value in box_of(outline))


def _text(parent: Element, text: str, sure: float) -> None:
    equivalent = SubElement(parent, "TextEquiv", {"conf": confidence(sure)})
    SubElement(equivalent, "Unicode").text = legal(text)
