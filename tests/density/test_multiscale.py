"""Two scales: the Haar transform keeps densities, the coarse image comes first."""

import math

import pytest
import torch

from ndrnn.density import RIDE, Haar, Modern, MultiscaleRIDE, StackedRIDE
from ndrnn.density.lattices.neighborhood import CausalNeighborhood

from .test_ride import SMALL, draw, random_ride


def model(pad: bool = False) -> MultiscaleRIDE:
    """With random parameters."""
    both = MultiscaleRIDE(4, width=3, pad=pad, **SMALL)
    coarse = random_ride(4, 1, both.first.neighborhood, pad=pad)
    details = random_ride(4, 1, both.second.neighborhood, channels=3, observed_channels=1, pad=pad)
    both.first.load_state_dict(coarse.state_dict())
    both.second.load_state_dict(details.state_dict())
    return both


def test_the_density_of_a_block_is_that_of_its_coefficients() -> None:
    """Written out: the coarse value is half the sum of the four pixels, and the transform is orthonormal."""
    both, images = model(pad=True), draw(3, 2, 2, 1)
    a, b, c, d = images.flatten(1).T
    coarse = ((a + b + c + d) / 2).view(3, 1, 1, 1)
    details = torch.stack([a - b + c - d, a + b - c - d, a - b - c + d], 1).view(3, 1, 1, 3) / 2
    expected = both.first.log_prob(coarse) + both.second.log_prob(details, coarse)
    torch.testing.assert_close(both.log_prob(images), expected)
    jacobian = torch.autograd.functional.jacobian(
        lambda x: Haar()(x.view(1, 2, 2, 1)).flatten(), images[0].flatten()
    )
    torch.testing.assert_close(jacobian @ jacobian.T, torch.eye(4, dtype=torch.float64))


def test_the_coarse_image_comes_first() -> None:
    both = model()
    images = draw(1, 10, 12, 1).requires_grad_()
    coarse, details = both.log_prob_parts(images)
    (slope,) = torch.autograd.grad(coarse.sum(), images, retain_graph=True)
    # the coarse image's density is the same for all four pixels of a block
    blocks = slope[0, ..., 0].unfold(0, 2, 2).unfold(1, 2, 2).flatten(2)
    torch.testing.assert_close(blocks, blocks[..., :1].expand_as(blocks))
    (slope,) = torch.autograd.grad(details[0, 0, 0], images)
    # the details of block (1, 1) see the coarse value of block (2, 2), and of no block further down
    assert slope[0, 4:6, 4:6].abs().max() > 0
    assert slope[0, 6:].abs().max() == 0


def test_bits_per_pixel_count_all_four_values_of_a_block() -> None:
    both, images = model(), draw(2, 12, 14, 1)
    value = both.log_prob(images)
    assert value.shape == (2, 4, 5)
    rate = both.bits_per_pixel(images)
    assert float(rate) == pytest.approx(float(value.mean().detach()) / math.log(2) / 4)


def test_samples_have_the_sides_asked_for_and_a_marginal_like_the_data() -> None:
    torch.manual_seed(0)
    both = MultiscaleRIDE(4, num_components=2, num_scales=2, num_features=2)
    images = draw(8, 24, 24, 1).float().cumsum(1).cumsum(2)
    images = (images - images.mean()) / images.std()
    schedule = Modern(steps=4, crop=8, batch_size=4, tune_iterations=10, tune_pixels=1000)
    reports = both.fit(images, schedule=schedule, progress=False)
    assert [report.reason for report in reports] == ["finished", "finished"]
    drawn = both.sample(3, 5, 6, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (3, 10, 12, 1)
    assert drawn.isfinite().all()
    # neighbours resemble each other, as in the data
    assert float((drawn[:, 1:] - drawn[:, :-1]).std()) < float(drawn.std())


def test_refusals() -> None:
    with pytest.raises(ValueError, match="even sides"):
        model().log_prob(draw(1, 9, 10, 1))
    coarse = RIDE(4, dtype=torch.float64)
    other = RIDE(
        4,
        1,
        CausalNeighborhood.window(3, observed=True),
        channels=2,
        observed_channels=2,
        dtype=torch.float64,
    )
    with pytest.raises(ValueError, match="second must observe the 1 channels of first, got 2"):
        StackedRIDE(Haar(), coarse, other)
    padded = RIDE(
        4,
        1,
        CausalNeighborhood.window(3, observed=True),
        channels=3,
        observed_channels=1,
        pad=True,
        dtype=torch.float64,
    )
    with pytest.raises(ValueError, match="pad alike"):
        StackedRIDE(Haar(), coarse, padded)
