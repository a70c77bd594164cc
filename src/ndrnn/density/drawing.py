"""Drawing outputs of an MCGSM from given random numbers, with all that the inputs do not change computed once."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from .mixture import LN2, MixtureParams, limits, pieces, prepare


class Drawer:
    """An MCGSM of fixed parameters, laid out for drawing.

    As in the likelihood the samples lie along the last axis and logits are in base 2. Component and scale are found
    one after the other, so that only the sums over the scales have to be accumulated, and only the component that was
    found is scaled and shifted.
    """

    def __init__(self, params: MixtureParams) -> None:
        shared = prepare(params)
        components, scales = params.priors.shape
        outputs = params.means.shape[1]
        self._energy_weights = -0.5 * shared.squared_weights
        self._priors, self._precision = shared.priors / LN2, shared.precision / LN2
        # linear terms of the gate, which few models have, are left out where they are zero
        self._linear = bool(params.linear.any())
        gate = [params.features.T, params.linear] if self._linear else [params.features.T]
        self._rows = torch.cat([*gate, params.predictors.flatten(0, 1)])
        self._means = params.means
        # a standard normal vector times this has the covariance e^-alpha (L L^T)^-1
        one = torch.eye(outputs, dtype=shared.factor.dtype, device=shared.factor.device)
        root = torch.linalg.solve_triangular(shared.factor.mT, one.expand_as(shared.factor), upper=True)
        spread = shared.precision.rsqrt().unsqueeze(-1) * root.unsqueeze(1)
        self._spread = spread.view(components * scales, outputs, outputs)
        # kept from call to call: fresh pages would cost as much as the exponentials
        self._rooms: dict[str, Tensor] = {}

    def draw(self, x: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        """Outputs (P, M) given inputs (P, N): uniform numbers (P,) pick component and scale, normal ones (P, M) the rest."""
        drawn = torch.empty_like(normal)
        for part in pieces(len(x), self._priors.numel()):
            drawn[part] = self._draw(x[part], uniform[part], normal[part])
        return drawn

    def _room(self, name: str, *shape: int) -> Tensor:
        """A tensor of this shape with whatever it held before."""
        size = prod(shape)
        if name not in self._rooms or self._rooms[name].numel() < size:
            self._rooms[name] = self._rows.new_empty(size)
        return self._rooms[name][:size].view(shape)

    def _draw(self, x: Tensor, uniform: Tensor, normal: Tensor) -> Tensor:
        components, scales, _ = self._priors.shape
        features, outputs = self._energy_weights.shape[1], self._spread.shape[-1]
        bound = limits(x.dtype)
        projected = torch.mm(self._rows, x.T, out=self._room("projected", len(self._rows), len(x)))
        squares = projected[:features].clamp(-bound.feature, bound.feature).square_()
        room = self._room("energies", components, len(x))
        if self._linear:
            g = torch.addmm(
                projected[features : features + components], self._energy_weights, squares, out=room
            )
        else:
            g = torch.mm(self._energy_weights, squares, out=room)
        g.clamp_(-bound.energy, bound.energy)
        room = self._room("logits", components, scales, len(x))
        logits = torch.addcmul(self._priors, self._precision, g.unsqueeze(1), out=room)
        weights = logits.sub_(logits.amax((0, 1))).exp2_()

        # torch sums and searches along the last axis ten times as fast
        cumulative = self._room("cumulative", len(x), components + 1)
        cumulative[:, 0] = 0
        cumulative[:, 1:] = weights.sum(1).T
        target = uniform.unsqueeze(1) * cumulative.cumsum_(1)[:, -1:]
        component = torch.searchsorted(cumulative, target, right=True).clamp_(max=components).sub_(1)
        within = weights.gather(0, component.view(1, 1, -1).expand(1, scales, -1))[0].T.contiguous()
        target -= cumulative.gather(1, component)
        scale = torch.searchsorted(within.cumsum_(1), target, right=True).clamp_(max=scales - 1)

        predicted = projected[-components * outputs :].view(components, outputs, -1)
        predicted = predicted.gather(0, component.view(1, 1, -1).expand(1, outputs, -1))[0].T
        mean = self._means.index_select(0, component.squeeze(1)).add_(predicted)
        spread = self._spread.index_select(0, component.mul_(scales).add_(scale).squeeze(1))
        return mean.add_((spread * normal.unsqueeze(1)).sum(-1))
