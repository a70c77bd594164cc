"""A recipe's data, read and checked, with what was found told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..data.gather import Gathered, gather
from ..data.source import Raw
from ..tasks import Facts
from . import uses
from .output import Output
from .recipe import Recipe


def collect(
    recipe: Recipe, out: Output, *, strict: bool = False, facts: Facts | None = None, seed: int = 0
) -> Gathered:
    """All samples of a recipe that can be used; the others are named on standard error.

    Args:
        recipe: names the data and the task.
        out: where it is told.
        strict: whether the first file that cannot be used ends the program.
        facts: those of a trained model, which the samples have to fit.
        seed: of the choice of held-out samples.

    Raises:
        BadFile: nothing can be used, or with ``strict`` the first file that cannot.
    """
    gathered = gather(
        recipe.data,
        recipe.purpose,
        strict=strict,
        seed=seed,
        facts=facts,
        accept=_alignable(recipe),
        progress=out.progress,
    )
    for fault in gathered.faults.found:
        out.warn(f"left out: {fault}")
    if gathered.faults:
        out.warn(f"{len(gathered.faults)} of {len(gathered.faults) + count(gathered)} samples are left out")
    return gathered


def count(gathered: Gathered) -> int:
    """The number of samples in all splits."""
    return sum(map(len, gathered.splits.values()))


def summary(gathered: Gathered) -> dict[str, Any]:
    """What a person wants to know of the data, as plain values."""
    splits = {}
    for split, samples in gathered.splits.items():
        extents = torch.tensor(samples.extents)
        splits[split] = {
            "samples": len(samples),
            "smallest": extents.amin(0).tolist(),
            "largest": extents.amax(0).tolist(),
            "points": int(extents.prod(1).sum()),
        }
    facts = gathered.facts
    return {
        "axes": facts.ndim,
        "channels": facts.channels,
        "classes": list(facts.classes),
        "alphabet": facts.alphabet,
        "splits": splits,
        "faults": [{"file": fault.file, "reason": fault.reason} for fault in gathered.faults.found],
    }


def tell(gathered: Gathered, out: Output) -> None:
    """The summary as text."""
    found = summary(gathered)
    rows = []
    for split, values in found["splits"].items():
        smallest, largest = (" x ".join(map(str, values[key])) for key in ("smallest", "largest"))
        extent = smallest if smallest == largest else f"{smallest} to {largest}"
        rows.append((split, f"{values['samples']:,}", extent, f"{values['points']:,}"))
    out.table(rows, ("split", "samples", "size", "points"))
    out.say(f"{found['channels']} channel{'s' if found['channels'] > 1 else ''}")
    if found["classes"]:
        names = ", ".join(found["classes"][:20])
        out.say(f"{len(found['classes'])} classes: {names}{', ...' if len(found['classes']) > 20 else ''}")
    if found["alphabet"]:
        out.say(f"{len(found['alphabet'])} characters: {found['alphabet']}")


def _alignable(recipe: Recipe) -> Callable[[Raw], str | None] | None:
    """Whether a line has enough frames for its text, as CTC needs them: one a character, and one between equals."""
    if recipe.purpose != "transcribe":
        return None
    # how many frames there are does not depend on the alphabet
    model: Any = None

    def refusal(raw: Raw) -> str | None:
        nonlocal model
        if model is None:
            facts = Facts(raw.values.ndim - 1, raw.values.shape[-1], alphabet="ab")
            model = uses.build(recipe.task, recipe.config, facts).model
        frames = int(model.output_sizes(torch.tensor([raw.values.shape[:-1]]))[0, -1])
        text = raw.target
        repeats = sum(a == b for a, b in zip(text, text[1:], strict=False))
        if frames >= len(text) + repeats:
            return None
        return (
            f"cannot be aligned: {frames} frames after the network's blocks, but {len(text)} characters"
            f"{f' and {repeats} repeats' if repeats else ''} need {len(text) + repeats}"
        )

    return refusal
