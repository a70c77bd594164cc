"""A training in the folder of a run: what ``train`` and ``tune`` have in common."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from ..data.faults import BadFile
from ..data.pipeline.gather import Gathered
from ..data.pipeline.module import DataModule, in_order
from ..data.readers.place import locate
from ..data.readers.source import Reader
from ..learn import BEST, LAST, Record, Standing, Transfer, fit, taken_over
from ..learn.options import FREE
from ..learn.transfer import frozen
from ..registry import tasks
from ..saving import models
from ..saving.config import from_dict
from ..tasks.calibration import Calibration, calibrate
from . import run_report
from .logs import FILE as METRICS
from .logs import Table
from .output import Output
from .recipe import FILE, Recipe, read
from .trained import trainable, weights_of

LAST_WEIGHTS = "last.safetensors"
"""A run's weights at its end."""
REPORT = "report.html"
"""A run's page."""


def give_up(folder: Path) -> None:
    """Remove what belongs to a run, so that nothing of it is taken for a part of the one that comes."""
    for name in (FILE, LAST, BEST, LAST_WEIGHTS, METRICS, REPORT):
        (folder / name).unlink(missing_ok=True)


def train_in(
    folder: Path,
    recipe: Recipe,
    gathered: Gathered,
    out: Output,
    *,
    resume: bool = False,
    anew: bool = False,
    show: bool = True,
    callbacks: Sequence[Any] = (),
    **trainer_options: Any,
) -> tuple[Any, Record]:
    """Train by a recipe into a folder; gives the task and what the training was like.

    Args:
        folder: of the run, made if it is not there.
        recipe: what is trained; it is written to the folder.
        gathered: the samples.
        out: where it is told what is taken over from another run, and how large the network is.
        resume: go on with what is in the folder, or begin it.
        anew: give up the run that is in the folder.
        show: whether to show the progress.
        callbacks, trainer_options: for :func:`ndrnn.learn.fit`.

    Raises:
        DivergedError: a loss or gradient is NaN or infinite.
        ValueError: the folder holds a training with other settings, or nothing fits that should be taken over.
    """
    first = is_first()
    goes_on = resume and (folder / LAST).exists()
    task = tasks.find(recipe.task).task(recipe.config, gathered.facts)
    start = None
    if recipe.start and not goes_on:
        recipe, start = _started(recipe, task, out)
    fixed = sum(weight.numel() for weight in frozen(task.model, recipe.config.training.freeze).values())
    if first:
        if anew:  # not earlier: what this one begins with may be of that run
            give_up(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not (goes_on and (folder / FILE).exists()):
            # also where a run was ended before its first check, by another recipe perhaps
            recipe.save(folder)
    still = f", {fixed:,} of which stay as they are" if fixed else ""
    out.say(f"{trainable(task.model):,} weights{still}; the run is in {folder}")
    loggers: list[Any] = [Table(folder, resume)]
    if find_spec("tensorboard") is not None:
        from lightning.pytorch.loggers import TensorBoardLogger

        loggers.append(TensorBoardLogger(folder, name="", version="tensorboard"))
    options = recipe.config.training
    data = DataModule(
        gathered, recipe.purpose, options.batch_size, seed=options.seed, workers=options.workers
    )
    keep = [_KeepRecipe(folder, recipe)] if resume and first else []
    record = fit(
        task,
        data,
        folder,
        resume=resume,
        start=start,
        logger=loggers,
        show=show,
        callbacks=[*keep, *callbacks],
        **trainer_options,
    )
    return task, record


def finish(
    folder: Path, recipe: Recipe, task: Any, gathered: Gathered, record: Record, out: Output
) -> Calibration | None:
    """Write the last weights of a run, calibrate the best, which it gives what came of, and write the report."""
    models.save(task, folder / LAST_WEIGHTS)
    best = models.load(folder / BEST) if (folder / BEST).exists() else task
    calibration = None
    if not record.interrupted:  # who waits for its end does not wait for another pass
        try:
            calibration = calibrated(best, recipe, gathered, out)
        except (BadFile, MemoryError, RuntimeError) as error:
            out.warn(f"note: its confidences are not calibrated: {error}")
    if calibration is not None and (folder / BEST).exists():
        models.save(best, folder / BEST)
    run_report.write(folder / REPORT, recipe, best, gathered, record, calibration)
    return calibration


def calibrated(task: Any, recipe: Recipe, gathered: Gathered, out: Output) -> Calibration | None:
    """What comes of the calibration of a task by the held-out samples of its training; None if it gives no confidences."""
    if getattr(task, "reliability", None) is None:
        return None
    options = recipe.config.training
    samples = gathered.samples("validation")
    found = calibrate(task, in_order(samples, recipe.purpose, options.batch_size, options.workers))
    if found.reason:
        out.say(f"confidences are not calibrated: {found.reason}")
    else:
        out.say(
            f"confidences are calibrated by {found.predictions:,} predictions on held-out samples: "
            f"temperature {found.temperature:.3g}"
        )
        if found.at_limit:
            out.warn(
                "note: no temperature makes them true, this is the last that was tried: do not rely on them"
            )
    return found


def finished(folder: Path, recipe: Recipe, state: Standing) -> str | None:
    """Why the training in a folder would not go on by a recipe, if all is there that it should leave; or None."""
    if not all((folder / name).exists() for name in (LAST_WEIGHTS, REPORT)):
        return None
    try:
        began = from_dict(type(recipe.config), state.settings, "settings")
    except (ValueError, TypeError):
        return None  # that it has other settings is told where it would go on
    free = {name: getattr(recipe.config.training, name) for name in FREE}
    if replace(began, training=replace(began.training, **free)) != recipe.config:
        return None
    return state.over(recipe.config.training)


def check_data(folder: Path, recipe: Recipe) -> None:
    """See that a training in a folder would go on with the data that it began with; they may have been moved.

    Raises:
        ValueError: they are others, or are read in another way.
    """
    if not all((folder / name).exists() for name in (FILE, LAST)):
        return
    began, own = read(folder).data, recipe.data
    placed = replace(own, path=began.path, root=began.root, memory=began.memory)
    if placed != began or not _same_place(began, own):
        raise ValueError(
            f"data must be those with which the training began, as {folder / FILE} says: {began}, got {own}; "
            f"--from begins a new run with its weights"
        )


def _same_place(began: Reader, own: Reader) -> bool:
    if (began.path, began.root) == (own.path, own.root):
        return True
    try:
        before = locate(began.path, began.root)
    except FileNotFoundError:
        return True  # moved
    return before.samefile(locate(own.path, own.root))


def is_first() -> bool:
    """Whether this is the first of several processes; Lightning and SLURM start the others with the same words."""
    variables = ("RANK", "LOCAL_RANK", "NODE_RANK", "SLURM_PROCID")
    return all(os.environ.get(variable, "0") == "0" for variable in variables)


def _started(recipe: Recipe, task: Any, out: Output) -> tuple[Recipe, Transfer]:
    """The weights that a recipe says to begin with, and the recipe with the whole path of them."""
    file = weights_of(Path(recipe.start))
    taken = taken_over(models.load(file), task)
    out.say(f"begins with the weights of {file}: {taken.told()[0]}")
    for line in taken.told()[1:]:
        out.warn(f"note: {line}")
    place = Path(recipe.start)
    return replace(recipe, start=str(place.resolve()) if place.exists() else recipe.start), taken


class _KeepRecipe(Callback):
    """Writes the recipe of a run that goes on, once its state has been found to fit, if it says something else than the one that
    is there, such as more passes."""

    def __init__(self, folder: Path, recipe: Recipe) -> None:
        self.folder = folder
        self.recipe = recipe

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        kept = read(self.folder)
        own = self.recipe
        if (kept.config, kept.data) != (own.config, own.data):
            replace(kept, config=own.config, data=own.data, expected=own.expected).save(self.folder)
