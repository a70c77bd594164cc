"""Fitting an MCGSM by L-BFGS on the whole data, evaluated in blocks."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from .likelihood import MixtureParams, log_density, log_density_and_gradients

Check = tuple[int, float, float | None]
"""Iteration, training loss, and validation loss (None without a validation pair), in nats per sample."""

# Steps of L-BFGS are taken in units of these. Found on natural images: the gate's linear terms, which the precision
# multiplies, otherwise move first and far, and the fit ends up slower, in worse optima, and tied to its training images.
_UNITS = {"priors": 3.0, "scales": 3.0, "means": 0.3, "linear": 0.03}

_LISTS = ("old_dirs", "old_stps", "ro")
_VECTORS = ("d", "prev_flat_grad")
_NUMBERS = {"func_evals": int, "n_iter": int, "t": float, "prev_loss": float, "H_diag": float}


@dataclass(frozen=True)
class Penalty:
    """strength * sum \\|p\\|^power, power 1 (L1) or 2 (squared L2), added to the mean loss in nats."""

    strength: float
    power: int = 2

    def __post_init__(self) -> None:
        if self.power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, got {self.power}")
        if not self.strength >= 0:
            raise ValueError(f"strength must not be negative, got {self.strength}")


@dataclass(frozen=True)
class FitOptions:
    """What :meth:`ndrnn.MCGSM.fit` passes on; its docstring tells the meaning."""

    max_iter: int = 1000
    tolerance: float = 1e-7
    history: int = 20
    validate_every: int = 5
    patience: int = 20
    penalties: Mapping[str, Penalty] = field(default_factory=dict)
    callback: Callable[[int, float, float | None], bool | None] | None = None
    checkpoint: Callable[[dict[str, Tensor]], None] | None = None
    progress: bool | None = None

    def __post_init__(self) -> None:
        for name in ("validate_every", "patience", "history"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_iter < 0:
            raise ValueError(f"max_iter must not be negative, got {self.max_iter}")


@dataclass
class FitReport:
    """What a fit did; losses are in nats per sample, smaller is better."""

    iterations: int
    evaluations: int
    train_loss: float
    best_loss: float
    """Of the parameters that were kept: the validation loss, or the training loss where there is no validation."""
    reason: str
    """Why it stopped: "converged", "max_iter", "patience" or "callback"."""
    history: list[Check]
    """What every check found."""
    state: dict[str, Tensor] = field(repr=False)
    """Named tensors from which a later call goes on as if it had not been interrupted."""


class Mixture(Protocol):
    """What is fitted: an :class:`ndrnn.MCGSM`."""

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...

    def mixture_params(self) -> MixtureParams: ...


class _Objective:
    """Mean negative log-density plus penalties as a function of one flat float64 vector, in units of its own.

    L-BFGS works on float64 values whatever the model's dtype, so that a float32 model meets the line search's
    tolerances. The last few evaluations are remembered: every ``step`` of ``torch.optim.LBFGS`` begins with the point
    where the line search before it ended.
    """

    def __init__(
        self, model: Mixture, inputs: Tensor, outputs: Tensor, penalties: Mapping[str, Penalty]
    ) -> None:
        self.named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        if not self.named:
            raise ValueError("the model has no parameter with requires_grad=True to fit")
        legal = {name for name, _ in model.named_parameters()}
        unknown = set(penalties) - legal
        if unknown:
            raise ValueError(
                f"penalties must be named after parameters {sorted(legal)}, got {sorted(unknown)}"
            )
        self.model, self.inputs, self.outputs, self.penalties = model, inputs, outputs, penalties
        self.units = torch.cat(
            [p.new_full((p.numel(),), _UNITS.get(name, 1.0)).double() for name, p in self.named]
        )
        self.upstream = inputs.new_full((len(inputs),), -1.0 / len(inputs))
        self.evaluations = 0
        self._recent: list[tuple[Tensor, float, Tensor]] = []
        self._highest = 0.0

    def read(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1).double() for _, p in self.named]) / self.units

    @torch.no_grad()
    def write(self, flat: Tensor) -> None:
        parts = (flat * self.units).split([p.numel() for _, p in self.named])
        for (_, p), part in zip(self.named, parts, strict=True):
            p.copy_(part.view_as(p))

    @torch.no_grad()
    def __call__(self, flat: Tensor) -> tuple[float, Tensor]:
        for point, loss, gradient in self._recent:
            if torch.equal(point, flat):
                return loss, gradient
        self.write(flat)
        self.evaluations += 1
        value, gradients = log_density_and_gradients(
            self.model.mixture_params(), self.inputs, self.outputs, self.upstream, need_x=False, need_y=False
        )
        loss = -float(value.double().mean())
        by_name = dict(zip(MixtureParams._fields, gradients.params, strict=True))
        parts = []
        for name, p in self.named:
            gradient = by_name[name].double()
            penalty = self.penalties.get(name)
            if penalty is not None:
                wide = p.double()
                loss += penalty.strength * float(wide.abs().pow(penalty.power).sum())
                slope = wide.sign() if penalty.power == 1 else 2 * wide
                gradient = gradient + penalty.strength * slope
            parts.append(gradient.reshape(-1))
        gradient = torch.cat(parts) * self.units
        if abs(loss) < float("inf") and bool(torch.isfinite(gradient).all()):
            self._highest = max(self._highest, abs(loss))
        else:
            # a step too far: high and flat, but finite, so that the line search's cubic comes back towards the start
            loss, gradient = 1e3 * (1 + self._highest), torch.zeros_like(gradient)
        self._recent = [*self._recent[-7:], (flat.clone(), loss, gradient)]
        return loss, gradient

    @torch.no_grad()
    def validate(self, flat: Tensor, pair: tuple[Tensor, Tensor] | None) -> float | None:
        if pair is None:
            return None
        self.write(flat)
        return -float(log_density(self.model.mixture_params(), *pair).double().mean())


def fit_lbfgs(
    model: Mixture,
    inputs: Tensor,
    outputs: Tensor,
    validation: tuple[Tensor, Tensor] | None,
    options: FitOptions,
    state: Mapping[str, Tensor] | None,
) -> FitReport:
    """See :meth:`ndrnn.MCGSM.fit`."""
    objective = _Objective(model, inputs, outputs, options.penalties)
    flat = objective.read().requires_grad_()
    optimizer = torch.optim.LBFGS(
        [flat],
        history_size=options.history,
        tolerance_grad=0.0,
        tolerance_change=0.0,
        line_search_fn="strong_wolfe",
    )

    def closure() -> float:
        loss, gradient = objective(flat.detach())
        flat.grad = gradient.clone()
        return loss

    def check(iteration: int) -> Check:
        return iteration, objective(flat.detach())[0], objective.validate(flat.detach(), validation)

    if state is None:
        log = [check(0)]
        best_point, stale = flat.detach().clone(), 0
    else:
        log, best_point, stale = _restore(state, flat, optimizer)
    best = min(_watched(entry) for entry in log)
    line = _ProgressLine(options.progress, options.max_iter)
    reason = "max_iter"
    while log[-1][0] < options.max_iter:
        done, before, _ = log[-1]
        steps = min(options.validate_every, options.max_iter - done)
        # the limit on evaluations is never the one that binds: a line search takes 25 at most
        optimizer.param_groups[0].update(max_iter=steps, max_eval=30 * steps)
        optimizer.step(closure)
        entry = check(done + steps)
        log.append(entry)
        stale = 0 if _watched(entry) < best else stale + 1
        if stale == 0:
            best, best_point = _watched(entry), flat.detach().clone()
        line.show(entry, best)
        if options.checkpoint is not None:
            options.checkpoint(_state_of(flat, best_point, stale, log, optimizer))
        if options.callback is not None and options.callback(*entry) is False:
            reason = "callback"
        elif stale >= options.patience:
            reason = "patience"
        elif before - entry[1] < options.tolerance:
            reason = "converged"
        else:
            continue
        break
    line.close()
    objective.write(best_point)
    kept = _state_of(flat, best_point, stale, log, optimizer)
    return FitReport(log[-1][0], objective.evaluations, log[-1][1], best, reason, log, kept)


def _watched(entry: Check) -> float:
    return entry[1] if entry[2] is None else entry[2]


def _state_of(
    flat: Tensor, best_point: Tensor, stale: int, log: list[Check], optimizer: torch.optim.LBFGS
) -> dict[str, Tensor]:
    """The whole state of a fit as named tensors, as ``safetensors`` wants them."""
    rows = [[i, loss, float("nan") if checked is None else checked] for i, loss, checked in log]
    state = {
        "point": flat.detach().clone(),
        "best_point": best_point.clone(),
        "stale": torch.tensor(stale),
        "log": torch.tensor(rows, dtype=torch.float64),
    }
    inner: Mapping[str, Any] = optimizer.state[flat]
    if inner.get("d") is None:
        return state
    for name in _VECTORS:
        state[f"lbfgs.{name}"] = inner[name].clone()
    for name in _NUMBERS:
        state[f"lbfgs.{name}"] = torch.tensor(float(inner[name]), dtype=torch.float64)
    for name in _LISTS:
        if inner[name]:
            state[f"lbfgs.{name}"] = torch.stack(list(inner[name]))
    return state


def _restore(
    state: Mapping[str, Tensor], flat: Tensor, optimizer: torch.optim.LBFGS
) -> tuple[list[Check], Tensor, int]:
    point = state.get("point")
    if point is None or point.shape != flat.shape:
        got = "none" if point is None else str(tuple(point.shape))
        raise ValueError(
            f"state must come from a fit of the same parameters, {tuple(flat.shape)} values, got {got}"
        )
    with torch.no_grad():
        flat.copy_(point)
    if "lbfgs.d" in state:
        inner = optimizer.state[flat]
        inner.update({name: state[f"lbfgs.{name}"].to(flat.device).clone() for name in _VECTORS})
        inner.update({name: kind(state[f"lbfgs.{name}"]) for name, kind in _NUMBERS.items()})
        for name in _LISTS:
            inner[name] = list(state.get(f"lbfgs.{name}", flat.new_empty(0)).to(flat.device))
    rows = state["log"].tolist()
    log = [(int(i), loss, None if checked != checked else checked) for i, loss, checked in rows]
    return log, state["best_point"].to(flat.device).clone(), int(state["stale"])


class _ProgressLine:
    """One line on the standard error that tells how a fit is doing; silent where nobody looks unless asked for."""

    def __init__(self, wanted: bool | None, total: int) -> None:
        self.on = sys.stderr.isatty() if wanted is None else wanted
        self.total, self.began = total, time.monotonic()

    def show(self, entry: Check, best: float) -> None:
        if not self.on:
            return
        checked = "" if entry[2] is None else f", validation {entry[2]:.5f} (best {best:.5f})"
        text = f"iteration {entry[0]}/{self.total}: training {entry[1]:.5f}{checked} nats per sample"
        seconds = time.monotonic() - self.began
        start, end = ("\r", "") if sys.stderr.isatty() else ("", "\n")
        print(f"{start}{text}, {seconds:.0f} s", end=end, file=sys.stderr, flush=True)

    def close(self) -> None:
        if self.on and sys.stderr.isatty():
            print(file=sys.stderr)
