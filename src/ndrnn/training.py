"""Training by Lightning: the options and the schedule that tasks share, and a ``fit`` that shows and records."""

from __future__ import annotations

import logging
import signal
import threading
import time
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from math import cos, pi
from typing import Any

import torch
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn
from torch import Tensor, nn

try:
    from lightning import Callback, LightningDataModule, LightningModule, Trainer
except ModuleNotFoundError as error:
    raise ImportError("training needs Lightning: pip install 'ndrnn[train]'") from error


@dataclass(frozen=True)
class Options:
    """How long, how fast and in what portions a network is trained, by Adam."""

    epochs: int = 40
    """Passes over the training data."""
    minutes: float | None = None
    """Train for this long instead, however many passes that makes."""
    batch_size: int = 32
    """Samples per step."""
    learning_rate: float = 1e-2
    """At its highest."""
    clip: float = 1.0
    """Longest gradient, as the norm over all weights."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be above 0, got {getattr(self, name)}")
        if self.minutes is not None and not self.minutes > 0:
            raise ValueError(f"minutes must be above 0, got {self.minutes}")

    def rate(self, progress: float) -> float:
        """Share of the learning rate after this share of the training: a rise over 5 %, then half a cosine to 0."""
        rise = 0.05
        if progress < rise:
            return progress / rise
        return 0.5 + 0.5 * cos(pi * min(1.0, (progress - rise) / (1 - rise)))


class Task(LightningModule):
    """A network and its options; the schedule follows the steps, or the clock where ``minutes`` are given.

    What a task adds: ``training_step``, which returns the loss, and ``validation_step``, which logs errors.
    """

    def __init__(self, model: nn.Module, options: Options) -> None:
        super().__init__()
        self.model = model
        self.options = options
        self._started: float | None = None

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        if self._started is None:
            return 0.0
        if self.options.minutes is not None:
            return min(1.0, (time.monotonic() - self._started) / (60 * self.options.minutes))
        return self.trainer.global_step / self.trainer.estimated_stepping_batches

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.Adam(self.parameters(), lr=self.options.learning_rate)
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: self.options.rate(self.progress))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self._started = time.monotonic()

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        if self.progress >= 1:
            self.trainer.should_stop = True


@dataclass(frozen=True)
class Mark:
    """Where a training stood at one of its checks."""

    progress: float
    seconds: float
    epochs: float
    loss: float
    """Mean over the steps since the check before."""
    errors: dict[str, float]
    """What the task logged about held-out data."""


@dataclass
class Record(Callback):
    """What a training was like; a callback that keeps count."""

    marks: list[Mark] = field(default_factory=list)
    interrupted: bool = False
    seconds: float = 0.0
    """From the first step to the last, checks included."""
    points: int = 0
    """Lattice points learned from, each as often as it was seen."""
    step_seconds: float = 0.0
    """Spent in training steps alone."""
    _losses: list[Tensor] = field(default_factory=list)
    _started: float = 0.0
    _step_started: float = 0.0

    @property
    def points_per_second(self) -> float:
        return self.points / self.step_seconds if self.step_seconds else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._started = time.monotonic()

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self._step_started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(outputs["loss"].detach())
        self.points += batch[0][..., 0].numel()
        self.step_seconds += time.monotonic() - self._step_started
        if self.interrupted:
            trainer.should_stop = True

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not isinstance(pl_module, Task) or not self._losses:
            return
        metrics = {
            name: float(value) for name, value in trainer.callback_metrics.items() if name.endswith("error")
        }
        loss = float(torch.stack(self._losses).mean())
        self._losses.clear()
        epochs = trainer.global_step / max(1, trainer.num_training_batches)
        self.marks.append(Mark(pl_module.progress, time.monotonic() - self._started, epochs, loss, metrics))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.seconds = time.monotonic() - self._started


class Show(Callback):
    """A progress bar on a terminal; elsewhere about twenty lines in all."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.console = Console(highlight=False)
        self.bar: Progress | None = None
        self._printed = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.console.is_terminal:
            columns = (
                BarColumn(),
                TaskProgressColumn(),
                TimeRemainingColumn(),
                TextColumn("{task.description}"),
            )
            self.bar = Progress(*columns, console=self.console)
            self.bar.add_task("", total=1.0)
            self.bar.start()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.bar is not None and isinstance(pl_module, Task):
            self.bar.update(self.bar.task_ids[0], completed=pl_module.progress)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self.record.marks:
            return
        mark = self.record.marks[-1]
        errors = "  ".join(
            f"{name.replace('_', ' ')} {100 * error:.1f} %" for name, error in mark.errors.items()
        )
        text = f"loss {mark.loss:.3f}  {errors}"
        if self.bar is not None:
            self.bar.update(self.bar.task_ids[0], description=text)
        elif mark.progress >= self._printed + 0.05 or mark.progress == 1:
            self._printed = mark.progress
            print(f"{100 * mark.progress:4.0f} %  {mark.seconds:4.0f} s  {text}", flush=True)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.stop()
            self.bar = None


def fit(task: Task, data: LightningDataModule, *, steps_between_checks: int | None = None) -> Record:
    """Train a task; the first Ctrl-C ends the training after its step, a second one the program.

    The held-out data of ``data`` is looked at after every pass, or after so many steps where a pass is longer.
    """
    record = Record()
    passes = len(data.train_dataloader())
    trainer = Trainer(
        max_epochs=-1 if task.options.minutes is not None else task.options.epochs,
        val_check_interval=min(passes, steps_between_checks or passes),
        gradient_clip_val=task.options.clip,
        callbacks=[record, Show(record)],
        devices=1,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
    )
    with ExitStack() as stack:
        stack.enter_context(_quiet_lightning())
        stack.enter_context(_interruptible(record))
        trainer.fit(task, datamodule=data)
    return record


@contextmanager
def _interruptible(record: Record) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread hears of Ctrl-C
        return
    before = signal.getsignal(signal.SIGINT)

    def note(number: int, frame: object) -> None:
        record.interrupted = True
        signal.signal(signal.SIGINT, before)

    signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)


@contextmanager
def _quiet_lightning() -> Iterator[None]:
    """Without Lightning's notes on the machine, and its advice to load data that is in memory by other processes."""
    logger = logging.getLogger("lightning.pytorch")
    level = logger.level
    logger.setLevel(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*does not have many workers.*")
            yield
    finally:
        logger.setLevel(level)
