"""The MCGSM against its formula, its integral, its samples and its derivatives."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats
from torch import Tensor
from torch.distributions import MultivariateNormal

from ndrnn.density import MCGSM, ConditionalMixture

F64 = torch.float64


def random_model(
    inputs: int, outputs: int, components: int, scales: int, features: int, seed: int = 0
) -> MCGSM:
    """A float64 model in which every parameter matters."""
    torch.manual_seed(seed)
    model = MCGSM(inputs, outputs, components, scales, features, dtype=F64)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(std=0.7)
        model.scales.mul_(1.5)
        model.predictors.div_(math.sqrt(max(inputs, 1)))
        model.cholesky.add_(2 * torch.eye(outputs, dtype=F64))
        # the upper triangle must not matter
        model.cholesky.add_(torch.ones(outputs, outputs, dtype=F64).triu(1) * 100)
    return model


def by_the_formula(model: MCGSM, x: Tensor, y: Tensor) -> Tensor:
    """log p(y | x), one component, scale and sample after another."""
    values = []
    for x_p, y_p in zip(x, y, strict=True):
        joint, gate = [], []
        for c in range(model.num_components):
            factor = model.cholesky[c].tril()
            for s in range(model.num_scales):
                alpha = model.scales[c, s]
                energy = sum(
                    (model.weights[c, f] * (model.features[:, f] @ x_p)) ** 2
                    for f in range(model.num_features)
                )
                logit = model.priors[c, s] - alpha.exp() * energy / 2 + alpha.exp() * (model.linear[c] @ x_p)
                covariance = torch.linalg.inv(factor @ factor.T) * (-alpha).exp()
                expert = MultivariateNormal(model.predictors[c] @ x_p + model.means[c], covariance)
                gate.append(logit)
                joint.append(logit + expert.log_prob(y_p))
        values.append(torch.logsumexp(torch.stack(joint), 0) - torch.logsumexp(torch.stack(gate), 0))
    return torch.stack(values)


SIZES = [(4, 1, 3, 2, 5), (4, 2, 3, 2, 5), (3, 3, 2, 4, 7), (0, 2, 3, 2, 1), (5, 1, 1, 1, 1)]


@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_log_prob_and_all_gradients_are_those_of_the_formula(sizes):
    model = random_model(*sizes)
    model.requires_grad_()
    x = torch.randn(4, sizes[0], dtype=F64, requires_grad=True)
    y = torch.randn(4, sizes[1], dtype=F64, requires_grad=True)
    fast, slow = model(x).log_prob(y), by_the_formula(model, x, y)
    torch.testing.assert_close(fast, slow, rtol=1e-12, atol=1e-12)
    weights = torch.randn(4, dtype=F64)
    wanted = [x, y, *model.parameters()]
    ours = torch.autograd.grad(fast @ weights, wanted)
    theirs = torch.autograd.grad(slow @ weights, wanted)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("sizes", [(3, 1, 2, 3, 4), (2, 2, 2, 2, 3)], ids=str)
def test_gradcheck(sizes):
    model = random_model(*sizes)
    model.cholesky.requires_grad_()
    names = [name for name, _ in model.named_parameters()]
    x = torch.randn(5, sizes[0], dtype=F64, requires_grad=True)
    y = torch.randn(5, sizes[1], dtype=F64, requires_grad=True)

    def log_prob(x: Tensor, y: Tensor, *values: Tensor) -> Tensor:
        given = dict(zip(names, values, strict=True))
        density: ConditionalMixture = torch.func.functional_call(model, given, (x,))
        return density.log_prob(y)

    assert torch.autograd.gradcheck(log_prob, (x, y, *model.parameters()))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("sizes", [(4, 1, 8, 6, 4), (3, 2, 5, 3, 4)], ids=str)
def test_blocks_and_their_parts_do_not_matter(sizes, threads, monkeypatch):
    """Whole blocks, a shorter one, and the samples that leave a thread without any."""
    model = random_model(*sizes)
    wanted = [p for p in model.parameters() if p.requires_grad]
    before = torch.get_num_threads()
    for count in (2, 500):
        x, y = torch.randn(count, sizes[0], dtype=F64), torch.randn(count, sizes[1], dtype=F64)
        leaves = [x.requires_grad_(), y.requires_grad_(), *wanted]
        torch.set_num_threads(1)
        whole = model(x).log_prob(y)
        gradients = torch.autograd.grad(whole.sum(), leaves)
        with monkeypatch.context() as patch:
            patch.setattr("ndrnn.density.mixture.likelihood._BLOCK_ELEMENTS", 1)  # the smallest block, 64
            torch.set_num_threads(threads)
            try:
                parts = model(x).log_prob(y)
                theirs = torch.autograd.grad(parts.sum(), leaves)
            finally:
                torch.set_num_threads(before)
        torch.testing.assert_close(parts, whole)
        for one, other in zip(theirs, gradients, strict=True):
            torch.testing.assert_close(one, other)


def test_float32_is_as_exact_as_float32_can_be():
    model = random_model(12, 1, 8, 4, 12)
    x, y = torch.randn(400, 12, dtype=F64), torch.randn(400, 1, dtype=F64)
    exact = model(x).log_prob(y).detach()
    rounded = model.float()(x.float()).log_prob(y.float()).detach()
    assert rounded.dtype == torch.float32
    # sums of dozens of float32 terms as large as the largest energies
    assert float((rounded - exact).abs().max()) < 1e-5 * float(exact.abs().max())


def test_one_output_integrates_to_one():
    model = random_model(3, 1, 4, 3, 3)
    grid = torch.linspace(-40, 40, 40_001, dtype=F64)
    for x_p in torch.randn(4, 3, dtype=F64):
        density = model(x_p.expand(len(grid), 3)).log_prob(grid[:, None]).exp().detach()
        assert float(torch.trapezoid(density, grid)) == pytest.approx(1, abs=1e-7)


def test_two_outputs_integrate_to_one():
    model = random_model(3, 2, 3, 2, 3)
    with torch.no_grad():
        model.scales.clamp_(-1, 1)
    axis = torch.linspace(-12, 12, 241, dtype=F64)
    grid = torch.cartesian_prod(axis, axis)
    for x_p in torch.randn(2, 3, dtype=F64):
        density = model(x_p.expand(len(grid), 3)).log_prob(grid).exp().detach().view(241, 241)
        assert float(torch.trapezoid(torch.trapezoid(density, axis), axis)) == pytest.approx(1, abs=1e-6)


def test_samples_follow_the_density():
    model = random_model(3, 1, 4, 3, 3)
    x = torch.randn(20_000, 3, dtype=F64)
    y = model(x).sample(generator=torch.Generator().manual_seed(1))
    # the distribution function at a sample is uniform, whatever the input
    assert stats.kstest(model(x).cdf(y).detach().numpy(), "uniform").pvalue > 0.01
    shifted = model(x).cdf(y + 0.05).detach().numpy()
    assert stats.kstest(shifted, "uniform").pvalue < 1e-6


def test_samples_of_two_outputs_follow_the_density():
    model = random_model(2, 2, 3, 2, 3)
    x = torch.randn(2, dtype=F64).expand(20_000, 2)
    y = model(x).sample(generator=torch.Generator().manual_seed(2))
    # along any direction a mixture of Gaussians is one again, here written with scipy
    gate, direction = model(x[:1]).gate[0].detach(), torch.tensor([0.6, -0.8], dtype=F64)
    means = (model.predictors @ x[0] + model.means) @ direction
    factor = model.cholesky.tril()
    spread = torch.linalg.inv(factor @ factor.mT) @ direction @ direction
    deviation = (spread[:, None] * (-model.scales).exp()).sqrt()

    def cdf(value):
        z = (torch.as_tensor(value)[:, None, None] - means[:, None]) / deviation
        return (gate * torch.special.ndtr(z)).sum((1, 2)).detach().numpy()

    assert stats.kstest((y @ direction).numpy(), cdf).pvalue > 0.01


def test_a_single_gaussian_is_scipys():
    model = MCGSM(1, 1, 1, 1, 1, dtype=F64)
    with torch.no_grad():
        model.scales.zero_()
        model.predictors.zero_()
    x = torch.zeros(10_000, 1, dtype=F64)
    y = model(x).sample(generator=torch.Generator().manual_seed(3))
    assert stats.kstest(y[:, 0].numpy(), stats.norm.cdf).pvalue > 0.01
    expected = stats.norm.logpdf(y[:, 0].numpy())
    torch.testing.assert_close(model(x).log_prob(y).detach(), torch.from_numpy(expected))


def test_cdf_is_the_integral_of_the_density():
    model = random_model(2, 1, 3, 2, 3)
    x = torch.randn(50, 2, dtype=F64)
    y = torch.randn(50, 1, dtype=F64, requires_grad=True)
    slope = torch.autograd.grad(model(x).cdf(y).sum(), y)[0][:, 0]
    torch.testing.assert_close(slope, model(x).log_prob(y).exp().detach())
    far = torch.full((50, 1), 1e4, dtype=F64)
    torch.testing.assert_close(model(x).cdf(far), torch.ones(50, dtype=F64))
    torch.testing.assert_close(model(x).cdf(-far), torch.zeros(50, dtype=F64))


def test_mean_and_variance_are_those_of_the_samples():
    model = random_model(2, 2, 3, 2, 3)
    with torch.no_grad():
        model.scales.clamp_(-1, 1)
    density = model(torch.randn(3, 2, dtype=F64))
    drawn = density.sample((200_000,), generator=torch.Generator().manual_seed(4))
    error = ((drawn.mean(0) - density.mean).abs() / (density.variance / len(drawn)).sqrt()).detach()
    assert drawn.shape == (200_000, 3, 2)
    assert float(error.max()) < 4
    torch.testing.assert_close(drawn.var(0), density.variance.detach(), rtol=0.03, atol=0)


def test_mean_is_differentiable():
    model = random_model(2, 1, 3, 2, 3)
    x = torch.randn(4, 2, dtype=F64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda x: model(x).mean, (x,))


def test_posterior_is_bayes_rule():
    model = random_model(3, 2, 4, 3, 3)
    x, y = torch.randn(7, 3, dtype=F64), torch.randn(7, 2, dtype=F64)
    posterior = model(x).posterior(y)
    assert posterior.shape == (7, 4, 3)
    for c in range(4):
        for s in range(3):
            factor = model.cholesky[c].tril()
            covariance = torch.linalg.inv(factor @ factor.T) * (-model.scales[c, s]).exp()
            expert = MultivariateNormal(x @ model.predictors[c].T + model.means[c], covariance)
            joint = model(x).gate[:, c, s].log() + expert.log_prob(y)
            torch.testing.assert_close(posterior[:, c, s].log(), joint - model(x).log_prob(y))


def test_the_average_posterior_is_the_prior():
    # without inputs the model is a mixture of Gaussian scale mixtures
    model = random_model(0, 3, 2, 2, 1)
    nothing = torch.zeros(20_000, 0, dtype=F64)
    y = model(nothing).sample(generator=torch.Generator().manual_seed(5))
    prior = torch.softmax(model.priors.flatten(), 0).view(2, 2)
    torch.testing.assert_close(model(nothing).gate[0], prior)
    torch.testing.assert_close(model(nothing).posterior(y).mean(0), prior, rtol=0.1, atol=0.01)


def test_likelihood_is_the_average_over_components():
    # E over (c, s) ~ p(c, s | x) of p(y | x, c, s), by sampling the pair
    model = random_model(3, 1, 2, 2, 4)
    x, y = torch.randn(20, 3, dtype=F64), torch.randn(20, 1, dtype=F64)
    gate = model(x).gate.flatten(1).detach()
    pairs = torch.multinomial(gate, 20_000, replacement=True, generator=torch.Generator().manual_seed(6))
    c, s = pairs // 2, pairs % 2
    predicted = torch.einsum("kmn,pn->pk", model.predictors, x) + model.means[:, 0]
    deviation = (-0.5 * model.scales[c, s]).exp() / model.cholesky[:, 0, 0].abs()[c]
    likelihood = torch.distributions.Normal(predicted.gather(1, c), deviation).log_prob(y).exp().detach()
    error = (likelihood.mean(1) - model(x).log_prob(y).exp()).abs()
    assert bool((error <= 5 * likelihood.std(1) / math.sqrt(20_000) + 1e-12).all())


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
def test_intervals_sum_to_one(dtype):
    model = random_model(3, 1, 4, 3, 3).to(dtype)
    edges = torch.cat([torch.tensor([-torch.inf]), torch.linspace(-3, 3, 40), torch.tensor([torch.inf])]).to(
        dtype
    )
    x = torch.randn(5, 1, 3, dtype=dtype)
    density = model(x)
    inside = density.log_prob_interval(edges[:-1, None], edges[1:, None])
    assert inside.shape == (5, 41)
    torch.testing.assert_close(inside.exp().sum(1), torch.ones(5, dtype=dtype))
    torch.testing.assert_close(
        inside.exp().cumsum(1)[:, :-1], density.cdf(edges[1:-1, None]), rtol=1e-4, atol=1e-6
    )


def test_intervals_of_two_outputs_sum_to_one():
    model = random_model(2, 2, 3, 2, 3)
    edges = torch.cat(
        [torch.tensor([-torch.inf]), torch.linspace(-2, 2, 11), torch.tensor([torch.inf])]
    ).double()
    low = torch.cartesian_prod(edges[:-1], edges[:-1])
    high = torch.cartesian_prod(edges[1:], edges[1:])
    inside = model(torch.randn(3, 1, 2, dtype=F64)).log_prob_interval(low, high)
    torch.testing.assert_close(inside.exp().sum(1), torch.ones(3, dtype=F64))


def test_narrow_intervals_are_densities():
    model = random_model(3, 1, 4, 3, 3)
    x, y = torch.randn(30, 3, dtype=F64), 3 * torch.randn(30, 1, dtype=F64)
    width = 1e-4
    inside = model(x).log_prob_interval(y - width / 2, y + width / 2) - math.log(width)
    torch.testing.assert_close(inside, model(x).log_prob(y), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float32, F64], ids=str)
@pytest.mark.parametrize("outputs", [1, 2])
def test_extreme_inputs_stay_finite(dtype, outputs):
    model = random_model(3, outputs, 4, 3, 3).to(dtype)
    with torch.no_grad():
        model.scales[0] = torch.tensor([-30.0, 0.0, 30.0])
        model.priors[1, 0], model.priors[1, 1] = 1e4, -1e4
    sizes = torch.tensor([0.0, 1e-20, 1.0, 1e3, 1e6, 1e10, 1e15], dtype=dtype)
    x = torch.cartesian_prod(sizes, sizes)[:, :1] * torch.randn(3, dtype=dtype)
    y = torch.cartesian_prod(sizes, sizes)[:, 1:] * torch.randn(outputs, dtype=dtype)
    x.requires_grad_()
    y.requires_grad_()
    value = model(x).log_prob(y)
    value.sum().backward()
    assert torch.isfinite(value).all()
    for tensor in (x, y, *(p for p in model.parameters() if p.requires_grad)):
        assert torch.isfinite(tensor.grad).all()
    with torch.no_grad():
        density = model(x)
        gate = density.gate.flatten(1).sum(1)
        torch.testing.assert_close(gate, torch.ones_like(gate))
        assert torch.isfinite(density.posterior(y)).all()
        assert torch.isfinite(density.sample()).all()
        assert not torch.isnan(density.log_prob_interval(y - 1, y + 1)).any()


def test_shapes_broadcast_like_torch_distributions():
    model = random_model(3, 2, 2, 2, 3)
    x = torch.randn(4, 5, 3, dtype=F64)
    density = model(x)
    assert density.batch_shape == (4, 5)
    assert density.event_shape == (2,)
    assert density.sample((6,)).shape == (6, 4, 5, 2)
    y = torch.randn(6, 1, 5, 2, dtype=F64)
    value = density.log_prob(y)
    assert value.shape == (6, 4, 5)
    torch.testing.assert_close(value[2, 3, 1], model(x[3, 1]).log_prob(y[2, 0, 1]))
    assert model(x[0, 0]).sample().shape == (2,)
    assert density.mean.shape == density.variance.shape == (4, 5, 2)
    assert model(x[:0]).log_prob(y[0, :0]).shape == (0, 5)
    assert model(x[:0]).sample().shape == (0, 5, 2)


def test_sampling_is_seedable_and_leaves_the_global_generator_alone():
    model = random_model(3, 1, 2, 2, 3)
    x = torch.randn(10, 3, dtype=F64)
    state = torch.get_rng_state()
    one = model(x).sample(generator=torch.Generator().manual_seed(7))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(one, model(x).sample(generator=torch.Generator().manual_seed(7)))
    assert not torch.equal(one, model(x).sample(generator=torch.Generator().manual_seed(8)))


def test_half_precision_inputs_are_raised_as_under_autocast():
    model = random_model(3, 1, 2, 2, 3).float()
    x, y = torch.randn(10, 3).bfloat16(), torch.randn(10, 1).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        value = model(x).log_prob(y)
    assert value.dtype == torch.float32
    torch.testing.assert_close(value, model(x.float()).log_prob(y.float()))


def test_names_and_shapes_of_the_parameters():
    model = MCGSM(10, 3, num_components=7, num_scales=5, num_features=50)
    assert {name: tuple(p.shape) for name, p in model.named_parameters()} == {
        "priors": (7, 5),
        "scales": (7, 5),
        "weights": (7, 50),
        "features": (10, 50),
        "cholesky": (7, 3, 3),
        "predictors": (7, 3, 10),
        "linear": (7, 10),
        "means": (7, 3),
    }
    assert model.cholesky.requires_grad
    assert not MCGSM(10).cholesky.requires_grad
    assert MCGSM(10).num_features == 10
    assert "num_components=7" in repr(model)


def test_weights_travel_as_a_state_dict():
    model, other = random_model(3, 2, 2, 2, 3, seed=1), random_model(3, 2, 2, 2, 3, seed=2)
    x, y = torch.randn(5, 3, dtype=F64), torch.randn(5, 2, dtype=F64)
    assert not torch.allclose(model(x).log_prob(y), other(x).log_prob(y))
    other.load_state_dict(model.state_dict())
    assert torch.equal(model(x).log_prob(y), other(x).log_prob(y))


def test_initialisation_follows_the_data():
    torch.manual_seed(0)
    x = (
        torch.randn(5000, 3, dtype=F64) @ torch.tensor([[1.0, 0.9, 0], [0, 0.1, 0], [0, 0, 30]], dtype=F64)
        + 50
    )
    y = x @ torch.tensor([[2.0, 0], [0, 1], [1, 1]], dtype=F64) + 0.01 * torch.randn(5000, 2, dtype=F64)
    model = MCGSM(3, 2, 4, 3, dtype=F64).initialize(x, y)
    # the fan of scales costs less than two bits over a Gaussian with the right covariance
    entropy = math.log2(0.01 * math.sqrt(2 * math.pi * math.e))
    assert -model.evaluate(x, y) < entropy + 2.0
    assert -MCGSM(3, 2, 4, 3, dtype=F64).evaluate(x, y) > 100


def test_evaluate_is_in_bits_per_output():
    model = random_model(3, 2, 2, 2, 3)
    x, y = torch.randn(40, 3, dtype=F64), torch.randn(40, 2, dtype=F64)
    expected = float(model(x).log_prob(y).mean().detach()) / math.log(2) / 2
    assert model.evaluate(x, y) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"num_inputs": -1}, "num_inputs must not be negative, got -1"),
        ({"num_inputs": 2, "num_outputs": 0}, "num_outputs must be at least 1, got 0"),
        ({"num_inputs": 2, "num_components": 0}, "num_components must be at least 1, got 0"),
        ({"num_inputs": 2, "num_scales": 0}, "num_scales must be at least 1, got 0"),
        ({"num_inputs": 2, "num_features": 0}, "num_features must be at least 1, got 0"),
    ],
)
def test_bad_sizes(arguments, message):
    with pytest.raises(ValueError, match=message):
        MCGSM(**arguments)


def test_bad_data():
    model = MCGSM(3, 2, 2, 2)
    x, y = torch.randn(5, 3), torch.randn(5, 2)
    with pytest.raises(ValueError, match=r"inputs must have shape \(\.\.\., 3\), got \(5, 4\)"):
        model(torch.randn(5, 4))
    with pytest.raises(TypeError, match=r"inputs must be torch.float32, .* got torch.float64"):
        model(x.double())
    with pytest.raises(ValueError, match=r"value must have shape \(\.\.\., 2\), got \(5, 1\)"):
        model(x).log_prob(y[:, :1])
    with pytest.raises(TypeError, match=r"value must be torch.float32 .* got torch.float64"):
        model(x).log_prob(y.double())
    with pytest.raises(NotImplementedError, match="cdf needs a single output, this density has 2"):
        model(x).cdf(y)
    with pytest.raises(ValueError, match=r"inputs and outputs must have shapes .* got \(5, 3\) and \(4, 2\)"):
        model.evaluate(x, y[:4])
    with pytest.raises(ValueError, match="inputs must be finite, got 1 values"):
        model.evaluate(torch.tensor([[0.0, torch.nan, 0.0]]), y[:1])
    with pytest.raises(ValueError, match="outputs are constant given the inputs; dequantise"):
        model.initialize(x, torch.ones(5, 2))
