"""The mixture of conditional Gaussian scale mixtures: a conditional density with a closed form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import log, sqrt

import torch
from torch import Tensor, nn

from .distribution import ConditionalMixture as ConditionalMixture
from .finite import check_finite
from .fitting import FitOptions, FitReport, Penalty, fit_lbfgs
from .likelihood import MixtureParams, log_density, raised


class MCGSM(nn.Module):
    r"""Mixture of conditional Gaussian scale mixtures (Theis, Hosseini & Bethge 2012; factored form of Theis & Bethge
    2015, eq. 3-5).

    .. math:: p(y|x) = \sum_{cs} p(c,s|x)\, N(y; A_c x + u_c, e^{-\alpha_{cs}} (L_c L_c^T)^{-1}), \quad
        p(c,s|x) \propto \exp(\eta_{cs} - \tfrac12 e^{\alpha_{cs}} \sum_f \beta_{cf}^2 (b_f^T x)^2
        + e^{\alpha_{cs}} w_c^T x)

    Calling it gives the density of the outputs as a :class:`torch.distributions.Distribution`. The linear terms w of the
    gate, which the published models lack, stay zero unless ``mcgsm.linear.requires_grad_()`` asks for them.

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

    >>> mcgsm = ndrnn.MCGSM(4, num_components=3)
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
        self.linear.requires_grad_(False)
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
        """The density of the outputs (..., M) given the inputs (..., N); half precision is raised to the model's.

        Raises:
            TypeError: the dtype is not the model's.
            ValueError: the last dimension is not ``num_inputs``.
        """
        if inputs.shape[-1:] != (self.num_inputs,):
            raise ValueError(f"inputs must have shape (..., {self.num_inputs}), got {tuple(inputs.shape)}")
        inputs = raised(inputs, self.priors.dtype)
        if inputs.dtype != self.priors.dtype:
            raise TypeError(f"inputs must be {self.priors.dtype}, the model's dtype, got {inputs.dtype}")
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
