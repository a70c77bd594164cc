"""Train a convolutional network of equal weights, or with ``--ours`` the recipe's own, and measure it.

    python -m benchmarks.baselines RECIPE.toml --out DIR [--ours] [--seeds N] [--json FILE] [options of ndrnn train]

The JSON, by default ``DIR/result.json``, holds weights, minutes, metrics and the command. With ``--beams 16`` a network
that reads is measured once more, with a beam search of that width, and where the recipe has it look at lines in
several ways (``views``), without. Metrics are those of the test part, or of the part that was watched where there is
none, by which the weights were chosen. With ``--seeds 3`` three networks are trained, of the seeds 0, 1 and 2, in
``DIR/seed0`` and so on, and the JSON holds the mean and the standard deviation of what they give besides; what is
interrupted goes on by the same command.
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
from ndrnn.app.options import Train
from ndrnn.app.recipe import parse, pull, read
from ndrnn.learn import BEST, LAST
from ndrnn.registry import tasks
from ndrnn.saving import models as checkpoint
from ndrnn.saving.atomic import replacing

from .. import machine
from .parts import weights

RESULT = "result.json"
"""The figures of a run, in its folder."""


def main(argv: Sequence[str]) -> int:
    """Train, measure and report; returns the exit status."""
    words = list(argv)
    folder = Path(pull(words, "--out") or "runs/latest")
    target = Path(pull(words, "--json") or folder / RESULT)
    seeds = _count(words, "--seeds", 2)
    if not words or words[0].startswith("-"):
        print(__doc__, file=sys.stderr)
        return 2
    if seeds is None:
        status, figures = _one(words, folder)
    else:
        status, figures = _several(words, folder, seeds)
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
    beams = _count(words, "--beams", 1)
    words = _of_train(words)
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
    }
    split, figures[split] = _measured(folder)
    if getattr(read(folder).config, "views", False):
        figures[f"{split}_without_views"] = _measured(folder, "--views", "False")[1]
    if beams:
        figures[f"{split}_with_beam"] = {"beam": beams, **_measured(folder, "--beam", str(beams))[1]}
    figures["machine"] = {name: value for name, value in machine.describe().items() if name != "command"}
    return 0, figures


def _several(words: Sequence[str], folder: Path, seeds: int) -> tuple[int, dict[str, Any]]:
    """Trainings that differ in their seeds: the exit status, and the figures of all with their mean and deviation."""
    if pull(list(words), "--training.seed") is not None:
        raise ValueError("--training.seed and --seeds both say which seeds: give one of them")
    runs = []
    for seed in range(seeds):
        own = folder / f"seed{seed}"
        command = [*words, "--training.seed", str(seed), "--out", str(own)]
        if (own / RESULT).exists():
            _check_same(own, command)
        elif status := main(command):
            return status, {}
        runs.append(json.loads((own / RESULT).read_text(encoding="utf-8")))
    same = {name: runs[0][name] for name in ("network", "weights", "passes")}
    for run in runs:
        if any(run[name] != value for name, value in same.items()):
            raise ValueError(f"{folder} holds runs of different networks or lengths: begin in another folder")
    return 0, {"command": "", **same, **_summary(runs), "runs": runs}


def _check_same(folder: Path, words: Sequence[str]) -> None:
    """See that the finished run in a folder is the one that these words would train and measure.

    Raises:
        ValueError: it has other options.
    """
    words = list(words)
    beams, _ = _count(words, "--beams", 1), pull(words, "--out")
    meant, _ = parse(_of_train(words), Train, "ndrnn train")
    there = read(folder)
    figures = json.loads((folder / RESULT).read_text(encoding="utf-8"))
    measured = figures.get("test_with_beam") or figures.get("watched_with_beam") or {}
    for what, own, asked in (
        ("task", there.task, meant.task),
        ("options", there.config, meant.config),
        ("data", there.data, meant.data),
        ("beams", measured.get("beam"), beams),
    ):
        if own != asked:
            raise ValueError(
                f"{folder} holds a run of other {what}: begin in another folder; expected {asked}, got {own}"
            )


def _of_train(words: Sequence[str]) -> list[str]:
    """The words for ``ndrnn train``."""
    words = list(words)
    if not _flag(words, "--ours"):
        task = read(Path(words[0])).task
        if f"{task}-cnn" not in tasks:
            raise ValueError(
                f"{words[0]}: task must be label or transcribe, got {task}; for networks that name digits there is "
                f"python -m benchmarks.digits_cnn"
            )
        words[1:1] = ["--plugin", "benchmarks.baselines", "--task", f"{task}-cnn"]
    return words


def _summary(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The mean and the standard deviation of the figures that all runs have."""
    found: dict[str, Any] = {}
    for part in (
        split + more for split in ("test", "watched") for more in ("", "_without_views", "_with_beam")
    ):
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


def _measured(folder: Path, *options: str) -> tuple[str, dict[str, float]]:
    """The metrics on the test part, ``"test"``, or where there is none on the part that was watched, ``"watched"``.

    Raises:
        ValueError: they cannot be had, or are no finite numbers; the command has said why.
    """
    printed = io.StringIO()
    with redirect_stdout(printed):
        status = cli.main(["evaluate", str(folder), "--json", *options])
    if status:
        raise ValueError(f"{folder} is trained, and cannot be measured")
    found = json.loads(printed.getvalue())
    return "test" if found["split"] == "test" else "watched", found["metrics"]


def _flag(words: list[str], name: str) -> bool:
    there = name in words
    if there:
        words.remove(name)
    return there


def _count(words: list[str], name: str, least: int) -> int | None:
    value = pull(words, name)
    if value is None:
        return None
    if not value.isdecimal() or int(value) < least:
        raise ValueError(f"{name} must be an int of at least {least}, got {value!r}")
    return int(value)


def _command(argv: Sequence[str]) -> int:
    """As of the commands of ndrnn: what cannot be done is told in a line."""
    try:
        return main(argv)
    except (FileNotFoundError, ValueError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(_command(sys.argv[1:]))
