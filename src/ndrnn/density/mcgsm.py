"""The mixture of conditional Gaussian scale mixtures: a conditional density with a closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, sqrt
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution, constraints

from .fitting import FitOptions, FitReport, Penalty, fit_lbfgs
from .mixture import (
    MixtureLogDensity,
    MixtureParams,
    expert_terms,
    gate_log_probs,
    log_density,
    prepare,
    sample_from_noise,
)
from .neighborhood import check_finite


class MCGSM(nn.Module):
    r"""Mixture of conditional Gaussian scale mixtures (Theis, Hosseini & Bethge 2012; factored form of Theis & Bethge
    2015, eq. 3-5).

    .. math:: p(y|x) = \sum_{cs} p(c,s|x)\, N(y; A_c x + u_c, e^{-\alpha_{cs}} (L_c L_c^T)^{-1}), \quad
        p(c,s|x) \propto \exp(\eta_{cs} - \tfrac12 e^{\alpha_{cs}} \sum_f \beta_{cf}^2 (b_f^T x)^2
        + e^{\alpha_{cs}} w_c^T x)

    Calling it gives the density of the outputs as a :class:`torch.distributions.Distribution`.

    Args:
        num_inputs: N, entries of x.
        num_outputs: M, entries of y.
        num_components: K components c.
        num_scales: S scales s of each.
        num_features: F features b shared by the components; N if not given.

    Parameters:
        ``priors`` eta (K, S), ``scales`` alpha (K, S), ``weights`` beta (K, F), ``features`` b (N, F), ``cholesky`` L
        (K, M, M, lower triangle), ``predictors`` A (K, M, N), ``linear`` w (K, N), ``means`` u (K, M). With one output
        ``cholesky`` repeats what the scales say and is not trained.

    >>> import torch
    >>> mcgsm = MCGSM(4, num_components=3)
    >>> mcgsm(torch.zeros(5, 4)).log_prob(torch.zeros(5, 1)).shape
    torch.Size([5])
    """

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int = 1,
        num_components: int = 8,
        num_scales: int = 6,
        num_features: int | None = None,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        num_features = max(num_inputs, 1) if num_features is None else num_features
        named = {
            "num_outputs": num_outputs,
            "num_components": num_components,
            "num_scales": num_scales,
            "num_features": num_features,
        }
        for name, value in named.items():
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        if num_inputs < 0:
            raise ValueError(f"num_inputs must not be negative, got {num_inputs}")
        self.num_inputs, self.num_outputs = num_inputs, num_outputs
        self.num_components, self.num_scales, self.num_features = num_components, num_scales, num_features
        k, s, f, n, m = num_components, num_scales, num_features, num_inputs, num_outputs

        def empty(*shape: int) -> nn.Parameter:
            return nn.Parameter(torch.empty(shape, device=device, dtype=dtype))

        self.priors = empty(k, s)
        self.scales = empty(k, s)
        self.weights = empty(k, f)
        self.features = empty(n, f)
        self.cholesky = empty(k, m, m)
        self.predictors = empty(k, m, n)
        self.linear = empty(k, n)
        self.means = empty(k, m)
        self.cholesky.requires_grad_(m > 1)
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """The data-free start of the original system; it suits whitened data."""
        self.priors.zero_()
        self.scales.uniform_(-1, 1)
        self.weights.normal_().abs_().div_(100).add_(0.01)
        self.features.normal_(std=0.01)
        self.cholesky.copy_(torch.eye(self.num_outputs))
        self.predictors.normal_(std=0.1)
        self.linear.zero_()
        self.means.zero_()

    @torch.no_grad()
    def initialize(
        self, inputs: Tensor, outputs: Tensor, *, generator: torch.Generator | None = None
    ) -> MCGSM:
        """Start from the data: experts around the least-squares prediction, their precisions spread around that of its
        residual, features along random whitened directions.

        Raises:
            ValueError: see :meth:`fit`.
        """
        self._check_pair(inputs, outputs, "inputs", "outputs")
        x, y = inputs[: 1 << 18].double(), outputs[: 1 << 18].double()
        n, m = self.num_inputs, self.num_outputs

        def noise(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(x.device)

        centred, mean = x - x.mean(0), y.mean(0)
        covariance = centred.T @ centred / len(x)
        covariance += 1e-6 * (covariance.diagonal().mean() if n else 1.0) * torch.eye(n, device=x.device)
        predictor = torch.linalg.solve(covariance, centred.T @ (y - mean) / len(x)).T
        residual = y - mean - centred @ predictor.T
        spread = residual.T @ residual / len(x)
        if not bool((spread.diagonal() > 1e-13 * (1e-30 + mean.square())).all()):
            raise ValueError(
                "outputs are constant given the inputs; dequantise 8-bit data by adding uniform noise"
            )
        self.cholesky.copy_(torch.linalg.cholesky(torch.linalg.inv(spread)) if m > 1 else torch.ones(1, 1))
        base = 0.0 if m > 1 else -float(spread.log())
        # natural images have heavy tails: precisions from well below to well above that of the residual
        fan = (
            torch.linspace(-1.5, 2.5, self.num_scales, dtype=torch.float64)
            if self.num_scales > 1
            else torch.zeros(1)
        )
        self.scales.copy_(base + fan.to(x.device) + 0.3 * noise(self.num_components, self.num_scales))
        whiten = torch.linalg.inv(torch.linalg.cholesky(covariance)).T if n else covariance
        directions = whiten @ noise(n, self.num_features) / sqrt(max(n, 1))
        self.features.copy_(directions)
        # gate energies of a few tenths at the typical scale: enough to break the tie between components
        self.weights.copy_(
            noise(self.num_components, self.num_features).abs() * (0.3 * torch.tensor(-0.5 * base).exp())
        )
        deviation = spread.diagonal().sqrt()[:, None] / sqrt(max(n, 1))
        jitter = (
            (noise(self.num_components, m, n) * deviation) @ whiten.T
            if n
            else noise(self.num_components, m, n)
        )
        self.predictors.copy_(predictor + 0.1 * jitter)
        self.means.copy_((mean - x.mean(0) @ predictor.T).expand(self.num_components, m))
        self.linear.zero_()
        self.priors.zero_()
        return self

    def mixture_params(self) -> MixtureParams:
        """The parameters as one tuple."""
        return MixtureParams(
            self.priors,
            self.scales,
            self.weights,
            self.features,
            self.cholesky,
            self.predictors,
            self.linear,
            self.means,
        )

    def forward(self, inputs: Tensor) -> ConditionalMixture:
        """The density of the outputs (..., M) given the inputs (..., N).

        Raises:
            ValueError: the last dimension is not ``num_inputs``.
        """
        if inputs.shape[-1:] != (self.num_inputs,):
            raise ValueError(f"inputs must have shape (..., {self.num_inputs}), got {tuple(inputs.shape)}")
        return ConditionalMixture(self.mixture_params(), inputs)

    def fit(
        self,
        inputs: Tensor,
        outputs: Tensor,
        val_inputs: Tensor | None = None,
        val_outputs: Tensor | None = None,
        *,
        initialize: bool = False,
        max_iter: int = 1000,
        tolerance: float = 1e-7,
        history: int = 20,
        validate_every: int = 5,
        patience: int = 20,
        penalties: Mapping[str, Penalty] | None = None,
        callback: Callable[[int, float, float | None], bool | None] | None = None,
        checkpoint: Callable[[dict[str, Tensor]], None] | None = None,
        state: Mapping[str, Tensor] | None = None,
        progress: bool | None = None,
    ) -> FitReport:
        """Fit by L-BFGS with a strong Wolfe line search; parameters with ``requires_grad=False`` stay as they are.

        Args:
            inputs, outputs: (P, N) and (P, M); evaluated in blocks, so P is bounded by the memory for the data alone.
            val_inputs, val_outputs: validation pair; its best parameters are kept, and fitting stops after
                ``patience`` checks, one every ``validate_every`` iterations, without a new best.
            initialize: whether to call :meth:`initialize` first.
            max_iter: iterations of L-BFGS at most; 0 changes nothing.
            tolerance: fitting stops when ``validate_every`` iterations improve the loss by less, in nats per sample.
            history: pairs of steps and gradients that L-BFGS keeps.
            penalties: by parameter name, for example ``{"weights": Penalty(1e-4, power=1)}``.
            callback: called after every ``validate_every`` iterations with the iteration, the training loss and the
                validation loss in nats per sample; a returned False stops.
            checkpoint: called at the same times with named tensors that hold the whole state of the fit.
            state: such tensors, or the ``state`` of an earlier report, to go on from there.
            progress: whether to tell on the standard error how it goes; if not given, only on a terminal.

        Raises:
            TypeError: the data's dtype is not the model's.
            ValueError: shapes do not match, values are not finite, there are no samples, a validation pair is half
                given, or an option is out of range.
        """
        self._check_pair(inputs, outputs, "inputs", "outputs")
        if (val_inputs is None) != (val_outputs is None):
            raise ValueError("val_inputs and val_outputs must be given together")
        validation = None
        if val_inputs is not None and val_outputs is not None:
            self._check_pair(val_inputs, val_outputs, "val_inputs", "val_outputs")
            validation = (val_inputs, val_outputs)
        options = FitOptions(
            max_iter=max_iter,
            tolerance=tolerance,
            history=history,
            validate_every=validate_every,
            patience=patience,
            penalties=penalties or {},
            callback=callback,
            checkpoint=checkpoint,
            progress=progress,
        )
        if initialize and state is None:
            self.initialize(inputs, outputs)
        return fit_lbfgs(self, inputs, outputs, validation, options, state)

    @torch.no_grad()
    def evaluate(self, inputs: Tensor, outputs: Tensor) -> float:
        """Mean log-density in bits per output dimension, summed in float64."""
        self._check_pair(inputs, outputs, "inputs", "outputs")
        value = log_density(self.mixture_params(), inputs, outputs).double().mean()
        return float(value) / log(2.0) / self.num_outputs

    def extra_repr(self) -> str:
        return (
            f"num_inputs={self.num_inputs}, num_outputs={self.num_outputs}, num_components={self.num_components}, "
            f"num_scales={self.num_scales}, num_features={self.num_features}"
        )

    def _check_pair(self, inputs: Tensor, outputs: Tensor, first: str, second: str) -> None:
        wanted = (
            f"{first} and {second} must have shapes (P, {self.num_inputs}) and (P, {self.num_outputs}), P > 0"
        )
        got = f"{tuple(inputs.shape)} and {tuple(outputs.shape)}"
        if inputs.dim() != 2 or outputs.dim() != 2 or len(inputs) != len(outputs) or not len(inputs):
            raise ValueError(f"{wanted}, got {got}")
        if inputs.shape[1] != self.num_inputs or outputs.shape[1] != self.num_outputs:
            raise ValueError(f"{wanted}, got {got}")
        dtype = self.priors.dtype
        if inputs.dtype != dtype or outputs.dtype != dtype:
            raise TypeError(f"{first} and {second} must be {dtype}, got {inputs.dtype} and {outputs.dtype}")
        check_finite(inputs, first)
        check_finite(outputs, second)


class ConditionalMixture(Distribution):
    """The density of an MCGSM's outputs given its inputs; batch shape (...), event shape (M,)."""

    arg_constraints: dict[str, constraints.Constraint] = {}
    support = constraints.real_vector
    has_rsample = False

    def __init__(self, params: MixtureParams, inputs: Tensor) -> None:
        self.params = params
        self._inputs = inputs.reshape(-1, inputs.shape[-1]) if inputs.shape[-1] else inputs.flatten(0, -2)
        self.num_components, self.num_outputs = params.means.shape
        super().__init__(inputs.shape[:-1], torch.Size([self.num_outputs]), validate_args=False)

    def log_prob(self, value: Tensor) -> Tensor:
        """Log-density in nats of outputs (..., M), shape (...)."""
        x, y, shape = self._pair(value)
        result: Tensor = MixtureLogDensity.apply(x, y, *self.params)
        return result.view(shape)

    @torch.no_grad()
    def sample(self, sample_shape: Any = (), *, generator: torch.Generator | None = None) -> Tensor:
        """Outputs (*sample_shape, ..., M)."""
        shape = torch.Size(sample_shape)
        count = shape.numel() * len(self._inputs)
        like = {"dtype": self._inputs.dtype, "device": self._inputs.device, "generator": generator}
        uniform = torch.rand(count, **like)
        normal = torch.randn(count, self.num_outputs, **like)
        x = self._inputs.expand(*shape, *self._inputs.shape).reshape(count, -1)
        y = sample_from_noise(prepare(self.params), self.params, x, uniform, normal)
        return y.view(shape + self.batch_shape + self.event_shape)

    @torch.no_grad()
    def sample_from(self, uniform: Tensor, normal: Tensor) -> Tensor:
        """The sample (..., M) that uniform (...) and standard normal (..., M) random numbers give."""
        y = sample_from_noise(
            prepare(self.params),
            self.params,
            self._inputs,
            uniform.reshape(-1),
            normal.reshape(-1, self.num_outputs),
        )
        return y.view(self.batch_shape + self.event_shape)

    @property
    def gate(self) -> Tensor:
        """p(c, s | x), (..., K, S)."""
        return (
            gate_log_probs(prepare(self.params), self._inputs)
            .exp()
            .movedim(-1, 0)
            .unflatten(0, self._leading)
        )

    def posterior(self, value: Tensor) -> Tensor:
        """p(c, s | x, y) for outputs (..., M), (..., K, S)."""
        x, y, shape = self._pair(value)
        joint = self._log_joint(prepare(self.params), x, y)
        posterior = torch.softmax(joint.flatten(0, 1), 0).view_as(joint)
        return posterior.movedim(-1, 0).unflatten(0, shape or (1,)).view(*shape, *self.params.priors.shape)

    @property
    def mean(self) -> Tensor:
        """Expectation (..., M)."""
        return self._moments()[0]

    @property
    def variance(self) -> Tensor:
        """Variance of every output (..., M)."""
        return self._moments()[1]

    def cdf(self, value: Tensor) -> Tensor:
        """Distribution function of a single output, (...) for values (..., 1).

        Raises:
            NotImplementedError: there are several outputs.
        """
        x, y, shape = self._pair(value)
        if self.num_outputs != 1:
            raise NotImplementedError(f"cdf needs a single output, this density has {self.num_outputs}")
        shared = prepare(self.params)
        z, _ = expert_terms(shared, x, y)
        signed = z * shared.factor.sign() * shared.precision.sqrt()
        inside = torch.special.ndtr(signed)
        return (gate_log_probs(shared, x).exp() * inside).sum((0, 1)).clamp(0, 1).view(shape)

    def log_prob_interval(self, lower: Tensor, upper: Tensor) -> Tensor:
        """Log-probability in nats, (...), of the intervals (lower, upper] (..., M); infinite ends are allowed.

        With several outputs the last is integrated first and every other one is conditioned on the centres of the
        intervals of those after it (a bounded end where the other is infinite), which is the probability of a
        discrete model that knows only the centres.
        """
        x, low, shape = self._pair(lower)
        _, high, _ = self._pair(upper)
        return _interval(prepare(self.params), self.params, x, low, high).view(shape)

    @property
    def _leading(self) -> tuple[int, ...]:
        return tuple(self.batch_shape) or (1,)

    def _pair(self, value: Tensor) -> tuple[Tensor, Tensor, torch.Size]:
        if value.shape[-1:] != self.event_shape:
            raise ValueError(f"value must have shape (..., {self.num_outputs}), got {tuple(value.shape)}")
        shape = torch.broadcast_shapes(value.shape[:-1], self.batch_shape)
        y = value.expand(*shape, self.num_outputs).reshape(-1, self.num_outputs)
        x = self._inputs
        if shape != self.batch_shape:
            x = x.view(*self.batch_shape, x.shape[-1]).expand(*shape, x.shape[-1]).reshape(-1, x.shape[-1])
        return x, y, shape

    def _log_joint(self, shared: Any, x: Tensor, y: Tensor) -> Tensor:
        z, log_determinant = expert_terms(shared, x, y)
        energy = shared.precision * (0.5 * z.square().sum(1, keepdim=True))
        scales = shared.precision.log() - log(2 * torch.pi)
        expert = 0.5 * self.num_outputs * scales + log_determinant[:, None, None] - energy
        return gate_log_probs(shared, x) + expert

    def _moments(self) -> tuple[Tensor, Tensor]:
        shared, params = prepare(self.params), self.params
        components = params.means.shape[0]
        gate = gate_log_probs(shared, self._inputs).exp()
        centre = (self._inputs @ params.predictors.reshape(-1, self._inputs.shape[1]).T).view(
            -1, components, self.num_outputs
        ) + params.means
        share = gate.sum(1).T.unsqueeze(-1)
        mean = (share * centre).sum(1)
        precision = shared.factor @ shared.factor.mT
        covariance = torch.linalg.inv(precision).diagonal(dim1=-2, dim2=-1)
        width = (gate / shared.precision).sum(1).T @ covariance
        variance = width + (share * (centre - mean.unsqueeze(1)).square()).sum(1)
        shape = self.batch_shape + self.event_shape
        return mean.view(shape), variance.view(shape)


