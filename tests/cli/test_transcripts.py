"""Texts of pages and lines as files: PAGE and ALTO written back, hOCR, plain text, and lines of other scripts."""

from __future__ import annotations

import json
import re
import shutil
from itertools import pairwise
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.commands.train import Train
from ndrnn.app.recipe import parse
from ndrnn.data.formats import pagexml
from ndrnn.data.reading import Block
from ndrnn.saving import models
from ndrnn.tasks import Facts, build
from ndrnn.tasks.transcribe import TranscribeTask

BOXES = {"first": (2, 1, 40, 9), "second": (5, 20, 60, 31), "third": (0, 35, 30, 48)}


@pytest.fixture
def make_run(tmp_path, monkeypatch):
    """Makes the folder of a run whose network reads a letter of every fourth pixel of a line's first row."""

    def log_probs(task, batch):
        sizes = (
            torch.tensor(batch.x.shape[1:3]).expand(len(batch.x), 2) if batch.sizes is None else batch.sizes
        )
        labels = len(task.facts.alphabet) + 1
        seen = (batch.x[:, 0, ::4, 0] * labels).long().clamp(max=labels - 1)
        sure = torch.full((*seen.shape, labels), 0.1 / labels).scatter(-1, seen[..., None], 0.9)
        return sure.log(), (sizes[:, 1] + 3) // 4

    monkeypatch.setattr(TranscribeTask, "_log_probs", log_probs)

    def make(data_format, *options, alphabet=" abcdefgh", direction=""):
        words = (
            "--task",
            "transcribe",
            "--data.format",
            data_format,
            "--data.path",
            "unused",
            "--data.invert",
        )
        network = ("--network.hidden", "3", "8", "--network.subsample", "4", "--network.blocks", "2x2", "2x2")
        recipe, _ = parse((*words, *network, *options), Train, "ndrnn train")
        folder = tmp_path / "run"
        folder.mkdir()
        recipe.save(folder)
        models.save(
            build(recipe.config, Facts(2, 1, alphabet=alphabet, direction=direction)),
            folder / "best.safetensors",
        )
        return folder

    return make


@pytest.fixture
def pages(tmp_path):
    """A page of three lines in two regions, of which the second is read first."""
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 64), np.uint8)).save(folder / "p.png")
    lines = [
        f'<TextLine id="{name}"><Coords points="{x},{y} {right},{y} {right},{low} {x},{low}"/>'
        "<TextEquiv><Unicode>as it was</Unicode></TextEquiv></TextLine>"
        for name, (x, y, right, low) in BOXES.items()
    ]
    order = (
        '<ReadingOrder><OrderedGroup id="o"><RegionRefIndexed index="0" regionRef="r2"/>'
        '<RegionRefIndexed index="1" regionRef="r1"/></OrderedGroup></ReadingOrder>'
    )
    corners = '<Coords points="0,0 63,0 63,49"/>'
    (folder / "p.xml").write_text(
        '<PcGts xmlns="http://schema.primaresearch.org/PAGE/gts/pagecontent/2019-07-15"><!-- mine -->'
        f'<Page imageFilename="p.png" imageWidth="64" imageHeight="50">{order}<TextRegion id="r1">{corners}{lines[0]}'
        f'{lines[1]}</TextRegion><TextRegion id="r2">{corners}{lines[2]}</TextRegion></Page></PcGts>'
    )
    return folder


