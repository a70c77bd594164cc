"""Confidences that ``train`` and ``evaluate --calibrate`` calibrate, by the validation samples and no others."""

from __future__ import annotations

import json
import shutil

import numpy as np
import pytest
from PIL import Image
from safetensors.torch import load_file

import ndrnn as library
from ndrnn.app import training
from ndrnn.app.cli import main
from ndrnn.data.faults import BadFile


@pytest.fixture(scope="module")
def run(square_folder, tmp_path_factory):
    """Of a network that labels, hardly trained; its images lie in the folders train, val and test."""
    folder = tmp_path_factory.mktemp("calibrated")
    for number, (image, mask) in enumerate(
        zip(sorted(square_folder.glob("images/*")), sorted(square_folder.glob("masks/*")), strict=True)
    ):
        part = ("train", "val", "test")[number % 3]
        for kind, file in (("images", image), ("masks", mask)):
            (folder / "data" / kind / part).mkdir(parents=True, exist_ok=True)
            shutil.copy(file, folder / "data" / kind / part)
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--data.path", folder / "data"),
        *("--network.hidden", 2, "--training.epochs", 2, "--training.batch-size", 2, "--out", folder / "run"),
    )
    assert main([str(word) for word in words]) == 0
    return folder / "run"


def points(folder, part):
    return sum(np.asarray(Image.open(path)).size for path in folder.glob(f"masks/{part}/*"))


def test_train_calibrates_the_best_weights(run, ndrnn):
    task = library.load(run)
    assert task.temperature != 1
    assert library.load(run / "last.safetensors").temperature == 1
    page = (run / "report.html").read_text(encoding="utf-8")
    assert "How sure it is" in page
    assert f"temperature {task.temperature:.3g}" in page
    found = ndrnn("evaluate", run, "--json").json
    assert found["split"] == "test"
    reliability = found["reliability"]
    assert reliability["temperature"] == task.temperature
    assert reliability["predictions"] == points(run.parent / "data", "test")
    for told in (reliability, reliability["uncalibrated"]):
        assert sum(one["count"] for one in told["bins"]) == reliability["predictions"]
        error = sum(
            one["count"] * abs(one["confidence"] - one["accuracy"]) for one in told["bins"] if one["count"]
        )
        assert told["calibration_error"] == pytest.approx(error / reliability["predictions"], rel=1e-5)
    lines = ndrnn("evaluate", run).out
    assert f"{reliability['calibration_error']:.4f}" in lines
    assert f"{reliability['uncalibrated']['brier']:.4f}" in lines
    assert ndrnn("info", run, "--json").json["temperature"] == task.temperature
    assert f"by the temperature {task.temperature:.3g}" in ndrnn("card", run).out


def test_a_run_of_before_is_calibrated(run, ndrnn, tmp_path):
    older = tmp_path / "older"
    shutil.copytree(run, older)
    task = library.load(older)
    expected, task.temperature = task.temperature, 1.0
    library.save(task, older / "best.safetensors")
    weights = load_file(older / "best.safetensors")
    images = run.parent / "data/images/test"
    ndrnn("predict", older, images, "--out", tmp_path / "before")
    assert "uncalibrated" not in ndrnn("evaluate", older, "--json").json["reliability"]
    ran = ndrnn("evaluate", older, "--calibrate")
    assert ran.status == 0, ran.err
    # by the validation samples, whatever is measured: as train has done it
    held_out = points(run.parent / "data", "val")
    assert f"calibrated by {held_out:,} predictions on held-out samples" in ran.out
    assert library.load(older).temperature == pytest.approx(expected, rel=1e-6)
    for name, weight in load_file(older / "best.safetensors").items():
        assert weight.equal(weights[name])
    assert library.load(older).settings == library.load(run).settings
    ndrnn("predict", older, images, "--out", tmp_path / "after")
    lines = [
        [json.loads(line) for line in (tmp_path / name / "predictions.jsonl").read_text().splitlines()]
        for name in ("before", "after")
    ]
    for one, other in zip(*lines, strict=True):
        assert one["confidence"] != other["confidence"]
    for path in (tmp_path / "before").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "after" / path.name).read_bytes()


def test_what_a_run_is_not_calibrated_by(run, ndrnn, square_folder, tmp_path):
    before = (run / "best.safetensors").read_bytes()
    for words, message in (
        (("--data.path", square_folder), "calibrate goes by the validation samples of the training"),
        (("--shard", "0/2", "--out", tmp_path), "calibrate first, without shard"),
    ):
        ran = ndrnn("evaluate", run, "--calibrate", *words)
        assert ran.status == 2
        assert message in ran.err
    assert (run / "best.safetensors").read_bytes() == before


def test_a_run_is_whole_without_its_calibration(run, ndrnn, tmp_path, monkeypatch):
    def fails(*_):
        raise BadFile("a.png", "is none")

    monkeypatch.setattr(training, "calibrate", fails)
    ran = ndrnn("train", run, "--out", tmp_path / "run")
    assert ran.status == 0
    assert "note: its confidences are not calibrated: a.png: is none" in ran.err
    assert library.load(tmp_path / "run").temperature == 1
    assert "How sure it is" not in (tmp_path / "run/report.html").read_text(encoding="utf-8")
