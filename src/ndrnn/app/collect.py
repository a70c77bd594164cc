"""A recipe's data, read and checked, with what was found told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from ..data.formats.direction import visual
from ..data.formats.texts import called, shown
from ..data.pipeline.gather import Gathered, gather
from ..data.readers.source import Raw
from ..registry import tasks
from ..tasks import Facts
from ..tasks.decoding import frames_needed
from .output import Output
from .recipe import Recipe

_MOST = 24  # labels that are listed for people
_RAREST = 10
"""Characters whose files are told."""
_SHOWN = 200  # characters whose counts are printed; JSON has all


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
        accept=_refusal(recipe),
        progress=out.progress,
    )
    for fault in gathered.faults.found:
        out.warn(f"left out: {fault}")
    for remark in gathered.remarks:
        out.warn(f"note: {remark}")
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
    counts = sorted(gathered.characters.items(), key=lambda item: (-item[1][0], item[0]))
    return {
        "axes": facts.ndim,
        "channels": facts.channels,
        "classes": list(facts.classes),
        "alphabet": facts.alphabet,
        "labels": [
            {"label": label, "name": name, "points": points, "samples": samples}
            for label, name, points, samples in _labels(gathered)
        ],
        "characters": {character: count for character, (count, _) in counts},
        "rarest": [
            {"character": character, "name": called(character), "count": count, "file": file}
            for character, (count, file) in reversed(counts[-_RAREST:])
        ],
        "splits": splits,
        "faults": [{"file": fault.file, "reason": fault.reason} for fault in gathered.faults.found],
        "remarks": list(gathered.remarks),
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
    if found["labels"]:
        total = sum(entry["points"] for entry in found["labels"]) or 1
        lines = [
            (
                str(entry["label"]),
                entry["name"],
                f"{entry['points']:,}",
                f"{entry['points'] / total:.2%}",
                f"{entry['samples']:,}",
            )
            for entry in found["labels"]
        ]
        out.table(lines[:_MOST], ("label", "name", "points", "share", "samples"))
        if len(lines) > _MOST:
            out.say(f"and {len(lines) - _MOST:,} more labels")
    if found["alphabet"]:
        out.say(f"{len(found['alphabet'])} characters: {found['alphabet']}")
        counted = [f"{shown(character)} {count:,}" for character, count in found["characters"].items()]
        out.say(f"  how often: {', '.join(counted[:_SHOWN])}{', ...' if len(counted) > _SHOWN else ''}")
        rows = [
            (shown(one["character"]), one["name"], f"{one['count']:,}", one["file"])
            for one in found["rarest"]
        ]
        out.table(rows, ("rarest", "", "times", "first in"))


def _labels(gathered: Gathered) -> list[tuple[int, str, int, int]]:
    """Number, name, points and samples of each label that occurs, or that was named."""
    if not gathered.labels:
        return []
    names = gathered.facts.classes
    unnamed = all(name == str(number) for number, name in enumerate(names))
    wanted = sorted(gathered.labels) if unnamed else range(len(names))
    return [(label, names[label], *gathered.labels.get(label, (0, 0))) for label in wanted]


def _refusal(recipe: Recipe) -> Callable[[Raw], str | None] | None:
    """What samples must fulfil for the network of a recipe, beyond what their format asks for."""
    if recipe.purpose == "transcribe":
        return _alignable(recipe)
    if recipe.purpose == "density":
        return _large_enough(recipe)
    return None


def _alignable(recipe: Recipe) -> Callable[[Raw], str | None]:
    """Whether a line has enough frames for its text, as CTC needs them: one a character, and one between equals."""
    # how many frames there are does not depend on channels and alphabet
    task: Any = tasks.find(recipe.task).task(recipe.config, Facts(2, 1, alphabet="a"))

    direction: Any = getattr(recipe.data, "direction", "")

    def refusal(raw: Raw) -> str | None:
        extent = raw.values.shape[:-1]
        if len(extent) != 2:
            return f"must have two axes, got {len(extent)}"
        frames = int(task.frames(torch.tensor([extent]))[0])
        needed = frames_needed(visual(raw.target, direction) if direction else raw.target)
        if frames >= needed:
            return None
        return (
            f"cannot be aligned: its {len(raw.target)} characters need {needed} frames (one each, and one between "
            f"equal neighbours), the network makes {frames} of {extent[1]} columns; use smaller blocks"
        )

    return refusal


def _large_enough(recipe: Recipe) -> Callable[[Raw], str | None]:
    """Whether an image holds a patch."""
    patch = recipe.config.patch

    def refusal(raw: Raw) -> str | None:
        extent = raw.values.shape[:-1]
        if min(extent) >= patch:
            return None
        return f"must be at least as large as a patch, {patch}, got {' x '.join(map(str, extent))}"

    return refusal
