"""Fitting an MCGSM by L-BFGS on the whole data, evaluated in blocks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from .mixture import MixtureParams, log_density, log_density_and_gradients

if TYPE_CHECKING:
    from .mcgsm import MCGSM


@dataclass(frozen=True)
class Penalty:
    """strength * sum |p|^power, power 1 (L1) or 2 (squared L2), added to the mean loss in nats."""

    strength: float
    power: int = 2

    def __post_init__(self) -> None:
        if self.power not in (1, 2):
            raise ValueError(f"power must be 1 or 2, got {self.power}")
        if not self.strength >= 0:
            raise ValueError(f"strength must not be negative, got {self.strength}")


@dataclass
class FitReport:
    """What a fit did; losses are in nats per sample, smaller is better."""

    iterations: int
    evaluations: int
    train_loss: float
    best_loss: float
    reason: str
    """Why it stopped: "converged", "max_iter", "patience" or "callback"."""
    history: list[tuple[int, float, float | None]] = field(default_factory=list)
    """(iteration, training loss, validation loss) at every check."""
    state: dict[str, Any] = field(default_factory=dict, repr=False)
    """Tensors and numbers from which a later call goes on."""


class _Objective:
    """Mean negative log-density plus penalties as a function of one flat float64 vector.

    L-BFGS works on float64 values whatever the model's dtype, so that a float32 model meets the line search's
    tolerances. The last few evaluations are remembered: every ``step`` of ``torch.optim.LBFGS`` begins with the point
    where the line search before it ended.
    """

    def __init__(
        self, model: MCGSM, inputs: Tensor, outputs: Tensor, penalties: Mapping[str, Penalty]
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
        self.upstream = inputs.new_full((len(inputs),), -1.0 / len(inputs))
        self.evaluations = 0
        self._recent: list[tuple[Tensor, float, Tensor]] = []

    def read(self) -> Tensor:
        return torch.cat([p.detach().reshape(-1).double() for _, p in self.named])

    @torch.no_grad()
    def write(self, flat: Tensor) -> None:
        for (_, p), part in zip(self.named, flat.split([p.numel() for _, p in self.named]), strict=True):
            p.copy_(part.view_as(p))

    @torch.no_grad()
    def __call__(self, flat: Tensor) -> tuple[float, Tensor]:
        for point, loss, gradient in self._recent:
            if torch.equal(point, flat):
                return loss, gradient
        self.write(flat)
        self.evaluations += 1
        params = self.model.mixture_params()
        value, gradients = log_density_and_gradients(
            params, self.inputs, self.outputs, self.upstream, need_x=False, need_y=False
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
        gradient = torch.cat(parts)
        if not torch.isfinite(gradient).all() or loss != loss:
            # a step too far: the line search shortens it
            loss, gradient = float("inf"), torch.zeros_like(gradient)
        self._recent = [*self._recent[-7:], (flat.clone(), loss, gradient)]
        return loss, gradient


@torch.no_grad()
def mean_loss(model: MCGSM, pair: Sequence[Tensor]) -> float:
    """Mean negative log-density in nats per sample."""
    return -float(log_density(model.mixture_params(), pair[0], pair[1]).double().mean())


def fit_lbfgs(
    model: MCGSM,
    inputs: Tensor,
    outputs: Tensor,
    validation: tuple[Tensor, Tensor] | None,
    *,
    max_iter: int,
    tolerance: float,
    history: int,
    validate_every: int,
    patience: int,
    penalties: Mapping[str, Penalty],
    callback: Callable[[int, float, float | None], bool | None] | None,
    state: dict[str, Any] | None,
) -> FitReport:
    """See :meth:`ndrnn.MCGSM.fit`."""
    for name, value in (("validate_every", validate_every), ("patience", patience), ("history", history)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    objective = _Objective(model, inputs, outputs, penalties)
    start = objective.read() if state is None else state["point"].double().to(objective.read())
    flat = start.clone().requires_grad_()
    options = {"lr": 1.0, "history_size": history, "line_search_fn": "strong_wolfe"}
    optimizer = torch.optim.LBFGS([flat], tolerance_grad=0.0, tolerance_change=0.0, **options)  # type: ignore[arg-type]

    def closure() -> float:
        loss, gradient = objective(flat.detach())
        flat.grad = gradient.clone()
        return loss

    def checked() -> float | None:
        objective.write(flat.detach())
        return None if validation is None else mean_loss(model, validation)

    if state is None:
        loss, checked_loss = objective(flat.detach())[0], checked()
        done, stale = 0, 0
        best = loss if checked_loss is None else checked_loss
        best_point = flat.detach().clone()
        log = [(0, loss, checked_loss)]
    else:
        done, stale, best, loss = (state[name] for name in ("iterations", "stale", "best", "loss"))
        best_point, log = state["best_point"].to(flat.detach()), [*state["history"]]
        optimizer.state[flat].update(_restored(state["optimizer"]))
    reason = "max_iter"
    while done < max_iter:
        steps = min(validate_every, max_iter - done)
        group = optimizer.param_groups[0]
        group["max_iter"], group["max_eval"] = steps, 25 * steps
        before = loss
        optimizer.step(closure)
        done += steps
        loss, checked_loss = objective(flat.detach())[0], checked()
        log.append((done, loss, checked_loss))
        watched = loss if checked_loss is None else checked_loss
        if watched < best:
            best, best_point, stale = watched, flat.detach().clone(), 0
        else:
            stale += 1
        stop = callback(done, loss, checked_loss) if callback is not None else None
        if stop is False:
            reason = "callback"
        elif stale >= patience:
            reason = "patience"
        elif before - loss < tolerance:
            reason = "converged"
        else:
            continue
        break
    kept: dict[str, Any] = {"point": flat.detach().clone(), "best_point": best_point, "optimizer": {}}
    if flat in optimizer.state:
        kept["optimizer"] = {k: v for k, v in optimizer.state[flat].items()}
    kept.update(iterations=done, stale=stale, best=best, loss=loss, history=log)
    objective.write(best_point)
    return FitReport(done, objective.evaluations, loss, best, reason, log, kept)


def _restored(saved: Mapping[str, Any]) -> dict[str, Any]:
    return {k: (list(v) if isinstance(v, (list, tuple)) else v) for k, v in saved.items()}
