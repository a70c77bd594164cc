"""Conditional whitening: linear maps that decorrelate inputs, and outputs given the inputs."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..mixture.finite import check_finite
from ..mixture.precision import own_precision

_DEQUANTISE = "8-bit pictures must first be dequantised by adding uniform noise (ndrnn.density.dequantize)"


class WhiteningStatistics:
    """Means and covariances of inputs and outputs, gathered in float64 from a stream larger than memory.

    Blocks are merged as in Chan, Golub & LeVeque 1983, so a large mean costs no precision.
    """

    def __init__(self, num_inputs: int, num_outputs: int) -> None:
        self.num_inputs, self.num_outputs = num_inputs, num_outputs
        size = num_inputs + num_outputs
        self.count = 0
        self.mean = torch.zeros(size, dtype=torch.float64)
        self.scatter = torch.zeros(size, size, dtype=torch.float64)

    def update(self, inputs: Tensor, outputs: Tensor) -> None:
        """Add P samples, inputs (P, num_inputs) and outputs (P, num_outputs).

        Raises:
            ValueError: the shapes do not match, or a value is not finite.
        """
        wanted = f"({self.num_inputs},) and ({self.num_outputs},) features for the same number of samples"
        if (
            inputs.shape[1:] != (self.num_inputs,)
            or outputs.shape[1:] != (self.num_outputs,)
            or inputs.shape[0] != outputs.shape[0]
        ):
            raise ValueError(
                f"inputs and outputs must have {wanted}, got {tuple(inputs.shape)} and {tuple(outputs.shape)}"
            )
        check_finite(inputs, "inputs")
        check_finite(outputs, "outputs")
        for x, y in zip(inputs.split(65536), outputs.split(65536), strict=True):
            self._merge(torch.cat([x, y], 1).detach().to("cpu", torch.float64))

    def _merge(self, block: Tensor) -> None:
        count = block.shape[0]
        if count == 0:
            return
        mean = block.mean(0)
        centred = block - mean
        delta = mean - self.mean
        total = self.count + count
        self.scatter += centred.T @ centred + torch.outer(delta, delta) * (self.count * count / total)
        self.mean += delta * (count / total)
        self.count = total

    @property
    def covariance(self) -> Tensor:
        """Joint covariance (divided by the number of samples) of inputs and outputs, float64."""
        if self.count == 0:
            raise ValueError("the statistics hold no samples yet: call update first")
        return self.scatter / self.count


class Whitening(nn.Module):
    r"""Whitens inputs, and outputs given inputs (the preconditioner of Theis & Bethge 2015).

    .. math:: \hat x = C_{xx}^{-1/2} (x - m_x), \quad \hat y = W^{-1/2} (y - C_{yx} C_{xx}^{-1} (x - m_x) - m_y),
        \quad W = C_{yy} - C_{yx} C_{xx}^{-1} C_{xy}

    Until it is fitted it is the identity. It works in its own precision, whatever autocast says. :attr:`log_jacobian`, log\|det dŷ/dy\| in nats, has to be added to every
    log-density of whitened outputs.
    """

    input_mean: Tensor
    output_mean: Tensor
    input_transform: Tensor
    input_inverse: Tensor
    predictor: Tensor
    output_transform: Tensor
    output_inverse: Tensor
    log_jacobian: Tensor
    fitted: Tensor

    def __init__(
        self,
        num_inputs: int,
        num_outputs: int = 1,
        *,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.num_inputs, self.num_outputs = num_inputs, num_outputs
        options: dict[str, Any] = {"device": device, "dtype": dtype}
        self.register_buffer("input_mean", torch.zeros(num_inputs, **options))
        self.register_buffer("output_mean", torch.zeros(num_outputs, **options))
        self.register_buffer("input_transform", torch.eye(num_inputs, **options))
        self.register_buffer("input_inverse", torch.eye(num_inputs, **options))
        self.register_buffer("predictor", torch.zeros(num_outputs, num_inputs, **options))
        self.register_buffer("output_transform", torch.eye(num_outputs, **options))
        self.register_buffer("output_inverse", torch.eye(num_outputs, **options))
        self.register_buffer("log_jacobian", torch.zeros((), **options))
        self.register_buffer("fitted", torch.zeros((), dtype=torch.bool, device=device))

    def fit(self, inputs: Tensor, outputs: Tensor, *, ridge: float = 1e-6) -> Whitening:
        """Fit to inputs (P, num_inputs) and outputs (P, num_outputs); see :meth:`fit_statistics` for streams."""
        statistics = WhiteningStatistics(self.num_inputs, self.num_outputs)
        statistics.update(inputs, outputs)
        return self.fit_statistics(statistics, ridge=ridge)

    def fit_statistics(self, statistics: WhiteningStatistics, *, ridge: float = 1e-6) -> Whitening:
        """Fit to gathered statistics.

        Args:
            ridge: fraction of the mean variance that is added to every variance: of the inputs, and of the outputs
                given the inputs.

        Raises:
            ValueError: the data are constant, or an output is determined by the inputs (8-bit data without noise).
        """
        return self.fit_moments(statistics.mean, statistics.covariance, ridge=ridge)

    @torch.no_grad()
    def fit_moments(self, mean: Tensor, covariance: Tensor, *, ridge: float = 1e-6) -> Whitening:
        """Fit to the joint mean (inputs, then outputs) and covariance.

        Raises:
            ValueError: ``ridge`` is negative, the covariance is not positive definite, or the data are constant.
        """
        n, size = self.num_inputs, self.num_inputs + self.num_outputs
        if ridge < 0:
            raise ValueError(f"ridge must not be negative, got {ridge}")
        if covariance.shape != (size, size) or mean.shape != (size,):
            raise ValueError(
                f"mean and covariance must have shapes {(size,)} and {(size, size)}, "
                f"got {tuple(mean.shape)} and {tuple(covariance.shape)}"
            )
        check_finite(mean, "mean")
        check_finite(covariance, "covariance")
        mean, covariance = mean.to("cpu", torch.float64), covariance.to("cpu", torch.float64)
        scale = covariance.diagonal()
        # rounding in a float32 image leaves a constant one with a variance of about 1e-15 of its square
        floor = 1e-13 * (1e-30 + mean.square())
        if bool((scale <= floor).all()):
            raise ValueError(f"the data are constant, so there is no density to whiten; {_DEQUANTISE}")
        cxx, cyx, cyy = covariance[:n, :n], covariance[n:, :n], covariance[n:, n:]
        root = _inverse_root(_with_ridge(cxx, ridge), "inputs")
        predictor = cyx @ root @ root
        # written out, because with a ridge the predictor is not quite the least-squares one
        residual = cyy - predictor @ cyx.T - cyx @ predictor.T + predictor @ cxx @ predictor.T
        if not bool((residual.diagonal() > torch.maximum(floor[n:], 1e-10 * scale[n:])).all()):
            raise ValueError(
                "the outputs are constant or determined by the inputs, so there is no density to whiten; "
                + _DEQUANTISE
            )
        whiten = _inverse_root(_with_ridge((residual + residual.T) / 2, ridge), "outputs given the inputs")
        values = {
            "input_mean": mean[:n],
            "output_mean": mean[n:],
            "input_transform": root,
            "input_inverse": torch.linalg.inv(root),
            "predictor": predictor,
            "output_transform": whiten,
            "output_inverse": torch.linalg.inv(whiten),
            "log_jacobian": torch.linalg.slogdet(whiten).logabsdet,
        }
        for name, value in values.items():
            self.get_buffer(name).copy_(value)
        self.fitted.fill_(True)
        return self

    def forward(self, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Whitened inputs (..., num_inputs) and outputs (..., num_outputs)."""
        with own_precision(inputs.device):
            centred = inputs - self.input_mean
            residual = outputs - self.output_mean - centred @ self.predictor.T
            return centred @ self.input_transform.T, residual @ self.output_transform.T

    def whiten_inputs(self, inputs: Tensor) -> Tensor:
        """Whitened inputs (..., num_inputs)."""
        with own_precision(inputs.device):
            return (inputs - self.input_mean) @ self.input_transform.T

    def inverse(self, inputs: Tensor, outputs: Tensor) -> tuple[Tensor, Tensor]:
        """Inputs and outputs from the whitened inputs (..., num_inputs) and outputs (..., num_outputs)."""
        with own_precision(inputs.device):
            restored = inputs @ self.input_inverse.T + self.input_mean
        return restored, self.restore_outputs(restored, outputs)

    def restore_outputs(self, inputs: Tensor, whitened: Tensor) -> Tensor:
        """Outputs (..., num_outputs) from the unwhitened inputs and the whitened outputs."""
        with own_precision(inputs.device):
            prediction = (inputs - self.input_mean) @ self.predictor.T + self.output_mean
            return whitened @ self.output_inverse.T + prediction

    def extra_repr(self) -> str:
        fitted = "?" if self.fitted.is_meta else bool(self.fitted)
        return f"num_inputs={self.num_inputs}, num_outputs={self.num_outputs}, fitted={fitted}"


def _with_ridge(covariance: Tensor, ridge: Tensor | float) -> Tensor:
    """The covariance plus a fraction of its mean variance on the diagonal."""
    size = covariance.shape[0]
    if size == 0:
        return covariance
    return covariance + ridge * covariance.diagonal().mean() * torch.eye(size, dtype=covariance.dtype)


def _inverse_root(covariance: Tensor, what: str) -> Tensor:
    """The symmetric inverse square root of a covariance."""
    if covariance.shape[0] == 0:
        return covariance
    values, vectors = torch.linalg.eigh(covariance)
    lowest, highest = float(values[0]), float(values[-1])
    if not lowest > 1e-14 * highest or highest <= 0:
        raise ValueError(
            f"the covariance of the {what} is not positive definite (eigenvalues {lowest:.3g} to {highest:.3g}): "
            f"some values are constant or copies of others; {_DEQUANTISE}, or raise ridge"
        )
    return (vectors * values.rsqrt()) @ vectors.T
