"""Train a convolutional network of equal weights, or with ``--ours`` the recipe's own, and measure it on the test part.

    python -m benchmarks.baselines RECIPE.toml --out DIR [--ours] [--json FILE] [options of ndrnn train]

The JSON, by default ``DIR/result.json``, holds weights, minutes, metrics and the command. With ``--beams 16`` a network
that reads is measured a second time, with a beam search of that width.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from ndrnn.app import cli
from ndrnn.app.recipe import read
from ndrnn.learn import BEST, LAST
from ndrnn.saving import models as checkpoint
from ndrnn.saving.atomic import replacing

from .. import machine
from .parts import weights


def main(argv: Sequence[str]) -> int:
    """Train, measure and report; returns the exit status."""
    words = list(argv)
    ours = _flag(words, "--ours")
    folder = Path(_value(words, "--out") or "runs/latest")
    target = Path(_value(words, "--json") or folder / "result.json")
    beams = _value(words, "--beams")
    if not words or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    if not ours:
        task = f"{read(Path(words[0])).task}-cnn"
        words[1:1] = ["--plugin", "benchmarks.baselines", "--task", task]
    began = time.process_time()
    status = cli.main(["train", *words, "--out", str(folder), "--resume"])
    if status:
        return status
    spent = time.process_time() - began
    figures = {
        "command": " ".join(["python -m benchmarks.baselines", *argv]),
        **_of_run(folder),
        # of this process alone: less than the whole where the run was interrupted and gone on with
        "processor_minutes": round(spent / 60, 2),
        "test": _measured(folder),
    }
    if beams:
        figures["test_with_beam"] = {"beam": int(beams), **_measured(folder, "--beam", beams)}
    figures["machine"] = {name: value for name, value in machine.describe().items() if name != "command"}
    with replacing(target) as path:
        path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    return 0


def _of_run(folder: Path) -> dict[str, Any]:
    """What the run's own files say: how large the network is, how long it learned, and how well it did meanwhile."""
    import torch

    state = torch.load(folder / LAST, weights_only=True)
    record = next(saved for name, saved in state["callbacks"].items() if name.startswith("Record"))
    marks = record["marks"]
    task: Any = checkpoint.load(folder / BEST)
    best = min(marks, key=lambda mark: mark["metrics"][type(task).monitor])
    return {
        "network": type(task.model).__name__,
        "weights": weights(task.model),
        "passes": round(marks[-1]["passes"], 2),
        "minutes": round(record["seconds"] / 60, 2),
        "best_at_pass": round(best["passes"], 2),
        "validation": best["metrics"],
        "loss": [round(mark["loss"], 4) for mark in marks],
    }


def _measured(folder: Path, *options: str) -> dict[str, float]:
    """The metrics on the test part."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        cli.main(["evaluate", str(folder), "--split", "test", "--json", *options])
    found: dict[str, float] = json.loads(printed.getvalue())["metrics"]
    return found


def _flag(words: list[str], name: str) -> bool:
    there = name in words
    if there:
        words.remove(name)
    return there


def _value(words: list[str], name: str) -> str | None:
    if name not in words:
        return None
    index = words.index(name)
    if index + 1 == len(words):
        raise ValueError(f"{name} needs a value")
    value = words[index + 1]
    del words[index : index + 2]
    return value


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
