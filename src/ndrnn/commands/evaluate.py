"""``ndrnn evaluate``: measure a trained model on data that it has not seen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from ..data.module import DataModule
from ..training import evaluate as measure
from . import uses
from .collect import collect
from .model import load
from .output import Output
from .recipe import FILE, parse


@dataclass(frozen=True)
class Evaluate:
    """Measure the model of a run on the test or validation samples of its data, or of data that options name."""

    split: Literal["test", "validation"] | None = None
    """Which samples; by default those of the test, or of the validation where there are none."""
    weights: str = "best.safetensors"
    """Which weights of the run."""
    beam: int | None = None
    """Prefixes that decoding keeps, for networks that read; by default as in the recipe, 0 for the most probable path."""
    strict: bool = False
    """Stop at the first file that cannot be used."""
    json: bool = False
    """Print one JSON object."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    words = list(argv)
    recipe, options = parse(words, Evaluate, "ndrnn evaluate", data_only=True)
    folder = Path(words[0])
    if not (folder / FILE).exists():
        raise ValueError(f"evaluate needs a run's folder, got {folder}")
    out = Output(options.json)
    with out.others():
        task, _, file = load(folder / options.weights)
        if options.beam is not None:
            _set_beam(task, options.beam)
        settings = recipe.config.training
        gathered = collect(recipe, out, strict=options.strict, facts=task.facts, seed=settings.seed)
        split = options.split or ("test" if "test" in gathered.splits else "validation")
        gathered.samples(split)
        data = DataModule(gathered, uses.purpose_of(task), settings.batch_size, seed=settings.seed)
        metrics = measure(task, data, split)
    out.say(f"{file} on {len(gathered.samples(split)):,} samples ({split})")
    out.table([(f"  {name.replace('_', ' ')}", f"{value:.4f}") for name, value in metrics.items()])
    out.result(
        {
            "weights": str(file),
            "split": split,
            "samples": len(gathered.samples(split)),
            "left_out": len(gathered.faults),
            "metrics": metrics,
        }
    )
    return 0


def _set_beam(task: Any, beam: int) -> None:
    if not hasattr(task.settings, "beam"):
        raise ValueError(f"beam is for networks that read, not for a {type(task).__name__}")
    task.settings = replace(task.settings, beam=beam)
