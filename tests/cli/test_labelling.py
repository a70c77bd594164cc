"""What predict makes of labels: volumes in their own space, objects, confidence, stacks, and channels in files."""

from __future__ import annotations

import csv
import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.options import Train
from ndrnn.app.recipe import parse
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Facts, build

nibabel = pytest.importorskip("nibabel")
pytest.importorskip("skimage")
from nibabel.orientations import axcodes2ornt, io_orientation, ornt_transform  # noqa: E402

DATA = Path(os.environ.get("NDRNN_DATA") or Path(__file__).parents[3] / "shared" / "data")
EDGES = np.diag([1.0, 1.5, 2.0, 1.0])
EDGES[:3, 3] = -5, 7, 11


def untrained(folder, *options, facts, scores=None):
    """The folder of a run whose weights are as they were drawn, the same every time."""
    words = ("--task", "label", "--data.path", "unused", "--network.hidden", "3", *options)
    recipe, _ = parse(words, Train, "ndrnn train")
    folder.mkdir()
    recipe.save(folder)
    task = build(recipe.config, facts)
    with torch.no_grad():
        task.model.output.weight.normal_(0, 3, generator=torch.Generator().manual_seed(0))
        if scores is not None:
            task.model.output.weight.zero_()
            task.model.output.bias.copy_(torch.tensor(scores))
    checkpoint.save(task, folder / "best.safetensors")
    return folder


def told(folder):
    return [json.loads(line) for line in (folder / "predictions.jsonl").read_text("utf-8").splitlines()]


def as_volume(values, codes):
    straight = nibabel.Nifti1Image(values, EDGES)
    return straight.as_reoriented(ornt_transform(io_orientation(EDGES), axcodes2ornt(codes)))


def array(path):
    return np.asarray(nibabel.load(path).dataobj)


def brain():
    """A volume of the hippocampus, or noise where there is none."""
    archive = DATA / "hippocampus" / "hippocampus100.npz"
    if not archive.exists():
        return np.random.default_rng(0).integers(0, 200, (9, 11, 8)).astype(np.uint8)
    with np.load(archive) as found:
        shape = found["shape"][0]
        return found["image"][: shape.prod()].reshape(shape)


@pytest.mark.parametrize("spacing", [(), ("--data.spacing", "1.2", "1.2", "1.2")])
def test_volumes_are_labelled_alike_however_they_are_stored(spacing, ndrnn, tmp_path):
    words = ("--data.format", "masks", "--data.scale", "sample", *spacing, "--network.blocks", "2x2x2")
    run = untrained(tmp_path / "run", *words, facts=Facts(3, 1, ("background", "front", "back")))
    values = brain()
    found = {}
    for codes in ("RAS", "LPI", "PIR"):
        (tmp_path / codes).mkdir()
        image = as_volume(values, codes)
        image.header["descrip"] = b"measured"
        nibabel.save(image, tmp_path / codes / "a.nii.gz")
        out = tmp_path / f"out {codes}"
        ran = ndrnn("predict", run, tmp_path / codes, "--out", out, "--confidence", "--instances", "front")
        assert ran.status == 0, ran.err
        labels = nibabel.load(out / "a.nii.gz")
        assert labels.shape == image.shape
        assert np.array_equal(labels.affine, image.affine)
        assert (labels.header["qform_code"], labels.header["sform_code"]) == (
            image.header["qform_code"],
            image.header["sform_code"],
        )
        assert labels.header["descrip"] == b"measured"
        sure = nibabel.load(out / "a.confidence.nii.gz")
        assert sure.get_data_dtype() == np.float32
        found[codes] = [np.asarray(nibabel.as_closest_canonical(one).dataobj) for one in (labels, sure)]
        found[codes].append(told(out)[0]["shares"])
        assert nibabel.load(out / "a.instances.nii.gz").get_data_dtype() == np.int32
    assert set(np.unique(found["RAS"][0])) == {0, 1, 2}
    for codes in ("LPI", "PIR"):
        assert np.array_equal(found[codes][0], found["RAS"][0])
        assert found[codes][1] == pytest.approx(found["RAS"][1], abs=1e-5)
        assert found[codes][2] == found["RAS"][2]


