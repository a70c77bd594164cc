"""Lines of which only baselines or words are known, old points, and pages that are described twice."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.formats import pagexml
from ndrnn.data.formats.baselines import ABOVE, BELOW, axes, band, distance
from ndrnn.data.formats.cutting import ink_around, place_of, whole
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.pages import Pages


def page_file(*lines, image="p.png"):
    return f'<PcGts><Page imageFilename="{image}"><TextRegion>{"".join(lines)}</TextRegion></Page></PcGts>'


def text(words):
    return f"<TextEquiv><Unicode>{words}</Unicode></TextEquiv>"


@pytest.fixture
def page(tmp_path):
    """A page of three rows of dark strokes on baselines at 40, 80 and 120, each from 26 above to 8 below."""
    array = np.full((160, 200), 240, np.uint8)
    for row in (40, 80, 120):
        for column in range(20, 180, 12):
            array[row - 26 : row + 8, column : column + 3] = 30
    Image.fromarray(array).save(tmp_path / "p.png")
    return array


def baseline(row):
    return f'<Baseline points="15,{row} 185,{row}"/>'


def test_a_band_along_each_baseline(page, tmp_path):
    lines = (f'<TextLine id="l{row}">{baseline(row)}{text("x")}</TextLine>' for row in (40, 80, 120))
    (tmp_path / "p.xml").write_text(page_file(*lines))
    source = Pages(path=str(tmp_path)).open()
    for index, row in enumerate((40, 80, 120)):
        values = source.read(index).values[..., 0]
        top, bottom = int(row - ABOVE * 40), int(row + BELOW * 40) + 1
        assert np.array_equal(values, page[top:bottom, 15:186])
        # the writing is in it as a whole, and a tenth of what belongs to the neighbours at most
        assert (values < 100).sum() >= 34 * 3 * 14


def test_degenerate_outlines_are_how_some_say_that_they_know_the_baseline_only(page, tmp_path):
    outlines = ('<Coords points="0,0 0,0 0,0"/>', '<Coords points=""/>', '<Coords points="15,40 185,40"/>')
    for outline in outlines:
        other = f'<TextLine id="b">{baseline(80)}{text("y")}</TextLine>'
        (tmp_path / "p.xml").write_text(
            page_file(f'<TextLine id="a">{outline}{baseline(40)}{text("x")}</TextLine>', other)
        )
        assert Pages(path=str(tmp_path)).open().read(0).values.shape == (43, 171, 1)


def test_outlines_count_before_baselines(page, tmp_path):
    box = '<Coords points="20,30 60,30 60,50 20,50"/>'
    for line in (box + baseline(40), box + '<Baseline points="1"/>', box + '<Baseline points="5,5 5,5"/>'):
        (tmp_path / "p.xml").write_text(page_file(f"<TextLine>{line}{text('x')}</TextLine>"))
        assert np.array_equal(Pages(path=str(tmp_path)).open().read(0).values[..., 0], page[30:51, 20:61])


def test_a_single_baseline_is_measured_by_the_ink_around(tmp_path):
    array = np.full((100, 200), 240, np.uint8) - np.random.default_rng(0).integers(0, 6, (100, 200), np.uint8)
    array[34:68, 20:180:12] = 20
    Image.fromarray(array).save(tmp_path / "p.png")
    (tmp_path / "p.xml").write_text(page_file(f"<TextLine>{baseline(60)}{text('x')}</TextLine>"))
    values = Pages(path=str(tmp_path)).open().read(0).values[..., 0]
    above, below = ink_around(array[..., None], [(15, 60), (185, 60)], "p")
    assert 25 <= above <= 29
    assert 7 <= below <= 10
    assert (values < 100).sum() >= 0.97 * (array < 100).sum()
    assert values.shape[0] <= 40
    with pytest.raises(BadFile, match="there is no writing on its baseline"):
        ink_around(np.full((50, 50, 1), 7, np.uint8), [(5, 25), (45, 25)], "p")
    with pytest.raises(BadFile, match="its baseline lies beside the page"):
        ink_around(array[..., None], [(500, 600), (585, 600)], "p")


def test_bands_follow_their_baselines():
    assert band([(0, 10), (20, 10)], 5, 2) == [(0, 5), (20, 5), (20, 12), (0, 12)]
    # told from right to left, up is up all the same
    assert band([(20, 10), (0, 10)], 5, 2) == [(20, 5), (0, 5), (0, 12), (20, 12)]
    # read downwards, the upper side is at the right; read upwards, at the left
    assert axes([(10, 0), (10, 50)]) == ((0, 1), (1, 0))
    assert axes([(10, 50), (10, 0)]) == ((0, -1), (-1, 0))
    along, up = axes([(0, 0), (30, 40)])
    assert along == pytest.approx((0.6, 0.8))
    assert up == pytest.approx((0.8, -0.6))
    with pytest.raises(ValueError, match="baseline without length"):
        axes([(1, 1), (1, 1)])


def test_the_distance_of_lines_is_that_to_the_next_one():
    lines = [[(0, row), (100, row)] for row in (10, 50, 92, 130)]
    assert distance(lines) == 39  # of 40, 40, 38, 38: the middle
    beside = [[(0, 10), (100, 10)], [(300, 15), (400, 15)]]
    assert distance(beside) is None
    assert distance([*lines, *[[(500, row + 3), (600, row + 3)] for row in (10, 50, 92, 130)]]) == 39
    assert distance([[(0, 10), (100, 10)], [(0, 10), (100, 10)]]) is None


def test_old_points(page, tmp_path):
    points = "".join(f'<Point x="{x}" y="{y}"/>' for x, y in ((20, 30), (60, 30), (60, 50), (20, 50)))
    old = "<TextEquiv><PlainText>plain</PlainText><Unicode></Unicode></TextEquiv>"
    (tmp_path / "p.xml").write_text(page_file(f"<TextLine><Coords>{points}</Coords>{old}</TextLine>"))
    raw = Pages(path=str(tmp_path)).open().read(0)
    assert np.array_equal(raw.values[..., 0], page[30:51, 20:61])
    assert raw.target == "plain"
    (tmp_path / "p.xml").write_text(page_file('<TextLine><Coords><Point x="a" y="1"/></Coords></TextLine>'))
    with pytest.raises(BadFile, match="line 0 could not convert"):
        Pages(path=str(tmp_path)).open().read(0)


def word(left, words, glyphs=False):
    inside = "".join(f"<Glyph>{text(letter)}</Glyph>" for letter in words) if glyphs else text(words)
    return f'<Word><Coords points="{left},30 {left + 20},30 {left + 20},50 {left},50"/>{inside}</Word>'


def test_words_stand_in_for_their_line(page, tmp_path):
    line = f"<TextLine>{word(20, 'one')}{word(50, 'two', glyphs=True)}</TextLine>"
    (tmp_path / "p.xml").write_text(page_file(line))
    raw = Pages(path=str(tmp_path)).open().read(0)
    assert raw.target == "one two"
    assert np.array_equal(raw.values[..., 0], page[30:51, 20:71])
    both = f"<TextLine>{word(20, 'no')}{text('of its own')}</TextLine>"
    (tmp_path / "p.xml").write_text(page_file(both))
    assert Pages(path=str(tmp_path)).open().read(0).target == "of its own"


ALTO = '<alto><Layout><Page WIDTH="200" HEIGHT="160"><PrintSpace><TextBlock>{}</TextBlock></PrintSpace></Page></Layout></alto>'


@pytest.mark.parametrize(
    ("line", "rows"),
    [
        ('<TextLine BASELINE="15 40 185 40"><String CONTENT="x"/></TextLine>', slice(10, 53)),
        ('<TextLine BASELINE="15,40 185,40"><String CONTENT="x"/></TextLine>', slice(10, 53)),
        ('<TextLine BASELINE="40" HPOS="15" WIDTH="170"><String CONTENT="x"/></TextLine>', slice(10, 53)),
        (
            '<TextLine HPOS="15" VPOS="20" WIDTH="170" HEIGHT="30" BASELINE="40"><String CONTENT="x"/></TextLine>',
            slice(20, 51),
        ),
        (
            '<TextLine><String CONTENT="x" HPOS="15" VPOS="20" WIDTH="20" HEIGHT="30"/>'
            '<String CONTENT="y" HPOS="85" VPOS="22" WIDTH="100" HEIGHT="20"/></TextLine>',
            slice(20, 51),
        ),
    ],
)
def test_lines_of_alto(line, rows, page, tmp_path):
    other = '<TextLine BASELINE="15 80 185 80"><String CONTENT="z"/></TextLine>'
    (tmp_path / "p.xml").write_text(ALTO.format(line + other))
    assert np.array_equal(Pages(path=str(tmp_path)).open().read(0).values[..., 0], page[rows, 15:186])


def test_a_page_that_is_described_twice_is_an_error_or_a_choice(page, tmp_path):
    box = "20,30 60,30 60,50 20,50"
    (tmp_path / "page").mkdir()
    (tmp_path / "page/p.xml").write_text(
        page_file(f'<TextLine><Coords points="{box}"/>{text("page")}</TextLine>')
    )
    line = '<TextLine HPOS="20" VPOS="30" WIDTH="40" HEIGHT="20"><String CONTENT="alto"/></TextLine>'
    (tmp_path / "p.xml").write_text(ALTO.format(line))
    with pytest.raises(
        BadFile, match=r"none of 2 samples .* is described by .*page/p\.xml too; data\.description"
    ):
        gather(Pages(path=str(tmp_path)), "transcribe")
    for kind in ("page", "alto"):
        source = Pages(path=str(tmp_path), description=kind).open()
        assert [source.read(index).target for index in range(len(source))] == [kind]
    (tmp_path / "q.xml").write_text(page_file(image="p.png"))
    source = Pages(path=str(tmp_path), description="page").open()
    assert len(source) == 2
    for index, other in enumerate((r"q\.xml", r"page/p\.xml")):
        with pytest.raises(BadFile, match=rf"is described by .*{other} too$"):
            source.read(index)
    with pytest.raises(ValueError, match='description must be "page", "alto" or nothing'):
        Pages(path="x", description="hocr")


def test_the_order_of_reading():
    def region(name, lines):
        return (
            f'<TextRegion id="{name}">'
            + "".join(f'<TextLine id="{line}"/>' for line in lines)
            + "</TextRegion>"
        )

    order = (
        '<ReadingOrder><OrderedGroup id="g"><RegionRefIndexed index="2" regionRef="a"/><OrderedGroupIndexed index="0" id="h">'
        '<RegionRefIndexed index="1" regionRef="b"/><RegionRefIndexed index="0" regionRef="c"/></OrderedGroupIndexed>'
        "</OrderedGroup></ReadingOrder>"
    )
    regions = "".join(region(name, [f"{name}1", f"{name}2"]) for name in "abcd")
    found = pagexml.parse(f"<PcGts><Page>{order}{regions}</Page></PcGts>".encode())
    assert [found.names[number] for number in found.order] == ["c1", "c2", "b1", "b2", "a1", "a2", "d1", "d2"]


@pytest.mark.parametrize("turn", range(1, 9))
def test_places_of_words_follow_every_turn(turn):
    from ndrnn.data.formats.opening import upright

    image = np.arange(20 * 30).reshape(20, 30, 1)
    place = place_of(image, [(5, 4), (24, 4), (24, 13), (5, 13)], turn, "p")
    part = upright(image[4:14, 5:25], turn)
    width = part.shape[1]
    # the pixels of the first half of what is read are those of the outline of its part
    corners = place.part(0, 0.5)
    assert all(5 <= x <= 24 and 4 <= y <= 13 for x, y in corners)
    across, down = zip(*((x + (x == 24), y + (y == 13)) for x, y in corners), strict=True)
    found = image[int(min(down)) : int(max(down)), int(min(across)) : int(max(across))]
    assert sorted(found.ravel()) == sorted(part[:, : width // 2].ravel())
    assert whole((20, 30)).turned(turn).part(0, 1)[0] in [(0, 0), (30, 0), (0, 20), (30, 20)]
