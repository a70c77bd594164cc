"""Texts that were read as new files: PAGE (2019-07-15), ALTO (4.2) and hOCR (1.2), all in pixels.

Lines come in the order of reading, in one block for each block that the description of the page had.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from itertools import groupby
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from ...version import __version__
from ..reading import Outline, ReadLine
from .pagelines import rectangle
from .writeback import PIXELS, alto_box, alto_parts, box_of, confidence, legal, page_points
from .xmltree import written

_PAGE = "http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"
_ALTO = "http://www.loc.gov/standards/alto/ns-v4#"
_XHTML = "http://www.w3.org/1999/xhtml"


def page(lines: Sequence[ReadLine], image: str, size: tuple[int, int]) -> bytes:
    """A PAGE file of lines on an image of this name and size, width first."""
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
    number = 0
    for block, members in _blocks(lines):
        region = SubElement(sheet, "TextRegion", {"id": f"r{block}"})
        SubElement(region, "Coords", {"points": page_points(_around(members))})
        for line in members:
            element = SubElement(region, "TextLine", {"id": f"l{number}"})
            SubElement(element, "Coords", {"points": page_points(line.outline)})
            for place, (word, outline) in enumerate(line.words):
                part = SubElement(element, "Word", {"id": f"l{number}_w{place}"})
                SubElement(part, "Coords", {"points": page_points(outline)})
                _text(part, word.text, word.confidence)
            _text(element, line.text, line.confidence)
            number += 1
    indent(root)
    return written(root)


def alto(lines: Sequence[ReadLine], image: str, size: tuple[int, int]) -> bytes:
    """An ALTO file of lines on an image of this name and size, width first."""
    root = Element("alto", {"xmlns": _ALTO})
    description = SubElement(root, "Description")
    SubElement(description, "MeasurementUnit").text = "pixel"
    SubElement(SubElement(description, "sourceImageInformation"), "fileName").text = legal(image)
    extent = {"WIDTH": str(size[0]), "HEIGHT": str(size[1])}
    sheet = SubElement(SubElement(root, "Layout"), "Page", {"ID": "page", "PHYSICAL_IMG_NR": "1", **extent})
    if lines:
        sheet.set("PC", confidence(sum(line.confidence for line in lines) / len(lines)))
    space = SubElement(sheet, "PrintSpace", {"HPOS": "0", "VPOS": "0", **extent})
    number = 0
    for block, members in _blocks(lines):
        region = SubElement(space, "TextBlock", {"ID": f"r{block}", **alto_box(_around(members))})
        for line in members:
            element = SubElement(region, "TextLine", {"ID": f"l{number}", **alto_box(line.outline)})
            shape = SubElement(SubElement(element, "Shape"), "Polygon")
            shape.set(
                "POINTS", " ".join(point.replace(",", " ") for point in page_points(line.outline).split())
            )
            element.extend(alto_parts(line, "", PIXELS))
            number += 1
    indent(root)
    return written(root)


def hocr(lines: Sequence[ReadLine], image: str, size: tuple[int, int]) -> bytes:
    """An hOCR file of lines on an image of this name and size, width first."""
    root = Element("html", {"xmlns": _XHTML})
    head = SubElement(root, "head")
    SubElement(head, "title").text = legal(image)
    SubElement(head, "meta", {"name": "ocr-system", "content": f"ndrnn {__version__}"})
    SubElement(head, "meta", {"name": "ocr-capabilities", "content": "ocr_page ocr_carea ocr_line ocrx_word"})
    called = legal(image).replace('"', "_")
    title = f'image "{called}"; bbox 0 0 {size[0]} {size[1]}'
    sheet = SubElement(SubElement(root, "body"), "div", {"class": "ocr_page", "id": "page", "title": title})
    number = 0
    for block, members in _blocks(lines):
        titled = {"class": "ocr_carea", "id": f"r{block}", "title": _bbox(_around(members))}
        region = SubElement(sheet, "div", titled)
        for line in members:
            told = {"class": "ocr_line", "id": f"l{number}", "dir": "auto", "title": _bbox(line.outline)}
            element = SubElement(region, "span", told)
            for place, (word, outline) in enumerate(line.words):
                part = SubElement(element, "span", {"class": "ocrx_word", "id": f"l{number}_w{place}"})
                part.set("title", f"{_bbox(outline)}; x_wconf {100 * word.confidence:.0f}")
                part.text = legal(word.text)
                part.tail = " " if place + 1 < len(line.words) else None
            element.tail = "\n"
            number += 1
    return b"<!DOCTYPE html>\n" + tostring(root, encoding="utf-8") + b"\n"


def plain(lines: Sequence[ReadLine]) -> bytes:
    """The texts, each on a line of its own."""
    return "".join(f"{legal(line.text)}\n" for line in lines).encode()


def _blocks(lines: Sequence[ReadLine]) -> list[tuple[int, list[ReadLine]]]:
    groups = [list(members) for _, members in groupby(lines, key=lambda line: line.block)]
    return list(enumerate(groups))


def _around(lines: Sequence[ReadLine]) -> Outline:
    return rectangle(*box_of([corner for line in lines for corner in line.outline]))


def _bbox(outline: Outline) -> str:
    return "bbox " + " ".join(str(max(round(value), 0)) for value in box_of(outline))


def _text(parent: Element, text: str, sure: float) -> None:
    equivalent = SubElement(parent, "TextEquiv", {"conf": confidence(sure)})
    SubElement(equivalent, "Unicode").text = legal(text)
