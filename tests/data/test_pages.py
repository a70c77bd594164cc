"""Lines cut out of pages by PAGE and ALTO files."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.readers.pages import Pages, cut_out

PAGE = """<?xml version="1.0"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Page imageFilename="scans\\a.png">
<TextRegion><TextLine><Coords points="2,1 9,1 9,4 2,4"/><Word><TextEquiv><Unicode>no</Unicode></TextEquiv></Word>
<TextEquiv><Unicode>first e\u0301</Unicode></TextEquiv></TextLine>
<TextLine><Coords points="0,6 11,6 11,9"/><TextEquiv><Unicode>second</Unicode></TextEquiv></TextLine>
<TextLine><TextEquiv><Unicode>nowhere</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""

ALTO = """<alto xmlns="http://www.loc.gov/standards/alto/ns-v4#"><Description><sourceImageInformation>
<fileName>other.png</fileName></sourceImageInformation></Description><Layout><Page><PrintSpace><TextBlock>
<TextLine HPOS="2" VPOS="1" WIDTH="7" HEIGHT="3"><String CONTENT="a"/><SP/><String CONTENT="b-"/></TextLine>
<TextLine><Shape><Polygon POINTS="0 6 11 6 11 9 0 9"/></Shape><String CONTENT="c"/><String CONTENT="d"/></TextLine>
</TextBlock></PrintSpace></Page></Layout></alto>"""


@pytest.fixture
def page(tmp_path):
    array = np.arange(120, dtype=np.uint8).reshape(10, 12)
    Image.fromarray(array).save(tmp_path / "a.png")
    return array


def test_lines_of_a_page_file(page, tmp_path):
    (tmp_path / "x.xml").write_text(PAGE, encoding="utf-8")
    source = Pages(path=str(tmp_path)).open()
    first, second = source.read(0), source.read(1)
    assert first.target == "first é"
    assert np.array_equal(first.values[..., 0], page[1:5, 2:10])
    assert second.values.shape == (4, 12, 1)
    # the lower left corner is outside the triangle
    assert second.values[3, 0, 0] != page[9, 0]
    assert second.values[0, 5, 0] == page[6, 5]
    with pytest.raises(BadFile, match="line 2 has no outline"):
        source.read(2)


def test_lines_of_an_alto_file(page, tmp_path):
    (tmp_path / "a.xml").write_text(ALTO, encoding="utf-8")
    source = Pages(path=str(tmp_path), height=2).open()
    assert [source.read(index).target for index in range(2)] == ["a b-", "c d"]
    assert source.read(0).values.shape == (2, 4, 1)


def test_what_is_missing_is_named(page, tmp_path):
    (tmp_path / "no.xml").write_text("<alto", encoding="utf-8")
    (tmp_path / "z.xml").write_text(ALTO, encoding="utf-8")
    source = Pages(path=str(tmp_path)).open()
    with pytest.raises(BadFile, match=r"no\.xml: not XML"):
        source.read(0)
    with pytest.raises(BadFile, match=r"z\.xml: its image 'other\.png' is neither"):
        source.read(1)
    with pytest.raises(BadFile, match="encloses nothing of the page of 10 x 12"):
        cut_out(page[..., None], [(20, 20), (30, 20), (30, 30)], "p")


def test_a_folder_without_lines(tmp_path):
    (tmp_path / "other.xml").write_text("<html/>", encoding="utf-8")
    with pytest.raises(BadFile, match="no lines in PAGE or ALTO files"):
        Pages(path=str(tmp_path)).open()
