"""Ancestral sampling: the order does not matter, the distribution is the model's, the known stays."""

import math

import pytest
import torch
from torch import Tensor

from ndrnn.density import RIDE, CausalNeighborhood, texture
from ndrnn.density.use.sampling import Noise, ancestral
from ndrnn.density.use.stepping import Step, WavefrontEvaluator

from .test_ride import CELLS, draw, random_ride


def kolmogorov_smirnov(values: Tensor) -> float:
    """sqrt(n) times the largest distance from the uniform distribution on [0, 1]; above 1.95 once in a thousand."""
    ranked = values.flatten().double().sort().values
    n = len(ranked)
    above = torch.arange(1, n + 1) / n - ranked
    return math.sqrt(n) * float(torch.maximum(above, 1 / n - above).max())


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_wavefronts_draw_what_a_raster_loop_draws(cell: str, pad: bool) -> None:
    ride = random_ride(5, 2, cell=cell, pad=pad)
    images = draw(3, 7, 9, 1)
    rows, columns = (7, 9) if pad else (5, 5)
    noise = Noise.draw(ride, 3, rows, columns, generator=torch.Generator().manual_seed(2))
    quick, slow = (
        ancestral(ride, images, noise=noise, order=order).images for order in ("wavefront", "raster")
    )
    torch.testing.assert_close(quick, slow, rtol=0, atol=1e-10)
    assert not torch.isclose(quick[:, -rows:, 2:-2], images[:, -rows:, 2:-2]).any()


def test_colour_is_drawn_alike_in_both_orders() -> None:
    nb = CausalNeighborhood.window(3, observed=True)
    ride = random_ride(5, 1, nb, channels=2, observed_channels=1)
    images, observed = draw(2, 6, 8, 2), draw(2, 6, 8, 1, seed=2)
    noise = Noise.draw(ride, 2, 4, 6, generator=torch.Generator().manual_seed(2))
    quick, slow = (
        ancestral(ride, images, observed=observed, noise=noise, order=order).images
        for order in ("wavefront", "raster")
    )
    torch.testing.assert_close(quick, slow, rtol=0, atol=1e-10)


