"""Lines cut out of pages by PAGE and ALTO files."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.formats.cutting import cut_out
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.pages import Pages

PAGE = """<?xml version="1.0"?>
<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><Page imageFilename="scans\\a.png">
<TextRegion><TextLine><Coords points="2,1 9,1 9,4 2,4"/><Word><TextEquiv><Unicode>no</Unicode></TextEquiv></Word>
<TextEquiv><Unicode>first e\u0301</Unicode></TextEquiv></TextLine>
<TextLine><Coords points="0,6 11,6 11,9"/><TextEquiv><Unicode>second</Unicode></TextEquiv></TextLine>
<TextLine><TextEquiv><Unicode>nowhere</Unicode></TextEquiv></TextLine></TextRegion></Page></PcGts>"""


def page_file(*lines, **page):
    attributes = "".join(f' {key}="{value}"' for key, value in page.items())
    return f"<PcGts><Page{attributes}><TextRegion>{''.join(lines)}</TextRegion></Page></PcGts>"


def line(*texts, points="2,1 9,1 9,4 2,4", key=""):
    return f'<TextLine{key}><Coords points="{points}"/>{"".join(texts)}</TextLine>'


def text(words, index=None):
    told = "" if index is None else f' index="{index}"'
    return f"<TextEquiv{told}><Unicode>{words}</Unicode></TextEquiv>"


def alto_file(*lines, unit="pixel", page=""):
    return (
        f"<alto><Description><MeasurementUnit>{unit}</MeasurementUnit></Description><Layout><Page{page}>"
        f"<PrintSpace><TextBlock>{''.join(lines)}</TextBlock></PrintSpace></Page></Layout></alto>"
    )


def alto_line(*parts, hpos=2, vpos=1, width=7, height=3):
    words = "".join(parts) or '<String CONTENT="x"/>'
    return f'<TextLine HPOS="{hpos}" VPOS="{vpos}" WIDTH="{width}" HEIGHT="{height}">{words}</TextLine>'


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


@pytest.mark.parametrize(
    ("texts", "expected"),
    [
        ([text("guess", 1), text("corrected", 0)], "corrected"),
        ([text("first"), text("second")], "first"),
        ([text("third", 10), text("second", 9), text("none")], "second"),
        ([text("one", 0), text("same", 0)], "one"),
    ],
)
def test_the_text_of_the_lowest_index_counts(texts, expected, page, tmp_path):
    (tmp_path / "a.xml").write_text(page_file(line(*texts)))
    assert Pages(path=str(tmp_path)).open().read(0).target == expected


@pytest.mark.parametrize(
    ("parts", "expected"),
    [
        ('<String CONTENT="Ta"/><HYP CONTENT="-"/>', "Ta-"),
        ('<String CONTENT="ein"/><String CONTENT="Ta"/><HYP CONTENT="-"/>', "ein Ta-"),
        ('<String CONTENT="ein"/><SP/><String CONTENT="Ta"/><HYP CONTENT="\u2010"/>', "ein Ta\u2010"),
        ('<HYP CONTENT="-"/><String CONTENT="ge"/>', "- ge"),
        ('<String CONTENT="ein"/><SP/><String CONTENT="Ta"/><SP/><HYP CONTENT="-"/>', "ein Ta-"),
        ('<String CONTENT="ein"/><String CONTENT="Ta-"/><HYP CONTENT="-"/>', "ein Ta-"),
        ('<String CONTENT="Ta\u2e17"/><HYP CONTENT="\u00ad"/>', "Ta\u2e17"),
    ],
)
def test_the_hyphen_belongs_to_its_word(parts, expected, page, tmp_path):
    (tmp_path / "a.xml").write_text(alto_file(alto_line(parts)), encoding="utf-8")
    assert Pages(path=str(tmp_path)).open().read(0).target == expected


@pytest.mark.parametrize(
    ("unit", "size", "factor"),
    [("mm10", (60, 50), 5), ("inch1200", (600, 500), 50), ("pixel", (24, 20), 2), ("pixel", (12, 10), 1)],
)
def test_units_of_a_page_become_pixels(unit, size, factor, page, tmp_path):
    measures = {"hpos": 2 * factor, "vpos": factor, "width": 7 * factor, "height": 3 * factor}
    told = f' WIDTH="{size[0]}" HEIGHT="{size[1]}"'
    (tmp_path / "a.xml").write_text(alto_file(alto_line(**measures), unit=unit, page=told))
    assert np.array_equal(Pages(path=str(tmp_path)).open().read(0).values[..., 0], page[1:5, 2:10])


def test_pages_that_were_measured_on_a_larger_image(page, tmp_path):
    large = line(text("a"), points="6,3 27,3 27,12 6,12")
    (tmp_path / "a.xml").write_text(page_file(large, imageWidth=36, imageHeight=30))
    assert np.array_equal(Pages(path=str(tmp_path)).open().read(0).values[..., 0], page[1:5, 2:10])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (alto_file(alto_line(), unit="mm10"), r"a\.xml: is measured in mm10 .*a\.png of 12 x 10 pixels"),
        (alto_file(alto_line(), unit="furlong"), "must be one of pixel, mm10, inch1200, got 'furlong'"),
        (
            alto_file(alto_line(), unit="mm10", page=' WIDTH="50" HEIGHT="60"'),
            r"its page is 50 x 60 mm10, its image .*a\.png 12 x 10 pixels",
        ),
        (
            page_file(line(text("a")), imageWidth=10, imageHeight=12),
            r"its page is 10 x 12 pixel, its image .*a\.png 12 x 10 pixels",
        ),
        (
            page_file(line(text("a")), imageWidth="nan", imageHeight=12),
            "imageWidth and imageHeight are no numbers",
        ),
        (page_file(line(text("a")), imageWidth=-3, imageHeight=12), "impossible size -3 x 12"),
        (
            page_file(line(text("a"), points="1,1 2")),
            "line 0 has a bad outline .3 numbers, which are no pairs",
        ),
        (
            page_file(line(text("a"), points="1,1 2,inf 3,3")),
            "line 0 has a bad outline .*impossible number 'inf'",
        ),
        (page_file(line(text("a", "x"))), "line 0 has a TextEquiv with the bad index 'x'"),
        (alto_file(alto_line(hpos="inf")), "line 0 has the impossible number 'inf'"),
        (alto_file(alto_line(vpos="nan")), "line 0 has the impossible number 'nan'"),
        (alto_file(alto_line(width="1e300")), "line 0 has the impossible number '1e300'"),
        (alto_file(alto_line(width="wide")), "line 0 could not convert"),
        (alto_file(alto_line(hpos=9, width=-7)), "line 0 has the impossible size -7 x 3"),
        ("<alto><Layout><Page/><Page/></Layout></alto>", "tells of 2 pages, of which one is expected"),
    ],
)
def test_pages_that_cannot_be_used_are_named_and_the_others_are_done(content, message, page, tmp_path):
    (tmp_path / "a.xml").write_text(content)
    shutil.copy(tmp_path / "a.png", tmp_path / "z.png")
    (tmp_path / "z.xml").write_text(page_file(line(text("good")), imageFilename="z.png"))
    source = Pages(path=str(tmp_path)).open()
    with pytest.raises(BadFile, match=message) as caught:
        source.read(0)
    assert "a.xml" in caught.value.file
    assert source.read(1).target == "good"
    gathered = gather(Pages(path=str(tmp_path)), "transcribe")
    assert [fault.file for fault in gathered.faults.found] == [caught.value.file]


@pytest.mark.parametrize(
    "declared",
    [
        '<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;">',
        '<!ENTITY a SYSTEM "file:///etc/passwd">',
        '<!ENTITY % a SYSTEM "http://127.0.0.1/x"> %a;',
    ],
)
def test_entities_are_not_read(declared, page, tmp_path):
    content = f"<!DOCTYPE PcGts [{declared}]>" + page_file(line(text("&a;")))
    (tmp_path / "a.xml").write_text(content)
    source = Pages(path=str(tmp_path)).open()
    with pytest.raises(BadFile, match=r"a\.xml: declares an entity"):
        source.read(0)


def test_entities_that_are_declared_elsewhere_are_no_gap_in_the_text(page, tmp_path):
    content = '<!DOCTYPE PcGts SYSTEM "page.dtd">' + page_file(line(text("a&long-s;b")))
    (tmp_path / "a.xml").write_text(content)
    with pytest.raises(BadFile, match=r"a\.xml: uses the entity long-s"):
        Pages(path=str(tmp_path)).open().read(0)


def test_elements_within_elements_have_an_end(page, tmp_path):
    (tmp_path / "a.xml").write_text("<a>" * 100_000 + "</a>" * 100_000)
    with pytest.raises(BadFile, match="has more than 100 elements within each other"):
        Pages(path=str(tmp_path)).open().read(0)


def test_lines_go_by_their_id_or_number(page, tmp_path):
    lines = [line(text("a"), key=' id="first"'), line(text("b")), *[line(text("c"), key=' id="twice"')] * 2]
    (tmp_path / "a.xml").write_text(page_file(*lines))
    names = Pages(path=str(tmp_path)).open().names
    assert [name.rpartition("/")[2] for name in names] == ["a.xml#first", "a.xml#1", "a.xml#2", "a.xml#3"]


def test_no_two_lines_go_by_one_name(page, tmp_path):
    keys = ["", ' id="0"', "", ' id="2_"', ' id="2"', ' id="x"', ' id="x"']
    (tmp_path / "a.xml").write_text(page_file(*(line(text("a"), key=key) for key in keys)))
    names = [name.rpartition("#")[2] for name in Pages(path=str(tmp_path)).open().names]
    assert names[1::2] == ["0", "2_", "5"]
    assert names[4] == "2"
    assert len(set(names)) == len(keys)


def test_a_line_that_cannot_be_used_has_a_name_of_its_own_too(page, tmp_path):
    lines = [line(text("a"), points="1,1 2"), line(text("b"), key=' id="0"')]
    (tmp_path / "a.xml").write_text(page_file(*lines))
    names = [name.rpartition("#")[2] for name in Pages(path=str(tmp_path)).open().names]
    assert names == ["0_", "0"]
