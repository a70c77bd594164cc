"""``ndrnn check``: read all data of a recipe before any training, and name every file that cannot be used."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...data import BadFile
from ..collect import collect, count, summary, tell
from ..output import Output
from ..recipe import parse


@dataclass(frozen=True)
class Check:
    """Read all data and name every file that cannot be used, and why; exit status 1 if there is one."""

    strict: bool = False
    """Stop at the first file that cannot be used."""
    json: bool = False
    """Print one JSON object."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    recipe, check = parse(argv, Check, "ndrnn check")
    out = Output(check.json)
    try:
        gathered = collect(recipe, out, strict=check.strict, seed=recipe.config.training.seed)
    except BadFile as fault:
        out.result({"faults": [{"file": fault.file, "reason": fault.reason}], "splits": {}, "remarks": []})
        raise
    tell(gathered, out)
    if not gathered.faults:
        out.say(f"all {count(gathered):,} samples can be used")
    out.result(summary(gathered))
    return 1 if gathered.faults else 0