def test_a_network_trains_on_volumes_of_several_orientations(ndrnn, tmp_path):
    generator = np.random.default_rng(0)
    for index, codes in enumerate(("RAS", "LPI", "PIR", "SAL")):
        labels = np.zeros((8, 6, 7), np.uint8)
        labels[:4] = 1  # the left half, wherever the file keeps it
        labels = np.roll(labels, index - 1, 0)
        values = (generator.integers(0, 60, labels.shape) + 150 * labels).astype(np.uint8)
        for folder, one in (("imagesTr", values), ("labelsTr", labels)):
            (tmp_path / "set" / folder).mkdir(parents=True, exist_ok=True)
            nibabel.save(as_volume(one, codes), tmp_path / f"set/{folder}/{codes}.nii.gz")
    ran = ndrnn(
        *("train", "--task", "label", "--data.format", "masks", "--data.path", tmp_path / "set"),
        *("--network.hidden", 4, "--training.epochs", 10, "--training.learning-rate", 0.05),
        *("--training.batch-size", 2, "--data.held-out", 0.25, "--out", tmp_path / "run"),
    )
    assert ran.status == 0, ran.err
    assert (
        ndrnn("predict", tmp_path / "run", tmp_path / "set/imagesTr", "--out", tmp_path / "out").status == 0
    )
    for codes in ("RAS", "LPI", "PIR", "SAL"):
        wrong = array(tmp_path / f"out/{codes}.nii.gz") != array(tmp_path / f"set/labelsTr/{codes}.nii.gz")
        assert wrong.mean() < 0.02


def test_pictures_in_nifti_are_written_as_such(ndrnn, tmp_path):
    run = untrained(tmp_path / "run", "--data.format", "masks", facts=Facts(2, 1, ("a", "b")))
    values = np.random.default_rng(0).integers(0, 255, (6, 9)).astype(np.uint8)
    nibabel.save(nibabel.Nifti1Image(values, np.diag([-2.0, 3, 1, 1])), tmp_path / "v.nii")
    ran = ndrnn("predict", run, tmp_path / "v.nii", "--out", tmp_path / "out", "--overlay")
    assert ran.status == 0, ran.err
    found = nibabel.load(tmp_path / "out/v.nii.gz")
    assert found.shape == (6, 9)
    assert found.affine.diagonal().tolist() == [-2, 3, 1, 1]
    # as the network sees it, with the first axis to the right
    Image.fromarray(values[::-1].copy()).save(tmp_path / "v.png")
    assert ndrnn("predict", run, tmp_path / "v.png", "--out", tmp_path / "seen").status == 0
    with Image.open(tmp_path / "seen/v.png") as seen:
        assert np.array_equal(np.asarray(seen)[::-1], np.asarray(found.dataobj))


BLOBS = np.zeros((12, 20), np.uint8)
BLOBS[1:4, 1:5] = 255  # 12 points
BLOBS[4, 5] = 255  # touches it by a corner
BLOBS[8:11, 12:17] = 255  # 15 points
BLOBS[6, 0] = 255  # one point alone


def thresholder(folder, *options, ndim=2):
    """A run whose network says cell where a point is bright."""
    words = ("--data.format", "masks", "--network.layer", "MDRNN", *options)
    run = untrained(folder, *words, facts=Facts(ndim, 1, ("background", "cell")))
    task = checkpoint.load(run / "best.safetensors")
    with torch.no_grad():
        for name, weight in task.model.named_parameters():
            if "weight_ih" in name:
                weight.fill_(1.0)
            else:
                weight.zero_()
        task.model.output.weight[1] = 1.0
        task.model.output.bias[0] = 0.5
    checkpoint.save(task, run / "best.safetensors")
    return run


def rows_of(folder):
    with (folder / "instances.csv").open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("tile", [512, 8])
