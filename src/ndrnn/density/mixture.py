"""The log-density of the MCGSM and its gradients, computed block by block in a few large matrix products.

Everything lies with the samples along the last, contiguous axis: the products with the features, the linear terms
and the predictors of all components are one product with the inputs, and so are their gradients. Logits are kept in
base 2, because 2^x is the faster exponential and does not slow down where it underflows. A block is small enough for
its two arrays (components, scales, samples) to stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor

LN2 = log(2.0)
_BLOCK_ELEMENTS = 1 << 17  # of a block of the likelihood: two arrays in float32 fill half of a cache of 2 MiB
_PIECE_ELEMENTS = 1 << 22  # where autograd may keep the temporaries anyway


class MixtureParams(NamedTuple):
    """Parameters of an MCGSM: K components, S scales, F features, N inputs, M outputs."""

    priors: Tensor  # (K, S)
    scales: Tensor  # (K, S)
    weights: Tensor  # (K, F)
    features: Tensor  # (N, F)
    cholesky: Tensor  # (K, M, M)
    predictors: Tensor  # (K, M, N)
    linear: Tensor  # (K, N)
    means: Tensor  # (K, M)


class Limits(NamedTuple):
    """Bounds that keep products finite without touching ordinary values."""

    log_scale: float
    feature: float
    energy: float


def limits(dtype: torch.dtype) -> Limits:
    """The bounds for a dtype: energies times scales stay below its largest number."""
    return Limits(230.0, 1e75, 1e150) if dtype == torch.float64 else Limits(40.0, 1e9, 1e18)


class Prepared(NamedTuple):
    """What all samples share."""

    rows: Tensor  # (F + K + K M, N): features, linear terms, predictors
    squared_weights: Tensor  # (K, F)
    priors: Tensor  # (K, S, 1)
    precision: Tensor  # (K, S, 1), e^alpha
    constants: Tensor  # (K, S, 1), log normaliser of the experts
    factor: Tensor  # (K, M, M), lower triangular
    means: Tensor  # (K, M, 1)


def raised(values: Tensor, dtype: torch.dtype) -> Tensor:
    """Values in half precision, as autocast makes them, in the model's dtype; others as they are."""
    return values.to(dtype) if values.dtype in (torch.bfloat16, torch.float16) else values


def prepare(params: MixtureParams) -> Prepared:
    """Precompute what does not depend on the samples."""
    components, outputs = params.means.shape
    bound = limits(params.features.dtype).log_scale
    scales = params.scales.clamp(-bound, bound)
    factor = params.cholesky.tril()
    log_determinant = factor.diagonal(dim1=-2, dim2=-1).abs().log().sum(-1)
    constants = 0.5 * outputs * (scales - log(2 * torch.pi)) + log_determinant[:, None]
    rows = torch.cat([params.features.T, params.linear, params.predictors.reshape(components * outputs, -1)])
    return Prepared(
        rows,
        params.weights.square(),
        params.priors.unsqueeze(-1),
        scales.exp().unsqueeze(-1),
        constants.unsqueeze(-1),
        factor,
        params.means.unsqueeze(-1),
    )


def gate_log_probs(shared: Prepared, x: Tensor) -> Tensor:
    """log p(c, s | x) in nats, (K, S, P), for inputs (P, N)."""
    features, components = shared.squared_weights.shape[1], shared.means.shape[0]
    bound = limits(x.dtype)
    projected = shared.rows[: features + components] @ x.T
    squares = projected[:features].clamp(-bound.feature, bound.feature).square()
    g = torch.addmm(projected[features:], shared.squared_weights, squares, alpha=-0.5)
    logits = shared.priors + shared.precision * g.clamp(-bound.energy, bound.energy).unsqueeze(1)
    return torch.log_softmax(logits.flatten(0, 1), 0).view_as(logits)


def predictions(shared: Prepared, x: Tensor) -> Tensor:
    """Means of the experts, (K, M, P), for inputs (P, N)."""
    components, outputs = shared.means.shape[:2]
    first = shared.rows.shape[0] - components * outputs
    return (shared.rows[first:] @ x.T).view(components, outputs, -1) + shared.means


def pieces(count: int, components: int) -> Iterator[slice]:
    """Slices of the samples short enough for temporaries with ``components`` numbers a sample."""
    size = max(64, _PIECE_ELEMENTS // components)
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))


class Gradients(NamedTuple):
    """Gradients of a weighted sum of log-densities, in the order of the arguments; None where not asked for."""

    x: Tensor | None
    y: Tensor | None
    params: MixtureParams


@torch.no_grad()
def log_density(params: MixtureParams, x: Tensor, y: Tensor) -> Tensor:
    """log p(y | x) in nats, (P,), for inputs (P, N) and outputs (P, M)."""
    with torch.autocast(x.device.type, enabled=False):
        return _run(params, x, y, None, False, False)[0]


