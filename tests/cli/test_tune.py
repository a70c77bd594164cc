"""Searches for options: trials that end early, go on, and are what a training would have made."""

from __future__ import annotations

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from ndrnn.app.options import Tune
from ndrnn.app.recipe import parse
from ndrnn.app.searching import trials, with_options
from ndrnn.learn import standing_of
from ndrnn.tasks import ClassifyTask

RECIPE = ("--task", "label", "--data.format", "masks", "--data.path", "unused", "--network.hidden", "3")


def words(folder, command, *options):
    return (
        *(command, "--task", "classify", "--data.format", "classes", "--data.path", folder, "--by", "sample"),
        *("--network.hidden", 2, "--training.epochs", 9, "--training.batch-size", 8, *options),
    )


def test_the_best_trial_is_a_whole_training_and_the_test_is_not_touched(
    ndrnn, class_folder, tmp_path, monkeypatch
):
    seen = set()
    check = ClassifyTask.check

    def watched(task, batch):
        seen.update(batch.names)
        check(task, batch)

    monkeypatch.setattr(ClassifyTask, "check", watched)
    search = words(
        class_folder,
        "tune",
        "--out",
        tmp_path / "s",
        "--search",
        "training.learning-rate=1e-5,0.03,1e-6,1e-7",
    )
    ran = ndrnn(*search)
    assert ran.status == 0, ran.err
    assert seen
    assert not any("test" in name.rpartition("bars")[2] for name in seen)
    passes = [standing_of(tmp_path / f"s/{number:03}").passes for number in range(4)]
    # of four, two go on to a third, and one to the end
    assert sorted(passes) == [1, 1, 3, 9]
    (whole,) = [number for number, count in enumerate(passes) if count == 9]
    assert f"the best so far: {tmp_path / 's' / f'{whole:03}'}" in ran.out
    assert (tmp_path / f"s/{whole:03}/report.html").exists()
    # what was paused twice is what it would have been at one go
    rate = json.loads((tmp_path / "s/tune.json").read_text())["trials"][whole]["training.learning_rate"]
    plain = words(class_folder, "train", "--out", tmp_path / "plain", "--training.learning-rate", rate)
    assert ndrnn(*plain).status == 0
    found, expected = (
        load_file(path / "last.safetensors") for path in (tmp_path / f"s/{whole:03}", tmp_path / "plain")
    )
    assert all(torch.equal(found[name], value) for name, value in expected.items())
    # it is over; and it is not another search
    before = (tmp_path / f"s/{whole:03}/last.ckpt").read_bytes()
    again = ndrnn(*search, "--resume", "--json")
    assert again.status == 0, again.err
    assert again.json["best"] == str(tmp_path / f"s/{whole:03}")
    assert len(again.json["runs"]) == 4
    assert (tmp_path / f"s/{whole:03}/last.ckpt").read_bytes() == before
    assert "holds a search; --resume goes on with it" in ndrnn(*search).err
    other = ndrnn(*words(class_folder, "tune", "--out", tmp_path / "s", "--resume"))
    assert other.status == 2
    assert "recipe and search must be as when the search began" in other.err


def test_time_that_is_over_and_trials_that_diverge_lose_nothing(ndrnn, class_folder, tmp_path, monkeypatch):
    loss = ClassifyTask.loss

    def diverging(task, batch):
        return loss(task, batch) * (math.nan if task.options.learning_rate == 0.5 else 1)

    monkeypatch.setattr(ClassifyTask, "loss", diverging)
    search = words(
        class_folder, "tune", "--out", tmp_path, "--search", "training.learning-rate=0.5,0.01", "--resume"
    )
    late = ndrnn(*search, "--minutes", 1e-9)
    assert "the 1e-09 minutes are over; the same command with --resume goes on" in late.out
    assert late.status == 1  # nothing has come of it yet
    ran = ndrnn(*search)
    assert ran.status == 0, ran.err
    assert "000 (training.learning_rate 0.5) diverged: the loss is nan" in ran.err
    assert f"the best so far: {tmp_path / '001'}" in ran.out
    assert standing_of(tmp_path / "001").passes == 9


def recipe():
    return parse(RECIPE, Tune, "ndrnn tune")[0]


def test_all_combinations_or_as_many_as_wanted():
    search = ["training.learning-rate=0.1,0.2", "network.hidden=8 16,4", "augment.flip=true,false"]
    found = trials(recipe(), search, 8, 0)
    assert len(found) == 8
    assert {"training.learning_rate": 0.2, "network.hidden": [8, 16], "augment.flip": True} in found
    assert with_options(recipe(), found[0]).config.network.hidden == (8, 16)
    few = trials(recipe(), search, 5, 0)
    assert len(few) == 5
    assert all(one in found for one in few)
    assert few == trials(recipe(), search, 5, 0)
    assert few != trials(recipe(), search, 5, 1)


def test_ranges_are_drawn_by_their_logarithm():
    rates = [
        one["training.learning_rate"]
        for one in trials(recipe(), ["training.learning-rate=1e-4..1.0"], 200, 0)
    ]
    assert min(rates) >= 1e-4
    assert max(rates) <= 1
    assert 0.35 < sum(rate < 1e-2 for rate in rates) / len(rates) < 0.65
    sizes = {one["training.batch_size"] for one in trials(recipe(), ["training.batch-size=2..4"], 50, 0)}
    assert sizes == {2, 3, 4}
    around = [one["training.learning_rate"] for one in trials(recipe(), [], 9, 0)]
    assert around == pytest.approx([0.01 / 9, 0.01 / 3, 0.01, 0.03, 0.09])


@pytest.mark.parametrize(
    ("search", "message"),
    [
        ("training.rate=1,2", "training.rate is no option of the task label"),
        ("training.learning-rate", "search must be like"),
        ("training.learning-rate=a,b", "learning_rate must be of type float, got 'a'"),
        ("training.learning-rate=-1,1", "learning_rate must be above 0"),
        ("training.learning-rate=2..1", "the lower one first"),
        ("training.seed=1,2", "training.seed decides on the samples that are held out"),
        ("network=1,2", "network is no option"),
    ],
)
def test_what_cannot_be_searched(search, message):
    with pytest.raises(ValueError, match=message):
        trials(recipe(), [search], 9, 0)