def results(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def lines_of(path):
    return pagexml.parse(path.read_bytes()).lines


def test_texts_are_written_into_a_copy(ndrnn, make_run, pages, tmp_path):
    run, before = make_run("pages"), (pages / "p.xml").read_bytes()
    ran = ndrnn("predict", run, pages, "--out", tmp_path / "out", "--format", "page")
    assert ran.status == 0, ran.err
    found = results(tmp_path / "out")
    assert [result["line"] for result in found] == list(BOXES)
    written = lines_of(tmp_path / "out/p.xml")
    assert [line.text for line in written] == [result["text"] for result in found]
    assert len({result["text"] for result in found}) == 3
    assert b"<!-- mine -->" in (tmp_path / "out/p.xml").read_bytes()
    assert pagexml.parse((tmp_path / "out/p.xml").read_bytes()).order == (2, 0, 1)
    assert (pages / "p.xml").read_bytes() == before
    for result, (left, top, right, low) in zip(found, BOXES.values(), strict=True):
        boxes = [word["box"] for word in result["words"]]
        assert boxes[0][0] == left
        assert boxes[-1][2] == right
        assert all(box[1] == top and box[3] == low for box in boxes)
        assert all(one[2] == other[0] for one, other in pairwise(boxes))
        assert len(result["characters"]) == len(result["text"])
        assert 0 < result["confidence"] <= 1
        assert result["log_probability"] < 0
        assert " ".join(word["text"] for word in result["words"]) == " ".join(result["text"].split())
    # a page that was read can be learned from, or read again
    again = ndrnn("predict", run, tmp_path / "out/p.xml", "--out", tmp_path / "again")
    assert again.status == 1
    shutil.copy(pages / "p.png", tmp_path / "out/p.png")
    assert ndrnn("predict", run, tmp_path / "out/p.xml", "--out", tmp_path / "more").status == 0
    assert [one["text"] for one in results(tmp_path / "more")] == [one["text"] for one in found]


@pytest.mark.parametrize("kind", ["alto", "hocr", "txt"])
def test_other_formats_follow_the_order_of_reading(kind, ndrnn, make_run, pages, tmp_path):
    run = make_run("pages")
    ran = ndrnn("predict", run, pages, "--out", tmp_path / "out", "--format", kind)
    assert ran.status == 0, ran.err
    found = {result["line"]: " ".join(result["text"].split()) for result in results(tmp_path / "out")}
    expected = [found["third"], found["first"], found["second"]]
    if kind == "alto":
        page = pagexml.parse((tmp_path / "out/p.xml").read_bytes())
        assert page.kind == "alto"
        assert [line.text for line in page.lines] == expected
        assert [line.block for line in page.lines] == [0, 1, 1]
        assert [line.name for line in page.lines] == ["third", "first", "second"]
        assert page.blocks == tuple(Block(name, ((0, 0), (63, 0), (63, 49))) for name in ("r2", "r1"))
        assert page.lines[0].outline == ((0, 35), (30, 35), (30, 48), (0, 48))
    elif kind == "hocr":
        root = ElementTree.fromstring((tmp_path / "out/p.hocr").read_text().split("\n", 1)[1])
        told = [element for element in root.iter() if element.get("class") == "ocr_line"]
        assert ["".join(element.itertext()) for element in told] == expected
        assert told[0].get("title") == "bbox 0 35 30 48"
        assert [element.get("id") for element in told] == ["third", "first", "second"]
        areas = [element for element in root.iter() if element.get("class") == "ocr_carea"]
        assert [(area.get("id"), area.get("title")) for area in areas] == [
            ("r2", "bbox 0 0 63 49"),
            ("r1", "bbox 0 0 63 49"),
        ]
    else:
        read = [" ".join(line.split()) for line in (tmp_path / "out/p.txt").read_text().split("\n")]
        assert read == [*expected, ""]


def test_alto_in_tenths_of_millimetres_becomes_page(ndrnn, make_run, pages, tmp_path):
    lines = "".join(
        f'<TextLine ID="{name}" HPOS="{5 * x}" VPOS="{5 * y}" WIDTH="{5 * (right - x)}" HEIGHT="{5 * (low - y)}"/>'
        for name, (x, y, right, low) in [*BOXES.items(), ("edge", (10, 40, 64, 50))]
    )
    (pages / "p.xml").write_text(
        '<alto><Description><MeasurementUnit>mm10</MeasurementUnit></Description><Layout><Page WIDTH="320" HEIGHT="250">'
        f'<PrintSpace><TextBlock ID="b" HPOS="0" VPOS="0" WIDTH="310" HEIGHT="250">{lines}</TextBlock></PrintSpace></Page>'
        "</Layout></alto>"
    )
    run = make_run("pages")
    for kind, name in (("page", "p.xml"), ("hocr", "p.hocr"), ("alto", "p.xml")):
        ran = ndrnn("predict", run, pages, "--out", tmp_path / kind, "--format", kind)
        assert ran.status == 0, ran.err
        assert (tmp_path / kind / name).exists()
    page = pagexml.parse((tmp_path / "page/p.xml").read_bytes())
    assert page.blocks == (Block("b", ((0, 0), (62, 0), (62, 50), (0, 50))),)
    assert [line.name for line in page.lines] == [*BOXES, "edge"]
    assert page.lines[3].outline == ((10, 40), (64, 40), (64, 50), (10, 50))
    told = ElementTree.parse(tmp_path / "page/p.xml")
    words = [
        element.get("points") for word in told.iter() if word.tag.endswith("}Word") for element in word[:1]
    ]
    assert words
    corners = [tuple(map(int, corner.split(","))) for points in words for corner in points.split()]
    assert max(x for x, _ in corners) == 64
    assert max(y for _, y in corners) == 50
    copied = ElementTree.parse(tmp_path / "alto/p.xml")
    for line in copied.iter("TextLine"):
        right = float(line.get("HPOS")) + float(line.get("WIDTH"))
        assert (
            max(float(word.get("HPOS")) + float(word.get("WIDTH")) for word in line.iter("String")) == right
        )
    areas = re.findall(
        r'class="ocr_carea" id="(\w+)" title="([^"]*)"', (tmp_path / "hocr/p.hocr").read_text()
    )
    assert areas == [("b", "bbox 0 0 62 50")]


def test_originals_are_never_overwritten(ndrnn, make_run, pages, tmp_path):
    run, before = make_run("pages"), (pages / "p.xml").read_bytes()
    for force in ((), ("--force",)):
        for kind in ("page", "alto"):
            ran = ndrnn("predict", run, pages, "--out", pages, "--format", kind, *force)
            assert ran.status == 2
            assert "p.xml is an original and would be overwritten" in ran.err
    assert (pages / "p.xml").read_bytes() == before
    (tmp_path / "out").mkdir()
    (tmp_path / "out/p.xml").write_text("older")
    ran = ndrnn("predict", run, pages, "--out", tmp_path / "out", "--format", "page")
    assert ran.status == 2
    assert "p.xml exists already" in ran.err
    assert ndrnn("predict", run, pages, "--out", tmp_path / "out", "--format", "page", "--force").status == 0
    assert (tmp_path / "out/p.xml").read_text() != "older"


def test_a_line_that_cannot_be_read_stays(ndrnn, make_run, pages, tmp_path):
    told = (pages / "p.xml").read_text().replace('points="5,20 60,20', 'points="905,920 906,920')
    (pages / "p.xml").write_text(told.replace("60,31 5,31", "906,931 905,931"))
    ran = ndrnn("predict", make_run("pages"), pages, "--out", tmp_path / "out", "--format", "page")
    assert ran.status == 1
    assert "p.xml#second: its outline encloses nothing" in ran.err
    texts = [line.text for line in lines_of(tmp_path / "out/p.xml")]
    assert texts[1] == "as it was"
    assert "as it was" not in texts[::2]


def test_pages_described_twice(ndrnn, make_run, pages, tmp_path):
    line = '<TextLine ID="x" HPOS="2" VPOS="1" WIDTH="38" HEIGHT="8"><String CONTENT=""/></TextLine>'
    (pages / "alto").mkdir()
    (pages / "alto/p.xml").write_text(
        f'<alto><Layout><Page WIDTH="64" HEIGHT="50"><PrintSpace><TextBlock>{line}</TextBlock></PrintSpace></Page></Layout></alto>'
    )
    run = make_run("pages")
    ran = ndrnn("predict", run, pages, "--out", tmp_path / "none")
    assert ran.status == 1
    assert ran.err.count("is described by") == 2
    for kind, count, path in (("page", 3, "p.xml"), ("alto", 1, "alto/p.xml")):
        ran = ndrnn("predict", run, pages, "--out", tmp_path / kind, "--format", kind)
        assert ran.status == 0, ran.err
        assert len(results(tmp_path / kind)) == count
        assert len(lines_of(tmp_path / kind / path)) == count
    assert ndrnn("predict", run, pages / "p.xml", "--out", tmp_path / "named").status == 0
    assert len(results(tmp_path / "named")) == 3


@pytest.mark.parametrize("kind", ["page", "alto", "txt"])
def test_images_of_lines_make_files_of_their_own(kind, ndrnn, make_run, tmp_path):
    (tmp_path / "in").mkdir()
    for number in range(3):
        array = np.random.default_rng(number).integers(0, 256, (12, 40), np.uint8)
        Image.fromarray(array).save(tmp_path / f"in/{number}.png")
    ran = ndrnn("predict", make_run("lines"), tmp_path / "in", "--out", tmp_path / "out", "--format", kind)
    assert ran.status == 0, ran.err
    for number, result in enumerate(results(tmp_path / "out")):
        text = " ".join(result["text"].split())
        if kind == "txt":
            assert " ".join((tmp_path / f"out/{number}.txt").read_text().split()) == text
            continue
        page = pagexml.parse((tmp_path / f"out/{number}.xml").read_bytes())
        assert (page.kind, page.image, page.size) == (kind, f"{number}.png", (40, 12))
        assert [" ".join(line.text.split()) for line in page.lines] == [text]


def test_vertical_lines_have_words_below_each_other(ndrnn, make_run, tmp_path):
    (tmp_path / "in").mkdir()
    array = np.random.default_rng(5).integers(0, 200, (60, 12), np.uint8)
    array[[20, 40], -1] = 217  # read as spaces
    Image.fromarray(array).save(tmp_path / "in/a.png")
    Image.fromarray(np.rot90(array)).save(tmp_path / "in/b.png")
    run = make_run("lines", "--data.vertical", "tall")
    assert ndrnn("predict", run, tmp_path / "in", "--out", tmp_path / "out").status == 0
    down, across = results(tmp_path / "out")
    assert down["text"] == across["text"]
    assert len(down["words"]) == 3
    for one, other in zip(down["words"], across["words"], strict=True):
        left, top, right, bottom = other["box"]
        assert one["box"] == [top, left, bottom, right]


def test_lines_from_right_to_left(ndrnn, make_run, tmp_path):
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(3).integers(0, 256, (12, 60), np.uint8)).save(tmp_path / "in/a.png")
    run = make_run("lines", alphabet=" אבגדהו1", direction="rtl")
    assert ndrnn("predict", run, tmp_path / "in", "--out", tmp_path / "out").status == 0
    (found,) = results(tmp_path / "out")
    boxes = [word["box"][0] for word in found["words"]]
    assert len(boxes) > 1
    assert boxes == sorted(boxes, reverse=True)  # the first word stands at the right


