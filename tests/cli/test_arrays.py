"""Networks that learned from arrays, used on arrays."""

from __future__ import annotations

import csv
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.options import Train
from ndrnn.app.recipe import parse
from ndrnn.data.formats.labelmaps import palette
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Facts, build

SHAPES = {1: (9,), 2: (7, 5), 3: (4, 5, 6), 4: (3, 4, 3, 2)}


@pytest.fixture
def run_of(tmp_path):
    """Makes a run that is as if it had learned from arrays of so many axes and channels, and gives its folder and task."""

    def make(n, channels=1, task="label", data="arrays"):
        words = ("--task", task, "--data.format", data, "--data.path", "unused.npz", "--network.hidden", "3")
        recipe, _ = parse((*words, "--network.layer", "MDGRU"), Train, "ndrnn train")
        folder = tmp_path / "run"
        folder.mkdir()
        recipe.save(folder)
        built = build(recipe.config, Facts(n, channels, ("a", "b", "c")))
        with torch.no_grad():
            built.model.output.weight.normal_(generator=torch.Generator().manual_seed(0))
        checkpoint.save(built, folder / "best.safetensors")
        return folder, built

    return make


def scores(task, values):
    """Of the points of an array of bytes without a channel, or with channels last."""
    x = torch.tensor(values, dtype=torch.float32) / 255
    x = x if x.dim() > task.facts.ndim else x[..., None]
    with torch.no_grad():
        return task.model(x[None])[0]


@pytest.mark.parametrize("n", SHAPES)
def test_an_array_is_labelled_by_an_array(run_of, ndrnn, tmp_path, n):
    folder, task = run_of(n)
    values = np.random.default_rng(0).integers(0, 256, SHAPES[n], np.uint8)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/scan.npy", values)
    ran = ndrnn("predict", folder, tmp_path / "in", "--out", tmp_path / "out", "--confidence")
    assert ran.status == 0, ran.err
    found = scores(task, values)
    labels = np.load(tmp_path / "out/scan.npy")
    assert labels.dtype == np.uint8
    assert np.array_equal(labels, found.argmax(-1))
    confidence = np.load(tmp_path / "out/scan.confidence.npy")
    assert confidence.dtype == np.float32
    assert np.allclose(confidence, found.softmax(-1).amax(-1), atol=1e-5)
    told = json.loads((tmp_path / "out/predictions.jsonl").read_text())
    assert told["labels"] == str(tmp_path / "out/scan.npy")
    assert told["confidence_scale"] == 1


