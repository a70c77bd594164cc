"""Held-out samples bent before they are measured: each by draws of its own, whatever is measured beside it."""

from __future__ import annotations

import shutil
from pathlib import Path
from statistics import fmean, stdev

import pytest
import torch

from ndrnn.app.cli import main
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.pipeline.module import collate
from ndrnn.registry import readers, tasks
from ndrnn.seeds import step_seed
from ndrnn.tasks import Augment, Classify, Density, Label, Network, Transcribe
from ndrnn.tasks.distorted import distorted, evaluate_distorted

BENT = Augment(rotate=20, shift=2, elastic_alpha=8, elastic_sigma=2)
SETTINGS = {
    "label": Label(network=Network(hidden=(3,))),
    "classify": Classify(network=Network(hidden=(3,))),
    "transcribe": Transcribe(network=Network(hidden=(2, 3), subsample=(2,), blocks=("4x2", "2x2"))),
    "density": Density(hidden=2, components=2, scales=2, features=2, patch=8),
}
FORMATS = {"label": "masks", "classify": "classes", "transcribe": "lines", "density": "images"}
FOLDERS = {
    "label": "square_folder",
    "classify": "class_folder",
    "transcribe": "text_folder",
    "density": "wave_folder",
}


@pytest.fixture(params=["label", "classify", "transcribe"])
def purpose(request):
    return request.param


@pytest.fixture
def parts(request):
    """Makes a task with fresh weights, and its samples; half of them held out."""

    def make(purpose):
        folder = request.getfixturevalue(FOLDERS[purpose])
        reader = readers[FORMATS[purpose]](path=str(folder), held_out=0.5)
        gathered = gather(reader, purpose)
        return tasks[purpose].task(SETTINGS[purpose], gathered.facts), gathered

    return make


def test_each_sample_is_bent_as_augmentation_does_by_a_seed_of_its_own(purpose, parts):
    task, gathered = parts(purpose)
    plain = gathered.samples("validation" if purpose != "classify" else "test")
    split = next(name for name, samples in gathered.splits.items() if samples is plain)
    bent = distorted(task, gathered, purpose, BENT, split=split, seed=5).samples(split)
    assert len(bent) == len(plain)
    state = torch.get_rng_state()
    changed = 0
    for position in reversed(range(len(plain))):
        before, after = plain[position], bent[position]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed(5, plain.indices[position]))
            labels = before.target[None] if purpose == "label" else None
            x, moved = BENT(before.x[None], None, labels)
        assert torch.equal(after.x, x[0])
        changed += not torch.equal(after.x, before.x)
        if purpose == "label":
            assert torch.equal(after.target, moved[0])
            assert not torch.equal(after.target, before.target)
        else:
            assert after.target == before.target
        assert after.name == before.name
    assert changed == len(plain)
    assert torch.equal(torch.get_rng_state(), state)
    # neither the other samples nor their order matter, and batches can be made of them
    chosen = bent.part([2, 0])
    assert torch.equal(chosen[0].x, bent[2].x)
    assert torch.equal(chosen[1].x, bent[0].x)
    assert len(collate(purpose)([bent[0], bent[1]]).x) == 2
    other = distorted(task, gathered, purpose, BENT, split=split, seed=6).samples(split)
    assert not torch.equal(other[0].x, bent[0].x)


def test_batches_play_no_part(purpose, parts):
    task, gathered = parts(purpose)
    split = "test" if "test" in gathered.splits else "validation"
    found = []
    for batch_size in (1, 4):
        torch.manual_seed(batch_size)
        repeats = evaluate_distorted(
            task, gathered, purpose, BENT, split=split, repeats=2, batch_size=batch_size
        )
        assert repeats.seeds == (0, 1)
        found.append(repeats)
    for first, second in zip(found[0].metrics, found[1].metrics, strict=True):
        assert first == pytest.approx(second, abs=1e-6)
    assert task.settings.augment == Augment()


def test_classes_by_points_are_measured_where_the_ink_went(parts):
    task, gathered = parts("classify")
    bent = distorted(task, gathered, "classify", Augment(shift=3), split="test").samples("test")
    batch = collate("classify")([bent[index] for index in range(len(bent))])
    background = len(gathered.facts.classes)
    assert torch.equal(task.point_labels(batch) != background, (batch.x > 0).any(-1))


