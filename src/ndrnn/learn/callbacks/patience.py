"""The end of a training that gets no better."""

from __future__ import annotations

from math import inf, isfinite
from typing import Any

from lightning import Callback, Trainer

from .record import Record


class Patience(Callback):
    """Counts the checks since the best one, and ends the training when they are as many as the task's ``patience``.

    It counts without one too: a training that goes on may get one. A check that is not finite is no better than any.
    """

    def __init__(self, record: Record, monitor: str) -> None:
        self.record = record
        self.monitor = monitor
        self.best = inf
        self.stale = 0
        """Checks since the best one."""

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        self._end_if_stale(trainer, pl_module)  # resumed after its end

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        marks = self.record.marks
        if not marks or marks[-1].step != trainer.global_step or self.monitor not in marks[-1].metrics:
            return
        value = marks[-1].metrics[self.monitor]
        if isfinite(value) and value < self.best:
            self.best, self.stale = value, 0
        else:
            self.stale += 1
        self._end_if_stale(trainer, pl_module)

    def _end_if_stale(self, trainer: Trainer, task: Any) -> None:
        patience = task.options.patience
        if patience is not None and self.stale >= patience:
            self.record.stale = self.stale
            trainer.should_stop = True

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "stale": self.stale}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.best, self.stale = float(state_dict["best"]), int(state_dict["stale"])
