"""Train a convolutional network of equal weights, or with ``--ours`` the recipe's own, and measure it on the test part.

    python -m benchmarks.baselines RECIPE.toml --out DIR [--ours] [--seeds N] [--json FILE] [options of ndrnn train]

The JSON, by default ``DIR/result.json``, holds weights, minutes, metrics and the command. With ``--beams 16`` a network
that reads is measured a second time, with a beam search of that width. With ``--seeds 3`` three networks are trained, of
the seeds 0, 1 and 2, in ``DIR/seed0`` and so on, and the JSON holds the mean and the standard deviation of what they
give besides; what is interrupted goes on by the same command.
"""

from __future__ import annotations

import io
import json
import sys
import time
from collections.abc import Sequence
from contextlib import redirect_stdout
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from ndrnn.app import cli
from ndrnn.app.recipe import read
from ndrnn.learn import BEST, LAST
from ndrnn.saving import models as checkpoint
from ndrnn.saving.atomic import replacing

from .. import machine
from .parts import weights

RESULT = "result.json"
"""The figures of a run, in its folder."""


def main(argv: Sequence[str]) -> int:
    """Train, measure and report; returns the exit status."""
    words = list(argv)
    folder = Path(_value(words, "--out") or "runs/latest")
    target = Path(_value(words, "--json") or folder / RESULT)
    seeds = _value(words, "--seeds")
    if not words or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    if seeds is None:
        status, figures = _one(words, folder)
    else:
        status, figures = _several(words, folder, int(seeds))
    if status:
        return status
    figures["command"] = " ".join(["python -m benchmarks.baselines", *argv])
    with replacing(target) as path:
        path.write_text(json.dumps(figures, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(json.dumps(figures, indent=2, ensure_ascii=False))
    return 0


def _one(words: Sequence[str], folder: Path) -> tuple[int, dict[str, Any]]:
    """One training: its exit status and its figures."""
    words = list(words)
    beams = _value(words, "--beams")
    if not _flag(words, "--ours"):
        task = f"{read(Path(words[0])).task}-cnn"
        words[1:1] = ["--plugin", "benchmarks.baselines", "--task", task]
    resumed = (folder / LAST).exists()
    began = time.process_time()
    status = cli.main(["train", *words, "--out", str(folder), "--resume"])
    if status:
        return status, {}
    spent = (time.process_time() - began) / 60
    figures = {
        "command": "",
        **_of_run(folder),
        # those of this process would not be all
        "processor_minutes": None if resumed else round(spent, 2),
        "test": _measured(folder),
    }
    if beams:
        figures["test_with_beam"] = {"beam": int(beams), **_measured(folder, "--beam", beams)}
    figures["machine"] = {name: value for name, value in machine.describe().items() if name != "command"}
    return 0, figures


def _several(words: Sequence[str], folder: Path, seeds: int) -> tuple[int, dict[str, Any]]:
    """Trainings that differ in their seeds: the exit status, and the figures of all with their mean and deviation."""
    if seeds < 2:
        raise ValueError(f"--seeds must be at least 2, got {seeds}")
    runs = []
    for seed in range(seeds):
        own = folder / f"seed{seed}"
        if not (own / RESULT).exists():
            status = main([*words, "--training.seed", str(seed), "--out", str(own)])
            if status:
                return status, {}
        runs.append(json.loads((own / RESULT).read_text(encoding="utf-8")))
    same = {name: runs[0][name] for name in ("network", "weights", "passes")}
    for run in runs:
        if any(run[name] != value for name, value in same.items()):
            raise ValueError(f"{folder} holds runs of different networks or lengths: begin in another folder")
    return 0, {"command": "", **same, **_summary(runs), "runs": runs}


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean and the standard deviation of the figures that all runs have."""
    found: dict[str, Any] = {}
    for part in ("test", "test_with_beam"):
        if all(part in run for run in runs):
            columns = {name: [run[part][name] for run in runs] for name in runs[0][part] if name != "beam"}
            found[part] = {
                name: {"mean": fmean(all_), "stdev": stdev(all_)} for name, all_ in columns.items()
            }
    spent = [run["processor_minutes"] for run in runs if run["processor_minutes"] is not None]
    return {"processor_minutes": round(fmean(spent), 2) if spent else None, **found}


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
