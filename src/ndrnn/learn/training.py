"""Training by Lightning: ``fit``, which shows, records and resumes, and ``evaluate``."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

from lightning import LightningDataModule, Trainer

from ..saving import models
from ..saving.atomic import sweep
from .callbacks.averaging import Average
from .callbacks.patience import Patience
from .callbacks.record import Record, Show
from .callbacks.survival import LAST, AtomicCheckpoints, DivergedError, Guard, Keep, Stop
from .task import Task
from .transfer import Transfer


def fit(
    task: Task,
    data: LightningDataModule,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
    start: Transfer | None = None,
    logger: Any = False,
    show: bool = True,
    callbacks: Sequence[Any] = (),
    **trainer_options: Any,
) -> Record:
    """Train a task; SIGINT (Ctrl-C) and SIGTERM end the training after its step, a second Ctrl-C the program.

    Args:
        task: trained in place.
        data: its training loader should take its batches from a :class:`BatchOrder`, and its validation loader gives
            held-out data, looked at ``task.options.steps_between_checks`` steps apart.
        folder: gets ``last.ckpt``, the state of the training, and ``best.safetensors``, the task at its best; both
            after each check. Without one nothing is written.
        resume: go on from ``last.ckpt`` of ``folder`` if there is one; the weights then become those of a training
            that was never interrupted. Without that file the training starts from the beginning. More ``epochs`` or
            ``minutes`` than it began with prolong a training: the learning rate is from there on that of the longer one.
        start: weights of another training that this one begins with, see :func:`ndrnn.learn.transfer.taken_over`; they
            replace what the task makes of the data before its first step, such as the moments of the features. A
            training that is resumed has its own.
        logger: one of Lightning's loggers, or several.
        show: whether to show the progress.
        callbacks: further callbacks of Lightning.
        **trainer_options: for :class:`lightning.Trainer`, such as ``devices``, ``num_nodes``, ``strategy`` and
            ``precision``.

    A check whose metric is NaN or infinite counts as the worst, with a warning.

    Raises:
        DivergedError: a loss or gradient is NaN or infinite; the message says what may be behind it.
        ValueError: ``folder`` holds a training with other settings, or one that is damaged; or gradients should be
            accumulated.
        TypeError: ``folder`` is given and the task is of a class that is not registered.
    """
    if trainer_options.get("accumulate_grad_batches", 1) != 1:
        raise ValueError(
            "accumulate_grad_batches must be 1, since the order of the samples is counted in steps, got "
            f"{trainer_options['accumulate_grad_batches']}; a larger batch_size gives the same gradient"
        )
    record = Record()
    average = Average(task.options.average) if task.options.average else None
    own: list[Any] = [*([average] if average else []), record, Guard(), Stop(record)]
    own.append(Patience(record, task.monitor))
    if show:
        own.append(Show(record))
    state = None
    if folder is not None:
        models.name_of(task)  # to hear of what cannot be saved before anything is learned
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        state = folder / LAST if resume and (folder / LAST).exists() else None
        own.append(Keep(folder, record, task.monitor, average))
    elif resume:
        raise ValueError("folder must be given to resume a training, got None")
    options: dict[str, Any] = {
        "devices": 1,
        "gradient_clip_val": task.options.clip,
        "max_epochs": -1,  # Stop ends the training
        "use_distributed_sampler": False,  # BatchOrder shares out
        **trainer_options,
    }
    plugins = options.pop("plugins", None) or ()
    with _quiet_lightning():
        trainer = Trainer(
            callbacks=[*own, *callbacks],
            plugins=[AtomicCheckpoints(), *plugins],
            logger=logger,
            enable_checkpointing=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            num_sanity_val_steps=0,
            **options,
        )
        if state is None:
            data.prepare_data()
            data.setup("fit")
            task.prepare(data.train_dataloader())
            if start is not None:
                start.apply(task.model)
        try:
            trainer.fit(task, datamodule=data, ckpt_path=state, weights_only=True)
        except (RuntimeError, EOFError, KeyError, UnpicklingError) as error:
            if state is not None and task._started is None and not isinstance(error, DivergedError):
                raise ValueError(f"{state}: cannot be resumed from ({error})") from error
            raise
    return record


def evaluate(task: Task, data: Any, part: str = "test") -> dict[str, float]:
    """The metrics of a task on data: the ``"test"`` or ``"validation"`` part of a data module, or all batches of a loader.

    Raises:
        ValueError: a data module is asked for another part.
    """
    with _quiet_lightning():
        trainer = Trainer(devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        if not isinstance(data, LightningDataModule):
            (metrics,) = trainer.test(task, dataloaders=data, verbose=False)
        elif part in ("test", "validation"):
            run = trainer.test if part == "test" else trainer.validate
            (metrics,) = run(task, datamodule=data, verbose=False)
        else:
            raise ValueError(f'part must be "test" or "validation", got {part!r}')
    return {name: float(value) for name, value in metrics.items()}


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's notes on the machine, and its advice to load data that is in memory by other processes."""
    loggers = [logging.getLogger(name) for name in ("lightning.pytorch", "lightning.fabric")]
    levels = [logger.level for logger in loggers]
    for logger in loggers:
        logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            for message in (
                ".*does not have many workers.*",
                ".*your dataloader is not resumable.*",
                ".*is smaller than the logging interval.*",
                ".*LeafSpec.*",  # of torch, within Lightning
                # the first step may be left out, since its gradients overflow by their scaler
                ".*lr_scheduler.step.* before .*optimizer.step.*",
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