@torch.no_grad()
def log_density_and_gradients(
    params: MixtureParams, x: Tensor, y: Tensor, upstream: Tensor, *, need_x: bool = True, need_y: bool = True
) -> tuple[Tensor, Gradients]:
    """log p(y | x) (P,) and the gradients of its sum weighted by ``upstream`` (P,)."""
    with torch.autocast(x.device.type, enabled=False):
        value, gradients = _run(params, x, y, upstream, need_x, need_y)
    assert gradients is not None
    return value, gradients


def _run(
    params: MixtureParams, x: Tensor, y: Tensor, upstream: Tensor | None, need_x: bool, need_y: bool
) -> tuple[Tensor, Gradients | None]:
    shared = prepare(params)
    base2 = _Base2(shared.priors / LN2, shared.precision / LN2, shared.constants / LN2)
    components, scales = params.priors.shape
    count, features = x.shape[0], shared.squared_weights.shape[1]
    # threads share out the samples of a block, so more of them want longer blocks
    block = max(64, _BLOCK_ELEMENTS * torch.get_num_threads() // (components * scales))
    value = x.new_empty(count)
    grad_x = torch.empty_like(x) if need_x and upstream is not None else None
    grad_y = torch.empty_like(y) if need_y and upstream is not None else None
    total = _Accumulator(params, shared) if upstream is not None else None
    buffers = _Buffers(shared, components, scales, min(block, count), with_gradient=upstream is not None)
    for start in range(0, count, block):
        part = slice(start, min(start + block, count))
        xb, yb = x[part], y[part]
        b = buffers.of(xb.shape[0])
        projected = torch.mm(shared.rows, xb.T, out=b.projected)
        forward = _forward(shared, base2, projected, yb, features, b)
        value[part] = forward.value
        if upstream is not None and total is not None:
            dz = _backward(shared, projected, forward, upstream[part], features, b, total)
            total.rows.addmm_(dz, xb)
            if grad_x is not None:
                torch.mm(dz.T, shared.rows, out=grad_x[part])
            if grad_y is not None:
                outputs = y.shape[1]
                residual = dz[features + components :].view(components, outputs, -1)
                grad_y[part] = residual.sum(0).neg_().T
    if total is None:
        return value, None
    return value, Gradients(grad_x, grad_y, total.finish(params, shared))


class _Block(NamedTuple):
    projected: Tensor
    gate: Tensor
    joint: Tensor
    gradient: Tensor | None


class _Buffers:
    """Work space of the blocks, allocated once: fresh pages would cost as much as the arithmetic."""

    def __init__(
        self, shared: Prepared, components: int, scales: int, block: int, *, with_gradient: bool
    ) -> None:
        rows = shared.rows
        self._block = block
        self._shape = (components, scales)
        self._full = self._make(rows, block, with_gradient)

    def _make(self, rows: Tensor, block: int, with_gradient: bool) -> _Block:
        return _Block(
            rows.new_empty(rows.shape[0], block),
            rows.new_empty(*self._shape, block),
            rows.new_empty(*self._shape, block),
            rows.new_empty(rows.shape[0], block) if with_gradient else None,
        )

    def of(self, block: int) -> _Block:
        full = self._full
        return full if block == self._block else self._make(full.projected, block, full.gradient is not None)


class _Base2(NamedTuple):
    """Logits in base 2."""

    priors: Tensor
    precision: Tensor
    constants: Tensor


class _Forward(NamedTuple):
    value: Tensor  # (b,) nats
    squares: Tensor  # (F, b)
    g: Tensor  # (K, 1, b)
    energy: Tensor  # (K, 1, b)
    residual: Tensor  # (K, M, b)
    whitened: Tensor  # (K, M, b)
    gate_sum: Tensor  # (b,)
    joint_sum: Tensor  # (b,)


def _forward(
    shared: Prepared, base2: _Base2, projected: Tensor, y: Tensor, features: int, b: _Block
) -> _Forward:
    """Fills ``b.gate`` and ``b.joint`` with the unnormalised prior and posterior of (c, s)."""
    components, outputs, _ = shared.means.shape
    bound = limits(y.dtype)
    phi, linear = projected[:features], projected[features : features + components]
    phi.clamp_(-bound.feature, bound.feature)
    squares = phi.square()
    g = torch.addmm(linear, shared.squared_weights, squares, alpha=-0.5).clamp_(-bound.energy, bound.energy)
    g = g.unsqueeze(1)
    residual = projected[features + components :].view(components, outputs, -1)
    torch.sub(y.T, residual, out=residual)
    residual -= shared.means
    whitened = shared.factor * residual if outputs == 1 else torch.bmm(shared.factor.mT, residual)
    energy = whitened.square().sum(1, keepdim=True) if outputs > 1 else whitened.square()
    energy.mul_(0.5).clamp_(max=bound.energy)

    logits, joint = b.gate, b.joint
    torch.mul(base2.precision, g, out=logits).add_(base2.priors)
    logits -= logits.amax((0, 1))
    # the normalised gate comes first and the experts are added to it: were the two sums subtracted instead, a large
    # gate energy would swallow the experts
    torch.mul(base2.precision, energy, out=joint)
    torch.sub(logits, joint, out=joint).add_(base2.constants)
    gate = torch.exp2(logits, out=logits)
    highest = joint.amax((0, 1))
    joint -= highest
    torch.exp2(joint, out=joint)
    gate_sum, joint_sum = gate.sum((0, 1)), joint.sum((0, 1))
    value = (highest + joint_sum.log2() - gate_sum.log2()).mul_(LN2)
    return _Forward(value, squares, g, energy, residual, whitened, gate_sum, joint_sum)


def _backward(
    shared: Prepared,
    projected: Tensor,
    f: _Forward,
    upstream: Tensor,
    features: int,
    b: _Block,
    total: _Accumulator,
) -> Tensor:
    """Adds the block's share to ``total`` and returns the gradient of the projections (F + K + K M, b)."""
    components, outputs, _ = shared.means.shape
    posterior = b.joint.mul_(upstream / f.joint_sum)
    difference = torch.sub(posterior, b.gate.mul_(upstream / f.gate_sum), out=b.gate)
    total.posterior += posterior.sum(2)
    total.difference += difference.sum(2)
    scale_row = shared.precision.mT
    d_g = torch.bmm(scale_row, difference)
    d_energy = torch.bmm(scale_row, posterior).neg_()
    total.gate_moment += difference.mul_(f.g).sum(2)
    total.expert_moment += posterior.mul_(f.energy).sum(2)

    assert b.gradient is not None
    dz = b.gradient
    d_phi, d_linear = dz[:features], dz[features : features + components]
    d_linear.copy_(d_g.squeeze(1))
    torch.mm(shared.squared_weights.T, d_linear, out=d_phi)
    d_phi.mul_(projected[:features]).neg_()
    total.squared_weights.addmm_(d_linear, f.squares.T, alpha=-0.5)
    d_whitened = d_energy * f.whitened
    d_prediction = dz[features + components :].view(components, outputs, -1)
    if outputs == 1:
        torch.mul(shared.factor, d_whitened, out=d_prediction).neg_()
        total.factor += (f.residual * d_whitened).sum(2, keepdim=True)
    else:
        torch.bmm(shared.factor, d_whitened, out=d_prediction).neg_()
        total.factor += torch.bmm(f.residual, d_whitened.mT)
    total.means += d_prediction.sum(2)
    return dz


class _Accumulator:
    """Sums over all samples from which the gradients of the parameters follow."""

    def __init__(self, params: MixtureParams, shared: Prepared) -> None:
        self.posterior = torch.zeros_like(params.priors)
        self.difference = torch.zeros_like(params.priors)
        self.gate_moment = torch.zeros_like(params.priors)
        self.expert_moment = torch.zeros_like(params.priors)
        self.squared_weights = torch.zeros_like(params.weights)
        self.rows = torch.zeros_like(shared.rows)
        self.factor = torch.zeros_like(params.cholesky)
        self.means = torch.zeros_like(params.means)

    def finish(self, params: MixtureParams, shared: Prepared) -> MixtureParams:
        components, outputs = params.means.shape
        features = params.weights.shape[1]
        precision = shared.precision.squeeze(-1)
        scales = precision * (self.gate_moment - self.expert_moment) + 0.5 * outputs * self.posterior
        cholesky = self.factor.tril()
        diagonal = shared.factor.diagonal(dim1=-2, dim2=-1)
        cholesky.diagonal(dim1=-2, dim2=-1).add_(self.posterior.sum(1)[:, None] / diagonal)
        return MixtureParams(
            self.difference,
            scales,
            2 * params.weights * self.squared_weights,
            self.rows[:features].T,
            cholesky,
            self.rows[features + components :].view(components, outputs, -1),
            self.rows[features : features + components],
            self.means,
        )


class MixtureLogDensity(torch.autograd.Function):
    """log p(y | x) with closed-form gradients; the backward pass recomputes the blocks, so that nothing of size
    (components, scales, samples) is kept."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, y: Tensor, *params: Tensor) -> Tensor:
        ctx.save_for_backward(x, y, *params)
        return log_density(MixtureParams(*params), x, y)

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        x, y, *params = ctx.saved_tensors
        need_x, need_y = ctx.needs_input_grad[:2]
        _, gradients = log_density_and_gradients(
            MixtureParams(*params), x, y, upstream, need_x=need_x, need_y=need_y
        )
        return gradients.x, gradients.y, *gradients.params
