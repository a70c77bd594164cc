"""``ndrnn evaluate``: measure a trained model on data that it has not seen."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from math import isfinite
from pathlib import Path
from typing import Any

from ...data.batches import Purpose
from ...data.pipeline.gather import Gathered
from ...data.pipeline.module import in_order
from ...data.pipeline.samples import Samples
from ...density.use.growth import AT_LIMIT
from ...learn import Options
from ...learn import evaluate as measure
from ...saving import models
from ...saving.atomic import replacing
from ...tasks.distorted import Repeats, evaluate_distorted
from ...tasks.reliability import Judged, figure_rows
from ...tasks.use import use_of
from ..collect import collect
from ..options import Evaluate
from ..output import Output, plain
from ..outputs import Outputs
from ..recipe import FILE, Recipe, read
from ..shards import FIGURES, Shard, digest
from ..trained import load, reading_of, set_reading
from ..training import calibrated


def run(recipe: Recipe, options: Evaluate) -> int:
    """Run the command; returns the exit status."""
    folder = recipe.source
    if folder is None or not (folder / FILE).exists():
        raise ValueError(f"evaluate needs a run's folder, got {'none' if folder is None else folder}")
    out = Output(options.json)
    with out.others():
        task, _, file = load(folder / options.weights)
        if options.calibrate:
            _check_own(recipe, folder, task)
        shard = Shard.of(options.shard)
        if shard.count > 1 and task.counted is None:
            raise ValueError(
                f"shard must be left out for a {type(task).__name__}, which does not say what it counts"
            )
        target = None
        if options.out is not None:
            outputs = Outputs(force=options.force, originals=[file], folder=options.out)
            target = outputs.claim(options.out / shard.name(FIGURES))
        settings = recipe.config.training
        gathered = collect(recipe, out, strict=options.strict, facts=task.facts, seed=settings.seed)
        if options.calibrate:
            before = task.temperature
            calibrated(task, recipe, gathered, out)
            if task.temperature != before:
                models.save(task, file)
        set_reading(task, beam=options.beam, views=options.views)  # not earlier: it is none of what is saved
        split = options.split or ("test" if "test" in gathered.splits else "validation")
        samples = gathered.samples(split)
        if options.split is None and split == "validation" and recipe.data != read(folder).data:
            out.warn(
                f"note: {len(samples):,} of these samples are held out and measured; --split all measures every one"
            )
        total = len(samples)
        samples = samples.part(shard.share(range(total)))
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
            metrics = measured(task, samples, purpose, settings)
    saturated = list(getattr(task, "saturated", ()))
    for name in saturated:
        out.warn(f"{name}: {AT_LIMIT}")
    count = len(samples)
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
    if rows:
        out.table(rows)
    judged: Judged | None = getattr(task, "judged", None) if repeated is None else None
    if judged is not None:
        tell(judged, out)
    result = {
        "weights": str(file),
        "split": split,
        "samples": count,
        "left_out": len(gathered.faults),
        "metrics": metrics,
    }
    if judged is not None:
        result["reliability"] = judged.told()
    if expected:
        result["expected"] = dict(expected)
    if saturated:
        result["memory_at_limit"] = saturated
    result = result if repeated is None else result | _warped(options, repeated)
    if target is not None:
        told = result if shard.count == 1 else _part(result, task, gathered, shard, file, recipe, total)
        target.parent.mkdir(parents=True, exist_ok=True)
        with replacing(target) as temporary:
            temporary.write_text(json.dumps(plain(told), ensure_ascii=False) + "\n", encoding="utf-8")
    out.result(result)
    wrong = [name for name, value in metrics.items() if "/" not in name and not isfinite(value)]
    if wrong:
        out.warn(f"error: {', '.join(wrong)} are no finite numbers")
    return 1 if wrong else 0


def measured(task: Any, samples: Samples, purpose: Purpose, settings: Options) -> dict[str, float]:
    """The metrics on samples; none of no samples."""
    if not len(samples):
        return {}
    return measure(task, in_order(samples, purpose, settings.batch_size, settings.workers))


def tell(judged: Judged, out: Output) -> None:
    """How true confidences are, as text."""
    head = ["  confidences", "" if judged.temperature == 1 else f"temperature {judged.temperature:.3g}"]
    columns = [judged.given] if judged.temperature == 1 else [judged.given, judged.plain]
    lines = [[f"  {called}", *figures] for called, *figures in figure_rows(columns)]
    out.table(lines, head if len(columns) == 1 else [*head, "as they were"])


def _check_own(recipe: Recipe, folder: Path, task: Any) -> None:
    """See that a task can be calibrated by the samples that watched its training.

    Raises:
        ValueError: it gives no confidences, or the data are others; where they are may change.
    """
    if getattr(task, "reliability", None) is None:
        raise ValueError(
            f"calibrate is for networks that say how sure they are, not for a {type(task).__name__}"
        )
    own = read(folder).data
    if replace(recipe.data, root=own.root) != own:
        raise ValueError(
            f"calibrate goes by the validation samples of the training: data must be those of {folder / FILE}"
        )


def _part(
    result: dict[str, Any],
    task: Any,
    gathered: Gathered,
    shard: Shard,
    file: Path,
    recipe: Recipe,
    total: int,
) -> dict[str, Any]:
    """What a shard leaves, from which the figures of all samples can be made."""
    return {
        "shard": str(shard),
        **result,
        "weights": str(file.resolve()),
        "digest": digest(file),
        "data": f"{recipe.data.path} {recipe.data.root}".strip(),
        "total": total,
        "left_out": len(gathered.faults),
        "reading": reading_of(task),
        "counts": task.tallied,
    }


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
