"""Using a model on single files, many, damaged and large ones."""

from __future__ import annotations

import json
import os
import shutil
import sys
import zipfile

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.options import Train
from ndrnn.app.recipe import parse
from ndrnn.nn.hierarchy import Hierarchy
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Facts, build

LABEL = ("--task", "label", "--data.format", "masks", "--data.path", "unused", "--network.hidden", "3")


@pytest.fixture
def label_run(tmp_path):
    """The folder of a run whose weights are as they were drawn."""
    return untrained(tmp_path)


def untrained(tmp_path, *options):
    recipe, _ = parse((*LABEL, *options), Train, "ndrnn train")
    folder = tmp_path / "run"
    folder.mkdir()
    recipe.save(folder)
    task = build(recipe.config, Facts(2, 1, ("a", "b", "c")))
    with torch.no_grad():
        task.model.output.weight.normal_(generator=torch.Generator().manual_seed(0))
    checkpoint.save(task, folder / "best.safetensors")
    return folder


def write(path, *size, seed=0):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, size, np.uint8)).save(path)


def labels_of(path):
    with Image.open(path) as image:
        return np.asarray(image)


def test_labels_are_those_of_the_network(ndrnn, label_run, tmp_path):
    write(tmp_path / "in/a.png", 9, 7)
    words = (tmp_path / "in/a.png", tmp_path / "in", tmp_path / "in/../in/a.png")  # one and the same
    ran = ndrnn("predict", label_run, *words, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert "1 of 1 file;" in ran.out
    assert ran.err.count(": named before, and used once") == 2
    task = checkpoint.load(label_run / "best.safetensors")
    with torch.no_grad():
        scores = task.model(torch.tensor(labels_of(tmp_path / "in/a.png") / np.float32(255))[None, ..., None])
    assert np.array_equal(labels_of(tmp_path / "out/a.png"), scores.argmax(-1)[0])


def test_a_thousand_files_of_many_sizes(ndrnn, label_run, tmp_path):
    for index in range(1000):
        write(tmp_path / f"in/{index % 10}/{index}.png", 4 + index % 3, 4 + index % 5, seed=index)
    ran = ndrnn("predict", label_run, tmp_path / "in", "--out", tmp_path / "out", "--batch-size", 64)
    assert ran.status == 0, ran.err
    lines = (tmp_path / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert len(lines) == 1000
    # in the order of the names, whatever was done together
    files = [json.loads(line)["file"] for line in lines]
    assert files == sorted(files)
    alone = ndrnn("predict", label_run, tmp_path / "in/3/123.png", "--out", tmp_path / "alone")
    assert alone.status == 0
    assert np.array_equal(labels_of(tmp_path / "out/3/123.png"), labels_of(tmp_path / "alone/123.png"))


def test_a_damaged_file_is_named_and_the_others_are_done(ndrnn, label_run, tmp_path):
    for index in range(5):
        write(tmp_path / f"in/{index}.png", 6, 6, seed=index)
    (tmp_path / "in/2.png").write_bytes((tmp_path / "in/2.png").read_bytes()[:50])
    ran = ndrnn("predict", label_run, tmp_path / "in", "--out", tmp_path / "out", "--json")
    assert ran.status == 1
    assert "2.png: damaged image" in ran.err
    assert ran.json["predicted"] == 4
    assert [fault["file"].rpartition("/")[2] for fault in ran.json["left_out"]] == ["2.png"]
    assert sorted(path.name for path in (tmp_path / "out").glob("*.png")) == [
        "0.png",
        "1.png",
        "3.png",
        "4.png",
    ]
    for size in (1, 16):
        strict = tmp_path / f"strict{size}"
        ran = ndrnn(
            "predict", label_run, tmp_path / "in", "--out", strict, "--strict", "--batch-size", str(size)
        )
        assert ran.status == 1
        assert ran.err.startswith("error: ")
        # what came before the fault is told, and nothing else lies there
        lines = (strict / "predictions.jsonl").read_text().splitlines()
        assert [json.loads(line)["file"].rpartition("/")[2] for line in lines] == ["0.png", "1.png"]
        assert {path.name for path in strict.glob("*.png")} == {"0.png", "1.png"}


def test_predictions_do_not_depend_on_the_number_of_threads(ndrnn, label_run, tmp_path):
    for number in range(11):
        write(tmp_path / f"in/{number}.png", *((12, 12) if number % 3 else (9, 14)))
    before = torch.get_num_threads()
    for threads in (1, 2):
        torch.set_num_threads(threads)
        try:
            ran = ndrnn(
                "predict", label_run, tmp_path / "in", "--out", tmp_path / "out", "--force", "--confidence"
            )
        finally:
            torch.set_num_threads(before)
        assert ran.status == 0, ran.err
        (tmp_path / "out").rename(tmp_path / f"out{threads}")
    for path in (tmp_path / "out1").iterdir():
        assert path.read_bytes() == (tmp_path / "out2" / path.name).read_bytes()


def test_large_images_are_cut_into_tiles(ndrnn, label_run, tmp_path):
    write(tmp_path / "in/a.png", 30, 41)
    for name, options in (("whole", ()), ("tiles", ("--tile", 10, "--overlap", 41))):
        ran = ndrnn(
            "predict", label_run, tmp_path / "in/a.png", "--out", tmp_path / name, "--overlay", *options
        )
        assert ran.status == 0, ran.err
    assert np.array_equal(labels_of(tmp_path / "whole/a.png"), labels_of(tmp_path / "tiles/a.png"))
    told = [json.loads((tmp_path / name / "predictions.jsonl").read_text()) for name in ("whole", "tiles")]
    assert told[0]["shares"] == told[1]["shares"]
    assert told[0]["confidence"] == pytest.approx(told[1]["confidence"], abs=2e-4)


def test_one_direction_needs_no_overlap(ndrnn, tmp_path):
    run = untrained(tmp_path, "--network.directions", "fb", "--network.blocks", "2x1")
    write(tmp_path / "in/a.png", 30, 41)
    for name, options in (("whole", ()), ("tiles", ("--tile", 10, "--overlap", 0))):
        assert ndrnn("predict", run, tmp_path / "in/a.png", "--out", tmp_path / name, *options).status == 0
    assert np.array_equal(labels_of(tmp_path / "whole/a.png"), labels_of(tmp_path / "tiles/a.png"))


@pytest.mark.parametrize("invert", [False, True])
def test_tiles_are_scaled_like_their_image(invert, ndrnn, label_run, tmp_path):
    text = (label_run / "config.toml").read_text(encoding="utf-8")
    text = text.replace('scale = "type"', 'scale = "sample"').replace(
        "invert = false", f"invert = {str(invert).lower()}"
    )
    (label_run / "config.toml").write_text(text, encoding="utf-8")
    write(tmp_path / "in/a.png", 20, 21)
    dark = labels_of(tmp_path / "in/a.png") // 4 + 30
    Image.fromarray(dark).save(tmp_path / "in/a.png")
    for name, options in (("whole", ()), ("tiles", ("--tile", 8, "--overlap", 21))):
        assert (
            ndrnn("predict", label_run, tmp_path / "in/a.png", "--out", tmp_path / name, *options).status == 0
        )
    assert np.array_equal(labels_of(tmp_path / "whole/a.png"), labels_of(tmp_path / "tiles/a.png"))


def test_archives_and_names_that_collide(ndrnn, label_run, tmp_path):
    for name in ("x/a.png", "x/a.gif", "y/a.png"):
        write(tmp_path / name, 5, 5, seed=len(name))
    with zipfile.ZipFile(tmp_path / "in.zip", "w") as archive:
        for name in ("x/a.png", "x/a.gif", "y/a.png"):
            archive.write(tmp_path / name, name)
    ran = ndrnn("predict", label_run, tmp_path / "in.zip", tmp_path / "y/a.png", "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    entries = [json.loads(line) for line in (tmp_path / "out/predictions.jsonl").read_text().splitlines()]
    assert len({entry["labels"] for entry in entries}) == 4


def test_colour_for_a_grey_model_and_an_image_for_none(ndrnn, label_run, tmp_path):
    write(tmp_path / "in/a.png", 5, 6, 3)
    assert ndrnn("predict", label_run, tmp_path / "in", "--out", tmp_path / "out").status == 0
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((2, 3, 4), np.float32), np.eye(4)), tmp_path / "v.nii")
    ran = ndrnn("predict", label_run, tmp_path / "v.nii", "--out", tmp_path / "out", "--force")
    assert ran.status == 1
    assert "v.nii: has 3 axes, the model is for 2" in ran.err


def test_weights_alone_and_words_that_are_missing(ndrnn, label_run, tmp_path):
    write(tmp_path / "in/a.png", 5, 6)
    shutil.copy(label_run / "best.safetensors", tmp_path / "net.safetensors")
    weights = tmp_path / "net.safetensors"
    assert ndrnn("predict", weights, tmp_path / "in", "--out", tmp_path / "out").status == 0
    for words, message in (
        ((weights, tmp_path / "in"), "out must name a folder"),
        ((weights, "--out", tmp_path), "INPUT must name at least one"),
        ((weights, tmp_path / "nothing", "--out", tmp_path), "no such folder or zip archive"),
        ((weights, tmp_path / "in", "--tile", 0), "tile must be at least 1"),
    ):
        ran = ndrnn("predict", *words)
        assert ran.status == 2
        assert message in ran.err


@pytest.mark.parametrize("tile", [512, 3])
def test_numbers_that_are_not_finite_name_the_file(ndrnn, label_run, tmp_path, tile, monkeypatch):
    """Of two images the network overflows on one, whether it is labelled whole or in tiles."""
    write(tmp_path / "in/good.png", 6, 7, seed=1)
    (tmp_path / "in/bad.png").parent.mkdir(exist_ok=True)
    Image.fromarray(np.full((9, 9), 255, np.uint8)).save(tmp_path / "in/bad.png")
    forward = Hierarchy.forward

    def overflowing(self, x, *rest, **options):
        found = forward(self, x, *rest, **options)
        bad = (x == 1).flatten(1).all(1)
        return found.masked_fill(bad.view(-1, 1, 1, 1), torch.nan)

    monkeypatch.setattr(Hierarchy, "forward", overflowing)
    ran = ndrnn(
        "predict", label_run, tmp_path / "in", "--out", tmp_path / "out", "--tile", tile, "--overlap", 0
    )
    assert ran.status == 1
    assert "bad.png: the network makes numbers of it that are not finite" in ran.err
    (line,) = (tmp_path / "out/predictions.jsonl").read_text().splitlines()
    assert "NaN" not in line
    assert json.loads(line)["labels"].endswith("good.png")
    assert not (tmp_path / "out/bad.png").exists()


@pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")
def test_a_name_that_is_no_text_is_printed_escaped(ndrnn, label_run, tmp_path):
    write(tmp_path / "in/a.png", 9, 7)
    (tmp_path / "in/a.png").rename(tmp_path / "in" / os.fsdecode(b"a\xff\n.png"))
    ran = ndrnn("predict", label_run, tmp_path / "in", "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    (line,) = (tmp_path / "out/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["file"].endswith(r"in/a\xff\x0a.png")
    assert labels_of(tmp_path / r"out/a\xff\x0a.png").shape == (9, 7)
