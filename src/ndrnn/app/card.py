"""What there is to know of a run, from its folder: figures, and a card to put beside its weights."""

from __future__ import annotations

import csv
from math import isfinite
from pathlib import Path

from ..hub import card_text
from ..learn.task import Task
from ..registry import readers
from ..tasks.use import use_of
from .logs import FILE as METRICS
from .options import KINDS
from .recipe import FILE, read
from .trained import load, trainable

_NO_METRICS = ("step", "loss")
_PIPELINES = {
    "label": "image-segmentation",
    "classify": "image-classification",
    "transcribe": "image-to-text",
}
"""What the hub calls the tasks."""


def figures(folder: Path, monitor: str) -> dict[str, float]:
    """The metrics on held-out data of a run's best weights, those with the lowest ``monitor``; none without a table."""
    table = folder / METRICS
    if not table.is_file():
        return {}
    with table.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if _number(row.get(monitor)) is not None]
    if not rows:
        return {}
    best = min(rows, key=lambda row: float(row[monitor]))
    found = {name: _number(value) for name, value in best.items() if not name.startswith(_NO_METRICS)}
    return {name: value for name, value in found.items() if value is not None}


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "")
    except ValueError:
        return None
    return value if isfinite(value) else None


def card(path: Path, license_: str = "") -> str:
    """A model card in Markdown, with the head that the hub of Hugging Face reads.

    Args:
        path: a run's folder, or weights.
        license_: of the weights, by its SPDX name.
    """
    model, _, file = load(path)
    if not isinstance(model, Task):
        return card_text(type(model).__name__, [f"Weights: {trainable(model):,}."], license=license_)
    facts, purpose = model.facts, use_of(model).purpose
    kind = KINDS.get(facts.ndim, f"lattices of {facts.ndim} axes")
    lines = [
        f"Task: {purpose}, on {kind} of {facts.channels} channel{'s' if facts.channels != 1 else ''}.",
        f"Network: {type(model.model).__name__}, {trainable(model.model):,} weights.",
    ]
    if facts.classes:
        lines.append(f"Classes: {', '.join(facts.classes)}.")
    if facts.alphabet:
        lines.append(f"Alphabet: `{facts.alphabet}`")
    if (file.parent / FILE).exists():
        data = read(file.parent).data
        lines.append(f"Data: {Path(data.path).name}, read as {readers.name_of(type(data))}.")
    if model.temperature != 1:
        lines.append(
            f"Confidences: calibrated on held-out samples, by the temperature {model.temperature:.3g}."
        )
    found = figures(file.parent, model.monitor)
    if found:
        rows = "\n".join(f"| {name.replace('_', ' ')} | {value:.4f} |" for name, value in found.items())
        lines.append(f"On held-out samples, at the best check:\n\n| metric | value |\n|---|---|\n{rows}")
    pipeline = {"pipeline_tag": _PIPELINES[purpose]} if facts.ndim == 2 and purpose in _PIPELINES else {}
    return card_text(
        f"{type(model.model).__name__} to {purpose} {kind}", lines, license=license_, head=pipeline
    )
