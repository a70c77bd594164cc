"""``ndrnn evaluate``: measure a trained model on data that it has not seen."""

from __future__ import annotations

from dataclasses import asdict, replace
from math import isfinite
from typing import Any

from ...data.pipeline.module import DataModule
from ...density.use.growth import AT_LIMIT
from ...learn import evaluate as measure
from ...tasks.distorted import Repeats, evaluate_distorted
from ...tasks.use import use_of
from ..collect import collect
from ..options import Evaluate
from ..output import Output
from ..recipe import FILE, Recipe
from ..trained import load


def run(recipe: Recipe, options: Evaluate) -> int:
    """Run the command; returns the exit status."""
    folder = recipe.source
    if folder is None or not (folder / FILE).exists():
        raise ValueError(f"evaluate needs a run's folder, got {'none' if folder is None else folder}")
    out = Output(options.json)
    with out.others():
        task, _, file = load(folder / options.weights)
        if options.beam is not None:
            _set_beam(task, options.beam)
        settings = recipe.config.training
        gathered = collect(recipe, out, strict=options.strict, facts=task.facts, seed=settings.seed)
        split = options.split or ("test" if "test" in gathered.splits else "validation")
        gathered.samples(split)
        purpose = use_of(task).purpose
        repeated = None
        if options.warp.active:
            repeated = evaluate_distorted(
                task,
                gathered,
                purpose,
                options.warp,
                split=split,
                repeats=options.repeats,
                seed=options.seed,
                batch_size=settings.batch_size,
            )
            metrics = repeated.mean
        else:
            metrics = measure(
                task, DataModule(gathered, purpose, settings.batch_size, seed=settings.seed), split
            )
    saturated = list(getattr(task, "saturated", ()))
    for name in saturated:
        out.warn(f"{name}: {AT_LIMIT}")
    count = len(gathered.samples(split))
    out.say(f"{file} on {count:,} sample{'s' if count != 1 else ''} ({split})")
    if repeated is not None:
        out.say(_told(options, repeated))
    expected = recipe.expected if split == "test" and repeated is None else {}
    rows = []
    for name, value in metrics.items():
        row = [f"  {name.replace('_', ' ')}", f"{value:.4f}"]
        if repeated is not None and repeated.spread is not None:
            row.append(f"± {repeated.spread[name]:.4f}")
        elif expected:
            row.append(f"expected {expected[name]:g}" if name in expected else "")
        rows.append(row)
    out.table(rows)
    result = {
        "weights": str(file),
        "split": split,
        "samples": len(gathered.samples(split)),
        "left_out": len(gathered.faults),
        "metrics": metrics,
    }
    if expected:
        result["expected"] = dict(expected)
    if saturated:
        result["memory_at_limit"] = saturated
    out.result(result if repeated is None else result | _warped(options, repeated))
    wrong = [name for name, value in metrics.items() if "/" not in name and not isfinite(value)]
    if wrong:
        out.warn(f"error: {', '.join(wrong)} are no finite numbers")
    return 1 if wrong else 0


def _told(options: Evaluate, repeated: Repeats) -> str:
    changes = ", ".join(
        f"{name.replace('_', ' ')} {value:g}"
        for name, value in asdict(options.warp).items()
        if value and (name != "elastic_sigma" or options.warp.elastic_alpha)
    )
    if len(repeated.seeds) == 1:
        return f"bent by {changes}; seed {options.seed}"
    return (
        f"bent by {changes}; mean and standard deviation of {len(repeated.seeds)} repeats, "
        f"seeds {repeated.seeds[0]} to {repeated.seeds[-1]}"
    )


def _warped(options: Evaluate, repeated: Repeats) -> dict[str, Any]:
    return {
        "warp": asdict(options.warp),
        "spread": repeated.spread,
        "repeats": [
            {"seed": seed, "metrics": metrics}
            for seed, metrics in zip(repeated.seeds, repeated.metrics, strict=True)
        ],
    }


def _set_beam(task: Any, beam: int) -> None:
    if not hasattr(task.settings, "beam"):
        raise ValueError(f"beam is for networks that read, not for a {type(task).__name__}")
    task.settings = replace(task.settings, beam=beam)