def test_objects_are_numbered_measured_and_counted(tile, ndrnn, tmp_path):
    run = thresholder(tmp_path / "run")
    for name, values in (("a", BLOBS), ("b", BLOBS * 0)):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(values).save(tmp_path / f"in/{name}.png")
    words = ("predict", run, tmp_path / "in", "--out", tmp_path / "out", "--tile", tile)
    ran = ndrnn(*words, "--instances", "cell", "--confidence")
    assert ran.status == 0, ran.err
    assert f"objects of cell: 3; each is a line of {tmp_path}/out/instances.csv" in ran.out
    with Image.open(tmp_path / "out/a.instances.png") as found:
        assert found.mode == "I;16"
        objects = np.asarray(found)
    expected = np.zeros_like(BLOBS)
    expected[1:5, 1:6], expected[6, 0], expected[8:11, 12:17] = 1, 2, 3
    assert np.array_equal(objects, expected * (BLOBS > 0))
    first, second, third = rows_of(tmp_path / "out")
    assert first["file"] == str(tmp_path / "in/a.png")
    assert [row["instance"] for row in (first, second, third)] == ["1", "2", "3"]
    assert [row["area"] for row in (first, second, third)] == ["13", "1", "15"]
    assert third["class"] == "cell"
    assert (float(third["centroid-0"]), float(third["centroid-1"])) == (9, 14)
    assert [third[f"bbox-{index}"] for index in range(4)] == ["8", "12", "11", "17"]
    with Image.open(tmp_path / "out/a.confidence.png") as found:
        assert found.mode == "I;16"
        sure = np.asarray(found) / 65535
    entry, empty = told(tmp_path / "out")
    assert entry["counts"] == {"cell": 3}
    assert empty["counts"] == {"cell": 0}
    assert entry["confidence_scale"] == 65535
    # four directions of tanh(1) each for a bright point; the scores of a dark one are 0.5 and 0
    expected = torch.tensor([[0.5, 4 * 3 * np.tanh(1.0)], [0.5, 0]]).softmax(-1).amax(-1)
    assert sure[9, 14] == pytest.approx(float(expected[0]), abs=1e-4)
    assert sure[0, 0] == pytest.approx(float(expected[1]), abs=1e-4)
    assert entry["confidence"] == pytest.approx(sure.mean(), abs=1e-3)
    assert float(third["confidence"]) == pytest.approx(sure[9, 14], abs=1e-3)
    again = ndrnn(*words, "--instances", "cell", "--instances-smallest", 2, "--force", "--json")
    assert again.json["instances"] == {"cell": 2}


def test_objects_that_touch_are_divided(ndrnn, tmp_path):
    run = thresholder(tmp_path / "run")
    rows, columns = np.ogrid[:40, :70]
    disks = ((rows - 20) ** 2 + (columns - 20) ** 2 < 144) | ((rows - 20) ** 2 + (columns - 41) ** 2 < 144)
    disks[5, 60] = True
    Image.fromarray((disks * 255).astype(np.uint8)).save(tmp_path / "a.png")
    for apart, count in ((0, 2), (8, 3)):
        ran = ndrnn(
            *("predict", run, tmp_path / "a.png", "--out", tmp_path / f"out{apart}", "--json"),
            *("--instances", "cell", "--instances-apart", apart),
        )
        assert ran.json["instances"] == {"cell": count}
    rows = rows_of(tmp_path / "out8")
    centres = sorted(float(row["centroid-1"]) for row in rows)
    assert centres == pytest.approx([20, 41, 60], abs=1)
    assert sum(int(row["area"]) for row in rows) == disks.sum()


def test_objects_of_volumes_have_a_size_in_space(ndrnn, tmp_path):
    run = thresholder(tmp_path / "run", ndim=3)
    values = np.zeros((6, 7, 8), np.uint8)
    values[1:3, 1:3, 1:4] = values[4:, 5:, 6:] = 255
    nibabel.save(as_volume(values, "LPI"), tmp_path / "v.nii.gz")
    out = tmp_path / "out"
    assert ndrnn("predict", run, tmp_path / "v.nii.gz", "--out", out, "--instances", "cell").status == 0
    rows = rows_of(out)
    assert sorted((row["area"], row["volume_mm3"]) for row in rows) == [("12", "36"), ("8", "24")]
    objects, stored = array(out / "v.instances.nii.gz"), array(tmp_path / "v.nii.gz")
    assert np.array_equal(objects > 0, stored > 0)
    for row in rows:  # places are those of the file
        box = [int(row[f"bbox-{index}"]) for index in range(6)]
        part = objects[tuple(slice(*ends) for ends in zip(box[:3], box[3:], strict=True))]
        assert (part == int(row["instance"])).sum() == int(row["area"])


