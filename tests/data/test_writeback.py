"""Texts written back into PAGE and ALTO files, and new files, against the rules of the formats' published schemas."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest

from ndrnn.data import BadFile
from ndrnn.data.formats import newpage, pagexml
from ndrnn.data.formats.outlines import fitted
from ndrnn.data.formats.writeback import write_back
from ndrnn.data.reading import Block, ReadLine, Word

PAGE_DATES = ["2010-03-19", "2013-07-15", "2016-07-15", "2019-07-15"]
ALTO_VERSIONS = ["2", "3", "4"]

# what the schemas say of the elements that are written: the order of the children, then which attributes there may be
TEXT = {
    2010: ("PlainText Unicode", ""),
    2013: ("PlainText? Unicode", "conf"),
    2016: ("PlainText? Unicode", "conf index"),
}
SHAPES = {2010: ("Point*", ""), 2013: ("", "points")}
RULES = {
    "TextLine": {
        2010: ("Coords Word* TextEquiv?", "id"),
        2013: ("Coords Baseline? Word* TextEquiv? TextStyle?", "id custom"),
        2016: ("Coords Baseline? Word* TextEquiv* TextStyle?", "id custom"),
        2019: (
            "AlternativeImage* Coords Baseline? Word* TextEquiv* TextStyle? UserDefined? Labels*",
            "id custom",
        ),
    },
    "Word": {
        2010: ("Coords Glyph* TextEquiv?", "id"),
        2013: ("Coords Glyph* TextEquiv? TextStyle?", "id"),
        2016: ("Coords Glyph* TextEquiv* TextStyle?", "id"),
    },
    "TextEquiv": TEXT,
    "Coords": SHAPES,
    "TextRegion": {
        2010: ("Coords TextLine* TextEquiv?", "id"),
        2013: ("Coords TextLine* TextEquiv? TextStyle?", "id"),
        2016: ("Coords TextLine* TextEquiv* TextStyle?", "id"),
    },
    "PcGts": {2010: ("Metadata Page", "")},
    "Metadata": {2010: ("Creator Created LastChange Comments?", "")},
}
ALTO_RULES = {
    "TextLine": ("Shape? (String SP?)+ HYP?", "ID HPOS VPOS WIDTH HEIGHT BASELINE"),
    "String": ("", "CONTENT HPOS VPOS WIDTH HEIGHT WC STYLEREFS ID"),
    "SP": ("", "HPOS VPOS WIDTH HEIGHT"),
    "TextBlock": ("Shape? TextLine+", "ID HPOS VPOS WIDTH HEIGHT"),
    "Page": ("PrintSpace?", "ID PHYSICAL_IMG_NR WIDTH HEIGHT PC"),
    "alto": ("Description? Styles? Tags? Layout", ""),
}
NUMBERS = ("HPOS", "VPOS", "WIDTH", "HEIGHT")
SIZES = (("imageWidth", "WIDTH"), ("imageHeight", "HEIGHT"))


def follows(children, rule):
    """Whether names follow each other as a rule says, which is read as a regular expression over names."""
    pattern = re.sub(r"\w+", r"(?:\g<0>;)", rule).replace(" ", "")
    return re.fullmatch(pattern, "".join(f"{child};" for child in children))


def local(element):
    return element.tag.rpartition("}")[2]


def assert_valid(data):
    root = ElementTree.fromstring(data)
    names = [value for element in root.iter() for key, value in element.attrib.items() if key in ("id", "ID")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[^\W\d²][\w.-]*", name) for name in names)
    year = int(re.search(r"pagecontent/(\d{4})", root.tag)[1]) if "pagecontent" in root.tag else 0
    for element in root.iter():
        if not isinstance(element.tag, str) or local(element) not in (RULES if year else ALTO_RULES):
            continue
        rule = (
            RULES[local(element)][max(y for y in RULES[local(element)] if y <= year)]
            if year
            else ALTO_RULES[local(element)]
        )
        children = [local(child) for child in element if isinstance(child.tag, str)]
        assert follows(children, rule[0]), (local(element), children, rule[0])
        assert element.attrib.keys() <= set(rule[1].split()), (local(element), element.attrib)
        if "points" in element.attrib:
            assert re.fullmatch(r"(\d+,\d+ )+\d+,\d+", element.get("points"))
        for name in ("conf", "WC", "PC"):
            assert 0 <= float(element.get(name, 0)) <= 1
        assert all(float(element.get(name, 0)) >= 0 for name in NUMBERS)
        if local(element) == "TextLine" and not year:
            assert not any(local(child) == "String" and "CONTENT" not in child.attrib for child in element)
    assert_words_inside(root)
    return root


def corners_of(element):
    """The box of an element: left, top, right, bottom; None where it tells none."""
    told = next((child for child in element if local(child) == "Coords"), None)
    if told is not None:
        numbers = re.findall(r"[\d.]+", told.get("points", "")) or [
            child.get(key) for child in told for key in ("x", "y")
        ]
        numbers = list(map(float, numbers))
        return min(numbers[::2]), min(numbers[1::2]), max(numbers[::2]), max(numbers[1::2])
    if any(name not in element.attrib for name in NUMBERS):
        return None
    left, top, width, height = (float(element.get(name)) for name in NUMBERS)
    return left, top, left + width, top + height


def assert_words_inside(root):
    """No word sticks out of its line or of the page."""
    sheet = next(element for element in root.iter() if local(element) == "Page")
    page = (0, 0, *(float(sheet.get(one) or sheet.get(other)) for one, other in SIZES))
    for line in root.iter():
        if not isinstance(line.tag, str) or local(line) != "TextLine":
            continue
        for word in line:
            if isinstance(word.tag, str) and local(word) in ("Word", "String") and (own := corners_of(word)):
                for whole in filter(None, (corners_of(line), page)):
                    assert min(own[0] - whole[0], own[1] - whole[1]) > -1e-9, (own, whole)
                    assert min(whole[2] - own[2], whole[3] - own[3]) > -1e-9, (own, whole)


def points(date, corners):
    if date >= "2013":
        told = " ".join(f"{x},{y}" for x, y in corners)
        return f'<Coords points="{told}"/>'
    told = "".join(f'<Point x="{x}" y="{y}"/>' for x, y in corners)
    return f"<Coords>{told}</Coords>"


def box(left, top, right, bottom):
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def page_file(date, prefix=""):
    """Two regions of two lines and one, read in the other order; with words, texts of regions, and a comment."""
    plain = "<PlainText/>" if date < "2013" else ""

    def text(words, more=""):
        return f"<TextEquiv{more}>{plain}<Unicode>{words}</Unicode></TextEquiv>"

    style = "<TextStyle/>" if date >= "2013" else ""
    baseline = '<Baseline points="0,8 60,8"/>' if date >= "2013" else ""
    custom = ' custom="kept {a:1;}"' if date >= "2013" else ""
    lines = [
        f'<TextLine id="a"{custom}>{points(date, box(0, 0, 60, 9))}{baseline}<Word id="a_w0">'
        f"{points(date, box(0, 0, 9, 9))}{text('old')}</Word>{text('old text')}{style}</TextLine>",
        f'<TextLine id="b">\n    {points(date, box(0, 10, 60, 19))}\n  </TextLine>',
        f'<TextLine id="c">{points(date, box(0, 30, 60, 39))}{text("stays &amp; so")}</TextLine>',
    ]
    order = (
        '<ReadingOrder><OrderedGroup id="o"><RegionRefIndexed index="1" regionRef="r1"/>'
        '<RegionRefIndexed index="0" regionRef="r2"/></OrderedGroup></ReadingOrder>'
    )
    written = (
        f'<?xml version="1.0" encoding="UTF-8"?>\n<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/{date}">'
        "<!-- a comment -->\n<Metadata><Creator>me</Creator><Created>2020-01-01T00:00:00</Created>"
        "<LastChange>2020-01-01T00:00:00</LastChange></Metadata>"
        f'<Page imageFilename="p.png" imageWidth="60" imageHeight="40">{order}'
        f'<TextRegion id="r1">{points(date, box(0, 0, 60, 20))}{lines[0]}{lines[1]}{text("old text")}</TextRegion>'
        f'<TextRegion id="r2">{points(date, box(0, 30, 60, 40))}{lines[2]}</TextRegion></Page></PcGts>'
    )
    if prefix:
        written = re.sub(r"<(/?)([A-Z])", rf"<\1{prefix}:\2", written).replace("xmlns=", f"xmlns:{prefix}=")
    return written.encode()


def alto_file(version, unit="pixel", factor=1):
    four = version == "4"
    shape = (
        f'<Shape><Polygon POINTS="0 0 {60 * factor} 0 {60 * factor} {9 * factor}"/></Shape>'
        if version > "2"
        else ""
    )
    order = (
        '<ReadingOrder><OrderedGroup ID="o"><ElementRef ID="e" REF="c"/></OrderedGroup></ReadingOrder>'
        if four
        else ""
    )

    def at(left, top, right, bottom):
        values = (left, top, right - left, bottom - top)
        return " ".join(f'{name}="{value * factor}"' for name, value in zip(NUMBERS, values, strict=True))

    return (
        f'<alto xmlns="http://www.loc.gov/standards/alto/ns-v{version}#"><Description><MeasurementUnit>{unit}'
        "</MeasurementUnit><sourceImageInformation><fileName>p.png</fileName></sourceImageInformation></Description>"
        f'{order}<Layout><Page ID="page" PHYSICAL_IMG_NR="1" WIDTH="{60 * factor}" HEIGHT="{40 * factor}">'
        f'<PrintSpace {at(0, 0, 60, 40)}><TextBlock ID="t" {at(0, 0, 60, 20)}><!-- first -->'
        f'<TextLine ID="a" {at(0, 0, 60, 9)}>{shape}<String ID="s" CONTENT="old"/><SP/><String CONTENT="te"/>'
        f'<HYP CONTENT="-"/></TextLine><TextLine ID="b" {at(0, 10, 60, 19)}><String CONTENT=""/></TextLine></TextBlock>'
        f'<TextBlock ID="u" {at(0, 30, 60, 40)}><TextLine ID="c" {at(0, 30, 60, 39)}><String CONTENT="stays"/></TextLine>'
        "</TextBlock></PrintSpace></Page></Layout></alto>"
    ).encode()


def read_lines():
    first = ReadLine(
        'two "wörds" <&',
        0.5,
        (
            (Word("two", 0.25, 0, 0.5), box(0, 0, 30, 9)),
            (Word('"wörds"', 0.75, 0.5, 0.8), box(30, 0, 48, 9)),
            (Word("<&", 1.0, 0.8, 1), box(48, 0, 60, 9)),
        ),
        box(0, 0, 60, 9),
    )
    return {0: first, 1: ReadLine("", 0.9, (), box(0, 10, 60, 19))}


def others(data):
    """All but what is written: elements, attributes and texts."""
    root = ElementTree.fromstring(
        data, ElementTree.XMLParser(target=ElementTree.TreeBuilder(insert_comments=True))
    )
    told = []
    for element in root.iter():
        for child in list(element):
            if isinstance(child.tag, str) and local(child) in ("Word", "TextEquiv", "String", "SP", "HYP"):
                element.remove(child)
        kept = {key: value for key, value in element.attrib.items() if key != "PC"}
        told.append((element.tag, kept, (element.text or "").strip()))
    return told


def texts(data):
    return [line.text for line in pagexml.parse(data).lines]


def test_the_rules_refuse_what_is_in_disorder():
    data = page_file("2013-07-15")
    for wrong in (
        data.replace(b"<TextStyle/>", b"").replace(b"<Word", b"<TextStyle/><Word", 1),
        data.replace(b'id="b"', b'id="a"'),
        data.replace(b'points="0,0 ', b'points="-1,0 '),
        data.replace(b"<TextEquiv>", b'<TextEquiv index="0">'),
        data.replace(b'points="0,0 9,0 9,9 0,9"', b'points="0,0 61,0 61,9 0,9"'),
        data.replace(b'imageHeight="40"', b'imageHeight="8"'),
    ):
        with pytest.raises(AssertionError):
            assert_valid(wrong)


@pytest.mark.parametrize("date", PAGE_DATES)
@pytest.mark.parametrize("prefix", ["", "pc"])
def test_into_page(date, prefix):
    data = page_file(date, prefix)
    assert_valid(data)
    layout = pagexml.parse(data)
    assert [line.text for line in layout.lines] == ["old text", "", "stays & so"]
    assert layout.order == (2, 0, 1)
    new = write_back(data, layout, read_lines(), (1, 1), "p.xml")
    root = assert_valid(new)
    assert texts(new) == ['two "wörds" <&', "", "stays & so"]
    assert pagexml.parse(new).order == layout.order
    assert others(new)[1:] == others(data)[1:]
    words = [element for element in root.iter() if local(element) == "Word"]
    assert [word.get("id") for word in words] == ["a_w0", "a_w1", "a_w2"]
    if date >= "2013":
        assert [element.get("points") for word in words for element in word if local(element) == "Coords"][
            1
        ] == ("30,0 48,0 48,9 30,9")
        sure = [element.get("conf") for element in root.iter() if local(element) == "TextEquiv"]
        assert sure == ["0.2500", "0.7500", "1.0000", "0.5000", "0.9000", None, None]
    region = next(element for element in root.iter() if local(element) == "TextRegion")
    (whole,) = [child for child in region if local(child) == "TextEquiv"]
    assert whole[-1].text == 'two "wörds" <&\n'
    assert (b"<pc:Word" in new) == bool(prefix)
    assert write_back(new, pagexml.parse(new), read_lines(), (1, 1), "p.xml").count(b"Word id") == 3


@pytest.mark.parametrize("version", ALTO_VERSIONS)
def test_into_alto(version):
    data = alto_file(version)
    assert_valid(data.replace(b"<ReadingOrder>", b"<Tags/><!--").replace(b"</ReadingOrder>", b"-->"))
    layout = pagexml.parse(data)
    assert [line.text for line in layout.lines] == ["old te-", "", "stays"]
    assert layout.order == ((2, 0, 1) if version == "4" else (0, 1, 2))
    new = write_back(data, layout, read_lines(), (1, 1), "p.xml")
    assert texts(new) == ['two "wörds" <&', "", "stays"]
    assert others(new)[1:] == others(data)[1:]
    root = ElementTree.fromstring(new)
    assert [element.get("WC") for element in root.iter() if local(element) == "String"] == [
        "0.2500", "0.7500", "1.0000", "0.9000", None,
    ]  # fmt: skip
    assert next(element.get("PC") for element in root.iter() if local(element) == "Page") == "0.7000"
    assert_valid(new.replace(b"<ReadingOrder>", b"<Tags /><!--").replace(b"</ReadingOrder>", b"-->"))


@pytest.mark.parametrize(("unit", "factor"), [("mm10", 5), ("inch1200", 12)])
def test_words_are_measured_in_the_units_of_the_file(unit, factor):
    data = alto_file("3", unit, factor)
    new = write_back(data, pagexml.parse(data), read_lines(), (1 / factor, 1 / factor), "p.xml")
    strings = [element for element in ElementTree.fromstring(new).iter() if local(element) == "String"]
    assert [strings[1].get(name) for name in NUMBERS] == [str(value * factor) for value in (30, 0, 18, 9)]


def test_the_layout_of_the_file_stays():
    data = page_file("2019-07-15")
    new = write_back(data, pagexml.parse(data), {1: read_lines()[0]}, (1, 1), "p.xml").decode()
    line = new[new.index('<TextLine id="b">') :].split("</TextLine>")[0]
    assert line.startswith('<TextLine id="b">\n    <Coords')
    assert '\n    <Word id="b_w0">\n      <Coords' in line
    assert "\n        <Unicode>two</Unicode>\n      </TextEquiv>\n    </Word>\n" in line
    assert line.endswith("</TextEquiv>\n  ")
    assert "<!-- a comment -->" in new


def test_what_xml_cannot_hold_is_no_fault_of_the_file():
    data = page_file("2019-07-15")
    line = ReadLine("a\x01b", 1.0, ((Word("a\x01b", 1.0, 0, 1), box(0, 0, 1, 1)),), box(0, 0, 1, 1))
    assert texts(write_back(data, pagexml.parse(data), {0: line}, (1, 1), "p"))[0] == "a\ufffdb"


def test_words_that_others_refer_to_are_not_lost_unseen():
    data = alto_file("4").replace(b'REF="c"', b'REF="s"')
    with pytest.raises(BadFile, match=r"p\.xml: refers to the word s"):
        write_back(data, pagexml.parse(data), read_lines(), (1, 1), "p.xml")


def test_other_encodings_become_utf_8():
    data = page_file("2013-07-15").decode().replace('encoding="UTF-8"', 'encoding="UTF-16"').encode("utf-16")
    new = write_back(data, pagexml.parse(data), read_lines(), (1, 1), "p.xml")
    assert new.startswith(b'<?xml version="1.0" encoding="UTF-8"?>')
    assert texts(new)[0] == 'two "wörds" <&'


@pytest.mark.parametrize("make", [newpage.page, newpage.alto])
def test_new_files(make):
    lines = [line._replace(block=number) for number, line in read_lines().items()]
    data = make(lines, "a & b.png", (60, 40))
    root = assert_valid(data)
    found = pagexml.parse(data)
    assert found.image == "a & b.png"
    assert found.size == (60, 40)
    assert [line.text for line in found.lines] == [line.text for line in lines]
    assert [list(line.outline) for line in found.lines] == [line.outline for line in lines]
    assert [line.block for line in found.lines] == [0, 1]
    assert [block.name for block in found.blocks] == ["r0", "r1"]
    assert sum(local(element) in ("Word", "String") for element in root.iter()) == 3 + (make is newpage.alto)
    assert_valid(make([], "p.png", (1, 1)))


ODD = ["fine", "2", "a:b", "page", "r1", "ö.1-x_", "", "fine_w0", "with space", "²"]


@pytest.mark.parametrize("make", [newpage.page, newpage.alto, newpage.hocr])
def test_new_files_keep_ids_that_xml_can_hold(make):
    word = ((Word("a", 1.0, 0, 1), box(0, 0, 5, 5)),)
    lines = [
        ReadLine("a", 1.0, word, box(0, 0, 9, 9), name, block)
        for block, name in zip([0, 0, 0, 1, 1, 2, 0, 0, -1, -1], ODD, strict=True)
    ]
    blocks = [Block("region", box(0, 0, 30, 30)), Block("fine", [(1, 1), (9, 1), (5, 9)]), Block("x y")]
    data = make(lines, "p.png", (60, 40), blocks)
    root = ElementTree.fromstring(data.split(b"\n", 1)[1]) if make is newpage.hocr else assert_valid(data)

    def named(*kinds):
        return [
            (element.get("id") or element.get("ID"), element)
            for element in root.iter()
            if {local(element), element.get("class")} & set(kinds)
        ]

    names = [value for element in root.iter() for key, value in element.attrib.items() if key in ("id", "ID")]
    assert len(set(names)) == len(names)
    assert all(re.fullmatch(r"[^\W\d²][\w.-]*", name) for name in names)
    ids = [name for name, _ in named("TextLine", "ocr_line")]
    kept = [own if own in ("fine", "page", "r1", "ö.1-x_", "fine_w0") else None for own in ODD]
    assert [name if own else None for name, own in zip(ids, kept, strict=True)] == kept
    areas = named("TextRegion", "TextBlock", "ocr_carea")
    assert [name for name, _ in areas][:1] == ["region"]
    assert len(areas) == 5  # the first is come back to, and two lines are in none
    outlines = {"ocr_carea": "title", "TextRegion": "points", "TextBlock": "POINTS"}
    kind = areas[0][1].get("class") or local(areas[0][1])
    told = [next(e.get(outlines[kind]) for e in area.iter() if e.get(outlines[kind])) for _, area in areas]
    assert [re.findall(r"\d+", text) for text in told][:4] == {
        "ocr_carea": [["0", "0", "30", "30"], ["1", "1", "9", "9"], ["0", "0", "9", "9"], ["0", "0", "9", "9"]],
        "TextRegion": (corners := [
            ["0", "0", "30", "0", "30", "30", "0", "30"], ["1", "1", "9", "1", "5", "9"], *[["0", "0", "9", "0", "9", "9", "0", "9"]] * 2,
        ]),
        "TextBlock": corners,
    }[kind]  # fmt: skip


def test_an_outline_within_none_is_rounded_alone():
    assert fitted([(1.4, 2.6), (3.0, 4.0)], []) == [(1, 3), (3, 4)]


def test_nothing_new_sticks_out():
    word = ((Word("a", 1.0, 0, 1), box(-0.4, 8.6, 60.7, 41)), (Word("b", 1.0, 0, 1), box(3.7, 9, 12.5, 30)))
    line = ReadLine("a b", 1.0, word, [(-3, 8.7), (70, 8.7), (70, 38.2), (30, 45), (-3, 38.2)])
    for make in (newpage.page, newpage.alto):
        root = assert_valid(make([line], "p.png", (60, 40)))
        found = next(element for element in root.iter() if local(element) == "TextLine")
        assert corners_of(found) == (0, 9, 60, 40)
    told = newpage.hocr([line], "p.png", (60, 40)).decode()
    assert re.findall(r"bbox ([\d ]+)", told) == [
        "0 0 60 40", "0 9 60 40", "0 9 60 40", "0 9 60 40", "4 9 12 30",
    ]  # fmt: skip


@pytest.mark.parametrize(("unit", "factor"), [("pixel", 1), ("mm10", 3.3), ("inch1200", 4.0)])
def test_words_in_a_copy_lie_within_its_line(unit, factor):
    data = alto_file("3", unit, factor)
    lines = {
        number: ReadLine(
            "a", 1.0, ((Word("a", 1.0, 0, 1), box(-1, top - 0.2, 60.6, top + 9.7)),), box(0, top, 60, top + 9)
        )
        for number, top in enumerate((0, 10))
    }
    new = write_back(data, pagexml.parse(data), lines, (1 / factor, 1 / factor), "p.xml")
    assert_words_inside(ElementTree.fromstring(new))


def test_hocr():
    root = ElementTree.fromstring(
        newpage.hocr(list(read_lines().values()), 'a"b.png', (60, 40)).split(b"\n", 1)[1]
    )
    by_class = {}
    for element in root.iter():
        by_class.setdefault(element.get("class"), []).append(element)
    assert by_class["ocr_page"][0].get("title") == 'image "a_b.png"; bbox 0 0 60 40'
    assert [line.get("title") for line in by_class["ocr_line"]] == ["bbox 0 0 60 9", "bbox 0 10 60 19"]
    assert [word.text for word in by_class["ocrx_word"]] == ["two", '"wörds"', "<&"]
    assert by_class["ocrx_word"][1].get("title") == "bbox 30 0 48 9; x_wconf 75"
    assert "".join(by_class["ocr_line"][0].itertext()).strip() == 'two "wörds" <&'
