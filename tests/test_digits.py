"""The comparison on digits: the same data, loop and options for a convolutional network, and one measure for all."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import digits, digits_cnn

from ndrnn.app import recipe
from ndrnn.app.trained import load
from ndrnn.registry import tasks
from ndrnn.tasks import Facts

RECIPES = Path(__file__).parents[1] / "recipes"


def weights(model):
    return sum(weight.numel() for weight in model.parameters())


def test_sizes_of_the_networks_that_are_compared():
    assert weights(digits_cnn.Convolutions(1, 16, 10)) == 26_074
    assert weights(digits_cnn.Convolutions(1, 30, 10)) == 90_460
    facts = Facts(2, 1, tuple("0123456789"))
    # five blocks of a gated recurrent unit on two axes, a second bias for one of them, and four directions
    lower, upper = (
        4 * (5 * units * (inputs + 2 * units + 1) + 2 * units) for inputs, units in ((4, 16), (20, 32))
    )
    hierarchy = lower + 20 * 4 * 4 * 16 + upper + 10 * (4 * 32 + 1)
    for name, count in (("mnist", 27_511), ("mnist_hierarchy", hierarchy)):
        given = recipe.read(RECIPES / f"{name}.toml")
        assert weights(tasks[given.task].task(given.config, facts).model) == count


@pytest.fixture
def small_recipe(tmp_path):
    """Bars across and down in the four files of MNIST."""
    generator = np.random.default_rng(0)
    for part, count in (("train", 24), ("t10k", 10)):
        images, labels = np.zeros((count, 12, 12), np.uint8), np.arange(count, dtype=np.uint8) % 2
        for image, label in zip(images, labels, strict=True):
            line = generator.integers(2, 10)
            image[(line, slice(None)) if label else (slice(None), line)] = 255
        for name, array in (("images-idx3", images), ("labels-idx1", labels)):
            head = struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape)
            (tmp_path / f"{part}-{name}-ubyte").write_bytes(head + array.tobytes())
    path = tmp_path / "bars.toml"
    path.write_text(
        f'task = "classify"\n[data]\nformat = "idx"\npath = "{tmp_path}"\nheld_out = 0.25\n'
        "[augment]\nshift = 1\n[training]\nepochs = 12\nbatch_size = 6\nlearning_rate = 0.02\n",
        encoding="utf-8",
    )
    return path


def test_a_convolutional_network_is_trained_by_the_recipe_and_measured_as_all_are(
    small_recipe, tmp_path, capsys
):
    run, file = tmp_path / "run", tmp_path / "result.json"
    assert (
        digits_cnn.main([str(small_recipe), "--width", "3", "--training.seed", "4", "--out", str(run)]) == 0
    )
    kept = recipe.read(run)
    given = recipe.read(small_recipe).config
    assert kept.config.augment == given.augment
    assert (kept.config.training.epochs, kept.config.training.seed) == (12, 4)
    words = [str(run), "--repeats", "2", "--command", "so", "--cpu-minutes", "0.5", "--result", str(file)]
    assert digits.main(words) == 0
    assert "clean sample error" in capsys.readouterr().out
    found = json.loads(file.read_text(encoding="utf-8"))
    task, _, _ = load(run)
    assert found["weights"] == weights(task.model)
    assert found["command"] == "so"
    (one,) = found["runs"]
    assert one["clean"]["sample_error"] < 0.3
    assert found["errors"]["clean_sample_error"] == {"mean": one["clean"]["sample_error"], "spread": None}
    assert [repeat["seed"] for repeat in one["warped_repeats"]] == [0, 1]
    assert len(one["checks"]) == 12


def test_mean_and_spread_over_seeds():
    runs = [
        {part: {"sample_error": value} for part in ("validation", "clean", "warped")} for value in (0.1, 0.2)
    ]
    error = digits.over_seeds(runs)["warped_sample_error"]
    assert error == {"mean": pytest.approx(0.15), "spread": pytest.approx(0.005**0.5)}


def test_what_the_convolutional_network_is_not_for(small_recipe, tmp_path, capsys):
    with pytest.raises(ValueError, match="sizes must be None"):
        digits_cnn.Convolutions(1, 2, 3)(torch.zeros(1, 8, 8, 1), torch.tensor([[4, 4]]))
    with pytest.raises(ValueError, match="width must be at least 1, got 0"):
        digits_cnn.DigitsCnn(width=0)
    with pytest.raises(ValueError, match='by must be "sample"'):
        digits_cnn.DigitsCnn(by="points")
    assert digits_cnn.main(["--width", "3"]) == 2
    other = tmp_path / "label.toml"
    other.write_text('task = "label"\n[data]\nformat = "masks"\npath = "x"\n', encoding="utf-8")
    assert digits_cnn.main([str(other)]) == 2
    assert "task must be classify, got 'label'" in capsys.readouterr().err
    assert digits.main([]) == 2
