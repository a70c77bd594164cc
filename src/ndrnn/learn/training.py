"""Training by Lightning: the options and the schedule that tasks share, and ``fit``, which shows, records, and resumes."""

from __future__ import annotations

import logging
import time
import warnings
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from math import cos, isfinite, pi
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.batches import Facts
from ..data.sampler import BatchOrder, shuffled, step_seed
from ..lattice import inside
from ..nn.hierarchy import Hierarchy
from ..nn.init import balance
from ..saving import models as checkpoint
from ..saving.atomic import sweep
from ..saving.config import from_dict, to_dict

try:
    from lightning import LightningDataModule, LightningModule, Trainer

    from .callbacks.record import Mark, Record, Show
    from .callbacks.survival import BEST, LAST, AtomicCheckpoints, DivergedError, Guard, Keep, Stop
except ModuleNotFoundError as error:
    raise ImportError("training needs Lightning and rich: pip install 'ndrnn[train]'") from error

__all__ = [
    "BEST",
    "LAST",
    "BatchOrder",
    "DivergedError",
    "Mark",
    "Options",
    "Record",
    "Task",
    "evaluate",
    "fit",
    "shuffled",
]


@dataclass(frozen=True)
class Options:
    """How long, how fast and in what portions a network is trained, by Adam."""

    epochs: int = 40
    """Passes over the training data."""
    minutes: float | None = None
    """Train for this long instead, however many passes that makes."""
    batch_size: int = 32
    """Samples per step, in each process."""
    learning_rate: float = 1e-2
    """At its highest: it rises over the first 5 % of the training and falls to 0 along half a cosine."""
    clip: float = 1.0
    """Longest gradient, as the norm over all weights."""
    weight_decay: float = 0.0
    """Share of each weight that a step at the full learning rate of 1 would take away."""
    weight_noise: float = 0.0
    """Standard deviation of Gaussian noise on the weights, new in each step (Graves 2011)."""
    steps_between_checks: int | None = None
    """Steps from one look at held-out data, and one checkpoint, to the next; by default a pass."""
    seed: int = 0
    """Of first weights, order, augmentation and noise."""

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate", "clip", "minutes", "steps_between_checks"):
            value = getattr(self, name)
            if value is not None and not (value > 0 and isfinite(value)):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        for name in ("weight_decay", "weight_noise", "seed"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, got {getattr(self, name)}")

    def rate(self, progress: float) -> float:
        """Share of the learning rate after this share of the training."""
        rise = 0.05
        if progress < rise:
            return progress / rise
        return 0.5 + 0.5 * cos(pi * min(1.0, (progress - rise) / (1 - rise)))


class Task(LightningModule):
    """A network with what it is trained for: the base of all tasks, and of your own.

    A task of your own gives ``make_model``, ``loss`` and ``check``, and what a check gathers in ``results``; it logs
    nothing itself. To save it, register it: :func:`ndrnn.saving.models.register`.

    Args:
        settings: the task's configuration, a frozen dataclass with the field ``training``.
        facts: what has to be known of the data.
    """

    monitor: ClassVar[str]
    """The metric whose lowest value marks the best weights."""
    settings_class: ClassVar[type[Any]]
    """The dataclass of ``settings``."""
    settings: Any
    model: nn.Module

    def __init__(self, settings: Any, facts: Facts) -> None:
        super().__init__()
        if not isinstance(settings, self.settings_class):
            raise TypeError(f"settings must be {self.settings_class.__name__}, got {type(settings).__name__}")
        self.settings = settings
        self.facts = facts
        self.options: Options = settings.training
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.options.seed)
            self.model = self.make_model()
        self.batch: Any = None
        self._seconds_before = 0.0
        self._started: float | None = None
        self._clean: list[Tensor] = []

    # what a task gives

    def make_model(self) -> nn.Module:
        """The network, with fresh weights."""
        raise NotImplementedError

    def loss(self, batch: Any) -> Tensor:
        """The loss of a batch, a scalar."""
        raise NotImplementedError

    def check(self, batch: Any) -> None:
        """Take a batch of held-out data into account for :meth:`results`."""
        raise NotImplementedError

    def results(self) -> dict[str, Tensor | float]:
        """Metrics over all batches checked since the last call; shares of 1 unless named otherwise."""
        raise NotImplementedError

    def augmented(self, batch: Any) -> Any:
        """A batch as it is learned from; random numbers come from torch's global generator, seeded for each step."""
        return batch

    def prepare(self, batches: Iterable[Any]) -> None:
        """Look at training data before the first step; by default a model that has ``standardize(mean, std)``, as a
        :class:`ndrnn.nn.hierarchy.Hierarchy` does, hears of the moments (C,) of its features."""
        standardize = getattr(self.model, "standardize", None)
        if standardize is not None:
            standardize(*_moments(batches, self.facts.channels))
        if isinstance(self.model, Hierarchy) and getattr(self.settings.network, "balance", False):
            first = next(iter(batches))
            balance(self.model, first.x, first.sizes)

    # configuration, for ndrnn.saving.models

    def config(self) -> dict[str, Any]:
        """Settings and facts as what JSON can hold."""
        return {"settings": to_dict(self.settings), "facts": to_dict(self.facts)}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Task:
        """The task of a saved :meth:`config`."""
        settings = from_dict(cls.settings_class, config["settings"], "settings")
        return cls(settings, from_dict(Facts, config["facts"], "facts"))

    # Lightning's part

    @property
    def steps_per_pass(self) -> int:
        """Steps of one pass over the training data."""
        sampler = getattr(self.trainer.train_dataloader, "batch_sampler", None)
        return getattr(sampler, "steps_per_pass", None) or int(self.trainer.num_training_batches)

    @property
    def progress(self) -> float:
        """Share of the training that is done."""
        if self._started is None:
            return 0.0
        if self.options.minutes is not None:
            return min(1.0, self._seconds() / (60 * self.options.minutes))
        return min(1.0, self.trainer.global_step / (self.options.epochs * self.steps_per_pass))

    def configure_optimizers(self) -> Any:
        optimizer = torch.optim.AdamW(
            self.parameters(), lr=self.options.learning_rate, weight_decay=self.options.weight_decay
        )
        schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda _: self.options.rate(self.progress))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_train_start(self) -> None:
        self._started = time.monotonic()
        if self.progress >= 1:  # resumed after its end
            self.trainer.should_stop = True

    @torch.no_grad()
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.batch = batch
        torch.manual_seed(step_seed(self.options.seed, self.trainer.global_step, self.trainer.global_rank))
        if self.options.weight_noise:
            for weight in self.parameters():
                self._clean.append(weight.clone())
                weight.add_(torch.randn_like(weight), alpha=self.options.weight_noise)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        self.batch = self.augmented(batch)
        loss = self.loss(self.batch)
        # the mean since the check before, beside what the check says
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.x))
        return loss

    @torch.no_grad()
    def on_after_backward(self) -> None:
        for weight, clean in zip(self.parameters(), self._clean, strict=False):
            weight.copy_(clean)
        self._clean.clear()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.check(batch)

    def on_validation_epoch_end(self) -> None:
        self.log_dict({name: torch.as_tensor(value) for name, value in self.results().items()})

    def test_step(self, batch: Any, batch_idx: int) -> None:
        self.check(batch)

    def on_test_epoch_end(self) -> None:
        self.on_validation_epoch_end()

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["ndrnn"] = {"seconds": self._seconds(), **self.config()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["ndrnn"]
        for part, value in self.config().items():
            before = saved[part]
            if part == "settings":  # an option that is newer than the training had its default
                before = to_dict(from_dict(self.settings_class, before, part))
            _check_same(before, _as_saved(value), part)
        self._seconds_before = saved["seconds"]

    def share(self, count: Tensor) -> Tensor:
        """A count of what a mean is over, averaged over the processes: the divisor that makes the mean of their
        gradients the gradient of the mean over all their samples."""
        count = count.to(torch.get_default_dtype())
        if self._trainer is not None and self.trainer.world_size > 1 and self.trainer.training:
            count = self.trainer.strategy.reduce(count, reduce_op="mean")
        return count

    def _seconds(self) -> float:
        return self._seconds_before + (0.0 if self._started is None else time.monotonic() - self._started)


def fit(
    task: Task,
    data: LightningDataModule,
    folder: str | Path | None = None,
    *,
    resume: bool = False,
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
            that was never interrupted. Without that file the training starts from the beginning.
        logger: one of Lightning's loggers, or several.
        show: whether to show the progress.
        callbacks: further callbacks of Lightning.
        **trainer_options: for :class:`lightning.Trainer`, such as ``devices``, ``num_nodes``, ``strategy`` and
            ``precision``.

    Raises:
        DivergedError: a loss or gradient is NaN or infinite; the message says what may be behind it.
        ValueError: ``folder`` holds a training with other settings, or one that is damaged.
        TypeError: ``folder`` is given and the task is of a class that is not registered.
    """
    record = Record()
    own: list[Any] = [record, Guard(), Stop(record)]
    if show:
        own.append(Show(record))
    state = None
    if folder is not None:
        checkpoint.name_of(task)  # to hear of what cannot be saved before anything is learned
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        sweep(folder)
        state = folder / LAST if resume and (folder / LAST).exists() else None
        own.append(Keep(folder, record, task.monitor))
    elif resume:
        raise ValueError("folder must be given to resume a training, got None")
    options: dict[str, Any] = {
        "devices": 1,
        "gradient_clip_val": task.options.clip,
        "max_epochs": -1,  # Stop ends the training
        "use_distributed_sampler": False,  # BatchOrder shares out
        **trainer_options,
    }
    with _quiet_lightning():
        trainer = Trainer(
            callbacks=[*own, *callbacks],
            plugins=[AtomicCheckpoints()],
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
        try:
            trainer.fit(task, datamodule=data, ckpt_path=state, weights_only=True)
        except (RuntimeError, EOFError, KeyError, UnpicklingError) as error:
            if state is not None and task._started is None and not isinstance(error, DivergedError):
                raise ValueError(f"{state}: cannot be resumed from ({error})") from error
            raise
    return record


def evaluate(task: Task, data: LightningDataModule, part: str = "test") -> dict[str, float]:
    """The metrics of a task on held-out data: its ``"test"`` or ``"validation"`` part."""
    if part not in ("test", "validation"):
        raise ValueError(f'part must be "test" or "validation", got {part!r}')
    with _quiet_lightning():
        trainer = Trainer(devices=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
        run = trainer.test if part == "test" else trainer.validate
        (metrics,) = run(task, datamodule=data, verbose=False)
    return {name: float(value) for name, value in metrics.items()}


@torch.no_grad()
def _moments(batches: Iterable[Any], channels: int, most: int = 200) -> tuple[Tensor, Tensor]:
    """Mean and standard deviation of every feature over the points of at most so many batches."""
    count, total, squares = 0, torch.zeros(channels, dtype=torch.float64), torch.zeros(channels).double()
    for number, batch in enumerate(batches):
        if number == most:
            break
        x = batch.x if batch.sizes is None else batch.x[inside(batch.sizes, batch.x.shape[1:-1])]
        x = x.flatten(0, -2).double()
        count, total, squares = count + len(x), total + x.sum(0), squares + (x * x).sum(0)
    mean = total / max(1, count)
    variance = (squares / max(1, count) - mean * mean).clamp(min=0)
    # rounding leaves a constant feature some variance
    std = torch.where(variance > 1e-12 * (1 + mean * mean), variance, 0).sqrt()
    return mean, std


def _as_saved(value: Any) -> Any:
    """A configuration as it comes back from a file, with lists for tuples."""
    if isinstance(value, dict):
        return {key: _as_saved(entry) for key, entry in value.items()}
    return [_as_saved(entry) for entry in value] if isinstance(value, (list, tuple)) else value


def _check_same(saved: Any, given: Any, where: str) -> None:
    if isinstance(saved, dict) and isinstance(given, dict):
        for key in saved.keys() | given.keys():
            _check_same(saved.get(key), given.get(key), f"{where}.{key}")
    elif _as_saved(saved) != given:
        raise ValueError(f"{where} must be {saved!r} as when the training began, got {given!r}")


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
            ):
                warnings.filterwarnings("ignore", message=message)
            yield
    finally:
        for logger, level in zip(loggers, levels, strict=True):
            logger.setLevel(level)
