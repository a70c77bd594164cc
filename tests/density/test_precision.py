"""Reduced precision, functional transforms and the meta device."""

import pytest
import torch
from torch.func import functional_call, grad, hessian, jvp, vmap

import ndrnn
from ndrnn.density import MCGSM, RIDE, LumaChromaRIDE, MultiscaleRIDE, Whitening

from .test_ride import draw, random_ride


def smooth(*shape: int) -> torch.Tensor:
    """Images whose pixels say much of their neighbours, so that whitening magnifies what rounding leaves."""
    return draw(*shape).float().cumsum(1).cumsum(2) / 10 + 3


def test_whitening_ignores_autocast() -> None:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, 4, generator=generator).cumsum(1) + 5
    outputs = inputs[:, 3:] + 0.01 * torch.randn(500, 1, generator=generator)
    whitening = Whitening(4, 1).fit(inputs, outputs)
    plain = [
        *whitening(inputs, outputs),
        whitening.whiten_inputs(inputs),
        *whitening.inverse(inputs, outputs),
    ]
    with torch.autocast("cpu", torch.bfloat16):
        lowered = [
            *whitening(inputs, outputs),
            whitening.whiten_inputs(inputs),
            *whitening.inverse(inputs, outputs),
        ]
    for a, b in zip(plain, lowered, strict=True):
        assert torch.equal(a, b)


@pytest.mark.parametrize("layers", [1, 2])
def test_a_density_under_autocast_is_that_of_full_precision(layers: int) -> None:
    torch.manual_seed(0)
    ride = RIDE(16, layers, num_components=4)
    images = smooth(4, 20, 20)
    ride.fit_whitening(images)
    ride.requires_grad_(False)
    plain = ride.log_prob(images)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = ride.log_prob(images)
    assert lowered.dtype == torch.float32
    assert float((lowered - plain).abs().max()) < 0.02


def test_all_of_a_mixture_ignores_autocast() -> None:
    ride = random_ride(5, 1).float()
    x, y = draw(40, 5).float(), draw(40, 1).float()

    def everything() -> list[torch.Tensor]:
        density = ride.mcgsm(x)
        generator = torch.Generator().manual_seed(0)
        found = [density.log_prob(y), density.gate, density.posterior(y), density.mean, density.variance]
        found += [density.cdf(y), density.log_prob_interval(y, y + 1), density.sample(generator=generator)]
        return found

    plain = everything()
    with torch.autocast("cpu", torch.bfloat16):
        lowered = everything()
    for a, b in zip(plain, lowered, strict=True):
        assert torch.equal(a, b)


def test_samples_under_autocast_are_the_same() -> None:
    ride = random_ride(5, 1).float()
    plain = ride.sample(1, 5, 6, generator=torch.Generator().manual_seed(0))
    with torch.autocast("cpu", torch.bfloat16):
        lowered = ride.sample(1, 5, 6, generator=torch.Generator().manual_seed(0))
    assert torch.equal(plain, lowered)


@pytest.mark.parametrize("cls", [MultiscaleRIDE, LumaChromaRIDE])
def test_transforms_of_pairs_ignore_autocast(cls: type) -> None:
    pair, images = cls(3), smooth(1, 8, 8, 1 if cls is MultiscaleRIDE else 3)
    plain = pair.split(images)
    with torch.autocast("cpu", torch.bfloat16):
        lowered = pair.split(images)
        back = pair.transform.inverse(torch.cat(lowered, -1))
    assert all(torch.equal(a, b) for a, b in zip(plain, lowered, strict=True))
    torch.testing.assert_close(back, images)


def random_mcgsm(outputs: int) -> MCGSM:
    torch.manual_seed(1)
    mcgsm = MCGSM(3, outputs, 3, 2, 4, dtype=torch.float64)
    for p in mcgsm.parameters():
        p.data.add_(0.3 * torch.randn_like(p))
    return mcgsm


@pytest.mark.parametrize("outputs", [1, 2])
def test_functional_transforms_of_a_mixture(outputs: int) -> None:
    mcgsm, x, y = random_mcgsm(outputs), draw(6, 3), draw(6, outputs, seed=2)

    def value(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return mcgsm(x).log_prob(y)

    torch.testing.assert_close(vmap(value)(x[:, None], y[:, None]).squeeze(1), value(x, y))
    given = x.clone().requires_grad_()
    (expected,) = torch.autograd.grad(value(given, y).sum(), given)
    torch.testing.assert_close(grad(lambda x: value(x, y).sum())(x), expected)
    along = draw(6, 3, seed=3)
    torch.testing.assert_close(jvp(lambda x: value(x, y).sum(), (x,), (along,))[1], (expected * along).sum())
    curvature = hessian(lambda x: value(x[None], y[:1]).sum())(x[0])
    step = 1e-5
    ahead = [grad(lambda x: value(x[None], y[:1]).sum())(x[0] + step * e) for e in torch.eye(3).double()]
    behind = [grad(lambda x: value(x[None], y[:1]).sum())(x[0] - step * e) for e in torch.eye(3).double()]
    torch.testing.assert_close(
        curvature, (torch.stack(ahead) - torch.stack(behind)) / (2 * step), rtol=1e-5, atol=1e-6
    )


def test_functional_gradients_of_a_ride_are_the_ordinary_ones() -> None:
    ride, images = random_ride(3, 1), draw(2, 5, 6)
    weights = dict(ride.named_parameters())
    found = grad(lambda weights: functional_call(ride, weights, (images,)).sum())(weights)
    ride.log_prob(images).sum().backward()
    for name, weight in ride.named_parameters():
        if weight.requires_grad:
            torch.testing.assert_close(found[name], weight.grad)


@pytest.mark.parametrize(
    "make",
    [
        lambda: MCGSM(3, 2),
        lambda: RIDE(4, 2),
        lambda: RIDE(4, observed_channels=1),
        lambda: MultiscaleRIDE(4),
        lambda: LumaChromaRIDE(4),
    ],
)
def test_models_are_made_without_memory_and_filled_in_later(make) -> None:
    torch.manual_seed(0)
    whole = make()
    with torch.device("meta"):
        empty = make()
    assert all(p.is_meta for p in empty.parameters())
    assert repr(empty)
    empty.load_state_dict(whole.state_dict(), assign=True)
    for (name, a), (_, b) in zip(whole.state_dict().items(), empty.state_dict().items(), strict=True):
        assert torch.equal(a, b), name
    if isinstance(whole, ndrnn.RIDE) and not whole.observed_channels:
        images = torch.rand(1, 6, 7)
        assert torch.equal(whole.log_prob(images), empty.log_prob(images))
