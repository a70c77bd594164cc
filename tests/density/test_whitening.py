"""Conditional whitening: what it makes of the data, its Jacobian, its inverse, and what it refuses."""

from __future__ import annotations

import pytest
import torch

from ndrnn.density import Whitening, WhiteningStatistics

F64 = torch.float64


def correlated(count: int, inputs: int, outputs: int, seed: int = 0):
    """Inputs and outputs with means and with correlations within and between."""
    generator = torch.Generator().manual_seed(seed)
    size = inputs + outputs
    mixing = torch.randn(size, size, generator=generator, dtype=F64)
    values = torch.randn(count, size, generator=generator, dtype=F64) @ mixing
    values += 10 * torch.randn(size, generator=generator, dtype=F64)
    return values[:, :inputs], values[:, inputs:]


@pytest.mark.parametrize("sizes", [(5, 1), (4, 3), (0, 2)], ids=str)
def test_whitened_data_are_white(sizes):
    x, y = correlated(2000, *sizes)
    whitening = Whitening(*sizes, dtype=F64).fit(x, y, ridge=0)
    white = torch.cat(whitening(x, y), 1)
    torch.testing.assert_close(white.mean(0), torch.zeros(sum(sizes), dtype=F64), rtol=0, atol=1e-9)
    covariance = white.T @ white / len(white)
    torch.testing.assert_close(covariance, torch.eye(sum(sizes), dtype=F64), rtol=0, atol=1e-9)


def test_transforms_are_the_published_ones():
    x, y = correlated(2000, 4, 2)
    whitening = Whitening(4, 2, dtype=F64).fit(x, y, ridge=0)
    joint = torch.cov(torch.cat([x, y], 1).T, correction=0)
    cxx, cyx, cyy = joint[:4, :4], joint[4:, :4], joint[4:, 4:]
    # symmetric inverse roots, so that whitened images still look like images
    torch.testing.assert_close(whitening.input_transform, whitening.input_transform.T)
    torch.testing.assert_close(torch.linalg.inv(whitening.input_transform @ whitening.input_transform), cxx)
    torch.testing.assert_close(whitening.predictor, cyx @ torch.linalg.inv(cxx))
    conditional = cyy - cyx @ torch.linalg.inv(cxx) @ cyx.T
    torch.testing.assert_close(
        torch.linalg.inv(whitening.output_transform @ whitening.output_transform), conditional
    )


def test_log_jacobian_is_that_of_autograd():
    x, y = correlated(500, 4, 3)
    whitening = Whitening(4, 3, dtype=F64).fit(x, y)
    jacobian = torch.autograd.functional.jacobian(lambda out: whitening(x[0], out)[1], y[0])
    torch.testing.assert_close(torch.linalg.slogdet(jacobian).logabsdet, whitening.log_jacobian)


def test_gaussian_density_is_kept():
    # the density of y given x, by scipy's formula and by way of the whitened values
    x, y = correlated(4000, 3, 2)
    whitening = Whitening(3, 2, dtype=F64).fit(x, y, ridge=0)
    values = torch.cat([x, y], 1)
    joint = torch.distributions.MultivariateNormal(values.mean(0), torch.cov(values.T, correction=0))
    marginal = torch.distributions.MultivariateNormal(x.mean(0), torch.cov(x.T, correction=0))
    expected = joint.log_prob(values) - marginal.log_prob(x)
    white = whitening(x, y)[1]
    ours = torch.distributions.Normal(0, 1).log_prob(white).sum(1) + whitening.log_jacobian
    torch.testing.assert_close(ours, expected)


def test_inverse():
    x, y = correlated(300, 4, 2)
    whitening = Whitening(4, 2, dtype=F64).fit(x, y)
    for one, other in zip(whitening.inverse(*whitening(x, y)), (x, y), strict=True):
        torch.testing.assert_close(one, other)
    torch.testing.assert_close(whitening.restore_outputs(x, whitening(x, y)[1]), y)
    torch.testing.assert_close(whitening.whiten_inputs(x), whitening(x, y)[0])


