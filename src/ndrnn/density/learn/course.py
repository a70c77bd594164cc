"""The course of a RIDE's training: its state, its steps, and the looks at the validation images.

Every random number follows from the seed and the number of the step, so that a training that goes on from its
checkpoint makes the same steps, to the last bit, as one that was never interrupted.
"""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from math import inf, isfinite, log
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...progress import Progress
from ..mixture.fitting import FitReport
from ..ride.model import RideModel
from .keeping import Keeper, interruptible
from .patches import PatchSource, augmented
from .schedule import Modern, Schedule, Stage

_PASS_PIXELS = 1 << 20
_TUNE_CHUNK = 20


@dataclass(frozen=True)
class Look:
    """How a training stood; losses are mean negative log-densities in nats per pixel (all channels of it)."""

    stage: int
    step: int
    """Steps made in this stage."""
    train_loss: float
    """Mean over the steps since the look before."""
    val_loss: float | None


@dataclass
class RideReport:
    """What a training did."""

    steps: int
    """In all stages together."""
    seconds: float
    """Of training, those before an interruption included."""
    best_loss: float
    """Of the weights that were kept, in nats per pixel: on the validation images, or else over the last steps."""
    reason: str
    """Why it stopped: "finished", "patience" or "interrupted"."""
    history: list[Look] = field(default_factory=list)


def step_seed(*parts: int) -> int:
    """One number for generators from several, by the mixing step of splitmix64."""
    value = 0
    for part in parts:
        value = (value + part + 0x9E3779B97F4A7C15) & (2**64 - 1)
        value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & (2**64 - 1)
        value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & (2**64 - 1)
        value ^= value >> 31
    return value >> 1


def patch_size(ride: RideModel, data: PatchSource, stage: Stage) -> tuple[int, int]:
    if ride.pad and data.equal_size is not None:
        return data.equal_size  # a model of patches learns whole ones, borders included
    return stage.size, stage.size


