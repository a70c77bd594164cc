"""``ndrnn check``: read all data of a recipe and make its network before any training, and name every file that cannot be
used."""

from __future__ import annotations

from ...data import BadFile
from ...registry import tasks
from ..collect import collect, count, summary, tell
from ..options import Check
from ..output import Output
from ..recipe import Recipe
from ..trained import trainable


def run(recipe: Recipe, check: Check) -> int:
    """Run the command; returns the exit status."""
    out = Output(check.json)
    try:
        gathered = collect(recipe, out, strict=check.strict, seed=recipe.config.training.seed)
    except BadFile as fault:
        out.result({"faults": [{"file": fault.file, "reason": fault.reason}], "splits": {}, "remarks": []})
        raise
    tell(gathered, out)
    task = tasks.find(recipe.task).task(recipe.config, gathered.facts)  # if there is such a network
    weights = trainable(task.model)
    out.say(f"a network of {weights:,} weights")
    if not gathered.faults:
        out.say(f"all {count(gathered):,} samples can be used")
    out.result({**summary(gathered), "weights": weights})
    return 1 if gathered.faults else 0
