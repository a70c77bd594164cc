"""The density of an MCGSM's outputs given its inputs, as a torch distribution."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any, ClassVar, TypeVar

import torch
from torch import Tensor
from torch.distributions import Distribution, constraints

from ...scan.circumstances import transformed
from .drawing import Drawer
from .likelihood import (
    MixtureLogDensity,
    MixtureParams,
    Prepared,
    gate_log_probs,
    limits,
    pieces,
    plain_log_density,
    predictions,
    prepare,
    raised,
)
from .precision import own_precision

Method = TypeVar("Method", bound=Callable[..., Any])


def _in_own_precision(method: Method) -> Method:
    @wraps(method)
    def call(self: ConditionalMixture, *arguments: Any, **options: Any) -> Any:
        with own_precision(self._inputs.device):
            return method(self, *arguments, **options)

    return call  # type: ignore[return-value]


class ConditionalMixture(Distribution):
    """What calling an :class:`ndrnn.MCGSM` on inputs (..., N) gives: batch shape (...), event shape (M,)."""

    arg_constraints: ClassVar[dict[str, constraints.Constraint]] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, params: MixtureParams, inputs: Tensor) -> None:
        self.params = params
        self.num_components, self.num_scales = params.priors.shape
        self.num_outputs = params.means.shape[1]
        super().__init__(inputs.shape[:-1], torch.Size([self.num_outputs]), validate_args=False)
        self._inputs = inputs.reshape(self.batch_shape.numel(), inputs.shape[-1])

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of outputs (..., M), shape (...), differentiable in data and parameters (once).

        Raises:
            TypeError: the dtype is not that of the inputs.
            ValueError: the last dimension is not the number of outputs.
        """
        x, (y,), shape = self._align(value)
        if transformed():
            return plain_log_density(self.params, x, y).view(shape)
        result: Tensor = MixtureLogDensity.apply(x, y, *self.params)
        return result.view(shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        r"""Outputs (\*sample_shape, ..., M)."""
        shape = torch.Size(sample_shape) + self.batch_shape
        options: dict[str, Any] = {
            "dtype": self._inputs.dtype,
            "device": self._inputs.device,
            "generator": generator,
        }
        return self.sample_from(
            torch.rand(shape, **options), torch.randn(*shape, self.num_outputs, **options)
        )

    @torch.no_grad()
    @_in_own_precision
    def sample_from(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """The outputs (..., M) that uniform (...) and standard normal (..., M) random numbers give."""
        x, (normal,), shape = self._align(normal)
        uniform = uniform.expand(shape).reshape(-1)
        return Drawer(self.params).draw(x, uniform, normal).view(*shape, self.num_outputs)

    @property
    @_in_own_precision
    def gate(self) -> Tensor:
        """p(c, s | x), (..., K, S)."""
        probability = gate_log_probs(prepare(self.params), self._inputs).exp()
        return probability.movedim(-1, 0).reshape(*self.batch_shape, *self.params.priors.shape)

    @_in_own_precision
    def posterior(self, value: Tensor) -> Tensor:
        """p(c, s | x, y) for outputs (..., M), shape (..., K, S); its sum over s is that of the components."""
        x, (y,), shape = self._align(value)
        shared = prepare(self.params)
        residual = y.T - predictions(shared, x)
        bound = limits(x.dtype)
        energy = 0.5 * torch.bmm(shared.factor.mT, residual).square().sum(1, keepdim=True)
        expert = shared.constants - shared.precision * energy.clamp(max=bound.energy)
        joint = gate_log_probs(shared, x) + expert
        probability = torch.softmax(joint.flatten(0, 1), 0)
        return probability.T.reshape(*shape, *self.params.priors.shape)

    @property
    def mean(self) -> Tensor:
        """Expectation (..., M)."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of every output (..., M)."""
        return self._moments()[1]

    @_in_own_precision
    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function of a single output: (...) for values (..., 1).

        Raises:
            NotImplementedError: there are several outputs.
        """
        if self.num_outputs != 1:
            raise NotImplementedError(f"cdf needs a single output, this density has {self.num_outputs}")
        shared = prepare(self.params)
        root = shared.precision.sqrt() * shared.factor.abs()

        def below(x: Tensor, y: Tensor) -> Tensor:
            inside = torch.special.ndtr(root * (y.T - predictions(shared, x)))
            return (gate_log_probs(shared, x).exp() * inside).sum((0, 1)).clamp(0, 1)

        x, (y,), shape = self._align(value)
        return self._in_pieces(below, x, y).view(shape)

    @_in_own_precision
    def log_prob_interval(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Log-probability in nats, (...), of the intervals from ``lower`` to ``upper`` (..., M); ends may be infinite.

        With several outputs the last is integrated first, and every other one is conditioned on the centres of the
        intervals of those after it (on the finite end where the other is infinite): the probability of a discrete
        model that knows only the centres. Over a partition of the line for every output it sums to 1.
        """
        shared = prepare(self.params)

        def inside(x: Tensor, low: Tensor, high: Tensor) -> Tensor:
            return _interval(shared, x, low, high)

        x, (low, high), shape = self._align(lower, upper)
        return self._in_pieces(inside, x, low, high).view(shape)

    def _align(self, *values: Tensor) -> tuple[Tensor, list[Tensor], torch.Size]:
        """Inputs (P, N) and values (P, M) broadcast against each other, and the common batch shape."""
        values = tuple(raised(value, self._inputs.dtype) for value in values)
        for value in values:
            if value.shape[-1:] != self.event_shape:
                raise ValueError(f"value must have shape (..., {self.num_outputs}), got {tuple(value.shape)}")
            if value.dtype != self._inputs.dtype:
                raise TypeError(f"value must be {self._inputs.dtype} like the inputs, got {value.dtype}")
        shape = torch.broadcast_shapes(self.batch_shape, *(value.shape[:-1] for value in values))
        flat = [value.expand(*shape, self.num_outputs).reshape(-1, self.num_outputs) for value in values]
        size = self._inputs.shape[1]
        x = self._inputs
        if shape != self.batch_shape:
            x = x.view(*self.batch_shape, size).expand(*shape, size).reshape(shape.numel(), size)
        return x, flat, shape

    def _in_pieces(self, function: Callable[..., Tensor], *tensors: Tensor) -> Tensor:
        count = len(tensors[0])
        parts = [function(*(t[part] for t in tensors)) for part in pieces(count, self.params.priors.numel())]
        return torch.cat(parts) if parts else tensors[-1].new_empty(0)

    @_in_own_precision
    def _moments(self) -> tuple[Tensor, Tensor]:
        shared = prepare(self.params)
        covariance = torch.linalg.inv(shared.factor @ shared.factor.mT).diagonal(dim1=-2, dim2=-1)

        def moments(x: Tensor) -> Tensor:
            gate = gate_log_probs(shared, x).exp()
            centre = predictions(shared, x)
            share = gate.sum(1).unsqueeze(1)
            mean = (share * centre).sum(0)
            between = (share * (centre - mean).square()).sum(0)
            within = covariance.T @ (gate / shared.precision).sum(1)
            return torch.cat([mean, between + within]).T

        both = self._in_pieces(moments, self._inputs).view(*self.batch_shape, 2, self.num_outputs)
        return both[..., 0, :], both[..., 1, :]


def _interval(shared: Prepared, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    log_weight = gate_log_probs(shared, x)
    centre = torch.where(low.isinf(), high, torch.where(high.isinf(), low, 0.5 * (low + high)))
    centre = centre.masked_fill(centre.isinf(), 0.0)
    predicted = predictions(shared, x)
    residual = centre.T - predicted
    root = shared.precision.sqrt()
    total = x.new_zeros(len(x))
    outputs = residual.shape[1]
    for m in reversed(range(outputs)):
        # z_m = L_mm r_m + sum over later outputs: each output is Gaussian given those after it
        scale = shared.factor[:, m, m][:, None]
        offset = (shared.factor[:, m + 1 :, m].unsqueeze(-1) * residual[:, m + 1 :]).sum(1)
        ends = [(scale * (end[:, m] - predicted[:, m]) + offset).unsqueeze(1) * root for end in (low, high)]
        inside = _log_normal_interval(torch.minimum(*ends), torch.maximum(*ends))
        total = total + torch.logsumexp((log_weight + inside).flatten(0, 1), 0)
        if m:
            z = (scale * residual[:, m] + offset).unsqueeze(1) * root
            density = (root * scale.abs().unsqueeze(-1)).log() - 0.5 * z.square()
            log_weight = torch.log_softmax((log_weight + density).flatten(0, 1), 0).view_as(log_weight)
    return total


def _log_normal_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)) without cancellation in either tail."""
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    ratio = (lower - upper).clamp(max=0).masked_fill(upper == -torch.inf, 0)
    return upper + torch.log1p(-ratio.exp())
