"""Words that need no training library: help, version and errors come before anything heavy is imported."""

from __future__ import annotations

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
