"""Trainings that go on: longer ones, others' weights, and an end where nothing gets better."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from ndrnn.app.cli import main
from ndrnn.learn import standing_of
from ndrnn.saving import models

WORDS = ("--network.hidden", 2, "--training.batch-size", 4, "--augment.flip")


def label(folder, *options):
    return ("train", "--task", "label", "--data.format", "masks", "--data.path", folder, *WORDS, *options)


@pytest.fixture(scope="module")
def done(square_folder, tmp_path_factory) -> Path:
    """A run of two passes that is finished."""
    run = tmp_path_factory.mktemp("done") / "run"
    assert main([str(word) for word in label(square_folder, "--training.epochs", 2, "--out", run)]) == 0
    return run


@pytest.fixture
def run(done, tmp_path) -> Path:
    return Path(shutil.copytree(done, tmp_path / "run"))


def steps(folder):
    with (folder / "metrics.csv").open(encoding="utf-8", newline="") as file:
        return [int(row["step"]) for row in csv.DictReader(file)]


def test_a_finished_run_says_so_and_is_prolonged_by_more_passes(ndrnn, run):
    before = (run / "last.ckpt").read_bytes()
    again = ndrnn("train", run, "--resume")
    assert again.status == 0, again.err
    assert "is finished: 2 of 2 passes are done; --training.epochs with more goes on" in again.out
    assert (run / "last.ckpt").read_bytes() == before
    assert "2 of 2 passes" in ndrnn("train", run, "--resume", "--json").json["finished"]

    old, state = load_file(run / "last.safetensors"), standing_of(run)
    longer = ndrnn("train", run, "--resume", "--training.epochs", 5)
    assert longer.status == 0, longer.err
    assert f"goes on with {run} after 2 passes" in longer.out
    new = standing_of(run)
    assert (state.passes, new.passes) == (2, 5)
    assert new.step == state.step // 2 * 5
    assert [mark.step for mark in new.marks[: len(state.marks)]] == [mark.step for mark in state.marks]
    assert steps(run) == sorted(set(steps(run)))
    found = load_file(run / "last.safetensors")
    assert any(not torch.equal(found[name], value) for name, value in old.items())
    # the run's recipe says what it is now, and going on without a word keeps to it
    assert "epochs = 5" in (run / "config.toml").read_text(encoding="utf-8")
    assert "5 of 5 passes" in ndrnn("train", run, "--resume").out


def test_what_a_finished_run_lacks_is_made_and_other_settings_are_refused(ndrnn, run):
    (run / "report.html").unlink()
    assert ndrnn("train", run, "--resume").status == 0
    assert (run / "report.html").exists()
    refused = ndrnn("train", run, "--resume", "--training.epochs", 9, "--training.clip", 0.5)
    assert refused.status == 2
    assert "clip must be 1.0 as when the training began, got 0.5" in refused.err
    assert "epochs = 2" in (run / "config.toml").read_text(encoding="utf-8")


def test_a_damaged_state_is_named(ndrnn, run):
    (run / "last.ckpt").write_bytes(b"nothing")
    ran = ndrnn("train", run, "--resume")
    assert ran.status == 2
    assert "last.ckpt: is no state of a training" in ran.err


def test_patience_ends_a_training_that_gets_no_better(ndrnn, square_folder, tmp_path, monkeypatch):
    from ndrnn.tasks import LabelTask

    figures = iter([0.5, 0.4, 0.4, float("inf"), 0.1, 0.6, 0.7])
    results = LabelTask.results

    def measured(task):
        # what looks at the held-out samples once more, after the training, takes none of the figures
        return {**results(task), **({"miss": next(figures)} if task.in_training else {})}

    monkeypatch.setattr(LabelTask, "results", measured)
    words = label(square_folder, "--training.epochs", 9, "--training.patience", 2, "--out", tmp_path / "run")
    with pytest.warns(RuntimeWarning, match="counts as the worst"):
        first = ndrnn(*words)
    assert first.status == 1  # its last figure is none
    assert "ended after 2 checks without a better one" in first.out
    assert standing_of(tmp_path / "run").passes == 4
    assert "its last 2 checks were not better" in ndrnn("train", tmp_path / "run", "--resume").out
    # more of it goes on, with the best of before
    more = ndrnn("train", tmp_path / "run", "--resume", "--training.patience", 3, "--training.epochs", 6)
    assert more.status == 0, more.err
    state = standing_of(tmp_path / "run")
    assert (state.passes, state.stale) == (6, 1)


@pytest.fixture(scope="module")
def bars(tmp_path_factory) -> Path:
    """Lying, standing and slanting bars, a folder each."""
    folder = tmp_path_factory.mktemp("bars")
    for name, ways in (("across", (0, 1)), ("down", (1, 0)), ("slant", (1, 1))):
        (folder / name).mkdir()
        for index in range(6):
            image = np.zeros((8, 8), np.uint8)
            for step in range(5):
                image[ways[0] * step + index % 3, ways[1] * step + index // 3] = 255
            Image.fromarray(image).save(folder / name / f"{index}.png")
    return folder


def classify(folder, *options):
    return (
        *("train", "--task", "classify", "--data.format", "classes", "--data.path", folder),
        *("--network.hidden", 3, 4, "--training.epochs", 1, "--training.batch-size", 4, *options),
    )


def test_a_run_begins_with_the_weights_of_another_and_what_does_not_fit_is_told(ndrnn, bars, tmp_path):
    few = Path(shutil.copytree(bars, tmp_path / "few"))
    shutil.rmtree(few / "across")
    first = ndrnn(*classify(few, "--out", tmp_path / "a", "--training.seed", 3))
    assert first.status == 0, first.err
    old = load_file(tmp_path / "a/last.safetensors")
    shutil.copy(tmp_path / "a/last.safetensors", tmp_path / "a/best.safetensors")
    # task and network are those of the run; a rate that moves nothing shows what was taken over
    ran = ndrnn(
        *("train", "--from", tmp_path / "a", "--data.path", bars, "--training.learning-rate", 1e-30),
        *("--training.freeze", 1, "--out", tmp_path / "b"),
    )
    assert ran.status == 0, ran.err
    assert "of the outputs 3 are taken over; new: across" in ran.err
    assert "begins with the weights of" in ran.out
    assert "of which stay as they are" in ran.out
    new = load_file(tmp_path / "b/last.safetensors")
    assert models.load(tmp_path / "b/last.safetensors").facts.classes == ("across", "down", "slant")
    rows = ("model.output.weight", "model.output.bias")
    same = [name for name in old if name.startswith("model.") and name not in rows]
    assert len(same) > 5
    assert all(torch.equal(new[name], old[name]) for name in same)
    for name in rows:  # down, slant, background were the first three, and stand behind the new one
        assert torch.equal(new[name][1:], old[name])
        assert not torch.equal(new[name][0], old[name][0])
    # the run tells where it came from, and goes on even if that is gone
    text = (tmp_path / "b/config.toml").read_text(encoding="utf-8")
    assert f'from = "{tmp_path / "a"}"' in text
    shutil.rmtree(tmp_path / "a")
    longer = ndrnn("train", tmp_path / "b", "--resume", "--training.epochs", 2)
    assert longer.status == 0, longer.err


def test_frozen_levels_stay_while_the_others_learn(ndrnn, bars, tmp_path):
    words = classify(bars, "--training.freeze", "layers.0", "--training.weight-noise", 0.1)
    words += ("--training.weight-decay", 0.5, "--training.average", 0.5, "--out", tmp_path / "a")
    assert ndrnn(*words).status == 0
    trained = load_file(tmp_path / "a/last.safetensors")
    config = models.load(tmp_path / "a/last.safetensors")
    fresh = type(config)(config.settings, config.facts).state_dict()
    for name, value in fresh.items():
        if name.startswith("model.") and not name.startswith(("model.mean", "model.std")):
            assert torch.equal(trained[name], value) == name.startswith("model.layers.0."), name
    wrong = ndrnn(*classify(bars, "--training.freeze", "encoder", "--out", tmp_path / "b"))
    assert wrong.status == 2
    assert "freeze: 'encoder' names no weights of the network, which has layers, output" in wrong.err


def test_nothing_that_fits_is_an_error_and_nothing_is_lost(ndrnn, run, bars, tmp_path):
    ran = ndrnn(*classify(bars, "--network.layer", "MDLSTM", "--from", run, "--out", tmp_path / "b"))
    assert ran.status == 2
    assert "nothing of the trained network fits this one" in ran.err
    assert not (tmp_path / "b").exists()
    missing = ndrnn(*classify(bars, "--from", tmp_path / "none", "--out", tmp_path / "b"))
    assert missing.status == 2
    assert "none" in missing.err
    # a run in whose place its own successor comes is read before it is given up
    anew = ndrnn("train", "--from", run, "--out", run, "--force", "--training.epochs", 1)
    assert anew.status == 0, anew.err
    assert standing_of(run).passes == 1
