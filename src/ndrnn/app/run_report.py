"""The report of a run: results, curves, examples of held-out data, confusions, and the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib import rc_context
from matplotlib.figure import Figure

from ..data.formats.labelmaps import palette
from ..data.pipeline.gather import Gathered
from ..data.pipeline.module import collate, in_order
from ..data.pipeline.samples import Sample, Samples
from ..learn.callbacks.record import Record
from ..tasks.calibration import Calibration
from ..tasks.reliability import Judged, figure_rows
from ..version import __version__
from .figures import reliability_diagram
from .recipe import Recipe
from .report import Report, Section, legible
from .trained import trainable

_WIDTH = 8.6
_INK, _ACCENT = "#1d2430", "#2458a6"
_SHOWN = 4


# names of classes and files are words, whatever dollar signs they have
@rc_context({"text.parse_math": False})
def write(
    path: Path,
    recipe: Recipe,
    task: Any,
    gathered: Gathered,
    record: Record,
    calibration: Calibration | None = None,
) -> None:
    """Write the report of a run.

    Args:
        path: of the page.
        recipe: what was trained on what.
        task: at its best.
        gathered: the data; its validation samples are shown.
        record: what the training was like.
        calibration: of the confidences, if they were calibrated.
    """
    report = Report(
        f"A run of {recipe.task}",
        f"{Path(recipe.data.path).name}: {len(gathered.samples('train')):,} samples to learn from, "
        f"{len(gathered.samples('validation')):,} held out to watch the training.",
        f"Made by ndrnn {__version__} with PyTorch {torch.__version__}. This page loads nothing from anywhere.",
    )
    results = report.section("Results").numbers(_numbers(task, record))
    if record.interrupted:
        results.note(
            f"The training was interrupted after {record.seconds:.0f} seconds; these are its results so far."
        )
    results.text(
        "At the last check of the training, on held-out samples. The weights are those of the best check, by "
        f"the metric {type(task).monitor.replace('_', ' ')}."
    )
    section = report.section("Examples")
    try:
        _examples(section, recipe.purpose, task, gathered.samples("validation"))
    except (MemoryError, RuntimeError, ArithmeticError, ValueError) as error:
        section.note(f"The examples could not be drawn: {error}")
    if recipe.purpose in ("label", "classify"):
        _confusion(report, recipe, task, gathered)
    if calibration is not None and calibration.judged is not None:
        _confidences(report, calibration, calibration.judged)
    if record.marks:
        report.section("How it learned").figure(
            _curves(record), "Loss and metrics at the checks.", vector=True
        )
    if gathered.faults.found:
        report.section("Left out").text(
            f"{len(gathered.faults)} files could not be used:", *map(str, gathered.faults.found[:50])
        )
    rows = [
        line.split(" = ", 1) if " = " in line else [line, ""] for line in recipe.dumps().splitlines() if line
    ]
    report.section("The recipe").table(rows)
    report.write(path)


def _numbers(task: Any, record: Record) -> dict[str, str]:
    numbers = {}
    if record.marks:
        metrics = record.marks[-1].metrics
        numbers = {
            name.replace("_", " "): f"{value:.4g}" for name, value in metrics.items() if "/" not in name
        }
    numbers["weights"] = f"{trainable(task.model):,}"
    numbers["seconds of training"] = f"{record.seconds:.0f}"
    numbers["points a second"] = f"{record.points_per_second:,.0f}"
    return numbers


def _curves(record: Record) -> Figure:
    figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    passes = [mark.passes for mark in record.marks]
    left.plot(passes, [mark.loss for mark in record.marks], color=_INK)
    left.set_title("loss in training", fontsize=11)
    names = list(dict.fromkeys(name for mark in record.marks for name in mark.metrics if "/" not in name))
    for name in names:
        found = [(mark.passes, mark.metrics[name]) for mark in record.marks if name in mark.metrics]
        right.plot(*zip(*found, strict=True), label=name.replace("_", " "))
    right.set_title("on held-out samples", fontsize=11)
    if names:
        right.legend(frameon=False, fontsize=9)
    for axes in (left, right):
        axes.set_xlabel("passes over the training samples")
        axes.grid(color="#e3e6eb")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _examples(section: Section, purpose: str, task: Any, samples: Samples) -> None:
    shown = min(_SHOWN, len(samples))
    # from all over the samples: neighbours often look alike
    chosen = [samples[position * len(samples) // shown] for position in range(shown)]
    if purpose == "density":
        _drawn(section, task, chosen)
        return
    found = [task.predict_step(collate(purpose)([sample]))[0] for sample in chosen]  # type: ignore[arg-type]
    if purpose == "label":
        section.figure(
            _maps(task, chosen, found), "Held-out samples, their labels, and what the network says."
        )
    elif purpose == "classify":
        names = [legible(name) for name in task.facts.classes]
        titles = [
            f"{names[sample.target]} → {names[one.label]}" for sample, one in zip(chosen, found, strict=True)
        ]
        figure = Figure(figsize=(_WIDTH, 2.4), layout="constrained")
        for axes, sample, title in zip(
            figure.subplots(1, len(chosen), squeeze=False)[0], chosen, titles, strict=True
        ):
            _show(axes, _flat(sample.x.numpy()))
            axes.set_title(title, fontsize=10)
        section.figure(figure, "Held-out samples, each headed by its class and the one that it got.")
    else:
        for sample, one in zip(chosen, found, strict=True):
            figure = Figure(figsize=(_WIDTH, 0.9), layout="constrained")
            _show(figure.subplots(), _flat(sample.x.numpy()))
            section.figure(figure, f"text: {sample.target} - read: {one.text}")


def _maps(task: Any, samples: list[Sample], found: list[Any]) -> Figure:
    colors = palette(max(2, len(task.facts.classes))) / 255
    figure = Figure(figsize=(_WIDTH, 2.2 * len(samples)), layout="constrained")
    grid = figure.subplots(len(samples), 3, squeeze=False)
    for row, (sample, one) in enumerate(zip(samples, found, strict=True)):
        target = np.asarray(sample.target)
        shown = (_flat(sample.x.numpy()), _colored(target, colors), _colored(one.labels.numpy(), colors))
        for axes, image, title in zip(grid[row], shown, ("image", "labels", "network"), strict=True):
            _show(axes, image)
            if row == 0:
                axes.set_title(title, fontsize=10)
    return figure


def _drawn(section: Section, task: Any, samples: list[Sample]) -> None:
    ndim = task.facts.ndim
    size = min((256, 48, 16)[ndim - 1], *(min(sample.x.shape[:ndim]) for sample in samples))
    with torch.no_grad():
        drawn = task.model.sample(_SHOWN, *(size,) * ndim, generator=torch.Generator().manual_seed(0))
    figure = Figure(figsize=(_WIDTH, 2.4), layout="constrained")
    for axes, image in zip(figure.subplots(1, _SHOWN), drawn, strict=True):
        if ndim == 1:
            axes.plot(image.numpy(), linewidth=0.8)
        else:
            _show(axes, _flat(image.numpy()))
    what = ("Signals", "Images", "Volumes, of each its middle slice,")[ndim - 1]
    section.figure(figure, f"{what} drawn from the model, point by point, from nothing.")


def _confusion(report: Report, recipe: Recipe, task: Any, gathered: Gathered) -> None:
    names = [legible(name) for name in task.facts.classes]
    counts = torch.zeros(len(names), len(names), dtype=torch.int64)
    for batch in in_order(gathered.samples("validation"), recipe.purpose, recipe.config.training.batch_size):
        for one, target in zip(task.predict_step(batch), batch.target, strict=True):
            if recipe.purpose == "label":
                target = target[tuple(map(slice, one.labels.shape))]
                true, said = target[target >= 0], one.labels[target >= 0]
            else:
                true, said = target.reshape(1), torch.tensor([one.label])
            counts += torch.bincount(true * len(names) + said, minlength=len(names) ** 2).reshape_as(counts)
    share = counts / counts.sum(1, keepdim=True).clamp(min=1)
    edge = min(_WIDTH, 2.2 + 0.45 * len(names))
    figure = Figure(figsize=(edge, edge), layout="constrained")
    axes = figure.subplots()
    axes.imshow(share.numpy(), cmap="Blues", vmin=0, vmax=1)
    ticks = range(len(names)) if len(names) <= 40 else []
    axes.set_xticks(ticks, [names[tick] for tick in ticks], rotation=90, fontsize=8)
    axes.set_yticks(ticks, [names[tick] for tick in ticks], fontsize=8)
    if len(names) <= 15:
        for row, column in np.ndindex(*share.shape):
            if share[row, column] >= 0.005:
                ink = "white" if share[row, column] > 0.6 else _INK
                axes.text(
                    column,
                    row,
                    f"{100 * share[row, column]:.0f}",
                    ha="center",
                    va="center",
                    fontsize=7,
                    color=ink,
                )
    axes.set_xlabel("what the network says")
    axes.set_ylabel("what it is")
    what = "points" if recipe.purpose == "label" else "samples"
    report.section("Confusions").text(
        f"Of the held-out {what} of each class (rows), how many percent got which label."
    ).figure(figure, "Confusion matrix, rows in percent.")


def _confidences(report: Report, calibration: Calibration, judged: Judged) -> None:
    """How true they are, as a diagram and in numbers."""
    columns = {"temperature 1": judged.plain}
    if judged.temperature != 1:
        columns[f"temperature {judged.temperature:.3g}"] = judged.given
    section = report.section("How sure it is").text(
        f"Of the {calibration.predictions:,} predictions on held-out samples that are so and so sure, how many are right. "
        "Of confidences that are true, it is as many as they say."
    )
    if calibration.reason:
        section.note(f"They were not calibrated: {calibration.reason}.")
    else:
        section.text(
            "The temperature was learned from these samples: ndrnn evaluate tells how true confidences are on others."
        )
    section.figure(
        reliability_diagram(columns),
        "Share of right predictions by confidence; below, how many have it.",
        vector=True,
    )
    section.table(figure_rows(columns.values()), ["", *columns])
    told = judged.given.told()["bins"]
    section.table(
        (
            [
                f"{one['from']:.3f} to {one['to']:.3f}",
                f"{one['count']:,}",
                f"{one['confidence']:.4f}",
                f"{one['accuracy']:.4f}",
            ]
            for one in told
            if one["count"]
        ),
        ["confidence", "predictions", "mean", "right"],
    )


def _flat(x: np.ndarray) -> np.ndarray:
    """A sample as a picture (H, W) or (H, W, 3): of a volume its middle slice, of other channels the first."""
    while x.ndim > 3:
        x = x[x.shape[0] // 2]
    return x[..., :3] if x.shape[-1] >= 3 else x[..., 0]


def _colored(labels: np.ndarray, colors: np.ndarray) -> np.ndarray:
    """Labels in their colours, what does not count in grey; of a volume the middle slice."""
    while labels.ndim > 2:
        labels = labels[labels.shape[0] // 2]
    return np.where((labels < 0)[..., None], 0.6, colors[np.clip(labels, 0, len(colors) - 1)])


def _show(axes: Any, image: np.ndarray) -> None:
    axes.imshow(image, cmap="gray")
    axes.set_axis_off()
