"""Lines of real handwriting, laid out as pages again: what is cut out is what was laid, in every format."""

from __future__ import annotations

import csv
import io
import os
import zipfile
from pathlib import Path
from xml.sax.saxutils import escape, quoteattr

import numpy as np
import pytest
from PIL import Image

from ndrnn.data.formats.storage import Folder
from ndrnn.data.formats.writeback import write_back
from ndrnn.data.readers.pages import Pages, find_page
from ndrnn.data.reading import ReadLine, words_of

DATA = Path(os.environ.get("NDRNN_DATA") or Path(__file__).parents[3] / "shared" / "data") / "handwriting_fr"
MARGIN = 10


@pytest.fixture(scope="module")
def written():
    """Forty lines, their images and texts."""
    if not DATA.exists():
        pytest.skip("the French handwriting is not here")
    with (DATA / "lines_h48.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))[:200:5]
    found = []
    with zipfile.ZipFile(DATA / "lines_h48.zip") as archive:
        names = {Path(name).stem: name for name in archive.namelist()}
        for row in rows:
            with Image.open(io.BytesIO(archive.read(names[Path(row["name"]).stem]))) as image:
                found.append((np.asarray(image.convert("L")), row["text"]))
    return found


def laid_out(lines):
    """Ten lines as a page, and the box (left, top, right, bottom) of each, its last pixels included."""
    width = max(image.shape[1] for image, _ in lines) + 2 * MARGIN
    page = np.full((len(lines) * (48 + MARGIN) + MARGIN, width), 235, np.uint8)
    boxes = []
    for place, (image, _) in enumerate(lines):
        top = MARGIN + place * (48 + MARGIN)
        page[top : top + image.shape[0], MARGIN : MARGIN + image.shape[1]] = image
        boxes.append((MARGIN, top, MARGIN + image.shape[1] - 1, top + image.shape[0] - 1))
    return page, boxes


def as_page(boxes, texts, size):
    lines = "".join(
        f'<TextLine id="l{number}"><Coords points="{left},{top} {right},{top} {right},{bottom} {left},{bottom}"/>'
        f"<TextEquiv><Unicode>{escape(text)}</Unicode></TextEquiv></TextLine>"
        for number, ((left, top, right, bottom), text) in enumerate(zip(boxes, texts, strict=True))
    )
    return f'<PcGts><Page imageFilename="" imageWidth="{size[0]}" imageHeight="{size[1]}"><TextRegion>{lines}</TextRegion></Page></PcGts>'


def as_alto(boxes, texts, size, unit, factor):
    lines = "".join(
        f'<TextLine HPOS="{left * factor}" VPOS="{top * factor}" WIDTH="{(right - left) * factor}" '
        f'HEIGHT="{(bottom - top) * factor}">'
        + "<SP/>".join(f"<String CONTENT={quoteattr(word)}/>" for word in text.split())
        + "</TextLine>"
        for (left, top, right, bottom), text in zip(boxes, texts, strict=True)
    )
    return (
        f"<alto><Description><MeasurementUnit>{unit}</MeasurementUnit></Description><Layout>"
        f'<Page WIDTH="{size[0] * factor}" HEIGHT="{size[1] * factor}"><PrintSpace><TextBlock>{lines}</TextBlock>'
        "</PrintSpace></Page></Layout></alto>"
    )


KINDS = pytest.mark.parametrize("kind", ["page", "pixel", "mm10", "inch1200"])


@KINDS
def test_texts_that_are_written_back_are_read_again(kind, written, tmp_path):
    lines = written[:10]
    page, boxes = laid_out(lines)
    Image.fromarray(page).save(tmp_path / "a.png")
    factor = {"mm10": 2, "inch1200": 4}.get(kind, 1)
    none, size = ["?"] * len(lines), page.shape[::-1]
    told = as_page(boxes, none, size) if kind == "page" else as_alto(boxes, none, size, kind, factor)
    (tmp_path / "a.xml").write_text(told, encoding="utf-8")
    found = find_page(Folder(tmp_path), "a.xml")
    scan, read = found.scan(), {}
    for number, (_, text) in enumerate(lines):
        _, place = found.cut(scan, number)
        places = [(index / len(text), (index + 1) / len(text)) for index in range(len(text))]
        words = words_of(text, [0.5] * len(text), places)
        assert [word.text for word in words] == text.split()
        with_places = tuple((word, place.part(word.start, word.end)) for word in words)
        read[number] = ReadLine(text, 0.5, with_places, place.outline)
    new = write_back((tmp_path / "a.xml").read_bytes(), found.layout, read, found.scales(scan), "a.xml")
    (tmp_path / "a.xml").write_bytes(new)
    source = Pages(path=str(tmp_path)).open()
    for index, (image, text) in enumerate(lines):
        raw = source.read(index)
        assert raw.target == " ".join(text.split())
        assert np.array_equal(raw.values[..., 0], image)


@KINDS
def test_the_lines_of_pages_are_those_that_were_laid(kind, written, tmp_path):
    for number in range(0, len(written), 10):
        lines = written[number : number + 10]
        page, boxes = laid_out(lines)
        size = page.shape[::-1]
        Image.fromarray(page).save(tmp_path / f"{number:02}.png")
        texts = [text for _, text in lines]
        factor = {"mm10": 2, "inch1200": 4}.get(kind, 1)
        told = as_page(boxes, texts, size) if kind == "page" else as_alto(boxes, texts, size, kind, factor)
        (tmp_path / f"{number:02}.xml").write_text(told, encoding="utf-8")
    source = Pages(path=str(tmp_path)).open()
    assert len(source) == len(written)
    for index, (image, text) in enumerate(written):
        raw = source.read(index)
        assert np.array_equal(raw.values[..., 0], image)
        assert raw.target == " ".join(text.split())
