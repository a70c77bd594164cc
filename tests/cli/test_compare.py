"""Runs beside each other."""

from __future__ import annotations

import csv

import pytest

from ndrnn.app.trained import load, trainable


def train(ndrnn, folder, out, *options):
    ran = ndrnn(
        *("train", "--task", "label", "--data.format", "masks", "--data.path", folder, "--network.hidden", 2),
        *("--training.epochs", 2, "--out", out, *options),
    )
    assert ran.status == 0, ran.err


def test_figures_weights_time_and_what_differs(ndrnn, square_folder, tmp_path):
    train(ndrnn, square_folder, tmp_path / "a")
    train(ndrnn, square_folder, tmp_path / "b", "--network.hidden", 3, "--training.batch-size", 4)
    ran = ndrnn("compare", tmp_path / "a", tmp_path / "b", "--json")
    assert ran.status == 0, ran.err
    first, second = ran.json["runs"]
    assert first["options"] == {"network.hidden": [2], "training.batch_size": 32}
    assert second["options"] == {"network.hidden": [3], "training.batch_size": 4}
    for name, found in (("a", first), ("b", second)):
        assert found["weights"] == trainable(load(tmp_path / name)[0].model)
        assert (found["passes"], found["state"], found["monitor"]) == (2, "finished", "miss")
        with (tmp_path / name / "metrics.csv").open(encoding="utf-8", newline="") as file:
            checks = [float(row["miss"]) for row in csv.DictReader(file) if row["miss"]]
        assert found["metrics"]["miss"] == min(checks)
    assert first["weights"] < second["weights"]
    ran = ndrnn("compare", tmp_path / "a", tmp_path / "b", tmp_path / "b/../a")
    assert "a: named before, and used once" in ran.err
    lines = ran.out.splitlines()
    assert len(lines) == 3
    for word in ("mean iou", "weights", "minutes", "network.hidden", "training.batch_size"):
        assert word in lines[0]
    assert f"{second['weights']:,}" in lines[2]


@pytest.mark.parametrize("content", [None, "task = 3"])
def test_what_is_no_run_is_named(ndrnn, tmp_path, content):
    if content:
        (tmp_path / "config.toml").write_text(content, encoding="utf-8")
    ran = ndrnn("compare", tmp_path)
    assert ran.status == 2
    assert "config.toml" in ran.err or str(tmp_path) in ran.err
