"""A model that learned from pages reads pages: a result for each line."""

from __future__ import annotations

import json
import shutil
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.commands.train import Train
from ndrnn.app.recipe import parse
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Facts, build
from ndrnn.tasks.transcribe import TranscribeBatch

BOXES = {"first": (2, 1, 40, 9), "second": (5, 20, 60, 31), "third": (0, 35, 30, 48)}


@pytest.fixture
def page_run(tmp_path):
    """The folder of a run on pages whose weights are as they were drawn."""
    options = ("--task", "transcribe", "--data.format", "pages", "--data.path", "unused", "--data.invert")
    network = ("--network.hidden", "3", "8", "--network.subsample", "4", "--network.blocks", "2x2", "2x2")
    recipe, _ = parse((*options, *network), Train, "ndrnn train")
    folder = tmp_path / "run"
    folder.mkdir()
    recipe.save(folder)
    torch.manual_seed(0)
    task = build(recipe.config, Facts(2, 1, alphabet="abcdefgh"))
    with torch.no_grad():
        for parameter in task.parameters():
            parameter.normal_()
    checkpoint.save(task, folder / "best.safetensors")
    return folder


@pytest.fixture
def pages(tmp_path):
    """A page of three lines, one with a text and two without."""
    folder = tmp_path / "pages"
    folder.mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (50, 64), np.uint8)).save(folder / "p.png")
    lines = "".join(
        f'<TextLine id="{name}"><Coords points="{x},{y} {right},{y} {right},{low} {x},{low}"/></TextLine>'
        for name, (x, y, right, low) in BOXES.items()
    )
    (folder / "p.xml").write_text(f'<PcGts><Page imageFilename="p.png">{lines}</Page></PcGts>')
    return folder


def results(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text().splitlines()]


def read_directly(run, page):
    """The texts of the lines by the network alone."""
    task = checkpoint.load(run / "best.safetensors")
    with Image.open(page) as image:
        array = np.asarray(image)
    found = []
    for x, y, right, low in BOXES.values():
        values = 1 - torch.tensor(array[y : low + 1, x : right + 1] / np.float32(255))[None, ..., None]
        with torch.no_grad():
            found.append(task.predict_step(TranscribeBatch(values, ("",)))[0].text)
    return found


def test_a_result_for_each_line(ndrnn, page_run, pages, tmp_path):
    ran = ndrnn("predict", page_run, pages, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    found = results(tmp_path / "out")
    assert [result["line"] for result in found] == list(BOXES)
    assert [result["file"] for result in found] == [f"{pages}/p.xml#{name}" for name in BOXES]
    assert [result["number"] for result in found] == [0, 1, 2]
    assert {result["page"] for result in found} == {f"{pages}/p.xml"}
    assert {result["image"] for result in found} == {f"{pages}/p.png"}
    texts = [result["text"] for result in found]
    assert texts == read_directly(page_run, pages / "p.png")
    assert len(set(texts)) == 3


@pytest.mark.parametrize("named", ["p.png", "p.xml", "page/p.xml of p.png"])
def test_a_single_page(named, ndrnn, page_run, pages, tmp_path):
    Image.new("L", (20, 20)).save(pages / "other.png")
    (pages / "broken.xml").write_text("<")
    if "/" in named:
        (pages / "page").mkdir()
        (pages / "p.xml").rename(pages / "page/p.xml")
    ran = ndrnn("predict", page_run, pages / named.split()[-1], "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert [result["text"] for result in results(tmp_path / "out")] == read_directly(
        page_run, pages / "p.png"
    )


def test_pages_in_an_archive(ndrnn, page_run, pages, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in pages.iterdir():
            archive.write(path, f"in/{path.name}")
    assert ndrnn("predict", page_run, tmp_path / "a.zip", "--out", tmp_path / "out").status == 0
    assert [result["line"] for result in results(tmp_path / "out")] == list(BOXES)


def test_what_cannot_be_used_is_named_and_the_others_are_done(ndrnn, page_run, pages, tmp_path):
    for name in ("alone.png", "d.png"):
        shutil.copy(pages / "p.png", pages / name)
    (pages / "b.xml").write_text("<PcGts")
    (pages / "c.xml").write_text('<PcGts><Page imageFilename="gone.png"/></PcGts>')
    (pages / "d.xml").write_text(
        '<PcGts><Page imageFilename="d.png"><TextLine id="x"/><TextLine id="y"><Coords points="900,900 910,900 910,910"/>'
        "</TextLine></Page></PcGts>"
    )
    ran = ndrnn("predict", page_run, pages, "--out", tmp_path / "out", "--json")
    assert ran.status == 1
    assert len(results(tmp_path / "out")) == ran.json["predicted"] == 3
    left_out = {fault["file"].rpartition("/")[2]: fault["reason"] for fault in ran.json["left_out"]}
    assert left_out.keys() == {"alone.png", "b.xml", "c.xml", "d.xml", "d.xml#y"}
    assert left_out["alone.png"] == "no PAGE or ALTO file (*.xml) describes its lines"
    assert left_out["d.xml"] == "line x has no outline"
    assert (ran.json["files"], ran.json["pages"], ran.json["lines"]) == (5, 2, 5)
    ran = ndrnn("predict", page_run, pages, "--out", tmp_path / "again")
    assert "3 of 5 lines on 2 pages; results are in" in ran.out
    assert "2 of 5 lines and 3 pages or images could not be used" in ran.err


@pytest.mark.parametrize(
    "named", [("", ""), ("", "p.xml"), ("p.png", "p.xml"), ("p.xml", "../pages"), ("", "linked/p.xml")]
)
def test_a_page_that_is_named_twice_is_read_once(named, ndrnn, page_run, pages, tmp_path):
    shutil.copy(pages / "p.png", pages / "alone.png")  # described by nothing
    (tmp_path / "linked").symlink_to(pages)
    first, second = pages / named[0], (tmp_path if "linked" in named[1] else pages) / named[1]
    ran = ndrnn("predict", page_run, first, second, "--out", tmp_path / "out")
    assert [result["line"] for result in results(tmp_path / "out")] == list(BOXES)
    assert f"note: {second}: named before, and used once" in ran.err
    assert ran.err.count("alone.png: no PAGE") == (1 if "" in named or "../pages" in named else 0)
    assert "3 of 3 lines on 1 page; results" in ran.out


def test_without_any_description_nothing_is_read(ndrnn, page_run, pages, tmp_path):
    (pages / "p.xml").unlink()
    ran = ndrnn("predict", page_run, pages, "--out", tmp_path / "out")
    assert ran.status == 1
    assert "p.png: no PAGE or ALTO file" in ran.err
    assert not results(tmp_path / "out")