def test_formats_of_texts_are_for_networks_that_read(ndrnn, make_run, pages):
    ran = ndrnn("predict", make_run("pages"), pages, "--format", "page")
    assert ran.status == 2
    assert "--format page needs --out" in ran.err


def test_check_counts_characters_and_tells_where_the_rarest_are(ndrnn, text_folder, tmp_path):
    shutil.copytree(text_folder, tmp_path / "lines")
    (tmp_path / "lines/03.gt.txt").write_text("a\u0301\u00a0§", encoding="utf-8")
    words = ("check", "--task", "transcribe", "--data.format", "lines", "--data.path", tmp_path / "lines")
    network = ("--network.blocks", "2x2", "2x2", "--network.hidden", 2, 2, "--network.subsample", 2)
    ran = ndrnn(*words, *network, "--json")
    assert ran.status == 0, ran.err
    texts = "".join(path.read_text(encoding="utf-8") for path in (tmp_path / "lines").glob("[!3]?.gt.txt"))
    assert ran.json["characters"]["a"] == sum(
        path.read_text().count("a") for path in text_folder.glob("*.gt.txt") if path.name != "03.gt.txt"
    )
    assert texts
    assert ran.json["alphabet"] == " ab§á"
    rarest = {one["character"]: one for one in ran.json["rarest"]}
    assert rarest["§"] == {
        "character": "§",
        "name": "U+00A7 SECTION SIGN",
        "count": 1,
        "file": f"{tmp_path}/lines/03.png",
    }
    ran = ndrnn(*words, *network)
    assert "U+0020 SPACE 1" in ran.out
    assert "SECTION SIGN" in ran.out
