"""The log-density of the MCGSM and its gradients, computed block by block in a few large matrix products.

Everything lies with the samples along the last, contiguous axis: the products with the features, the linear terms
and the predictors of all components are one product with the inputs, and so are their gradients. Logits are kept in
base 2, because 2^x is the faster exponential and does not slow down where it underflows. A block is small enough for
its two arrays (components, scales, samples) to stay in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor

from .precision import own_precision

LN2 = log(2.0)
_BLOCK_ELEMENTS = 1 << 17  # of a thread's part of a block: two arrays in float32 fill a cache of 1 MiB
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
    with own_precision(x.device):
        return _run(params, x, y, None, False, False)[0]


def plain_log_density(params: MixtureParams, x: Tensor, y: Tensor) -> Tensor:
    """The same by operators of PyTorch alone, all of a piece: for functional transforms and higher derivatives."""
    with own_precision(x.device):
        shared = prepare(params)
        whitened = shared.factor.mT @ (y.T - predictions(shared, x))
        energy = 0.5 * whitened.square().sum(1, keepdim=True)
        expert = shared.constants - shared.precision * energy.clamp(max=limits(x.dtype).energy)
        return torch.logsumexp((gate_log_probs(shared, x) + expert).flatten(0, 1), 0)


@torch.no_grad()
def log_density_and_gradients(
    params: MixtureParams, x: Tensor, y: Tensor, upstream: Tensor, *, need_x: bool = True, need_y: bool = True
) -> tuple[Tensor, Gradients]:
    """log p(y | x) (P,) and the gradients of its sum weighted by ``upstream`` (P,)."""
    with own_precision(x.device):
        value, gradients = _run(params, x, y, upstream, need_x, need_y)
    assert gradients is not None
    return value, gradients


def _run(
    params: MixtureParams, x: Tensor, y: Tensor, upstream: Tensor | None, need_x: bool, need_y: bool
) -> tuple[Tensor, Gradients | None]:
    shared = prepare(params)
    base2 = _Base2(shared.priors / LN2, shared.precision / LN2, shared.constants / LN2)
    components, scales = params.priors.shape
    (count, inputs), outputs, features = x.shape, y.shape[1], shared.squared_weights.shape[1]
    most = max(64, _BLOCK_ELEMENTS // (components * scales))
    value = x.new_empty(count)
    grad_x = torch.empty_like(x) if need_x and upstream is not None else None
    grad_y = torch.empty_like(y) if need_y and upstream is not None else None
    # one for every form of block, of which there are up to three; fresh pages would cost as much as the arithmetic
    blocks: dict[tuple[int, int], _Block] = {}
    for start, parts, size in _blocks(count, most):
        if (parts, size) not in blocks:
            blocks[parts, size] = _Block(params, shared, parts, size, with_gradient=upstream is not None)
        b = blocks[parts, size]
        block = slice(start, start + parts * size)
        xb, yb = x[block].view(parts, size, inputs), y[block].view(parts, size, outputs)
        torch.bmm(b.rows, xb.mT, out=b.projected)
        forward = _forward(shared, base2, yb, features, b)
        value[block] = forward.value.view(-1)
        if upstream is not None:
            dz = _backward(shared, forward, xb, upstream[block].view(parts, 1, 1, size), features, b)
            if grad_x is not None:
                torch.bmm(dz.mT, b.rows, out=grad_x[block].view(parts, size, inputs))
            if grad_y is not None:
                residual = dz[:, features + components :].view(parts, components, outputs, size)
                grad_y[block] = residual.sum(1).neg_().mT.flatten(0, 1)
    if upstream is None:
        return value, None
    sums = [b.total for b in blocks.values() if b.total is not None]
    return value, Gradients(grad_x, grad_y, _finish(sums, params, shared))


def _blocks(count: int, most: int) -> Iterator[tuple[int, int, int]]:
    """Where each block starts, in how many parts it is, and how many samples a part has, ``most`` of them at the most.

    There is a part for every thread. Operators share their work out along the first axis, so that a thread finds its
    own part in its own cache time and again; otherwise every sum over the components fetches half of its terms from
    another core, perhaps on another chip.
    """
    start, threads = 0, torch.get_num_threads()
    while start < count:
        size = min(most, (count - start) // threads)
        parts, size = (threads, size) if size else (1, count - start)
        yield start, parts, size
        start += parts * size


class _Block:
    """Work space of blocks of T parts of b samples, and what all of them share, repeated for every part."""

    def __init__(
        self, params: MixtureParams, shared: Prepared, parts: int, size: int, *, with_gradient: bool
    ) -> None:
        components, scales = params.priors.shape
        self.rows = shared.rows.expand(parts, -1, -1)  # (T, F + K + K M, N)
        self.squared_weights = shared.squared_weights.expand(parts, -1, -1)  # (T, K, F)
        self.precision = shared.precision.mT.repeat(parts, 1, 1)  # (T K, 1, S)
        self.projected = shared.rows.new_empty(parts, len(shared.rows), size)
        self.gate = shared.rows.new_empty(parts, components, scales, size)
        self.joint = torch.empty_like(self.gate)
        self.gradient = torch.empty_like(self.projected) if with_gradient else None
        self.total = _Sums.zeros(params, shared, parts) if with_gradient else None


class _Base2(NamedTuple):
    """Logits in base 2."""

    priors: Tensor
    precision: Tensor
    constants: Tensor


class _Forward(NamedTuple):
    value: Tensor  # (T, b) nats
    squares: Tensor  # (T, F, b)
    g: Tensor  # (T, K, 1, b)
    energy: Tensor  # (T, K, 1, b)
    residual: Tensor  # (T, K, M, b)
    whitened: Tensor  # (T, K, M, b)
    gate_sum: Tensor  # (T, 1, 1, b)
    joint_sum: Tensor  # (T, 1, 1, b)


def _forward(shared: Prepared, base2: _Base2, y: Tensor, features: int, b: _Block) -> _Forward:
    """Fills ``b.gate`` and ``b.joint`` with the unnormalised prior and posterior of (c, s)."""
    components, outputs, _ = shared.means.shape
    parts, size, _ = y.shape
    bound = limits(y.dtype)
    phi, linear = b.projected[:, :features], b.projected[:, features : features + components]
    phi.clamp_(-bound.feature, bound.feature)
    squares = phi.square()
    g = torch.baddbmm(linear, b.squared_weights, squares, alpha=-0.5)
    g = g.clamp_(-bound.energy, bound.energy).unsqueeze(2)
    residual = b.projected[:, features + components :].view(parts, components, outputs, size)
    torch.sub(y.mT.unsqueeze(1), residual, out=residual)
    residual -= shared.means
    whitened = shared.factor * residual if outputs == 1 else shared.factor.mT @ residual
    energy = whitened.square().sum(2, keepdim=True) if outputs > 1 else whitened.square()
    energy.mul_(0.5).clamp_(max=bound.energy)

    logits, joint = b.gate, b.joint
    torch.mul(base2.precision, g, out=logits).add_(base2.priors)
    logits -= logits.amax((1, 2), keepdim=True)
    # the normalised gate comes first and the experts are added to it: were the two sums subtracted instead, a large
    # gate energy would swallow the experts
    torch.mul(base2.precision, energy, out=joint)
    torch.sub(logits, joint, out=joint).add_(base2.constants)
    gate = torch.exp2(logits, out=logits)
    highest = joint.amax((1, 2), keepdim=True)
    joint -= highest
    torch.exp2(joint, out=joint)
    gate_sum, joint_sum = gate.sum((1, 2), keepdim=True), joint.sum((1, 2), keepdim=True)
    value = (highest + joint_sum.log2() - gate_sum.log2()).mul_(LN2).view(parts, size)
    return _Forward(value, squares, g, energy, residual, whitened, gate_sum, joint_sum)


def _backward(shared: Prepared, f: _Forward, x: Tensor, upstream: Tensor, features: int, b: _Block) -> Tensor:
    """Adds the block's share to ``b.total`` and returns the gradient of the projections (T, F + K + K M, b)."""
    components, outputs, _ = shared.means.shape
    parts, _, size = b.projected.shape
    dz, total = b.gradient, b.total
    assert dz is not None
    assert total is not None
    posterior = b.joint.mul_(upstream / f.joint_sum)
    difference = torch.sub(posterior, b.gate.mul_(upstream / f.gate_sum), out=b.gate)
    total.posterior.add_(posterior.sum(3))
    total.difference.add_(difference.sum(3))
    d_g, d_energy = (
        torch.bmm(b.precision, shares.flatten(0, 1)).view(parts, components, 1, size)
        for shares in (difference, posterior)
    )
    d_energy.neg_()
    total.gate_moment.add_(difference.mul_(f.g).sum(3))
    total.expert_moment.add_(posterior.mul_(f.energy).sum(3))

    d_phi, d_linear = dz[:, :features], dz[:, features : features + components]
    d_linear.copy_(d_g.squeeze(2))
    torch.bmm(b.squared_weights.mT, d_linear, out=d_phi)
    d_phi.mul_(b.projected[:, :features]).neg_()
    total.squared_weights.baddbmm_(d_linear, f.squares.mT, alpha=-0.5)
    d_whitened = d_energy * f.whitened
    d_prediction = dz[:, features + components :].view(parts, components, outputs, size)
    if outputs == 1:
        torch.mul(shared.factor, d_whitened, out=d_prediction).neg_()
        total.factor.add_((f.residual * d_whitened).sum(3, keepdim=True))
    else:
        torch.matmul(shared.factor, d_whitened, out=d_prediction).neg_()
        total.factor.add_(f.residual @ d_whitened.mT)
    total.means.add_(d_prediction.sum(3))
    total.rows.baddbmm_(dz, x)
    return dz