def _interval(shared: Any, params: MixtureParams, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
    components, outputs = params.means.shape
    log_weight = gate_log_probs(shared, x)
    centre = torch.where(low.isinf(), high, torch.where(high.isinf(), low, 0.5 * (low + high)))
    predicted = (x @ params.predictors.reshape(components * outputs, -1).T).T.view(components, outputs, -1)
    predicted = predicted + params.means.unsqueeze(-1)
    root = shared.precision.sqrt()
    total = x.new_zeros(len(x))
    residuals = centre.T - predicted
    for m in reversed(range(outputs)):
        # z_m = L_mm r_m + sum over later outputs: each output is Gaussian given those after it
        scale = shared.factor[:, m, m][:, None]
        offset = (shared.factor[:, m + 1 :, m].unsqueeze(-1) * residuals[:, m + 1 :]).sum(1)
        ends = [(scale * (end[:, m] - predicted[:, m]) + offset).unsqueeze(1) * root for end in (low, high)]
        below, above = torch.minimum(*ends), torch.maximum(*ends)
        inside = torch.logsumexp((log_weight + _log_normal_interval(below, above)).flatten(0, 1), 0)
        total = total + inside
        z = (scale * residuals[:, m] + offset).unsqueeze(1) * root
        density = (root * scale.abs().unsqueeze(-1)).log() - 0.5 * z.square()
        log_weight = torch.log_softmax((log_weight + density).flatten(0, 1), 0).view_as(log_weight)
    return total


def _log_normal_interval(low: Tensor, high: Tensor) -> Tensor:
    """log(Phi(high) - Phi(low)) without cancellation in either tail."""
    flip = low > 0
    low, high = torch.where(flip, -high, low), torch.where(flip, -low, high)
    upper, lower = torch.special.log_ndtr(high), torch.special.log_ndtr(low)
    return upper + torch.log1p(-torch.exp((lower - upper).clamp(max=0)))
