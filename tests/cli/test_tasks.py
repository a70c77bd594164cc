"""Each task from the command line alone: it checks, trains, evaluates and predicts on files."""

from __future__ import annotations

import json
import shutil

import nibabel
import numpy as np
import pytest
from PIL import Image

from ndrnn.app.cli import main
from ndrnn.saving import models as checkpoint
from ndrnn.scan.operators import kernels
from ndrnn.tasks import transcribe, views
from ndrnn.tasks.decoding import beam_search

SMALL = ("--training.epochs", 2, "--training.batch-size", 4)


def lines(folder):
    return [
        json.loads(line) for line in (folder / "predictions.jsonl").read_text(encoding="utf-8").splitlines()
    ]


@pytest.fixture(scope="module")
def square_run(square_folder, tmp_path_factory):
    """A run on the squares, long enough to find them."""
    folder = tmp_path_factory.mktemp("run") / "run"
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--data.path", square_folder),
        *("--network.hidden", 6, "--training.epochs", 12, "--training.batch-size", 4),
        *("--training.learning-rate", 0.05, "--out", folder),
    )
    assert main([str(word) for word in words]) == 0
    return folder


def test_label(ndrnn, square_run, square_folder, tmp_path):
    run = square_run
    for name in (
        "config.toml",
        "metrics.csv",
        "best.safetensors",
        "last.safetensors",
        "last.ckpt",
        "report.html",
    ):
        assert (run / name).stat().st_size > 0
    page = (run / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/") >= 3
    assert "Confusion" in page
    assert 'src="http' not in page

    measured = ndrnn("evaluate", run, "--json")
    assert measured.status == 0
    assert measured.json["split"] == "validation"
    assert measured.json["metrics"]["point_error"] < 0.05
    refused = ndrnn("evaluate", run, "--beam", 5)
    assert refused.status == 2
    assert "beam is for networks that read, not for a LabelTask" in refused.err
    refused = ndrnn("predict", run, square_folder / "images", "--out", tmp_path / "none", "--views", True)
    assert refused.status == 2
    assert "views is for networks that read, not for a LabelTask" in refused.err
    best = checkpoint.load(run / "best.safetensors")
    found = ndrnn("predict", run, square_folder / "images", "--out", tmp_path / "found", "--overlay")
    assert found.status == 0, found.err
    wrong = []
    for entry in lines(tmp_path / "found"):
        name = entry["file"].rpartition("/")[2]
        with (
            Image.open(tmp_path / "found" / name) as image,
            Image.open(square_folder / "masks" / name) as mask,
        ):
            assert image.mode == "P"
            labels = np.asarray(image)
            wrong.append((labels != np.asarray(mask)).mean())
        assert entry["shares"]["1"] == pytest.approx((labels == 1).mean(), abs=1e-6)
        assert 0.5 < entry["confidence"] <= 1
        with Image.open(tmp_path / "found" / name.replace(".png", ".overlay.png")) as overlay:
            assert overlay.size == (labels.shape[1], labels.shape[0])
    assert len(wrong) == 12
    assert np.mean(wrong) < 0.05
    assert best.facts.classes == ("0", "1")

    nowhere = ndrnn("predict", run, square_folder / "images")
    assert nowhere.status == 2
    assert "--out must name a folder for the label maps, got none" in nowhere.err
    shown = {line.split()[0]: line.split()[1:] for line in ndrnn("info", run).out.splitlines()}
    assert shown["settings.augment.flip"] == ["no"]
    assert shown["settings.background"] == ["none"]
    assert shown["settings.network.hidden"] == ["6"]
    told = ndrnn("info", run, "--json").json
    assert told["task"] == "LabelTask"
    assert told["settings"]["network"]["hidden"] == [6]
    assert told["weights"] == sum(weight.numel() for weight in best.model.parameters())


def test_label_volumes(ndrnn, volume_folder, tmp_path):
    ran = ndrnn(
        *("train", "--task", "label", "--data.format", "masks", "--data.path", volume_folder),
        *("--data.scale", "sample", "--network.hidden", 2, *SMALL, "--out", tmp_path / "run"),
    )
    assert ran.status == 0, ran.err
    found = ndrnn(
        "predict", tmp_path / "run", volume_folder / "imagesTr/1.nii.gz", "--out", tmp_path / "found"
    )
    assert found.status == 0, found.err
    (entry,) = lines(tmp_path / "found")
    image = nibabel.load(entry["labels"])
    assert image.shape == (5, 6, 6)
    assert image.affine.diagonal().tolist() == [2, 2, 3, 1]
    assert set(np.unique(np.asarray(image.dataobj))) <= {0, 1}


@pytest.mark.parametrize("by", ["points", "sample"])
def test_classify(by, ndrnn, class_folder, tmp_path):
    ran = ndrnn(
        *("train", "--task", "classify", "--data.format", "classes", "--data.path", class_folder, "--by", by),
        *("--network.hidden", 4, "--training.epochs", 5, "--training.batch-size", 4),
        *("--training.learning-rate", 0.05, "--out", tmp_path / "run"),
    )
    assert ran.status == 0, ran.err
    measured = ndrnn("evaluate", tmp_path / "run", "--json").json
    assert measured["split"] == "test"
    assert measured["samples"] == 6
    found = ndrnn("predict", tmp_path / "run", class_folder / "test")
    assert found.status == 0, found.err
    entries = [json.loads(line) for line in found.out.splitlines()]
    assert [entry["file"].split("/")[-2] for entry in entries] == ["across"] * 3 + ["down"] * 3
    for entry in entries:
        assert sum(entry["probabilities"].values()) == pytest.approx(1, abs=1e-3)
        assert (
            entry["probabilities"][entry["class"]]
            == max(entry["probabilities"].values())
            == entry["confidence"]
        )
    wrong = np.mean([entry["class"] != entry["file"].split("/")[-2] for entry in entries])
    assert wrong == pytest.approx(measured["metrics"]["sample_error"], abs=1e-6)


def test_transcribe(ndrnn, text_folder, tmp_path, monkeypatch):
    ran = ndrnn(
        *(
            "train",
            "--task",
            "transcribe",
            "--data.format",
            "lines",
            "--data.path",
            text_folder,
            "--data.invert",
        ),
        *("--network.hidden", 3, 8, "--network.subsample", 4, "--network.blocks", "4x2", "2x2"),
        *("--training.epochs", 4, "--training.batch-size", 4, "--training.learning-rate", 0.03),
        *("--out", tmp_path / "run"),
    )
    assert ran.status == 0, ran.err
    measured = ndrnn("evaluate", tmp_path / "run", "--json").json
    assert 0 <= measured["metrics"]["cer"] <= 1
    widths = []

    def search(log_probs, width, **options):
        widths.append(width)
        return beam_search(log_probs, width, **options)

    with monkeypatch.context() as patch:
        patch.setattr(transcribe, "beam_search", search)
        assert 0 <= ndrnn("evaluate", tmp_path / "run", "--beam", 5, "--json").json["metrics"]["cer"] <= 1
    assert widths == [5] * measured["samples"]
    read = []

    def surest(first, *others):
        read.extend(first)
        return views.surest(first, *others)

    with monkeypatch.context() as patch:
        patch.setattr(transcribe, "beam_search", search)
        patch.setattr(transcribe, "surest", surest)
        assert ndrnn("evaluate", tmp_path / "run", "--views", True).status == 0
        assert len(read) == measured["samples"]
        assert ndrnn("predict", tmp_path / "run", text_folder, "--views", True, "--beam", 3).status == 0
        assert len(read) == measured["samples"] + 14
        assert ndrnn("predict", tmp_path / "run", text_folder, "--views", False).status == 0
    assert len(read) == measured["samples"] + 14
    assert widths[-11 * 14 :] == [3] * 11 * 14
    found = ndrnn("predict", tmp_path / "run", text_folder, "--out", tmp_path / "found")
    assert found.status == 0, found.err
    entries = lines(tmp_path / "found")
    assert len(entries) == 14
    assert set("".join(entry["text"] for entry in entries)) <= {"a", "b"}
    assert all(0 <= entry["confidence"] <= 1 for entry in entries)


def test_density(ndrnn, wave_folder, tmp_path):
    run = tmp_path / "run"
    ran = ndrnn(
        *("train", "--task", "density", "--data.format", "images", "--data.path", wave_folder, "--patch", 8),
        *("--hidden", 4, "--components", 2, "--scales", 2, "--features", 2, "--patches", 4, *SMALL),
        *("--out", run),
    )
    assert ran.status == 0, ran.err
    bits = ndrnn("evaluate", run, "--json").json["metrics"]["bits_per_pixel"]
    assert 0 < bits < 9
    found = ndrnn("predict", run, wave_folder)
    values = [json.loads(line)["bits_per_pixel"] for line in found.out.splitlines()]
    assert len(values) == 6
    assert all(0 < value < 12 for value in values)


def check_lossless(ndrnn, run, image, folder):
    """Compress and decompress: the image comes back, and a damaged file is named."""
    if kernels.refusal is not None:  # coding is compiled code
        return
    packed = folder / "packed" / "0.ndrnn"
    written = ndrnn("compress", image, "--model", run, "--out", packed.parent, "--json")
    assert written.status == 0, written.err
    assert [row["bytes"] for row in written.json["files"]] == [packed.stat().st_size]
    read = ndrnn("decompress", packed, "--model", run, "--out", folder / "back")
    assert read.status == 0, read.err
    with Image.open(image) as before, Image.open(folder / "back" / "0.png") as after:
        assert after.mode == "L"
        assert np.array_equal(np.asarray(before), np.asarray(after))
    packed.write_bytes(packed.read_bytes()[:-3])
    refused = ndrnn("decompress", packed, "--model", run, "--out", folder / "none")
    assert refused.status == 1
    assert "0.ndrnn: block 0 at (0, 0): truncated" in refused.err
    assert not (folder / "none").exists()


def test_sample_inpaint_and_compress(ndrnn, wave_folder, tmp_path):
    run = tmp_path / "run"
    ran = ndrnn(
        *("train", "--task", "density", "--data.format", "images", "--data.path", wave_folder, "--patch", 8),
        *("--hidden", 3, "--components", 2, "--scales", 1, "--features", 2, "--patches", 2, *SMALL),
        *("--out", run),
    )
    assert ran.status == 0, ran.err
    for name in ("a", "b"):
        drawn = ndrnn(
            "sample", run, "--n", 2, "--height", 6, "--width", 7, "--margin", 2, "--out", tmp_path / name
        )
        assert drawn.status == 0, drawn.err
    assert (tmp_path / "a/1.png").read_bytes() == (tmp_path / "b/1.png").read_bytes()
    with Image.open(tmp_path / "a/0.png") as image:
        assert image.size == (7, 6)
    mask = np.zeros((16, 20), np.uint8)
    mask[8:10, 9:12] = 255
    Image.fromarray(mask).save(tmp_path / "mask.png")
    filled = ndrnn(
        *("inpaint", run, wave_folder / "0.png", tmp_path / "mask.png", "--epochs", 1, "--json"),
        *("--out", tmp_path / "filled.png"),
    )
    assert filled.status == 0, filled.err
    assert filled.json["filled"] == 6
    with Image.open(tmp_path / "filled.png") as image, Image.open(wave_folder / "0.png") as before:
        kept = mask == 0
        assert np.array_equal(np.asarray(image)[kept], np.asarray(before)[kept])
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (16, 20, 3), np.uint8)).save(
        tmp_path / "rgb.png"
    )
    coloured = ndrnn("inpaint", run, tmp_path / "rgb.png", tmp_path / "mask.png", "--out", tmp_path / "c.png")
    assert coloured.status == 1  # rather than come back grey
    assert "rgb.png: is in colour and the model is of grey images" in coloured.err
    check_lossless(ndrnn, run, wave_folder / "0.png", tmp_path)
    small = ndrnn("inpaint", run, wave_folder / "0.png", tmp_path / "a/0.png")
    assert small.status == 1
    assert "a/0.png: mask must be 16 x 20 like its image, got 6 x 7" in small.err