class _Sums(NamedTuple):
    """Sums over samples from which the gradients of the parameters follow, one for every part of a block."""

    posterior: Tensor
    difference: Tensor
    gate_moment: Tensor
    expert_moment: Tensor
    squared_weights: Tensor
    rows: Tensor
    factor: Tensor
    means: Tensor

    @classmethod
    def zeros(cls, params: MixtureParams, shared: Prepared, parts: int) -> _Sums:
        like = (*(params.priors,) * 4, params.weights, shared.rows, params.cholesky, params.means)
        return cls(*(tensor.new_zeros(parts, *tensor.shape) for tensor in like))


def _finish(sums: Sequence[_Sums], params: MixtureParams, shared: Prepared) -> MixtureParams:
    """The gradients of the parameters."""
    none = _Sums.zeros(params, shared, 1)  # there may have been no samples
    total = _Sums(*(torch.cat(tensors).sum(0) for tensors in zip(none, *sums, strict=True)))
    components, outputs = params.means.shape
    features = params.weights.shape[1]
    scales = shared.precision.squeeze(-1) * (total.gate_moment - total.expert_moment)
    cholesky = total.factor.tril()
    diagonal = shared.factor.diagonal(dim1=-2, dim2=-1)
    cholesky.diagonal(dim1=-2, dim2=-1).add_(total.posterior.sum(1)[:, None] / diagonal)
    return MixtureParams(
        total.difference,
        scales + 0.5 * outputs * total.posterior,
        2 * params.weights * total.squared_weights,
        total.rows[:features].T,
        cholesky,
        total.rows[features + components :].view(components, outputs, -1),
        total.rows[features : features + components],
        total.means,
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
