"""Luma first, then chroma: an exact density of colour images."""

import math

import pytest
import torch

from ndrnn.density import LumaChromaRIDE, Modern
from ndrnn.density.lattices.images import luma_chroma

from .test_ride import SMALL, draw, random_ride


def model(pad: bool = False) -> LumaChromaRIDE:
    """With random parameters."""
    torch.manual_seed(0)
    both = LumaChromaRIDE(4, width=3, pad=pad, **SMALL)
    luma = random_ride(4, 1, both.first.neighborhood, pad=pad)
    chroma = random_ride(4, 1, both.second.neighborhood, channels=2, observed_channels=1, pad=pad)
    both.first.load_state_dict(luma.state_dict())
    both.second.load_state_dict(chroma.state_dict())
    return both


def test_the_density_is_that_of_the_parts_times_the_determinant() -> None:
    both, images = model(pad=True), draw(2, 1, 1, 3)
    matrix = luma_chroma().matrix.double()
    channels = images @ matrix.T
    expected = both.first.log_prob(channels[..., :1]) + both.second.log_prob(
        channels[..., 1:], channels[..., :1]
    )
    jacobian = torch.autograd.functional.jacobian(lambda pixel: both.transform(pixel), images[0, 0, 0])
    expected = expected + torch.linalg.slogdet(jacobian).logabsdet
    torch.testing.assert_close(both.log_prob(images), expected, rtol=1e-6, atol=1e-6)


def test_a_pixel_integrates_to_one_over_red_green_and_blue() -> None:
    both = model(pad=True).requires_grad_(False)
    # a lattice in luma and chroma, carried back to colours
    axes = [torch.linspace(-end, end, n, dtype=torch.float64) for end, n in ((30, 121), (9, 41), (9, 41))]
    channels = torch.cartesian_prod(*axes).view(-1, 1, 1, 3)
    matrix = luma_chroma().matrix.double()
    images = torch.linalg.solve(matrix, channels.unsqueeze(-1)).squeeze(-1)
    total = sum(float(both.log_prob(part).exp().sum()) for part in images.split(250_000))
    cell = math.prod(float(axis[1] - axis[0]) for axis in axes) / abs(float(torch.linalg.det(matrix)))
    assert total * cell == pytest.approx(1, abs=1e-4)


def test_both_parts_score_the_same_pixels() -> None:
    both, images = model(), draw(2, 9, 10, 3)
    value = both.log_prob(images)
    # 3-wide windows: chroma sees luma one pixel around, luma needs no row below
    assert value.shape == (2, 7, 8)
    luma, chroma = both.split(images)
    row, column = 4, 5
    expected = (
        both.first.log_prob(luma)[:, row - 1, column - 1]
        + both.second.log_prob(chroma, luma)[:, row - 1, column - 1]
        + both.transform.log_det
    )
    torch.testing.assert_close(value[:, row - 1, column - 1], expected)
    rate = both.bits_per_pixel(images)
    assert float(rate) == pytest.approx(float(value.mean().detach()) / math.log(2) / 3)
    torch.testing.assert_close(both.surprise(images), value.detach() / -math.log(2))


def test_luma_knows_no_chroma_and_chroma_no_later_chroma() -> None:
    both = model()
    images = draw(1, 7, 8, 3).requires_grad_()
    luma, chroma = both.log_prob_parts(images)
    (slope,) = torch.autograd.grad(luma.sum(), images, retain_graph=True)
    along_chroma = slope @ torch.linalg.inv(both.transform.matrix.double())[:, 1:]
    assert along_chroma.abs().max() < 1e-6 * slope.abs().max()
    (slope,) = torch.autograd.grad(chroma[0, 1, 1], images)
    along_chroma = slope @ torch.linalg.inv(both.transform.matrix.double())[:, 1:]
    # the pixel (2, 2) in the grid of the images; nothing after it in row-major order
    after = along_chroma.flatten(0, 2)[2 * 8 + 3 :]
    assert after.abs().max() < 1e-6 * slope.abs().max()
    along_luma = slope @ torch.linalg.inv(both.transform.matrix.double())[:, :1]
    assert along_luma[0, 3, 3].abs().max() > 1e-9


@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_it_samples_what_a_seed_decides(pad: bool) -> None:
    both = model(pad)
    one, two = (both.sample(2, 4, 5, generator=torch.Generator().manual_seed(0)) for _ in range(2))
    assert one.shape == (2, 4, 5, 3)
    assert torch.equal(one, two)
    assert one.isfinite().all()


def test_both_models_are_trained() -> None:
    torch.manual_seed(0)
    both = LumaChromaRIDE(4, num_components=2, num_scales=2, num_features=2)
    grey = draw(6, 20, 20, 1).float().cumsum(1) / 4
    images = grey + 0.1 * draw(6, 20, 20, 3, seed=3).float()
    schedule = Modern(steps=4, crop=12, batch_size=4, tune_iterations=10, tune_pixels=1000)
    first, second = both.fit(images, images[:2], schedule=schedule, progress=False)
    assert first.reason == second.reason == "finished"
    assert bool(both.first.whitening.fitted)
    assert bool(both.second.whitening.fitted)
    rate = both.bits_per_pixel(images)
    independent = -math.log2(float(images.std()) * math.sqrt(2 * math.pi * math.e))
    assert rate > independent + 1


def test_refusals() -> None:
    with pytest.raises(ValueError, match="images must have 3 channels, got 2"):
        model().log_prob(draw(1, 9, 9, 3)[..., :2])
    with pytest.raises(ValueError, match="width must be at least 1"):
        model().sample(1, 4, 0)