def test_channels_are_the_last_axis(run_of, ndrnn, tmp_path):
    folder, task = run_of(2, channels=5)
    values = np.random.default_rng(0).integers(0, 256, (6, 4, 5), np.uint8)
    np.save(tmp_path / "a.npy", values)
    ran = ndrnn("predict", folder, tmp_path / "a.npy", "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert np.array_equal(np.load(tmp_path / "out/a.npy"), scores(task, values).argmax(-1))


def test_objects_in_arrays_are_numbered(run_of, ndrnn, tmp_path):
    folder, _ = run_of(3)
    values = np.random.default_rng(0).integers(0, 256, SHAPES[3], np.uint8)
    np.save(tmp_path / "a.npy", values)
    ran = ndrnn("predict", folder, tmp_path / "a.npy", "--out", tmp_path / "out", "--instances", "b")
    assert ran.status == 0, ran.err
    objects, labels = np.load(tmp_path / "out/a.instances.npy"), np.load(tmp_path / "out/a.npy")
    assert objects.dtype == np.int32
    assert np.array_equal(objects > 0, labels == 1)
    with (tmp_path / "out/instances.csv").open(newline="") as table:
        assert len(list(csv.reader(table))) == 1 + objects.max()


def test_a_sample_in_an_array_is_named(run_of, ndrnn, tmp_path):
    folder, _ = run_of(1, task="classify")
    np.save(tmp_path / "a.npy", np.arange(9, dtype=np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "a.npy")
    assert ran.status == 0, ran.err
    assert json.loads(ran.out.splitlines()[0])["class"] in "abc"


def test_several_samples_in_a_file_are_told_apart_first(run_of, ndrnn, tmp_path):
    folder, _ = run_of(2)
    np.savez(tmp_path / "a.npz", image=np.zeros((2, 4, 4), np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "a.npz", "--out", tmp_path / "out")
    assert ran.status == 1
    assert "a.npz: may hold several samples: save each as an array of its own (.npy)" in ran.err
    np.save(tmp_path / "b.npy", np.zeros((4, 4), np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "a.npz", tmp_path / "b.npy", "--out", tmp_path / "others")
    assert ran.status == 1
    assert "a.npz: may hold several samples" in ran.err
    assert (tmp_path / "others/b.npy").exists()
    # within a folder it is not passed over
    (tmp_path / "in").mkdir()
    (tmp_path / "a.npz").rename(tmp_path / "in/a.npz")
    ran = ndrnn("predict", folder, tmp_path / "in", "--out", tmp_path / "none")
    assert ran.status == 1
    assert "in/a.npz: may hold several samples" in ran.err
    (tmp_path / "b.npy").rename(tmp_path / "in/b.npy")
    ran = ndrnn("predict", folder, tmp_path / "in", "--out", tmp_path / "some")
    assert ran.status == 1
    assert "in/a.npz: may hold several samples" in ran.err
    assert (tmp_path / "some/b.npy").exists()


@pytest.mark.parametrize("tile", ["1", "1024"])
def test_an_array_of_another_scale_is_refused(run_of, ndrnn, tmp_path, tile):
    folder, task = run_of(2)
    task.facts = replace(task.facts, reach=1.0)  # as of bytes
    checkpoint.save(task, folder / "best.safetensors")
    np.save(tmp_path / "a.npy", np.full((4, 4), 255.0))
    np.save(tmp_path / "b.npy", np.full((4, 4), 255, np.uint8))
    ran = ndrnn(
        "predict", folder, tmp_path / "a.npy", tmp_path / "b.npy", "--out", tmp_path / "out", "--tile", tile
    )
    assert ran.status == 1
    assert (
        "a.npy: has floating-point values of up to 255, and the network learned from values of at most 1"
        in ran.err
    )
    assert [path.name for path in (tmp_path / "out").glob("*.npy")] == ["b.npy"]


def test_an_array_of_other_axes_is_refused(run_of, ndrnn, tmp_path):
    folder, _ = run_of(2)
    np.save(tmp_path / "a.npy", np.zeros(4, np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "a.npy", "--out", tmp_path / "out")
    assert ran.status == 1
    assert "a.npy: must have 2 axes, or one of channels more, got shape (4,)" in ran.err


def test_arrays_are_no_pictures(run_of, ndrnn, tmp_path):
    folder, _ = run_of(2, data="masks")
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", np.zeros((4, 4), np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "in", "--out", tmp_path / "out")
    assert ran.status == 1
    assert "holds no images and no volumes" in ran.err


def test_objects_in_signals_are_numbered(run_of, ndrnn, tmp_path):
    folder, _ = run_of(1)
    np.save(tmp_path / "a.npy", np.random.default_rng(0).integers(0, 256, 40, np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "a.npy", "--out", tmp_path / "out", "--instances", "b", "c")
    assert ran.status == 0, ran.err
    labels, objects = np.load(tmp_path / "out/a.npy"), np.load(tmp_path / "out/a.instances.npy")
    with (tmp_path / "out/instances.csv").open(newline="") as table:
        rows = list(csv.DictReader(table))
    assert len(rows) == objects.max() > 0
    for row in rows:
        start, end = int(row["bbox-0"]), int(row["bbox-1"])
        assert set(labels[start:end]) == {"abc".index(row["class"])}
        assert float(row["centroid-0"]) == (start + end - 1) / 2


def test_objects_along_four_axes_are_refused_before_any_work(run_of, ndrnn, tmp_path):
    folder, _ = run_of(4)
    np.save(tmp_path / "a.npy", np.zeros(SHAPES[4], np.uint8))
    ran = ndrnn("predict", folder, tmp_path / "a.npy", "--out", tmp_path / "out", "--instances", "b")
    assert ran.status == 2
    assert "instances are told apart along up to 3 axes, this network labels samples of 4" in ran.err
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("channels", [2, 4, 5])
def test_channels_that_are_no_colours_are_shown_as_their_mean(run_of, ndrnn, tmp_path, channels):
    folder, _ = run_of(2, channels)
    values = np.random.default_rng(0).integers(-90, 90, (6, 4, channels)).astype(np.int16)
    np.save(tmp_path / "a.npy", values)
    ran = ndrnn("predict", folder, tmp_path / "a.npy", "--out", tmp_path / "out", "--overlay")
    assert ran.status == 0, ran.err
    shown, labels = np.asarray(Image.open(tmp_path / "out/a.overlay.png")), np.load(tmp_path / "out/a.npy")
    mean = values.mean(-1)
    grey = ((mean - mean.min()) / np.ptp(mean) * 255)[..., None]
    expected = np.where(labels[..., None] == 0, grey, 0.55 * grey + 0.45 * palette(3)[labels])
    assert np.abs(shown - expected).max() <= 1


@pytest.mark.parametrize("n", [1, 2])
def test_weights_alone_label_arrays_that_are_named(run_of, ndrnn, tmp_path, n):
    folder, task = run_of(n)
    weights = (folder / "best.safetensors").rename(tmp_path / "weights.safetensors")
    values = np.random.default_rng(0).integers(0, 256, SHAPES[n], np.uint8)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in/a.npy", values)
    ran = ndrnn("predict", weights, tmp_path / "in/a.npy", "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert np.array_equal(np.load(tmp_path / "out/a.npy"), scores(task, values).argmax(-1))
    # beside pictures they may be anything
    ran = ndrnn("predict", weights, tmp_path / "in", "--out", tmp_path / "all")
    assert ran.status == (1 if n == 2 else 0)
