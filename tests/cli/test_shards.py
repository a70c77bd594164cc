"""Work shared by several jobs, and joined again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ndrnn.app.cli import main
from ndrnn.app.shards import Shard

SMALL = ("--training.epochs", 1, "--training.batch-size", 4)
TASKS = {
    "label": ("masks", "square_folder", ("--network.hidden", 2)),
    "classify": ("classes", "class_folder", ("--network.hidden", 2)),
    "transcribe": (
        "lines",
        "text_folder",
        ("--network.hidden", 2, "--network.subsample", "--network.blocks", "4x2"),
    ),
    "density": (
        "images",
        "wave_folder",
        ("--hidden", 2, "--components", 2, "--features", 2, "--patch", 8, "--levels", 0),
    ),
}


@pytest.fixture
def trained(request, tmp_path):
    """Makes a run of a task, and gives its folder and that of its data."""

    def make(task):
        kind, folder, options = TASKS[task]
        data = request.getfixturevalue(folder)
        words = ("train", "--task", task, "--data.format", kind, "--data.path", data, *options, *SMALL)
        assert main([str(word) for word in (*words, "--out", tmp_path / "run")]) == 0
        return tmp_path / "run", data

    return make


@pytest.mark.parametrize("task", TASKS)
def test_an_evaluation_in_parts_is_that_of_the_whole(task, trained, ndrnn, tmp_path):
    run, _ = trained(task)
    words = ("evaluate", run, "--split", "all")
    whole = ndrnn(*words, "--json").json
    counts = []
    for number in range(3):
        part = ndrnn(*words, "--shard", f"{number}/3", "--out", tmp_path / "out", "--json")
        assert part.status == 0, part.err
        counts.append(part.json["samples"])
    joined = ndrnn("join", tmp_path / "out", "--json")
    assert joined.status == 0, joined.err
    found = joined.json["evaluation"]
    assert found["samples"] == sum(counts) == whole["samples"]
    assert max(counts) - min(counts) <= 1
    assert found["split"] == "all"
    assert found["metrics"].keys() == whole["metrics"].keys()
    # the density is that of continuous values: to levels it would add other noise in other company
    assert found["metrics"] == pytest.approx(whole["metrics"], rel=1e-5, abs=1e-6)
    assert json.loads((tmp_path / "out/evaluation.json").read_text(encoding="utf-8")) == found
    assert ("reliability" in found) == (task != "density")
    for name in found.get("reliability", {}).keys() & {"predictions", "calibration_error", "brier"}:
        assert found["reliability"][name] == pytest.approx(whole["reliability"][name], abs=1e-5)


def test_more_jobs_than_samples_and_a_job_that_is_missing(trained, ndrnn, tmp_path):
    run, _ = trained("label")
    for number in (0, 2, 3):
        ran = ndrnn("evaluate", run, "--shard", f"{number}/4", "--out", tmp_path / "out")
        assert ran.status == 0, ran.err
    missing = ndrnn("join", tmp_path / "out")
    assert missing.status == 2
    assert "these shards have not ended: 1/4" in missing.err
    assert ndrnn("evaluate", run, "--shard", "1/4", "--out", tmp_path / "out").status == 0
    joined = ndrnn("join", tmp_path / "out", "--json").json["evaluation"]
    assert joined["samples"] == 1
    assert joined["metrics"] == ndrnn("evaluate", run, "--json").json["metrics"]
    assert "exists already" in ndrnn("join", tmp_path / "out").err
    assert ndrnn("join", tmp_path / "out", "--force").status == 0
    # parts of other weights are not added to these
    part = tmp_path / "out/evaluation.2-of-4.json"
    changed = json.loads(part.read_text(encoding="utf-8")) | {"digest": "other"}
    part.write_text(json.dumps(changed), encoding="utf-8")
    refused = ndrnn("join", tmp_path / "out", "--force")
    assert refused.status == 2
    assert "evaluation.2-of-4.json: digest must be" in refused.err


@pytest.mark.parametrize("command", ["evaluate", "predict"])
def test_parts_that_were_read_in_other_ways_are_not_joined(command, trained, ndrnn, tmp_path):
    run, data = trained("transcribe")
    words = (
        command,
        run,
        *((data,) if command == "predict" else ("--split", "all")),
        "--out",
        tmp_path / "out",
    )
    file = "evaluation" if command == "evaluate" else "predictions"
    for number, views in enumerate((False, True)):
        assert ndrnn(*words, "--shard", f"{number}/2", "--views", views).status == 0
    refused = ndrnn("join", tmp_path / "out")
    assert refused.status == 2
    assert f"{file}.1-of-2.json" in refused.err
    assert "reading must be {'beam': 0, 'views': False} as in" in refused.err
    assert not list((tmp_path / "out").glob(f"{file}.json*"))
    assert ndrnn(*words, "--shard", "0/2", "--views", True, "--force").status == 0
    assert ndrnn("join", tmp_path / "out").status == 0


def test_predictions_of_parts_are_those_of_the_whole_in_their_order(trained, ndrnn, tmp_path):
    run, data = trained("label")
    images = Path(shutil.copytree(data / "images", tmp_path / "in"))
    (images / "004.png").write_bytes(b"no image")
    whole = ndrnn("predict", run, images, "--out", tmp_path / "whole")
    assert whole.status == 1
    for number in range(3):
        ran = ndrnn("predict", run, images, "--out", tmp_path / "parts", "--shard", f"{number}/3")
        assert ran.status == (1 if number == 1 else 0), ran.err
    joined = ndrnn("join", tmp_path / "parts", "--json")
    assert joined.status == 1
    assert joined.json["predictions"]["predicted"] == 11
    assert [fault["file"].rpartition("/")[2] for fault in joined.json["predictions"]["left_out"]] == [
        "004.png"
    ]
    lines = [
        (tmp_path / name / "predictions.jsonl").read_text(encoding="utf-8") for name in ("whole", "parts")
    ]
    assert lines[0].replace(str(tmp_path / "whole"), str(tmp_path / "parts")) == lines[1]
    for path in (tmp_path / "whole").glob("*.png"):
        assert path.read_bytes() == (tmp_path / "parts" / path.name).read_bytes()


def test_objects_of_parts_are_those_of_the_whole(trained, ndrnn, tmp_path):
    run, data = trained("label")
    words = ("predict", run, data / "images", "--instances", "0", "1")
    assert ndrnn(*words, "--out", tmp_path / "one").status == 0
    for number in range(3):
        assert ndrnn(*words, "--out", tmp_path / "parts", "--shard", f"{number}/3").status == 0
    assert ndrnn("join", tmp_path / "parts").status == 0
    whole = (tmp_path / "one/instances.csv").read_text()
    assert (tmp_path / "parts/instances.csv").read_text() == whole
    assert whole.count("\n") > 3


def test_a_part_that_was_cut_off_is_not_joined(trained, ndrnn, tmp_path):
    run, data = trained("classify")
    for number in range(2):
        ran = ndrnn("predict", run, data, "--out", tmp_path / "out", "--shard", f"{number}/2")
        assert ran.status == 0, ran.err
    part = tmp_path / "out/predictions.1-of-2.jsonl"
    whole = part.read_text(encoding="utf-8")
    part.write_text(whole[: whole.index('{"end"')], encoding="utf-8")
    ran = ndrnn("join", tmp_path / "out")
    assert ran.status == 2
    assert "these shards have not ended: 1/2" in ran.err
    assert not (tmp_path / "out/predictions.jsonl").exists()
    part.write_text(whole[:-20], encoding="utf-8")
    assert "predictions.1-of-2.jsonl: line" in ndrnn("join", tmp_path / "out").err
    assert "holds no parts" in ndrnn("join", tmp_path).err
    (tmp_path / "out/predictions.0-of-9.jsonl").touch()
    assert "2 and 9 shards" in ndrnn("join", tmp_path / "out").err


def test_shards_compress_each_file_once(ndrnn, wave_folder, tmp_path):
    names = []
    for number in range(2):
        ran = ndrnn("compress", wave_folder, "--out", tmp_path, "--shard", f"{number}/2", "--json")
        assert ran.status == 0, ran.err
        names.append([Path(file["file"]).name for file in ran.json["files"]])
    assert names == [[f"{index}.ndrnn" for index in range(start, 6, 2)] for start in (0, 1)]


@pytest.mark.parametrize("text", ["3", "3/3", "1/0", "-1/3", "a/b", "1/2/3", "1.5/3", " 1/3"])
def test_what_is_no_shard(text):
    with pytest.raises(ValueError, match="shard must be like 3/16, the first of 16 being 0/16"):
        Shard.of(text)


def test_every_thing_is_of_one_shard():
    things = list(range(23))
    shares = [Shard.of(f"{number}/5").share(things) for number in range(5)]
    assert sorted(thing for share in shares for thing in share) == things
    assert shares[3] == [3, 8, 13, 18]


def test_bent_samples_and_no_place_for_a_part(ndrnn, tmp_path):
    for words in (("--shard", "0/2"), ("--shard", "0/2", "--out", tmp_path, "--warp.shift", 1)):
        ran = ndrnn("evaluate", tmp_path, *words)
        assert ran.status == 2


def test_all_samples_or_those_of_the_training(trained, ndrnn, square_folder):
    run, _ = trained("label")
    counts = {}
    for split in ("train", "validation", "all"):
        ran = ndrnn("evaluate", run, "--split", split, "--json")
        assert ran.status == 0, ran.err
        counts[split] = ran.json["samples"]
    assert counts == {"train": 11, "validation": 1, "all": 12}
    assert "split must be one of train, validation or all" in ndrnn("evaluate", run, "--split", "test").err
    # on another folder the held-out share alone is measured, which is told
    copy = ndrnn("evaluate", run, "--data.path", square_folder / ".")
    assert "--split all" not in copy.err
    other = ndrnn("evaluate", run, "--data.path", square_folder, "--data.held-out", 0.3)
    assert "note: 4 of these samples are held out and measured; --split all measures every one" in other.err
