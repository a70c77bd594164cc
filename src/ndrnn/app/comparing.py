"""Runs beside each other: how well each did, how large it is, how long it took, and in what they differ."""

from __future__ import annotations

import csv
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import inf, isfinite
from pathlib import Path
from typing import Any

from ..learn import BEST, standing_of
from ..registry import readers, tasks
from ..saving import models
from ..saving.config import to_dict
from .logs import FILE as METRICS
from .recipe import Recipe, read
from .trained import trainable


@dataclass(frozen=True)
class Described:
    """What a run's folder tells of it; None where it does not."""

    run: str
    state: str
    """``finished``, or how far it is."""
    monitor: str
    """The metric whose lowest value marks the best weights."""
    metrics: Mapping[str, float]
    """At its best check."""
    weights: int | None
    passes: float | None
    minutes: float | None
    options: Mapping[str, Any] = field(default_factory=dict)
    """Everything that was chosen, by the names of the options."""


def describe(folder: Path) -> Described:
    """What is to be known of the run in a folder.

    Raises:
        FileNotFoundError: there is none.
        ValueError: its recipe or its state is damaged.
    """
    recipe = read(folder)
    state = standing_of(folder)
    monitor = tasks.find(recipe.task).task.monitor
    weights = None
    if (folder / BEST).exists():
        task: Any = models.load(folder / BEST)
        weights = trainable(task.model)
    if state is None or not state.marks:
        how = "not begun"
    elif state.over(recipe.config.training):
        how = "finished"
    else:
        how = f"{100 * state.marks[-1].progress:.0f} %"
    return Described(
        str(folder),
        how,
        monitor,
        best_check(folder, monitor),
        weights,
        None if state is None else round(state.passes, 4),
        None if state is None else round(state.seconds / 60, 3),
        options_of(recipe),
    )


def best_check(folder: Path, monitor: str) -> dict[str, float]:
    """The metrics of a run at the check whose ``monitor`` was the lowest; none if there was no check."""
    file = folder / METRICS
    if not file.exists():
        return {}
    best: dict[str, float] = {}
    with file.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            try:
                found = {name: float(value) for name, value in row.items() if value}
            except (ValueError, TypeError) as error:
                raise ValueError(f"{file}: is no table of figures ({error})") from error
            value = found.get(monitor, inf)
            if isfinite(value) and value < best.get(monitor, inf):
                best = found
    return {name: value for name, value in best.items() if name not in ("step", "loss")}


def options_of(recipe: Recipe) -> dict[str, Any]:
    """All keys of a recipe and their values, with dots for tables."""
    data = {"format": readers.name_of(type(recipe.data)), **to_dict(recipe.data)}
    start = {"from": recipe.start} if recipe.start else {}
    return {"task": recipe.task, **start, **_flat({"data": data, **to_dict(recipe.config)})}


def differing(runs: Sequence[Described]) -> list[str]:
    """The options that are not the same in all runs."""
    names = dict.fromkeys(name for run in runs for name in run.options)
    return [
        name for name in names if any(run.options.get(name) != runs[0].options.get(name) for run in runs[1:])
    ]


def columns(runs: Sequence[Described]) -> tuple[list[str], list[list[str]]]:
    """Head and rows of a table of runs."""
    metrics = list(dict.fromkeys(name for run in runs for name in run.metrics if "/" not in name))
    options = differing(runs)
    head = [
        "run",
        *(name.replace("_", " ") for name in metrics),
        "weights",
        "passes",
        "minutes",
        "state",
        *options,
    ]
    rows = []
    for run in runs:
        figures = [f"{run.metrics[name]:.4f}" if name in run.metrics else "-" for name in metrics]
        rows.append(
            [
                run.run,
                *figures,
                "-" if run.weights is None else f"{run.weights:,}",
                "-" if run.passes is None else f"{run.passes:g}",
                "-" if run.minutes is None else f"{run.minutes:.1f}",
                run.state,
                *(_shown(run.options.get(name)) for name in options),
            ]
        )
    return head, rows


def as_values(runs: Sequence[Described]) -> list[dict[str, Any]]:
    """The same as plain values, for programs."""
    options = differing(runs)
    return [
        {
            "run": run.run,
            "state": run.state,
            "monitor": run.monitor,
            "metrics": dict(run.metrics),
            "weights": run.weights,
            "passes": run.passes,
            "minutes": run.minutes,
            "options": {name: run.options.get(name) for name in options},
        }
        for run in runs
    ]


def _flat(values: Mapping[str, Any], before: str = "") -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in values.items():
        found |= _flat(value, f"{before}{name}.") if isinstance(value, Mapping) else {before + name: value}
    return found


def _shown(value: Any) -> str:
    if isinstance(value, (list, tuple)):
        return " ".join(map(str, value)) or "-"
    return "-" if value in (None, "") else f"{value:g}" if isinstance(value, float) else str(value)
