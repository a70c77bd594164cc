"""What a training was like: a record of its checks, and how they are shown while it runs."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor

from ...progress import Progress


@dataclass(frozen=True)
class Mark:
    """Where a training stood at one of its checks."""

    step: int
    progress: float
    """Share of the whole training."""
    seconds: float
    passes: float
    """Passes over the training data."""
    loss: float
    """Mean over the steps since the check before."""
    metrics: dict[str, float]
    """What the task says of held-out data."""


@dataclass(eq=False)
class Record(Callback):
    """What a training was like; a callback that keeps count. A resumed training goes on with the record."""

    marks: list[Mark] = field(default_factory=list)
    interrupted: bool = False
    """Whether a signal ended the training early."""
    stale: int = 0
    """Checks in a row without a better one that ended the training, by ``patience``; else 0."""
    seconds: float = 0.0
    """From the first step to the last, checks included."""
    points: int = 0
    """Lattice points learned from, each as often as it was seen, by this process."""
    step_seconds: float = 0.0
    """Spent in training steps alone."""
    _losses: list[Tensor] = field(default_factory=list)
    _before: float = 0.0
    _started: float = 0.0
    _step_started: float = 0.0

    @property
    def points_per_second(self) -> float:
        return self.points / self.step_seconds if self.step_seconds else 0.0

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._started = time.monotonic()

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self._step_started = time.monotonic()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._losses.append(outputs["loss"].detach())
        batch = pl_module.batch  # as it was learned from
        sizes = batch.sizes
        self.points += batch.x[..., 0].numel() if sizes is None else int(sizes.prod(1).sum())
        now = time.monotonic()
        self.step_seconds += now - self._step_started
        self.seconds = self._before + now - self._started

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not self._losses:
            return
        metrics = {
            name: float(value) for name, value in trainer.callback_metrics.items() if value.numel() == 1
        }
        metrics.pop("loss", None)
        # what each process has is its part of a mean over all samples
        loss = float(trainer.strategy.reduce(torch.stack(self._losses).mean(), reduce_op="mean"))
        self._losses.clear()
        self.seconds = self._before + time.monotonic() - self._started
        step = trainer.global_step
        progress, passes = pl_module.progress, step / pl_module.steps_per_pass
        self.marks.append(Mark(step, float(progress), self.seconds, float(passes), loss, metrics))

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.seconds = self._before + time.monotonic() - self._started

    def state_dict(self) -> dict[str, Any]:
        return {
            "marks": [asdict(mark) for mark in self.marks],
            "seconds": self.seconds,
            "points": self.points,
            "step_seconds": self.step_seconds,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.marks = [Mark(**mark) for mark in state_dict["marks"]]
        self.seconds = self._before = state_dict["seconds"]
        self.points = state_dict["points"]
        self.step_seconds = state_dict["step_seconds"]


class Show(Callback):
    """A progress bar on a terminal; elsewhere about twenty lines in all."""

    def __init__(self, record: Record) -> None:
        self.record = record
        self.progress: Progress | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.is_global_zero:
            self.progress = Progress("", 1.0, before=self.record.seconds)
            self.progress.__enter__()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if self.progress is not None and self.progress.is_bar:
            self.progress.update(float(pl_module.progress))

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        if not self.record.marks or self.progress is None:
            return
        mark = self.record.marks[-1]
        metrics = (
            f"{name.replace('_', ' ')} {shown(name, value)}"
            for name, value in mark.metrics.items()
            if "/" not in name
        )
        self.progress.update(mark.progress, f"loss {mark.loss:.3f}  {'  '.join(metrics)}")

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self.close()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self.close()

    def close(self) -> None:
        if self.progress is not None:
            self.progress.__exit__(None, None, None)
            self.progress = None


def shown(name: str, value: float) -> str:
    """A metric as people write it: a share in per cent, unless its name says that it is in bits."""
    return f"{value:.4f}" if "bits" in name else f"{100 * value:.2f} %"