@pytest.mark.parametrize("known", [False, True], ids=["all drawn", "some known"])
def test_the_log_probability_is_that_accumulated_while_sampling(
    known: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    ride = random_ride(5, 2)
    images = draw(3, 9, 10, 1)
    mask = None
    if known:
        mask = torch.zeros(9, 10, dtype=torch.bool)
        mask[3:6, 4:7] = True
    accumulated = torch.full((3, 7 * 6), float("nan")).double()
    write = WavefrontEvaluator.write

    def writing(evaluator: WavefrontEvaluator, step: Step, values: Tensor) -> None:
        write(evaluator, step, values)
        accumulated[:, step.pixels] = evaluator.log_prob(step).T

    monkeypatch.setattr(WavefrontEvaluator, "write", writing)
    drawn = ancestral(ride, images, mask, generator=torch.Generator().manual_seed(0), with_log_prob=True)
    assert drawn.log_prob is not None
    visited = accumulated.isfinite()
    unknown = torch.ones(3, 9, 10, dtype=torch.bool) if mask is None else mask.expand(3, -1, -1)
    assert visited[ride.predicted(unknown).flatten(1)].all()
    torch.testing.assert_close(drawn.log_prob.flatten(1)[visited], accumulated[visited], rtol=0, atol=1e-10)


def test_samples_have_the_models_conditional_distributions() -> None:
    """Every pixel's conditional distribution function, at the sample, is uniform and independent of the others'."""
    ride = random_ride(4, 1, pad=True)
    images = ancestral(
        ride, torch.zeros(3000, 2, 3, 1).double(), generator=torch.Generator().manual_seed(0)
    ).images
    hidden, outputs = ride.hidden_and_outputs(images)
    ranks = ride.mcgsm(hidden).cdf(outputs).detach().flatten(1)
    for k in range(6):
        assert kolmogorov_smirnov(ranks[:, k]) < 1.95
    correlation = torch.corrcoef(ranks.T) - torch.eye(6)
    assert correlation.abs().max() < 4 / math.sqrt(3000)


def test_known_pixels_stay_to_the_last_bit_and_what_is_masked_is_not_read() -> None:
    ride = random_ride(4, 1)
    images = draw(2, 10, 12, 1)
    mask = torch.zeros(2, 10, 12, dtype=torch.bool)
    mask[0, 4:6, 5:8] = True
    mask[1, 2:4, 2:4] = True
    images[mask] = float("nan")
    drawn = ancestral(ride, images, mask, generator=torch.Generator().manual_seed(0)).images
    assert torch.equal(drawn[~mask], images[~mask])
    assert drawn.isfinite().all()
    images[mask] = 1e6
    again = ancestral(ride, images, mask, generator=torch.Generator().manual_seed(0)).images
    assert torch.equal(drawn, again)


def test_seeds_decide_and_images_of_a_batch_are_independent() -> None:
    ride = random_ride(4, 1)
    one, same, other = (
        ride.sample(2, 6, 7, generator=torch.Generator().manual_seed(seed)) for seed in (0, 0, 1)
    )
    assert one.shape == (2, 6, 7, 1)
    assert torch.equal(one, same)
    assert not torch.equal(one, other)
    images = draw(4, 6, 9, 1)
    noise = Noise.draw(ride, 4, 4, 5, generator=torch.Generator().manual_seed(3))
    batch = ancestral(ride, images, noise=noise).images
    alone = ancestral(ride, images[2:3], noise=Noise(noise.uniform[2:3], noise.normal[2:3])).images
    torch.testing.assert_close(batch[2:3], alone, rtol=0, atol=1e-12)


def test_samples_come_in_the_size_asked_for() -> None:
    generator = torch.Generator().manual_seed(0)
    assert random_ride(3, 1, pad=True).sample(2, 3, 4, generator=generator).shape == (2, 3, 4, 1)
    assert random_ride(3, 1, channels=3).sample(1, 3, 4, margin=0, generator=generator).shape == (1, 3, 4, 3)
    nb = CausalNeighborhood.window(3, observed=True)
    ride = random_ride(3, 1, nb, channels=2, observed_channels=1)
    assert ride.sample(2, 5, 6, observed=draw(2, 5, 6, 1), generator=generator).shape == (2, 5, 6, 2)


def test_textures_stay_within_the_percentiles_of_their_image() -> None:
    ride = random_ride(4, 1)
    image = draw(40, 50)
    drawn = texture(ride, image, 9, 11, n=3, percentiles=(20, 70), generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 9, 11, 1)
    ranked = image.flatten().sort().values
    low, high = ranked[round(0.2 * 1999)], ranked[round(0.7 * 1999)]
    assert drawn.min() == low
    assert drawn.max() == high


def test_refusals() -> None:
    ride = random_ride(3, 1)
    images = draw(2, 8, 9, 1)
    inner = torch.zeros(8, 9, dtype=torch.bool)
    with pytest.raises(ValueError, match="nothing to fill"):
        ancestral(ride, images, inner)
    inner[4, 4] = True
    with pytest.raises(TypeError, match=r"torch\.bool"):
        ancestral(ride, images, inner.int())
    with pytest.raises(ValueError, match=r"mask must have shape \(8, 9\) or \(2, 8, 9\), got \(9, 8\)"):
        ancestral(ride, images, inner.T)
    edge = inner.clone()
    edge[0, 0] = True
    with pytest.raises(ValueError, match="2 rows above, 0 below, 2 columns left and 2 right"):
        ancestral(ride, images, edge)
    images[0, 0, 0] = float("nan")
    with pytest.raises(ValueError, match="images must be finite, got 1"):
        ancestral(ride, images, inner)
    with pytest.raises(ValueError, match="noise must hold"):
        ancestral(ride, images, noise=Noise.draw(ride, 2, 3, 3))
    with pytest.raises(ValueError, match="height must be at least 1, got 0"):
        ride.sample(1, 0, 4)
    with pytest.raises(ValueError, match="margin must not be negative"):
        ride.sample(1, 4, 4, margin=-1)
    with pytest.raises(ValueError, match="percentiles must rise"):
        texture(ride, draw(9, 9), 4, 4, percentiles=(90, 10))
    with pytest.raises(ValueError, match=r"1 channels of torch\.float64, got 3"):
        texture(ride, draw(9, 9, 3), 4, 4)
    with pytest.raises(ValueError, match="observed must not be given"):
        RIDE(3).sample(1, 4, 4, observed=torch.zeros(1, 4, 4, 1))
