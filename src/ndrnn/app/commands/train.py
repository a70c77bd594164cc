"""``ndrnn train``: train by a recipe, into a folder that holds all there is to know of the run."""

from __future__ import annotations

from math import isfinite
from pathlib import Path
from typing import Any

from torch import distributed

from ...data import BadFile
from ...learn import BEST, LAST, DivergedError, Record, standing_of
from ..collect import collect, tell
from ..logs import FILE as METRICS
from ..options import Train
from ..output import Output
from ..recipe import FILE, Recipe
from ..training import LAST_WEIGHTS, REPORT, check_data, finish, finished, is_first, train_in


def run(recipe: Recipe, train: Train) -> int:
    """Run the command; returns the exit status."""
    folder = train.out
    if recipe.source is not None and recipe.source.is_dir() and folder == Train.out:
        folder = recipe.source  # a run's own folder, to go on with
    out = Output(train.json)
    if is_first():
        _check_room(folder, train)
    state = standing_of(folder) if train.resume else None
    if train.resume:
        check_data(folder, recipe)
    with out.others():
        if state is not None and (why := finished(folder, recipe, state)):
            out.say(f"{folder} is finished: {why}")
            status, result = 0, {"folder": str(folder), "finished": why}
        else:
            if state is not None:
                out.say(f"goes on with {folder} after {state.passes:g} passes")
            status, result = _train(recipe, train, folder, out)
    out.result(result)
    return status


def _check_room(folder: Path, train: Train) -> None:
    """See that a run can be in a folder.

    Raises:
        ValueError: there are other files in it, or a run that is neither gone on with nor given up.
    """
    if train.force and train.resume:
        raise ValueError("--resume goes on with a run, --force begins anew: only one of them can be given")
    holds_run = (folder / FILE).exists()
    if train.force:
        return
    if holds_run and not train.resume:
        raise ValueError(
            f"out: {folder} holds a run; --resume goes on with it, --force begins anew in its place, another --out "
            f"begins a new one"
        )
    if not holds_run and folder.is_dir() and any(folder.iterdir()):
        raise ValueError(
            f"out: {folder} holds files that are none of a run; name another --out, or add the run to them by --force"
        )


def _train(recipe: Recipe, train: Train, folder: Path, out: Output) -> tuple[int, dict[str, Any]]:
    gathered = collect(recipe, out, strict=train.strict, seed=recipe.config.training.seed)
    tell(gathered, out)
    for split in ("train", "validation"):
        if split not in gathered.splits:
            raise BadFile(recipe.data.path, f"has no samples for {split}")
    try:
        task, record = train_in(
            folder,
            recipe,
            gathered,
            out,
            resume=train.resume,
            anew=train.force,
            devices=train.devices,
            num_nodes=train.nodes,
            precision=train.precision,
        )
    except DivergedError as error:
        out.warn(f"error: {error}")
        return 1, {"folder": str(folder), "error": str(error)}
    first = task.trainer.is_global_zero
    _part()
    if not first:
        return 0, {}
    calibration = finish(folder, recipe, task, gathered, record, out)
    status, result = _told(record, folder, out)
    return status, result if calibration is None else {**result, "temperature": calibration.temperature}


def _told(record: Record, folder: Path, out: Output) -> tuple[int, dict[str, Any]]:
    last = record.marks[-1].metrics if record.marks else {}
    if record.interrupted:
        out.say(f"interrupted after {record.seconds:.0f} s; ndrnn train {folder} --resume goes on")
    elif record.stale:
        out.say(f"ended after {record.stale} checks without a better one, as training.patience says")
    for name in (BEST, LAST_WEIGHTS, METRICS, REPORT):
        if (folder / name).exists():
            out.say(f"  {folder / name}")
    result = {
        "folder": str(folder),
        "interrupted": record.interrupted,
        "resumable": (folder / LAST).exists(),
        "seconds": round(record.seconds, 3),
        "points_per_second": round(record.points_per_second, 1),
        "loss": record.marks[-1].loss if record.marks else None,
        "metrics": last,
    }
    wrong = [name for name, value in last.items() if "/" not in name and not isfinite(value)]
    if wrong:
        out.warn(f"error: {', '.join(wrong)} of the last check are no finite numbers")
    return (1 if record.interrupted or wrong else 0), result


def _part() -> None:
    """Ends the talk of several processes: whoever leaves while another still talks to it takes that one down."""
    if distributed.is_available() and distributed.is_initialized():
        distributed.barrier()
        distributed.destroy_process_group()