def test_a_model_of_another_kind_is_refused(ndrnn, square_run):
    refused = ndrnn("sample", square_run)
    assert refused.status == 2
    assert "must be a model of density, got one to label" in refused.err


def test_equal_seeds_give_equal_figures(ndrnn, square_folder, tmp_path):
    figures = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        ran = ndrnn(
            *("train", "--task", "label", "--data.format", "masks", "--data.path", square_folder),
            *("--network.hidden", 3, *SMALL, "--augment.flip", "--training.seed", seed, "--json"),
            *("--out", tmp_path / name),
        )
        assert ran.status == 0, ran.err
        figures.append((ran.json["loss"], ran.json["metrics"]["point_error"]))
    assert figures[0] == pytest.approx(figures[1], abs=1e-3)
    assert figures[0] != pytest.approx(figures[2], abs=1e-3)


@pytest.mark.parametrize(
    "name", [r"$\x$", "<img src=x onerror=alert(1)>", "a_^{", "b\udcff", "n" * 200, "new\nline", "[/x]"]
)
def test_a_class_may_be_called_anything(ndrnn, class_folder, tmp_path, name):
    data = tmp_path / "data"
    shutil.copytree(class_folder, data)
    for split in ("train", "test"):
        try:
            (data / split / "down").rename(data / split / name.replace("/", "∕"))
        except OSError:
            pytest.skip("this disk knows no such name")
    ran = ndrnn(
        *("train", "--task", "classify", "--data.format", "classes", "--data.path", data),
        *("--network.hidden", 2, "--training.epochs", 1, "--out", tmp_path / "run"),
    )
    assert ran.status == 0, ran.err
    page = (tmp_path / "run/report.html").read_text(encoding="utf-8")
    assert "Confusion matrix" in page
    assert "could not be drawn" not in page
    assert "<img src=x" not in page