class Course:
    """The state of a training, and its steps."""

    def __init__(
        self,
        ride: RideModel,
        data: PatchSource,
        val: PatchSource | None,
        schedule: Schedule,
        only_top: bool,
        seed: int,
    ) -> None:
        self.ride, self.data, self.val = ride, data, val
        self.schedule, self.seed = schedule, seed
        self.stages = schedule.stages()
        self.lengths = [self._length(stage) for stage in self.stages]
        frozen = ride.layers[:-1].parameters() if only_top else ()
        skip = {id(p) for p in frozen}
        self.trained: list[Tensor] = [p for p in ride.parameters() if p.requires_grad and id(p) not in skip]
        self.stage, self.step, self.tuned = 0, 0, False
        self.optimizer: torch.optim.Optimizer | None = None
        self.average: list[Tensor] | None = None
        self.tuning: dict[str, Tensor] | None = None
        self.loss_sum, self.loss_count = 0.0, 0
        self.best_loss, self.stale = inf, 0
        self.best: dict[str, Tensor] | None = None
        self.history: list[Look] = []
        self.seconds = 0.0
        self.reason = ""
        self.fingerprint = {
            "model": ride.config(),
            "schedule": type(schedule).__name__,
            "options": asdict(schedule),
            "seed": seed,
            "only_top": only_top,
            "images": data.description,
            "val_images": None if val is None else val.description,
        }

    def _length(self, stage: Stage) -> int:
        if stage.steps is not None:
            return stage.steps
        tiles = self.data.num_tiles(*patch_size(self.ride, self.data, stage))
        if tiles < stage.batch_size:
            raise ValueError(
                f"images must give at least one batch of {stage.batch_size} patches of {stage.size} x {stage.size}, "
                f"got {tiles}"
            )
        return stage.epochs * (tiles // stage.batch_size)

    # -- before the first step

    @torch.no_grad()
    def prepare(self) -> None:
        """Fit the whitening, and start the MCGSM from the data if it has not been trained."""
        ride = self.ride
        generator = torch.Generator().manual_seed(step_seed(self.seed, 1))
        if not bool(ride.whitening.fitted):
            size = patch_size(ride, self.data, self.stages[0])
            rows, columns = ride.neighborhood.grid(*ride.canvas(self._cut(1, size, generator)[0]).shape[1:3])
            patches, seen = self._cut(-(-500_000 // (rows * columns)), size, generator)
            ride.fit_whitening(patches, seen, generator=generator)
        if isinstance(self.schedule, Modern) and not bool(ride.mcgsm.priors.any()):
            hidden, outputs = self._hidden(self.stages[0], 100_000, generator)
            ride.mcgsm.initialize(hidden, outputs, generator=generator)

    def _cut(
        self, count: int, size: tuple[int, int], generator: torch.Generator
    ) -> tuple[Tensor, Tensor | None]:
        if self.ride.pad:
            count = min(count, len(self.data.stacks[0]))
            which = torch.randperm(len(self.data.stacks[0]), generator=generator)[:count].tolist()
            return self._split(self.data.tiles(which, *size, generator))
        return self._split(self.data.random(count, *size, generator))

    def _split(self, patches: Tensor) -> tuple[Tensor, Tensor | None]:
        patches = patches.to(self.ride.marginal.device)
        if not self.ride.observed_channels:
            return patches, None
        return patches[..., : self.ride.channels], patches[..., self.ride.channels :]

    # -- state

    def state(self) -> dict[str, Any]:
        return {
            "fingerprint": self.fingerprint,
            "weights": self.ride.state_dict(),
            "optimizer": None if self.optimizer is None else self.optimizer.state_dict(),
            "average": self.average,
            "tuning": self.tuning,
            "best": self.best,
            "history": [asdict(look) for look in self.history],
            **{name: getattr(self, name) for name in self._numbers},
        }

    _numbers = (
        "stage", "step", "tuned", "loss_sum", "loss_count", "best_loss", "stale", "seconds", "reason"
    )  # fmt: skip

    def restore(self, state: dict[str, Any], path: Path) -> None:
        found = state["fingerprint"]
        for key, value in _plain(self.fingerprint).items():
            if _plain(found.get(key)) != value:
                raise ValueError(
                    f"checkpoint {path} belongs to another training: its {key} is {found.get(key)!r}, not {value!r}"
                )
        self.ride.load_state_dict(state["weights"])
        for name in self._numbers:
            setattr(self, name, state[name])
        device = self.ride.marginal.device
        self.average = None if state["average"] is None else [t.to(device) for t in state["average"]]
        self.tuning, self.best = state["tuning"], state["best"]
        self.history = [Look(**look) for look in state["history"]]
        if self.reason == "interrupted":
            self.reason = ""
        if state["optimizer"] is not None:
            self.optimizer = self._make_optimizer(self.stages[self.stage])
            self.optimizer.load_state_dict(state["optimizer"])

    # -- the course of it

    def run(self, keeper: Keeper, shown: bool, callback: Callable[[Look], bool | None] | None) -> RideReport:
        total = sum(self.lengths) + sum(stage.tune_iterations for stage in self.stages)
        started = time.monotonic() - self.seconds
        with interruptible() as stop, Progress("training", total, shown=shown) as progress:
            while not self.reason and self.stage < len(self.stages):
                stage = self.stages[self.stage]
                for look in self._stage(stage):
                    self.seconds = time.monotonic() - started
                    progress.update(self._done(), self._text())
                    if look is not None and callback is not None and callback(look) is False:
                        stop.set()
                    if stop.is_set():
                        self.reason = "interrupted"
                    elif look is not None and self.stale >= self.schedule.patience:
                        self.reason = "patience"
                    if self.reason:
                        break
                    keeper.keep(self)
                else:
                    self.stage, self.step, self.tuned = self.stage + 1, 0, False
                    self.optimizer = self.average = self.tuning = None
                    if self.stage == len(self.stages):
                        self.reason = "finished"
                    keeper.keep(self, now=True)
            if self.reason != "finished":
                keeper.keep(self, now=True)
            if self.reason == "interrupted" and self.step and self._unseen():
                self._look()  # after the state is kept: a training that goes on has not taken this look
        if self.best is not None:
            self.ride.load_state_dict(self.best)
        checked = any(look.val_loss is not None for look in self.history)
        best = self.best_loss if checked else self._mean_loss()
        return RideReport(self._steps(), self.seconds, best, self.reason, self.history)

    def _unseen(self) -> bool:
        """Whether there were steps since the last look."""
        return not self.history or (self.history[-1].stage, self.history[-1].step) != (self.stage, self.step)

    def _steps(self) -> int:
        return sum(self.lengths[: self.stage]) + self.step

    def _done(self) -> int:
        before = sum(stage.tune_iterations for stage in self.stages[: self.stage])
        return self._steps() + before + self._tuned_iterations()

    def _mean_loss(self) -> float:
        if self.loss_count:
            return self.loss_sum / self.loss_count
        return self.history[-1].train_loss if self.history else inf

    def _text(self) -> str:
        text = f"loss {self._mean_loss() / log(2.0):.4f}"
        if self.history and self.history[-1].val_loss is not None:
            text += f"  validation {self.history[-1].val_loss / log(2.0):.4f}"
        return text + " bit/px"

    def _stage(self, stage: Stage) -> Iterator[Look | None]:
        """One stage, from wherever it stands; gives control back after every step, with a look where one was due."""
        length = self.lengths[self.stage]
        every = self.schedule.validate_every
        if self.tuning is None and not self.tuned:
            if self.optimizer is None:
                self.optimizer = self._make_optimizer(stage)
            while self.step < length:
                self._descend(stage, length)
                last = self.step == length
                if last:
                    self._keep_average(stage)
                due = last or (every is not None and self.step % every == 0)
                yield self._look() if due else None
        if stage.tune_iterations and not self.tuned:
            yield from self._tune(stage)
            self.tuned = True
            yield self._look()

    def _make_optimizer(self, stage: Stage) -> torch.optim.Optimizer:
        if stage.optimizer == "sgd":
            return torch.optim.SGD(self.trained, lr=stage.learning_rate, momentum=stage.momentum)
        return torch.optim.Adam(self.trained, lr=stage.learning_rate)

    def _descend(self, stage: Stage, length: int) -> None:
        assert self.optimizer is not None
        patches, seen = self._batch(stage)
        for group in self.optimizer.param_groups:
            group["lr"] = stage.rate((self.step + 0.5) / length)
        self.optimizer.zero_grad()
        loss = -self.ride.log_prob(patches, seen).mean()
        loss.backward()
        value = float(loss.detach())
        if not isfinite(value):
            raise FloatingPointError(
                f"the loss is {value} at step {self.step} of stage {self.stage}; a lower learning_rate may help"
            )
        if stage.clip is not None:
            torch.nn.utils.clip_grad_norm_(self.trained, stage.clip)
        self.optimizer.step()
        self.step += 1
        self.loss_sum, self.loss_count = self.loss_sum + value, self.loss_count + 1
        if stage.averaging:
            self._average(stage)

    @torch.no_grad()
    def _average(self, stage: Stage) -> None:
        if self.average is None:
            self.average = [p.detach().clone() for p in self.trained]
            return
        # early on the mean is over few steps, and the first of them should not linger
        decay = min(stage.averaging, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(self.average, [p.detach() for p in self.trained], 1 - decay)

    @torch.no_grad()
    def _keep_average(self, stage: Stage) -> None:
        """From here on the mean of the weights is the model."""
        if self.average is not None:
            torch._foreach_copy_(self.trained, self.average)
            self.average = None

    def _batch(self, stage: Stage) -> tuple[Tensor, Tensor | None]:
        generator = torch.Generator().manual_seed(step_seed(self.seed, 2, self.stage, self.step))
        size = patch_size(self.ride, self.data, stage)
        if stage.steps is not None and not self.ride.pad:
            patches = self.data.random(stage.batch_size, *size, generator)
        else:
            tiles = self.data.num_tiles(*size)
            epoch, at = divmod(self.step, max(1, tiles // stage.batch_size))
            order = torch.Generator().manual_seed(step_seed(self.seed, 3, self.stage, epoch))
            which = torch.randperm(tiles, generator=order)[
                at * stage.batch_size : (at + 1) * stage.batch_size
            ]
            patches = self.data.tiles(which.tolist(), *size, generator)
        return self._split(augmented(patches, self.schedule.augment, generator))

    @torch.no_grad()
    def _look(self) -> Look:
        """Measure, and keep the weights if they are the best."""
        kept = None
        if self.average is not None:
            kept = [p.detach().clone() for p in self.trained]
            torch._foreach_copy_(self.trained, self.average)
        val_loss = self._val_loss()
        train_loss = self._mean_loss()
        self.loss_sum, self.loss_count = 0.0, 0
        if val_loss is not None:
            if val_loss < self.best_loss:
                self.best_loss, self.stale = val_loss, 0
                self.best = {name: t.detach().clone() for name, t in self.ride.state_dict().items()}
            elif not self.tuned:  # a worse fit of the MCGSM is no reason to stop, as published
                self.stale += 1
        if kept is not None:
            torch._foreach_copy_(self.trained, kept)
        look = Look(self.stage, self.step, train_loss, val_loss)
        self.history.append(look)
        return look

    def _val_loss(self) -> float | None:
        if self.val is None:
            return None
        total, pixels = 0.0, 0
        bad: list[tuple[int, ...]] = []
        generator = torch.Generator().manual_seed(step_seed(self.seed, 4))
        for images in self.val.whole(_PASS_PIXELS, generator):
            value = self.ride.log_prob(*self._split(images))
            total, pixels = total - float(value.double().sum()), pixels + value.numel()
            bad += [tuple(images.shape[1:3])] * int((~value.isfinite().flatten(1).all(1)).sum())
        if not bad:
            return total / pixels
        warnings.warn(
            f"the log-density of {len(bad)} validation pictures, the first of {bad[0][0]} x {bad[0][1]} pixels, is not "
            f"finite at step {self.step} of stage {self.stage}: this check counts as the worst. A memory that overflows "
            "on large pictures is bounded with cell='gru'",
            RuntimeWarning,
            stacklevel=2,
        )
        return inf

    # -- L-BFGS on the MCGSM

    @torch.no_grad()
    def _hidden(
        self, stage: Stage, pixels: int, generator: torch.Generator, source: PatchSource | None = None
    ) -> tuple[Tensor, Tensor]:
        """Top hidden vectors and whitened outputs of about so many pixels of random patches."""
        hidden, outputs, count = [], [], 0
        size = patch_size(self.ride, self.data, stage)
        batches = None if source is None else source.whole(1, generator)
        while count < pixels:
            if batches is None:
                patches, seen = self._cut(stage.batch_size, size, generator)
            else:
                part = next(batches, None)
                if part is None:
                    break
                patches, seen = self._split(part)
            h, y = self.ride.hidden_and_outputs(patches, seen)
            hidden.append(h.flatten(0, 2))
            outputs.append(y.flatten(0, 2))
            count += len(hidden[-1])
        return torch.cat(hidden)[:pixels].contiguous(), torch.cat(outputs)[:pixels].contiguous()

    def _tune(self, stage: Stage) -> Iterator[None]:
        """In pieces, between which the state can be written; the pieces give what one run would."""
        generator = torch.Generator().manual_seed(step_seed(self.seed, 5, self.stage))
        hidden, outputs = self._hidden(stage, stage.tune_pixels, generator)
        val: tuple[Tensor | None, Tensor | None] = (None, None)
        if self.val is not None:
            val = self._hidden(stage, max(stage.tune_pixels // 5, 1000), generator, self.val)
        report: FitReport | None = None
        while report is None or (report.reason == "max_iter" and report.iterations < stage.tune_iterations):
            report = self.ride.mcgsm.fit(
                hidden,
                outputs,
                *val,
                max_iter=min(self._tuned_iterations() + _TUNE_CHUNK, stage.tune_iterations),
                validate_every=5,
                patience=20,
                state=self.tuning,
                progress=False,
            )
            self.tuning = dict(report.state)
            self.loss_sum, self.loss_count = report.train_loss - float(self.ride.whitening.log_jacobian), 1
            yield None

    def _tuned_iterations(self) -> int:
        return 0 if self.tuning is None else int(self.tuning["log"][-1, 0])


def _plain(value: Any) -> Any:
    """With lists for tuples, as a stored state has them after some versions of a schedule."""
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value