def test_stacks_give_stacks(ndrnn, tmp_path):
    run = thresholder(tmp_path / "run", "--data.stacked", ndim=3)
    values = np.stack([BLOBS, BLOBS * 0, BLOBS[::-1]])
    first, *others = map(Image.fromarray, values)
    first.save(tmp_path / "a.tif", save_all=True, append_images=others)
    out = tmp_path / "out"
    ran = ndrnn("predict", run, tmp_path / "a.tif", "--out", out, "--instances", "cell", "--confidence")
    assert ran.status == 0, ran.err

    def pages(name):
        with Image.open(out / name) as image:
            found = []
            for index in range(image.n_frames):
                image.seek(index)
                found.append(np.array(image))
        return np.stack(found)

    assert np.array_equal(pages("a.tif"), values > 0)
    assert pages("a.instances.tif").max() == 6
    assert pages("a.confidence.tif").dtype == np.float32
    assert told(out)[0]["confidence_scale"] == 1
    assert {row["volume_mm3"] for row in rows_of(out)} == {""}


def test_cases_of_several_channels(ndrnn, tmp_path):
    run = untrained(
        tmp_path / "run", "--data.format", "nnunet", "--data.scale", "channel", facts=Facts(3, 2, ("a", "b"))
    )
    (tmp_path / "imagesTs").mkdir()
    for case in "xy":
        for channel in range(2):
            values = np.random.default_rng(ord(case) + channel).integers(0, 9, (4, 5, 6)).astype(np.int16)
            nibabel.save(as_volume(values, "LPS"), tmp_path / f"imagesTs/{case}_{channel:04}.nii.gz")
    ran = ndrnn("predict", run, tmp_path / "imagesTs", "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert sorted(path.name for path in (tmp_path / "out").glob("*.nii.gz")) == ["x.nii.gz", "y.nii.gz"]
    assert nibabel.load(tmp_path / "out/x.nii.gz").shape == (4, 5, 6)
    one = ndrnn("predict", run, tmp_path / "imagesTs/y_0001.nii.gz", "--out", tmp_path / "one")
    assert one.status == 0, one.err
    assert np.array_equal(array(tmp_path / "one/y.nii.gz"), array(tmp_path / "out/y.nii.gz"))
    (tmp_path / "imagesTs/x_0001.nii.gz").unlink()
    ran = ndrnn("predict", run, tmp_path / "imagesTs", "--out", tmp_path / "two")
    assert ran.status == 1
    assert "x_0000.nii.gz: has 1 channels, expected 2" in ran.err


def test_words_about_objects_that_make_no_sense(ndrnn, tmp_path):
    run = untrained(tmp_path / "run", "--data.format", "masks", facts=Facts(2, 1, ("background", "nucleus")))
    Image.fromarray(BLOBS).save(tmp_path / "a.png")
    words = ("predict", run, tmp_path / "a.png", "--out", tmp_path / "out")
    for more, message in (
        (("--instances", "nucleous"), "instances: no class 'nucleous'; did you mean 'nucleus'?"),
        (("--instances-apart", -1), "instances_apart must not be negative"),
        (("--instances-smallest", 0), "instances_smallest must be at least 1"),
    ):
        ran = ndrnn(*words, *more)
        assert ran.status == 2
        assert message in ran.err
    assert not (tmp_path / "out").exists()
    volumes = untrained(
        tmp_path / "volumes", "--data.format", "masks", facts=Facts(3, 1, ("background", "nucleus"))
    )
    ran = ndrnn("predict", volumes, *words[2:], "--overlay")
    assert (ran.status, "overlay is for images, this network labels samples of 3 axes" in ran.err) == (
        2,
        True,
    )
