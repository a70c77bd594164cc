"""A run that was interrupted goes on to the weights and figures of one that was not."""

from __future__ import annotations

import csv
import os
import signal
from shutil import copytree

import torch
from safetensors.torch import load_file

from ndrnn.tasks import LabelTask


def figures(folder):
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [{key: value for key, value in row.items() if value} for row in csv.DictReader(file)]


def test_interrupted_and_resumed(ndrnn, square_folder, tmp_path, monkeypatch):
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--data.path", square_folder),
        *("--network.hidden", 2, "--training.epochs", 3, "--training.batch-size", 3, "--augment.flip"),
    )
    whole = ndrnn(*words, "--out", tmp_path / "whole")
    assert whole.status == 0, whole.err

    loss = LabelTask.loss

    def interrupting(task, batch):
        if task.trainer.global_step == 5:
            os.kill(os.getpid(), signal.SIGINT)
        return loss(task, batch)

    with monkeypatch.context() as patched:
        patched.setattr(LabelTask, "loss", interrupting)
        cut = ndrnn(*words, "--out", tmp_path / "cut")
    assert cut.status == 1
    assert "--resume goes on" in cut.out
    assert (tmp_path / "cut/report.html").exists()
    first = load_file(tmp_path / "cut/last.safetensors")

    again = ndrnn("train", tmp_path / "cut", "--resume", "--json")
    assert again.status == 0, again.err
    assert not again.json["interrupted"]
    expected, resumed = (load_file(tmp_path / name / "last.safetensors") for name in ("whole", "cut"))
    assert expected.keys() == resumed.keys()
    assert all(torch.equal(expected[name], resumed[name]) for name in expected)
    assert any(not torch.equal(first[name], resumed[name]) for name in expected)
    # checks count from where a training goes on; the figures of the end are those of the end
    last, cut_last = figures(tmp_path / "whole")[-1], figures(tmp_path / "cut")[-1]
    assert cut_last["step"] == last["step"]
    assert cut_last["point_error"] == last["point_error"]
    assert len({row["step"] for row in figures(tmp_path / "cut")}) == len(figures(tmp_path / "cut"))


def test_other_settings_are_refused(ndrnn, square_folder, tmp_path):
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--data.path", square_folder),
        *("--network.hidden", 2, "--training.epochs", 1, "--out", tmp_path),
    )
    assert ndrnn(*words).status == 0
    refused = ndrnn(*words, "--resume", "--training.learning-rate", 0.5)
    assert refused.status == 2
    assert "learning_rate must be 0.01 as when the training began, got 0.5" in refused.err
    assert "learning_rate = 0.01" in (tmp_path / "config.toml").read_text(encoding="utf-8")


def test_other_data_are_refused_and_moved_ones_are_not(ndrnn, square_folder, tmp_path):
    first, other, run = tmp_path / "first", tmp_path / "other", tmp_path / "run"
    for copy in (first, other):
        copytree(square_folder, copy)
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--network.hidden", 2),
        *("--training.batch-size", 3, "--out", run),
    )
    began = ndrnn(*words, "--data.path", first, "--training.epochs", 1)
    assert began.status == 0, began.err
    for more in (("--data.path", other), ("--data.path", first, "--data.invert")):
        refused = ndrnn(*words, *more, "--training.epochs", 2, "--resume")
        assert refused.status == 2
        assert "data must be those with which the training began" in refused.err
    first.rename(tmp_path / "moved")
    moved = ndrnn(*words, "--data.path", tmp_path / "moved", "--training.epochs", 2, "--resume")
    assert moved.status == 0, moved.err
    kept = (run / "config.toml").read_text(encoding="utf-8")
    assert f'path = "{tmp_path / "moved"}"' in kept
    assert "epochs = 2" in kept


def test_a_run_that_was_cut_before_its_first_check_begins_by_the_recipe_that_is_given(
    ndrnn, square_folder, tmp_path
):
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--data.path", square_folder),
        *("--network.hidden", 2, "--training.epochs", 1, "--out", tmp_path),
    )
    assert ndrnn(*words).status == 0
    for name in ("last.ckpt", "best.safetensors", "last.safetensors", "metrics.csv", "report.html"):
        (tmp_path / name).unlink()
    again = ndrnn(*words, "--resume", "--data.invert")
    assert again.status == 0, again.err
    assert "invert = true" in (tmp_path / "config.toml").read_text(encoding="utf-8")
