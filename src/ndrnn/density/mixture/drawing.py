"""Drawing outputs of an MCGSM from given random numbers, with all that the inputs do not change computed once."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...scan import runs_compiled
from .likelihood import MixtureParams, limits, pieces, prepare

# Outputs (P, M) from inputs x (P, N), uniform (P,) and normal (P, M) numbers; the others as Drawer lays them out.
torch.library.define(
    "ndrnn::draw",
    "(Tensor x, Tensor rows, Tensor energy_weights, Tensor priors, Tensor precision, Tensor means, Tensor spread, "
    "Tensor uniform, Tensor normal, float feature_bound, float energy_bound) -> Tensor",
)


@torch.library.register_fake("ndrnn::draw")  # type: ignore[untyped-decorator]
def _draw_shape(x: Tensor, *others: Tensor | float) -> Tensor:
    means = others[4]
    assert isinstance(means, Tensor)
    return x.new_empty(x.shape[0], means.shape[1])


_draw = torch.ops.ndrnn.draw.default


class _Weights(NamedTuple):
    """What is drawn from, as the operator takes it: N inputs, F features, K components, S scales, M outputs."""

    rows: Tensor  # (F [+ K] + K M, N): features, linear terms if there are any, predictors
    energy_weights: Tensor  # (K, F)
    priors: Tensor  # (K, S)
    precision: Tensor  # (K, S), e^alpha
    means: Tensor  # (K, M)
    spread: Tensor  # (K, S, M, M), by which standard normal vectors are multiplied


class Drawer:
    """An MCGSM of fixed parameters, laid out for drawing: by a compiled kernel, or else by the operators of PyTorch.

    Args:
        params: the parameters.
        transform: (M, M), what the outputs are multiplied by, and
        shift: (M,), what is added to them then; for models of whitened outputs.
    """

    def __init__(
        self, params: MixtureParams, transform: Tensor | None = None, shift: Tensor | None = None
    ) -> None:
        shared = prepare(params)
        one = torch.eye(params.means.shape[1], dtype=shared.factor.dtype, device=shared.factor.device)
        turn = one if transform is None else transform
        # linear terms of the gate, which few models have, are left out where they are zero
        self._linear = bool(params.linear.any())
        gate = [params.features.T, params.linear] if self._linear else [params.features.T]
        means = params.means @ turn.T
        # a standard normal vector times this has the covariance e^-alpha (L L^T)^-1, turned
        root = turn @ torch.linalg.solve_triangular(
            shared.factor.mT, one.expand_as(shared.factor), upper=True
        )
        self.weights = _Weights(
            torch.cat([*gate, (turn @ params.predictors).flatten(0, 1)]),
            -0.5 * shared.squared_weights,
            params.priors.contiguous(),
            shared.precision.squeeze(-1),
            means if shift is None else means + shift,
            (shared.precision.rsqrt().unsqueeze(-1) * root.unsqueeze(1)).contiguous(),
        )
        self._limits = limits(means.dtype)

    def draw(self, x: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        """Outputs (P, M) given inputs (P, N): uniform numbers (P,) pick component and scale, normal ones (P, M) the rest."""
        if runs_compiled(x):
            given = x.contiguous(), *self.weights, uniform.contiguous(), normal.contiguous()
            return _draw(*given, self._limits.feature, self._limits.energy)
        drawn = torch.empty_like(normal)
        for part in pieces(len(x), self.weights.priors.numel()):
            drawn[part] = self._piece(x[part], uniform[part], normal[part])
        return drawn

    def _piece(self, x: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        weights, limit = self.weights, self._limits
        (components, scales), outputs = weights.priors.shape, weights.means.shape[1]
        features = weights.energy_weights.shape[1]
        projected = x @ weights.rows.T
        squares = projected[:, :features].clamp(-limit.feature, limit.feature).square()
        energies = squares @ weights.energy_weights.T
        if self._linear:
            energies = energies + projected[:, features : features + components]
        energies = energies.clamp(-limit.energy, limit.energy)
        logits = torch.addcmul(weights.priors, weights.precision, energies.unsqueeze(-1)).flatten(1)
        cumulative = (logits - logits.amax(1, keepdim=True)).exp().cumsum(1)
        target = uniform.unsqueeze(1) * cumulative[:, -1:]
        chosen = torch.searchsorted(cumulative, target, right=True).squeeze(1)
        chosen = chosen.clamp(max=components * scales - 1)
        component = chosen // scales
        predicted = projected[:, -components * outputs :].unflatten(1, (components, outputs))
        of_component = predicted.gather(1, component[:, None, None].expand(-1, 1, outputs)).squeeze(1)
        spread = weights.spread.flatten(0, 1)[chosen]
        return of_component + weights.means[component] + (spread * normal.unsqueeze(1)).sum(-1)
