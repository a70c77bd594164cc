"""The base of all tasks: a network with what it is trained for, as a module of Lightning."""

from __future__ import annotations

import time
from collections.abc import Iterable
from math import inf
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from ..data.batches import Facts
from ..data.faults import BadFile
from ..data.formats.intensities import same_scale
from ..lattice import inside
from ..nn.hierarchy import Hierarchy
from ..nn.init import balance
from ..saving.config import from_dict, to_dict
from ..seeds import step_seed
from .options import FREE, Options
from .tally import tally
from .transfer import frozen

try:
    from lightning import LightningModule
except ModuleNotFoundError as error:
    raise ImportError("training needs Lightning and rich: pip install 'ndrnn[train]'") from error


NOT_FINITE = (
    "the network makes numbers of it that are not finite; its states may overflow on samples of this size"
)
"""What to say of a sample."""


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
    config_keys: ClassVar[tuple[str, ...]] = ("temperature",)
    """What a saved configuration may have beside the arguments of the constructor."""
    counted: ClassVar[tuple[str, ...] | None] = None
    """Names of the plain numbers that :meth:`check` counts up beside metrics of torchmetrics, so that samples can be
    checked in parts (:mod:`ndrnn.learn.tally`); None: they cannot."""

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
        self.last_loss: Tensor | None = None
        """Of the last training step."""
        self.overflowed: list[str] = []
        """Of the last look at held-out data: names of the samples for which the network gave NaN or infinite numbers."""
        self.tallied: dict[str, Any] | None = None
        """What was counted in the last look at data that was none of a training."""
        self._temperature = 1.0
        self._seconds_before = 0.0
        self._started: float | None = None
        self._clean: list[Tensor] = []

    @property
    def temperature(self) -> float:
        """By what scores are divided where a task says how sure it is, see :mod:`ndrnn.tasks.calibration`; 1 changes
        nothing, more makes it less sure. Neither its loss nor what it says depends on it.

        Raises:
            ValueError: it is set to no finite number above 0.
        """
        return self._temperature

    @temperature.setter
    def temperature(self, value: float) -> None:
        if not isinstance(value, (int, float)) or not 0 < value < inf:
            raise ValueError(f"temperature must be a finite number above 0, got {value!r}")
        self._temperature = float(value)

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

    @property
    def outputs(self) -> tuple[str, ...]:
        """What each output of the network stands for, such as the names of classes, by which a task that starts from
        another's weights takes them over; none by default."""
        return ()

    def augmented(self, batch: Any) -> Any:
        """A batch as it is learned from; random numbers come from torch's global generator, seeded for each step.

        With ``training.workers`` it runs in another process, which has the settings and the facts, but not the weights
        of the moment.
        """
        return batch

    def augmented_at(self, step: int, rank: int, batch: Any) -> Any:
        """The batch of a step and a process as it is learned from, wherever that is found out; the random numbers that
        come after it are not touched."""
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed(self.options.seed, step, rank))
            return self.augmented(batch)

    def rearranged(self, batch: Any) -> Any:
        """A batch that was augmented, with its samples put together anew by the weights of the moment; random numbers
        come from torch's global generator, seeded for each step."""
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

    # configuration, for ndrnn.save

    def config(self) -> dict[str, Any]:
        """Settings, facts and, where it is not 1, the temperature as what JSON can hold."""
        calibrated = {} if self.temperature == 1 else {"temperature": self.temperature}
        return {"settings": to_dict(self.settings), "facts": to_dict(self.facts), **calibrated}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Task:
        """The task of a saved :meth:`config`."""
        settings = from_dict(cls.settings_class, config["settings"], "settings")
        task = cls(settings, from_dict(Facts, config["facts"], "facts"))
        task.temperature = config.get("temperature", 1.0)
        return task

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

    def setup(self, stage: str) -> None:
        if stage == "fit":
            self.temperature = 1.0  # it was that of other weights
            for weight in frozen(self.model, self.options.freeze).values():
                weight.requires_grad_(False)

    def on_train_epoch_start(self) -> None:
        # what is frozen has neither dropout nor moments that follow the data
        for module in _without_learning(self.model):
            module.eval()

    def on_train_start(self) -> None:
        self._started = time.monotonic()
        if self.progress >= 1:  # resumed after its end
            self.trainer.should_stop = True

    @torch.no_grad()
    def on_train_batch_start(self, batch: Any, batch_idx: int) -> None:
        self.batch = batch
        torch.manual_seed(step_seed(self.options.seed, self.trainer.global_step, self.trainer.global_rank, 1))
        if self.options.weight_noise:
            for weight in self._learning_weights():
                self._clean.append(weight.clone())
                weight.add_(torch.randn_like(weight), alpha=self.options.weight_noise)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        if not getattr(self.trainer.train_dataloader, "augments", False):  # by workers it is already
            batch = self.augmented_at(self.trainer.global_step, self.trainer.global_rank, batch)
        self.batch = batch = self.rearranged(batch)
        loss = self.loss(self.batch)
        self.last_loss = loss.detach()
        # the mean since the check before, beside what the check says
        self.log("loss", loss.detach(), on_step=False, on_epoch=True, sync_dist=True, batch_size=len(batch.x))
        return loss

    @torch.no_grad()
    def on_after_backward(self) -> None:
        for weight, clean in zip(self._learning_weights(), self._clean, strict=False):
            weight.copy_(clean)
        self._clean.clear()

    def _learning_weights(self) -> list[nn.Parameter]:
        return [weight for weight in self.parameters() if weight.requires_grad]

    @property
    def in_training(self) -> bool:
        """Whether it is being trained, so that checks are to be brief."""
        return self._trainer is not None and self.trainer.state.fn == "fit"

    def watch(self, outputs: Tensor, batch: Any) -> None:
        """Look for outputs (N, ...) of the network that are not finite: the most probable of scores that are NaN looks
        like any other. In a training their samples are noted, and the check counts as the worst.

        Raises:
            BadFile: there are some, and this is no training.
        """
        bad = (~torch.isfinite(outputs)).flatten(1).any(1).nonzero().flatten().tolist()
        names = [batch.names[index] if batch.names else f"sample {index} of a batch" for index in bad]
        if names and not self.in_training:
            raise BadFile(names[0], NOT_FINITE)
        self.overflowed += names

    def on_validation_epoch_start(self) -> None:
        self.overflowed.clear()

    def on_test_epoch_start(self) -> None:
        self.on_validation_epoch_start()

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        self.check(batch)

    def on_validation_epoch_end(self) -> None:
        if self.counted is not None and not self.in_training:
            self.tallied = tally(self)
        results = self.results()
        if self.overflowed:
            results = {**results, self.monitor: torch.nan}
        self.log_dict({name: torch.as_tensor(value) for name, value in results.items()})

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
            kind = self.settings_class if part == "settings" else Facts
            if part == "facts" and same_scale(before.get("reach", 0.0), value["reach"]):
                before = {**before, "reach": value["reach"]}  # of files that may have become more
            before = to_dict(from_dict(kind, before, part))  # what is newer than the training had its default
            for name in FREE if part == "settings" else ():
                before["training"][name] = value["training"][name]
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


def _without_learning(model: nn.Module) -> list[nn.Module]:
    """The parts of a network that have weights, none of which learns."""
    found = []
    for module in model.modules():
        weights = list(module.parameters())
        if weights and not any(weight.requires_grad for weight in weights):
            found.append(module)
    return found


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
