"""``ndrnn train``: train by a recipe, into a folder that holds all there is to know of the run."""

from __future__ import annotations

import os
from importlib.util import find_spec
from math import isfinite
from pathlib import Path
from typing import Any

from torch import distributed

from ...data import BadFile
from ...data.pipeline.module import DataModule
from ...learn import BEST, LAST, DivergedError, Record, fit
from ...registry import tasks
from ...saving import models as checkpoint
from .. import run_report
from ..collect import collect, tell
from ..logs import FILE as METRICS
from ..logs import Table
from ..options import Train
from ..output import Output
from ..recipe import FILE, Recipe
from ..trained import trainable

LAST_WEIGHTS = "last.safetensors"
"""A run's weights at its end."""
REPORT = "report.html"
"""A run's page."""


def run(recipe: Recipe, train: Train) -> int:
    """Run the command; returns the exit status."""
    folder = train.out
    if recipe.source is not None and recipe.source.is_dir() and folder == Train.out:
        folder = recipe.source  # a run's own folder, to go on with
    out = Output(train.json)
    if _is_first():
        _check_room(folder, train)
    with out.others():
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
    options = recipe.config.training
    gathered = collect(recipe, out, strict=train.strict, seed=options.seed)
    tell(gathered, out)
    for split in ("train", "validation"):
        if split not in gathered.splits:
            raise BadFile(recipe.data.path, f"has no samples for {split}")
    if _is_first():
        folder.mkdir(parents=True, exist_ok=True)
        if train.force:  # of a run that is given up nothing may be taken for a part of the new one
            for name in (FILE, LAST, BEST, LAST_WEIGHTS, METRICS, REPORT):
                (folder / name).unlink(missing_ok=True)
        if not (folder / FILE).exists():  # the recipe of a run that goes on is that with which it began
            recipe.save(folder)
    task = tasks.find(recipe.task).task(recipe.config, gathered.facts)
    out.say(f"{trainable(task.model):,} weights; the run is in {folder}")
    data = DataModule(gathered, recipe.purpose, options.batch_size, seed=options.seed)
    loggers: list[Any] = [Table(folder, train.resume)]
    if find_spec("tensorboard") is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    try:
        record = fit(
            task,
            data,
            folder,
            resume=train.resume,
            logger=loggers,
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
    checkpoint.save(task, folder / LAST_WEIGHTS)
    best = checkpoint.load(folder / BEST) if (folder / BEST).exists() else task
    run_report.write(folder / REPORT, recipe, best, gathered, record)
    return _finish(record, folder, out)


def _finish(record: Record, folder: Path, out: Output) -> tuple[int, dict[str, Any]]:
    last = record.marks[-1].metrics if record.marks else {}
    if record.interrupted:
        out.say(f"interrupted after {record.seconds:.0f} s; ndrnn train {folder} --resume goes on")
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


def _is_first() -> bool:
    """Whether this is the first of several processes; Lightning and SLURM start the others with the same words."""
    variables = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(variable, "0") == "0" for variable in variables)
