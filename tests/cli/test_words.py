"""Words that need no training library: help, version and errors come before anything heavy is imported."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ndrnn.app.cli import COMMANDS

RECIPE = Path(__file__).parents[2] / "recipes" / "mnist.toml"
HEAVY = ("torch", "numpy", "lightning", "torchmetrics", "PIL", "nibabel", "matplotlib", "safetensors")


def answer(*words):
    """Status, what was printed, and what of the heavy libraries was imported for it."""
    program = (
        "import sys\nfrom ndrnn.app.cli import main\nstatus = main(sys.argv[1:])\n"
        f"print('loaded', *(name for name in {HEAVY} if name in sys.modules))\nsys.exit(status)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program, *map(str, words)], capture_output=True, text=True, timeout=120
    )
    text, _, loaded = ran.stdout.rpartition("loaded")
    return ran.returncode, text, ran.stderr, loaded.split()


@pytest.mark.parametrize("words", [["--help"], ["--version"], *([name, "--help"] for name in COMMANDS)])
def test_help_brings_nothing_heavy(words):
    status, out, _, loaded = answer(*words)
    assert status == 0
    assert out.strip()
    assert not loaded


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["trian"], "did you mean 'train'?"),
        (["train", RECIPE, "--training.epoch", "3"], "--training.epochs"),
        (["train", RECIPE, "--network.hidden", "many"], "hidden"),
        (["train", "missing.toml"], "missing.toml"),
        (["train", RECIPE, "--task", "lable"], "did you mean 'label'?"),
        (["train", RECIPE, "--data.format", "mask"], "did you mean 'masks'?"),
        (["train", RECIPE, "--training.clip", "-1"], "clip must be above 0"),
        (["evaluate", RECIPE, "--splt", "test"], "--split"),
        (["predict", "model", "image.png", "--ovrlay"], "--overlay"),
        (["sample", "model", "--n", "0"], "n must be at least 1"),
        (["bench", "--layer", "MDLTSM"], "did you mean 'MDLSTM'?"),
    ],
)
def test_errors_bring_nothing_heavy(words, message):
    status, _, err, loaded = answer(*words)
    assert status == 2
    assert message in " ".join(err.replace("│", " ").split())
    assert not loaded


@pytest.mark.parametrize(
    ("option", "value", "message"),
    [
        ("--data.memory", "nan", "memory must not be negative, and finite, got nan"),
        ("--data.memory", "inf", "memory must not be negative, and finite, got inf"),
        ("--training.seed", str(2**63), "seed must be below 2^63, got 9223372036854775808"),
    ],
)
def test_numbers_without_an_end(option, value, message, ndrnn, square_folder):
    ran = ndrnn(
        "check", "--task", "label", "--data.format", "masks", "--data.path", square_folder, option, value
    )
    assert ran.status == 2
    assert message in " ".join(ran.err.replace("│", " ").split())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no pipes among files")
@pytest.mark.parametrize("name", ["config.toml", "best.safetensors"])
def test_a_pipe_in_place_of_a_file_is_not_waited_for(name, ndrnn, tmp_path):
    (tmp_path / "best.safetensors").write_bytes(b"")
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "pipe").rename(tmp_path / name)
    ran = ndrnn("info", tmp_path)
    assert ran.status == 2
    assert f"{name}: is no plain file" in ran.err
