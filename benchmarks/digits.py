"""Runs on handwritten digits, measured on the test digits as they are and warped, as one small file of results.

    python -m benchmarks.digits runs/seed0 runs/seed1 --command "ndrnn train ..." --result FILE

The warped test is that of Graves, Fernandez & Schmidhuber 2007: the elastic distortion of Simard, Steinkraus & Platt
2003 with sigma 4 and alpha 34, five times over (seeds 0 to 4). All runs of a file are of one recipe, with another seed each.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean, stdev
from typing import Annotated, Any

import tyro

from ndrnn.app import recipe
from ndrnn.app.collect import collect
from ndrnn.app.output import Output
from ndrnn.app.trained import load
from ndrnn.data.pipeline.module import DataModule
from ndrnn.learn import evaluate
from ndrnn.saving.atomic import replacing
from ndrnn.saving.config import to_dict
from ndrnn.tasks.augmentation import Augment
from ndrnn.tasks.distorted import evaluate_distorted
from ndrnn.tasks.use import use_of

from . import digits_cnn  # noqa: F401  # the plugin that its runs ask for
from .baselines.parts import weights

WARP = Augment(elastic_alpha=34, elastic_sigma=4)


@dataclass(frozen=True)
class Digits:
    """Measure runs on the test digits, as they are and warped."""

    runs: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Their folders."""
    command: str = ""
    """With which they were trained, for the file of results."""
    cpu_minutes: tuple[float, ...] = field(default_factory=tuple)
    """Of the trainings, in the order of the runs, where they were taken down."""
    repeats: int = 5
    """Warps of the test digits."""
    result: Path | None = None
    """File for the results."""


def measured(folder: Path, repeats: int) -> dict[str, Any]:
    """The errors of a run's best weights, as shares of 1."""
    run = recipe.read(folder)
    task, _, _ = load(folder)
    settings = run.config.training
    gathered = collect(run, Output(True), facts=task.facts, seed=settings.seed)
    purpose = use_of(task).purpose
    data = DataModule(gathered, purpose, settings.batch_size, seed=settings.seed)
    warped = evaluate_distorted(
        task, gathered, purpose, WARP, repeats=repeats, batch_size=settings.batch_size
    )
    return {
        "seed": settings.seed,
        "validation": evaluate(task, data, "validation"),
        "clean": evaluate(task, data, "test"),
        "warped": warped.mean,
        "warped_spread": warped.spread,
        "warped_repeats": [
            {"seed": seed, **metrics} for seed, metrics in zip(warped.seeds, warped.metrics, strict=True)
        ],
        "checks": _checks(folder),
    }


def over_seeds(found: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Mean over the runs of every error, and their standard deviation (n - 1) where there are several."""
    table: dict[str, Any] = {}
    for part in ("validation", "clean", "warped"):
        for name in found[0][part]:
            values = [run[part][name] for run in found]
            table[f"{part}_{name}"] = {
                "mean": fmean(values),
                "spread": stdev(values) if len(values) > 1 else None,
            }
    return table


def _checks(folder: Path) -> list[dict[str, float]]:
    """What the training's checks found."""
    lines = (folder / "metrics.csv").read_text(encoding="utf-8").splitlines()
    names = lines[0].split(",")
    rows = [dict(zip(names, line.split(","), strict=True)) for line in lines[1:]]
    return [{name: float(f"{float(value):.5g}") for name, value in row.items() if value} for row in rows]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command; returns the exit status."""
    options = tyro.cli(Digits, prog="python -m benchmarks.digits", args=argv)
    if not options.runs:
        print("error: name the folder of a run at least", file=sys.stderr)
        return 2
    runs = [measured(folder, options.repeats) for folder in options.runs]
    task, _, _ = load(options.runs[0])
    given = recipe.read(options.runs[0])
    content = {
        "command": options.command,
        "task": given.task,
        "settings": to_dict(given.config),
        "weights": weights(task.model),
        "cpu_minutes": list(options.cpu_minutes),
        "errors": over_seeds(runs),
        "runs": runs,
    }
    for name, error in over_seeds(runs).items():
        spread = "" if error["spread"] is None else f" ± {100 * error['spread']:.2f}"
        print(f"{name.replace('_', ' ')}: {100 * error['mean']:.2f}{spread} %")
    if options.result is not None:
        with replacing(options.result) as temporary:
            temporary.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