def test_a_stream_gives_the_same_as_all_at_once():
    x, y = correlated(1003, 4, 2)
    x, y = x + 1e6, y - 1e6
    statistics = WhiteningStatistics(4, 2)
    for start in range(0, 1003, 100):
        statistics.update(x[start : start + 100], y[start : start + 100])
    statistics.update(x[:0], y[:0])
    assert statistics.count == 1003
    values = torch.cat([x, y], 1)
    torch.testing.assert_close(statistics.mean, values.mean(0))
    torch.testing.assert_close(statistics.covariance, torch.cov(values.T, correction=0), rtol=1e-8, atol=1e-8)
    streamed = Whitening(4, 2, dtype=F64).fit_statistics(statistics)
    at_once = Whitening(4, 2, dtype=F64).fit(x, y)
    for name, value in at_once.state_dict().items():
        torch.testing.assert_close(streamed.state_dict()[name], value, rtol=1e-6, atol=1e-6)


def test_a_ridge_whitens_copies_and_borders():
    x, y = correlated(2000, 3, 1)
    x = torch.cat([x, x[:, :1], torch.ones(2000, 1, dtype=F64)], 1)
    with pytest.raises(ValueError, match=r"covariance of the inputs is not positive definite .* dequantised"):
        Whitening(5, dtype=F64).fit(x, y, ridge=0)
    white = Whitening(5, dtype=F64).fit(x, y)(x, y)
    assert torch.isfinite(white[0]).all()
    assert float(white[1].var()) == pytest.approx(1, abs=0.01)
    # three values vary, and the ridge turns no rounding noise into a fourth
    spread = torch.linalg.eigvalsh(torch.cov(white[0].T))
    torch.testing.assert_close(spread, torch.tensor([0, 0, 1, 1, 1], dtype=F64), rtol=0, atol=0.01)


def test_it_is_the_identity_until_it_is_fitted():
    x, y = correlated(5, 3, 2)
    whitening = Whitening(3, 2, dtype=F64)
    assert not whitening.fitted
    assert all(torch.equal(*pair) for pair in zip(whitening(x, y), (x, y), strict=True))
    assert whitening.log_jacobian == 0
    assert whitening.fit(*correlated(50, 3, 2)).fitted


def test_it_travels_as_a_state_dict():
    x, y = correlated(500, 3, 2)
    whitening, other = Whitening(3, 2, dtype=F64).fit(x, y), Whitening(3, 2, dtype=F64)
    other.load_state_dict(whitening.state_dict())
    assert all(torch.equal(*pair) for pair in zip(whitening(x, y), other(x, y), strict=True))
    assert other.log_jacobian == whitening.log_jacobian


@pytest.mark.parametrize("value", [0.0, 0.3, 1e4])
def test_constant_data_are_refused(value):
    x, y = torch.full((100, 4), value), torch.full((100, 1), value)
    with pytest.raises(
        ValueError, match=r"the data are constant, so there is no density .* dequantised by adding"
    ):
        Whitening(4).fit(x, y)


def test_outputs_without_noise_are_refused():
    x, _ = correlated(100, 4, 1)
    with pytest.raises(ValueError, match=r"constant or determined by the inputs, .* dequantised by adding"):
        Whitening(4).fit(x, torch.ones(100, 1))
    with pytest.raises(ValueError, match=r"constant or determined by the inputs, .* dequantised by adding"):
        Whitening(4).fit(x, x[:, :1] - 2 * x[:, 1:2])
    # noise of an 8-bit value is enough
    assert Whitening(4).fit(x, x[:, :1] + torch.rand(100, 1) / 256).fitted


def test_bad_input():
    whitening = Whitening(3, 1)
    with pytest.raises(ValueError, match=r"got \(5, 2\) and \(5, 1\)"):
        whitening.fit(torch.rand(5, 2), torch.rand(5, 1))
    with pytest.raises(ValueError, match=r"got \(5, 3\) and \(4, 1\)"):
        whitening.fit(torch.rand(5, 3), torch.rand(4, 1))
    with pytest.raises(ValueError, match="inputs must be finite, got 1 values"):
        whitening.fit(torch.tensor([[0.0, 1.0, torch.nan]]), torch.rand(1, 1))
    with pytest.raises(ValueError, match="ridge must not be negative, got -1"):
        whitening.fit(*map(torch.Tensor.float, correlated(50, 3, 1)), ridge=-1)
    with pytest.raises(ValueError, match="hold no samples"):
        whitening.fit_statistics(WhiteningStatistics(3, 1))
    with pytest.raises(ValueError, match=r"must have shapes \(4,\) and \(4, 4\), got \(4,\) and \(3, 3\)"):
        whitening.fit_moments(torch.zeros(4), torch.eye(3))
    with pytest.raises(ValueError, match="not positive definite"):
        whitening.fit_moments(torch.zeros(4), torch.tensor([1.0, -1.0, 1.0, 1.0]).diag(), ridge=0)