def test_samples_that_a_task_cannot_bend(parts):
    task, gathered = parts("density")
    with pytest.raises(ValueError, match="warp must be left out for a DensityTask: its settings have no aug"):
        evaluate_distorted(task, gathered, "density", BENT, split="validation")
    task, gathered = parts("classify")
    with pytest.raises(ValueError, match="warp must change something, got Augment"):
        evaluate_distorted(task, gathered, "classify", Augment())
    with pytest.raises(ValueError, match="repeats must be at least 1, got 0"):
        evaluate_distorted(task, gathered, "classify", BENT, repeats=0)


@pytest.fixture(scope="module")
def bars_run(class_folder, tmp_path_factory) -> Path:
    run = tmp_path_factory.mktemp("bars_run") / "run"
    words = (
        *("train", "--task", "classify", "--data.format", "classes", "--data.path", class_folder),
        *("--network.hidden", 4, "--training.epochs", 8, "--training.batch-size", 4),
        *("--training.learning-rate", 0.05, "--out", run),
    )
    assert main([str(word) for word in words]) == 0
    return run


def test_the_command_gives_mean_and_spread(ndrnn, bars_run):
    words = ("evaluate", bars_run, "--warp.rotate", 60, "--warp.shift", 2)
    ran = ndrnn(*words, "--repeats", 3, "--seed", 7, "--json")
    assert ran.status == 0, ran.err
    repeats = ran.json["repeats"]
    assert [repeat["seed"] for repeat in repeats] == [7, 8, 9]
    assert ran.json["warp"]["rotate"] == 60
    assert ran.json["samples"] == 6
    for name in ("sample_error", "point_error"):
        values = [repeat["metrics"][name] for repeat in repeats]
        assert ran.json["metrics"][name] == pytest.approx(fmean(values))
        assert ran.json["spread"][name] == pytest.approx(stdev(values))
    assert len({repeat["metrics"]["point_error"] for repeat in repeats}) == 3
    alone = ndrnn(*words, "--seed", 8, "--json").json
    assert alone["metrics"] == repeats[1]["metrics"]
    assert alone["spread"] is None
    plain = ndrnn("evaluate", bars_run, "--json").json
    assert plain.keys() == {"weights", "split", "samples", "left_out", "metrics", "reliability"}
    assert plain["metrics"]["point_error"] < ran.json["metrics"]["point_error"]
    told = ndrnn(*words, "--repeats", 3, "--seed", 7).out
    assert "bent by rotate 60, shift 2; mean and standard deviation of 3 repeats, seeds 7 to 9" in told
    assert f"± {ran.json['spread']['point_error']:.4f}" in told


def test_the_expected_figure_stands_beside_the_measured_one(ndrnn, bars_run, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(bars_run, run)
    with (run / "config.toml").open("a", encoding="utf-8") as file:
        file.write("\n[expected]\nsample_error = 0.125\n")
    lines = ndrnn("evaluate", run).out.splitlines()
    assert [line.endswith("expected 0.125") for line in lines] == ["sample error" in line for line in lines]
    assert ndrnn("evaluate", run, "--json").json["expected"] == {"sample_error": 0.125}
    # of bent samples, or others, nothing is expected
    assert "expected 0.125" not in ndrnn("evaluate", run, "--warp.rotate", 60).out
    assert "expected 0.125" not in ndrnn("evaluate", run, "--split", "validation").out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--repeats", 3), "repeats must be 1 where no option of warp bends the samples anew, got 3"),
        (("--repeats", 0), "repeats must be at least 1, got 0"),
        (("--seed", -1), "seed must not be below 0, got -1"),
        (("--warp.elastic-sigma", 3), "warp.elastic_sigma has no meaning without warp.elastic_alpha"),
        (("--warp.rotate", -3), "rotate must not be below 0, got -3"),
    ],
)
def test_options_that_make_no_sense(words, message, ndrnn, bars_run):
    ran = ndrnn("evaluate", bars_run, *words)
    assert ran.status == 2
    assert message in ran.err
    assert "Traceback" not in ran.err
