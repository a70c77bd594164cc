"""Weights averaged over the steps of a training: they are what is checked and saved (Polyak & Juditsky 1992)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from lightning import Callback, Trainer
from torch import Tensor


class Average(Callback):
    """Keeps the exponential moving average of a task's weights, and of moments that norms keep.

    While held-out data are looked at, and within :meth:`in_place`, the task has the averaged weights; at the end of the
    training it keeps them. A resumed training goes on with the average.

    Args:
        decay: share of the average that stays in each step; in the first steps less, (1 + t) / (10 + t), so that the
            first weights do not linger.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.steps = 0
        self.average: dict[str, Tensor] = {}
        self._own: dict[str, Tensor] | None = None

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        state = _state(pl_module)
        if not self.average:
            self.average = {name: value.clone() for name, value in state.items()}
        self.average = {name: value.to(state[name].device) for name, value in self.average.items()}

    @torch.no_grad()
    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps += 1
        stays = min(self.decay, (1 + self.steps) / (10 + self.steps))
        for name, value in _state(pl_module).items():
            self.average[name].lerp_(value, 1 - stays)

    def on_validation_start(self, trainer: Trainer, pl_module: Any) -> None:
        if trainer.state.fn == "fit":
            self._enter(pl_module)

    def on_validation_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._leave(pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._enter(pl_module)
        self._own = None

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._leave(pl_module)

    @contextmanager
    def in_place(self, task: Any) -> Iterator[None]:
        """The task with the averaged weights."""
        self._enter(task)
        try:
            yield
        finally:
            self._leave(task)

    @torch.no_grad()
    def _enter(self, task: Any) -> None:
        state = _state(task)
        self._own = {name: value.clone() for name, value in state.items()}
        for name, value in state.items():
            value.copy_(self.average[name])

    @torch.no_grad()
    def _leave(self, task: Any) -> None:
        if self._own is not None:
            for name, value in _state(task).items():
                value.copy_(self._own[name])
            self._own = None

    def state_dict(self) -> dict[str, Any]:
        return {"steps": self.steps, "average": self.average}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.steps, self.average = state_dict["steps"], dict(state_dict["average"])


def _state(task: Any) -> dict[str, Tensor]:
    """What is averaged: every number of the network that may change."""
    return {name: value for name, value in task.model.state_dict().items() if value.is_floating_point()}
