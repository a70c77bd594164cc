"""Probabilities of integer pixels: 1 to 4 channels, 1 to 16 bits."""

from itertools import product
from math import log

import pytest
import torch
from torch import Tensor

from ndrnn.density import RIDE, CausalNeighborhood, dequantize, levels_of

from .test_ride import random_ride


def every(levels: int, channels: int) -> Tensor:
    """Images (levels^channels, 1, 2, channels) whose last pixel takes all its values, under a first one that stays."""
    last = torch.tensor(list(product(range(levels), repeat=channels)))
    first = torch.randint(
        levels, (1, channels), generator=torch.Generator().manual_seed(0), dtype=torch.int64
    )
    return torch.stack([first.expand_as(last), last], 1).unsqueeze(1)


@pytest.mark.parametrize(
    ("levels", "channels"), [(2, 1), (256, 1), (4096, 1), (65536, 1), (16, 2), (5, 3), (3, 4)]
)
def test_all_values_of_a_pixel_sum_to_one(levels: int, channels: int) -> None:
    ride = random_ride(3, 1, CausalNeighborhood.window(3), channels=channels, pad=True)
    value = ride.log_prob_discrete(every(levels, channels), levels=levels)
    assert value.shape == (levels**channels, 1, 2)
    assert float(value[:, 0, 1].exp().sum()) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("channels", [1, 2, 4])
def test_at_16_bits_a_probability_is_the_density_times_the_bin(channels: int, dtype: torch.dtype) -> None:
    levels = 65536
    ride = random_ride(4, 1, channels=channels).to(dtype)
    generator = torch.Generator().manual_seed(3)
    images = torch.randint(1, levels - 1, (2, 5, 8, channels), generator=generator)
    centres = (images.double() + 0.5) / levels
    density = ride.log_prob(centres.to(dtype)) - channels * log(levels)
    found = ride.log_prob_discrete(images, levels=levels)
    assert found.dtype == dtype
    torch.testing.assert_close(found, density.detach(), rtol=0, atol=1e-3 if dtype == torch.float32 else 1e-6)


def test_float32_is_as_good_as_float64_where_the_density_is_steep() -> None:
    """The whitening of smooth images magnifies a pixel a thousandfold: a bin of 16 bits is far below its rounding."""
    generator = torch.Generator().manual_seed(0)
    ride = random_ride(4, 1)
    inputs = torch.rand(2000, 12, generator=generator, dtype=torch.float64)
    noise = torch.randn(2000, 1, generator=generator, dtype=torch.float64)
    ride.whitening.fit(inputs, inputs.mean(1, keepdim=True) + 1e-3 * noise, ridge=1e-9)
    images = torch.randint(30000, 30200, (1, 6, 9), generator=generator)
    exact = ride.log_prob_discrete(images, levels=65536)
    lowered = ride.float().log_prob_discrete(images, levels=65536)
    torch.testing.assert_close(lowered.double(), exact, rtol=0, atol=0.02)


def test_two_channels_are_the_last_and_the_first_given_its_centre() -> None:
    """By integration of the density on a grid."""
    ride, levels = random_ride(3, 1, CausalNeighborhood.window(3), channels=2, pad=True), 4
    images = torch.tensor([[[[1, 2]]]])
    found = float(ride.log_prob_discrete(images, levels=levels)[0, 0, 0])
    axis = torch.linspace(-30, 30, 4801, dtype=torch.float64)
    step = float(axis[1] - axis[0])
    inside = (torch.arange(400, dtype=torch.float64) + 0.5) / 400 / levels

    def density(first: Tensor, second: Tensor) -> Tensor:
        points = torch.cartesian_prod(first, second).view(-1, 1, 1, 2)
        parts = [ride.log_prob(part).detach().exp().flatten() for part in points.split(500_000)]
        return torch.cat(parts).view(len(first), len(second))

    coarse = inside.view(50, 8).mean(1)
    second = float(density(axis, 2 / levels + coarse).sum()) * step / 50 / levels
    at_centre = torch.tensor([2.5 / levels], dtype=torch.float64)
    first = float(density(1 / levels + inside, at_centre).sum()) / 400 / levels
    given = first / (float(density(axis, at_centre).sum()) * step)
    assert found == pytest.approx(log(second) + log(given), abs=1e-3)


def test_observed_channels_are_known() -> None:
    nb = CausalNeighborhood.window(3, observed=True)
    ride = random_ride(3, 1, nb, observed_channels=1, pad=True)
    images = every(8, 1)
    observed = (
        torch.rand(1, 1, 2, 1, generator=torch.Generator().manual_seed(1)).double().expand(8, -1, -1, -1)
    )
    value = ride.log_prob_discrete(images, observed, levels=8)[:, 0, 1]
    assert float(value.exp().sum()) == pytest.approx(1, abs=1e-9)
    other = ride.log_prob_discrete(images, observed + 1, levels=8)[:, 0, 1]
    assert not torch.allclose(value, other)


@pytest.mark.parametrize(("dtype", "levels"), [(torch.bool, 2), (torch.uint8, 256), (torch.uint16, 65536)])
def test_the_depth_of_the_data_tells_the_levels(dtype: torch.dtype, levels: int) -> None:
    ride = RIDE(2, num_components=2).double()
    values = torch.randint(levels, (2, 6, 7), generator=torch.Generator().manual_seed(0))
    images = values.to(dtype)
    assert levels_of(images) == levels
    expected = ride.log_prob_discrete(values, levels=levels)
    assert torch.equal(ride.log_prob_discrete(images), expected)
    rate = ride.bits_per_pixel(images, base="discrete")
    assert float(rate) == pytest.approx(-float(expected.mean()) / log(2))
    noisy = dequantize(images, generator=torch.Generator().manual_seed(0))
    assert torch.equal((noisy.double() * levels).floor().long(), values)


def test_noise_fills_a_bin_of_16_bits() -> None:
    values = torch.full((20_000,), 65535, dtype=torch.int64).to(torch.uint16)
    noisy = dequantize(values, generator=torch.Generator().manual_seed(0))
    assert noisy.dtype == torch.float32
    assert float(noisy.max()) < 1
    place = noisy.double() * 65536 - 65535
    assert float(place.mean()) == pytest.approx(0.5, abs=0.01)


def test_training_takes_16_bits() -> None:
    from ndrnn.density import Modern

    pictures = torch.randint(65536, (4, 16, 16), generator=torch.Generator().manual_seed(0)).to(torch.uint16)
    ride = RIDE(2, num_components=2, num_scales=1, num_features=2)
    schedule = Modern(steps=2, batch_size=2, crop=8, tune_iterations=0)
    report = ride.fit(pictures, schedule=schedule, levels=65536, progress=False)
    assert report.steps == 2
