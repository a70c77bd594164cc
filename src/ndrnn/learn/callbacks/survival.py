"""What lets a training end at any moment without a loss: checkpoints, signals, and a stop before weights are spoilt."""

from __future__ import annotations

import os
import signal
import threading
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from math import inf, isfinite
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning import Callback, Trainer
from lightning.pytorch.plugins.io import TorchCheckpointIO
from torch import Tensor, nn

from ...inspect.diagnose import diagnose
from ...nn.layers import ScanLayer
from ...saving import models as checkpoint
from ...saving.atomic import replacing
from .averaging import Average
from .record import Record

LAST = "last.ckpt"
"""File of the training state: Lightning's, read with torch's restricted loader that runs no code."""
BEST = checkpoint.RUN_FILE
"""File of the task whose held-out data had the lowest value of its monitor so far."""


_LARGEST_LOSS = 2.0**40
"""States saturate where they would be infinite, so that a loss stays finite that tells of nothing any more."""


class DivergedError(RuntimeError):
    """A loss or gradient has become NaN, infinite, or larger than any that means something; the weights are still those of the step before."""


class AtomicCheckpoints(TorchCheckpointIO):
    """Lightning's checkpoints, written straight to a temporary file that then takes the place of the old one."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | os.PathLike[str], storage_options: Any = None
    ) -> None:
        with replacing(Path(path)) as temporary:
            torch.save(checkpoint, temporary)


class Keep(Callback):
    """After each check writes the training state, and the task itself, with averaged weights if there are some, when it
    is the best so far."""

    def __init__(self, folder: Path, record: Record, monitor: str, average: Average | None = None) -> None:
        self.folder = folder
        self.record = record
        self.monitor = monitor
        self.average = average
        self.best: float | None = None

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        marks = self.record.marks
        if marks and self.monitor in marks[-1].metrics:
            value = marks[-1].metrics[self.monitor]
            if not isfinite(value):
                warn_of(pl_module, self.monitor, value, marks[-1].step)
                value = inf
            if marks[-1].step == trainer.global_step and (self.best is None or value < self.best):
                self.best = value
                if trainer.is_global_zero:
                    with self.average.in_place(pl_module) if self.average else nullcontext():
                        checkpoint.save(pl_module, self.folder / BEST)
        trainer.save_checkpoint(self.folder / LAST)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        best = state_dict["best"]
        self.best = inf if best is not None and not isfinite(best) else best


def warn_of(task: Any, monitor: str, value: float, step: int) -> None:
    """Say that a check is not finite, and on which samples."""
    named = f", on {', '.join(task.overflowed[:3])}" if task.overflowed else ""
    warnings.warn(
        f"{monitor} is {value} at step {step}{named}: this check counts as the worst",
        RuntimeWarning,
        stacklevel=2,
    )


class Stop(Callback):
    """Ends the training after its step on SIGINT or SIGTERM, or when it is done; a second SIGINT ends the program.

    Of several processes all stop at the same step, whichever was told.
    """

    def __init__(self, record: Record) -> None:
        self.record = record
        self._before: dict[int, Any] = {}

    def on_train_start(self, trainer: Trainer, pl_module: Any) -> None:
        # not earlier: Lightning's own handler, which ends the program, must be there already
        if threading.current_thread() is threading.main_thread():  # no other hears of signals
            for number in (signal.SIGINT, signal.SIGTERM):
                self._before[number] = signal.signal(number, self._note)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        done, interrupted = pl_module.progress >= 1, self.record.interrupted
        if trainer.world_size > 1:
            done = trainer.strategy.reduce_boolean_decision(done, all=False)
            interrupted = trainer.strategy.reduce_boolean_decision(interrupted, all=False)
            self.record.interrupted = interrupted
        if done or interrupted:
            trainer.should_stop = True

    def on_train_end(self, trainer: Trainer, pl_module: Any) -> None:
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: Any, exception: BaseException) -> None:
        self._give_back()

    def _give_back(self) -> None:
        while self._before:
            signal.signal(*self._before.popitem())

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.record.interrupted = True
        if number == signal.SIGINT:
            signal.signal(number, self._before.get(number, signal.SIG_DFL))


class Guard(Callback):
    """Stops a training at the first loss or gradient that is NaN or infinite, before it reaches the weights; or at a
    loss that is beyond all meaning.

    What a scaler of gradients makes infinite by its factor does not count.
    """

    def on_before_backward(self, trainer: Trainer, pl_module: Any, loss: Tensor) -> None:
        # what comes here is multiplied by a scaler of gradients, and may overflow by that alone
        loss = loss.detach() if pl_module.last_loss is None else pl_module.last_loss
        if not loss.abs() <= _LARGEST_LOSS:
            pl_module.on_after_backward()  # weights without noise
            raise DivergedError(f"the loss is {float(loss)} {_where(trainer)}. {diagnosis(pl_module)}")

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: Any, optimizer: Any) -> None:
        bad = [
            name
            for name, weight in pl_module.named_parameters()
            if weight.grad is not None and not torch.isfinite(weight.grad).all()
        ]
        if bad and not _scaled_up(trainer):
            raise DivergedError(
                f"the gradient of {', '.join(bad[:3])}{' and others' if len(bad) > 3 else ''} is NaN or infinite "
                f"{_where(trainer)}. {diagnosis(pl_module)}"
            )


def diagnosis(task: Any) -> str:
    """What may be behind a divergence: bad inputs, large weights, and what :func:`ndrnn.diagnose` says of the layers."""
    name, largest = _largest(dict(task.model.named_parameters()))
    findings = [f"The largest weight is {largest:.3g}, in {name}"]
    batch = getattr(task, "batch", None)
    if batch is not None:
        bad = (~torch.isfinite(batch.x)).flatten(1).any(1).nonzero().flatten().tolist()
        if bad:
            names = [batch.names[index] if batch.names else f"sample {index} of the batch" for index in bad]
            findings.insert(0, f"The input itself is NaN or infinite in {', '.join(names[:3])}")
        else:
            low, high = float(batch.x.min()), float(batch.x.max())
            findings.insert(0, f"The inputs lie in [{low:.3g}, {high:.3g}]")
            findings += _layers(task.model, batch)
    noise = ", weight_noise" if task.options.weight_noise else ""
    findings.append(f"A lower learning_rate{noise} or clip may help")
    return ". ".join(findings) + "."


def _layers(model: nn.Module, batch: Any) -> list[str]:
    """What is wrong with each recurrent layer on the first sample of a batch that has points."""
    seen: dict[str, tuple[Any, ...]] = {}

    def watch(name: str) -> Any:
        def note(layer: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            seen[name] = (layer, args[0], kwargs.get("sizes"))

        return note

    scans = {name: layer for name, layer in model.named_modules() if isinstance(layer, ScanLayer)}
    hooks = [layer.register_forward_pre_hook(watch(name), with_kwargs=True) for name, layer in scans.items()]
    try:
        with torch.no_grad():
            model(batch.x) if batch.sizes is None else model(batch.x, batch.sizes)
        reports = {
            name: diagnose(layer, x[:1], None if sizes is None else sizes[:1])
            for name, (layer, x, sizes) in seen.items()
        }
    except (RuntimeError, ValueError, TypeError):
        return []  # a diagnosis must not hide what it is about
    finally:
        for hook in hooks:
            hook.remove()
    return [
        f"Layer {name}: states reach {max(part.largest_state for part in report.directions):.3g}"
        + "".join(f"; {warning.rstrip('.')}" for warning in report.warnings)
        for name, report in reports.items()
    ]


def _largest(weights: Mapping[str, Tensor]) -> tuple[str, float]:
    sizes = {name: float(weight.detach().abs().max()) for name, weight in weights.items() if weight.numel()}
    name = max(sizes, key=lambda key: sizes[key] if sizes[key] == sizes[key] else torch.inf)
    return name, sizes[name]


def _scaled_up(trainer: Trainer) -> bool:
    """Whether a scaler of gradients (mixed precision) multiplies them by more than 1: an overflow is then its business,
    which leaves out the step and halves its factor, until the gradients are not finite by themselves."""
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    return scaler is not None and scaler.is_enabled() and scaler.get_scale() > 1


def _where(trainer: Trainer) -> str:
    return f"at step {trainer.global_step}"
