"""A user's own cell, layer, task and data, in a module of their own, without a change to the package."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

MODULE = '''
"""A leaky cell, a layer of it, a reader of dots, and a task that weighs its classes."""

from dataclasses import dataclass, field

import numpy as np
import torch

from ndrnn.tasks import register as register_task
from ndrnn.data import Raw, Reader, Source, register
from ndrnn.registry import layers
from ndrnn.nn.layers import MDRNN
from ndrnn.tasks import Label, LabelTask


class Doubled(MDRNN):
    def forward(self, x, *args, **kwargs):
        return super().forward(2 * x, *args, **kwargs)


layers.register(Doubled, "NAME")


class Dots(Source):
    classes = ("ground", "dot")

    def __init__(self, count):
        self.names = [f"dot {index}" for index in range(count)]
        self.splits = ["train"] * (count - 2) + ["validation"] * 2

    def read(self, index):
        target = np.zeros((6, 6), np.int64)
        target[index % 6, index * 2 % 6] = 1
        return Raw(target[..., None].astype(np.float32), target)


@dataclass(frozen=True)
class DotReader(Reader):
    """Dots on a dark ground."""

    count: int = 10
    """How many."""

    def open(self):
        return Dots(self.count)


register(DotReader, "FORMAT")


@dataclass(frozen=True)
class Weighted(Label):
    """Label each point; dots weigh more."""

    weight: float = 3.0
    """Of dots."""


class WeightedTask(LabelTask):
    settings_class = Weighted

    def loss(self, batch):
        weights = torch.tensor([1.0, self.settings.weight])
        scores = self.model(batch.x, batch.sizes)
        return torch.nn.functional.cross_entropy(scores.flatten(0, -2), batch.target.flatten(), weights)


register_task("TASK", Weighted, WeightedTask, "label")
'''
_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """The name of the module, in the current folder; what it registers has names of its own, too."""
    number = next(_numbers)
    monkeypatch.chdir(tmp_path)
    text = MODULE.replace('"NAME"', f'"Doubled{number}"').replace("FORMAT", f"dots{number}")
    text = text.replace("TASK", f"weighted{number}").replace("WeightedTask", f"WeightedTask{number}")
    (tmp_path / f"own_parts_{number}.py").write_text(text, encoding="utf-8")
    return number


@pytest.mark.parametrize("ending", ["", ".py"])
def test_own_parts_train_and_are_used(ending, module, ndrnn, tmp_path):
    plugin = f"own_parts_{module}{ending}"
    ran = ndrnn(
        *("train", "--plugin", plugin, "--task", f"weighted{module}", "--data.format", f"dots{module}"),
        *("--data.count", 8, "--weight", 5, "--network.layer", f"Doubled{module}", "--network.hidden", 4),
        *("--training.epochs", 3, "--training.learning-rate", 0.05, "--training.batch-size", 2),
        *("--out", "run", "--json"),
    )
    assert ran.status == 0, ran.err
    figures = ran.json["metrics"]
    told = ndrnn("info", "run", "--plugin", plugin, "--json")
    assert told.status == 0, told.err
    assert told.json["settings"]["weight"] == 5
    assert told.json["settings"]["network"]["layer"] == f"Doubled{module}"
    measured = ndrnn("evaluate", "run", "--plugin", plugin, "--json")
    assert 0 <= measured.json["metrics"]["miss"] <= figures["miss"] + 1e-6  # the best weights, not the last
    help_text = ndrnn(
        *(
            "train",
            "--plugin",
            plugin,
            "--task",
            f"weighted{module}",
            "--data.format",
            f"dots{module}",
            "--help",
        )
    ).out
    assert "--weight" in help_text
    assert "--data.count" in help_text


def test_a_name_that_is_taken(ndrnn):
    from ndrnn.tasks import Label, LabelTask
    from ndrnn.tasks import register as register_task

    with pytest.raises(ValueError, match="task 'label' already stands for another"):
        register_task("label", Label, LabelTask, "label")
    with pytest.raises(
        ValueError, match="purpose must be one of label, classify, transcribe, density, got 'paint'"
    ):
        register_task("mine", Label, LabelTask, "paint")


def test_predictions_of_a_model_of_ones_own(module, ndrnn, square_folder, tmp_path):
    plugin = f"own_parts_{module}"
    ran = ndrnn(
        *("train", "--plugin", plugin, "--task", f"weighted{module}", "--data.format", "masks"),
        *("--data.path", square_folder, "--network.hidden", 2, "--training.epochs", 1, "--out", "run"),
    )
    assert ran.status == 0, ran.err
    found = ndrnn(
        "predict", "run", square_folder / "images/000.png", "--out", "found", "--json", "--plugin", plugin
    )
    assert found.status == 0, found.err
    assert found.json["predicted"] == 1
    (line,) = (tmp_path / "found/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["labels"].endswith("000.png")


EVIL = """
from pathlib import Path
Path(__file__).with_name("ran").touch()
"""


@pytest.fixture
def foreign(tmp_path, monkeypatch):
    """A model from elsewhere, with a plugin beside it, in the current folder."""
    import ndrnn
    from ndrnn.tasks import Density, Facts, build

    monkeypatch.chdir(tmp_path)
    number = next(_numbers)
    (tmp_path / f"evil_{number}.py").write_text(EVIL)
    ndrnn.save(
        build(Density(hidden=2, components=2, scales=2, features=2, patch=6), Facts()), "best.safetensors"
    )
    Image.fromarray(np.zeros((12, 12), np.uint8)).save("a.png")
    (tmp_path / "x.ndrnn").write_bytes(b"")
    return f"evil_{number}"


@pytest.mark.parametrize("ending", ["", ".py"])
@pytest.mark.parametrize(
    "words",
    [
        ("predict", ".", "a.png"),
        ("info", "."),
        ("sample", "."),
        ("inpaint", ".", "a.png", "a.png"),
        ("compress", "a.png", "--model", "."),
        ("decompress", "x.ndrnn", "--model", "."),
        ("evaluate", "."),
        ("train", "config.toml"),
        ("check", "config.toml"),
    ],
    ids=lambda words: words[0],
)
def test_what_a_recipe_beside_the_weights_names_is_not_run(words, ending, foreign, ndrnn, tmp_path):
    plugin = foreign + ending
    recipe = f'task = "density"\nplugins = ["{plugin}"]\n[data]\nformat = "images"\npath = "."\n'
    (tmp_path / "config.toml").write_text(recipe)
    ran = ndrnn(*words)
    assert ran.status == 2
    assert f"asks for the plugin '{plugin}'" in ran.err
    assert f"add --plugin {plugin}" in ran.err
    assert not (tmp_path / "ran").exists()
    assert foreign not in sys.modules


def test_a_plugin_that_the_command_line_names_is_run_once(foreign, ndrnn, tmp_path):
    (tmp_path / "config.toml").write_text(
        f'task = "density"\nplugins = ["{foreign}"]\n[data]\nformat = "images"\npath = "."\n'
    )
    assert ndrnn("info", ".", "--plugin", foreign).status == 0
    assert (tmp_path / "ran").exists()
    (tmp_path / "ran").unlink()
    assert ndrnn("info", ".", "--plugin", f"{foreign}.py").status == 0
    assert not (tmp_path / "ran").exists()
    assert str(tmp_path) not in sys.path


@pytest.mark.parametrize("plugin", ["json.py", "json", "fractions.py"])
def test_a_plugin_called_like_another_module_is_not_passed_over(plugin, ndrnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / f"{plugin.removesuffix('.py')}.py").write_text(EVIL)
    ran = ndrnn("info", "--plugin", plugin)
    assert ran.status == 2
    assert (
        f"plugin {plugin!r}: a module called {plugin.removesuffix('.py')!r} is there already, from" in ran.err
    )
    assert not (tmp_path / "ran").exists()


def test_a_plugin_that_fails_is_not_taken_for_loaded(ndrnn, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "broken_parts.py").write_text("raise ValueError('no parts today')")
    for _ in range(2):
        ran = ndrnn("info", "--plugin", "broken_parts.py")
        assert (ran.status, ran.err) == (2, "error: no parts today\n")


def test_no_library_is_taken_from_the_folder_that_one_works_in(tmp_path):
    for name in ("tyro", "torch", "numpy", "rich", "safetensors"):
        (tmp_path / f"{name}.py").write_text("raise SystemExit('taken from here')")
    ran = subprocess.run(
        [sys.executable, "-m", "ndrnn", "info"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert "taken from here" not in ran.stdout + ran.stderr
