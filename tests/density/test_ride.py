"""RIDE: the chain rule, the base measures, ensembles, growth, and what it refuses."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from ndrnn.density import RIDE, CausalNeighborhood
from ndrnn.density.lattices.images import symmetries

CELLS = ["spatial", "spatial_extended", "lstm", "stable", "leaky", "gru", "rnn", "linear"]
SMALL = {"num_components": 3, "num_scales": 2, "num_features": 4, "dtype": torch.float64}


def random_ride(*args: Any, seed: int = 0, **options: Any) -> RIDE:
    """A RIDE whose every parameter is random and whose whitening is fitted, so that no term is trivially zero."""
    generator = torch.Generator().manual_seed(seed)
    ride = RIDE(*args, **{**SMALL, "cell": "spatial", **options})
    with torch.no_grad():
        for name, p in ride.named_parameters():
            noise = torch.randn(p.shape, generator=generator, dtype=torch.float64)
            p.copy_(torch.eye(p.shape[-1]) + 0.3 * noise.tril() if name.endswith("cholesky") else 0.4 * noise)
    count = 500
    inputs = torch.randn(count, ride.whitening.num_inputs, generator=generator, dtype=torch.float64)
    outputs = torch.randn(count, ride.channels, generator=generator, dtype=torch.float64)
    ride.whitening.fit(inputs + 1, 0.7 * outputs + 0.3 * inputs[:, : ride.channels])
    ride.marginal.copy_(torch.randn(ride.marginal.shape, generator=generator, dtype=torch.float64))
    return ride


def draw(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_no_pixel_sees_itself_or_a_later_one(cell: str, pad: bool) -> None:
    """The hidden vector of a pixel has a zero derivative with respect to that pixel and all after it, and to no other
    pixel that it should see."""
    ride = random_ride(4, 2, cell=cell, pad=pad)
    height, width = 5, 7
    image = draw(1, height, width, 1).requires_grad_()
    hidden = ride.hidden_and_outputs(image)[0][0]
    top, left = (0, 0) if pad else (2, 2)
    for i in range(hidden.shape[0]):
        for j in range(hidden.shape[1]):
            (slope,) = torch.autograd.grad(hidden[i, j].square().sum(), image, retain_graph=True)
            seen = slope[0, ..., 0].flatten() != 0
            here = (i + top) * width + j + left
            assert not seen[here:].any()
            if not pad:
                # the window of the pixel itself, and through the memory that of every pixel up and left of it
                block = slope[0, : i + 2, : j + 5, 0] != 0
                assert block.all()


def test_pixels_see_through_the_memory_beyond_their_window() -> None:
    ride = random_ride(4, 1)
    image = draw(1, 9, 10, 1).requires_grad_()
    value = ride.log_prob(image)[0, -1, -1]
    (slope,) = torch.autograd.grad(value, image)
    assert slope[0, 0, 0, 0] != 0


@pytest.mark.parametrize("cell", ["spatial", "gru"])
def test_a_two_pixel_image_integrates_to_one(cell: str) -> None:
    ride = random_ride(4, 1, cell=cell, pad=True)
    axis = torch.linspace(-25, 25, 501, dtype=torch.float64)
    images = torch.cartesian_prod(axis, axis).view(-1, 1, 2, 1)
    total = sum(float(ride.log_prob(part).sum((1, 2)).exp().sum().detach()) for part in images.split(200_000))
    step = float(axis[1] - axis[0])
    assert total * step * step == pytest.approx(1, abs=1e-5)


def test_two_channels_integrate_to_one() -> None:
    ride = random_ride(4, 1, channels=2, pad=True)
    axis = torch.linspace(-25, 25, 501, dtype=torch.float64)
    images = torch.cartesian_prod(axis, axis).view(-1, 1, 1, 2)
    total = sum(float(ride.log_prob(part).exp().sum().detach()) for part in images.split(200_000))
    step = float(axis[1] - axis[0])
    assert total * step * step == pytest.approx(1, abs=1e-5)


def test_the_log_jacobian_of_the_whitening_is_counted() -> None:
    """With one component the density is a Gaussian whose spread in units of the pixels is known."""
    ride = RIDE(3, num_components=1, num_scales=1, num_features=1, pad=True, dtype=torch.float64)
    with torch.no_grad():
        for p in ride.mcgsm.parameters():
            p.zero_()
        ride.mcgsm.cholesky.fill_(1)
    generator = torch.Generator().manual_seed(0)
    outputs = 5 + 0.01 * torch.randn(1000, 1, generator=generator, dtype=torch.float64)
    ride.whitening.fit(torch.randn(1000, 12, generator=generator, dtype=torch.float64), outputs, ridge=0)
    inverse = ride.whitening.output_inverse[0, 0]
    # all 12 neighbours of the first pixel are zeros of the border
    mean = ride.whitening.restore_outputs(torch.zeros(1, 12, dtype=torch.float64), torch.zeros(1, 1).double())
    image = torch.tensor([[[5.003]]], dtype=torch.float64)
    expected = Normal(mean, inverse).log_prob(image[..., None].view(1, 1))
    torch.testing.assert_close(ride.log_prob(image).view(1, 1), expected)


@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_discrete_probabilities_sum_to_one_at_every_pixel(pad: bool) -> None:
    ride = random_ride(4, 1, pad=pad)
    levels = 8
    base = torch.randint(levels, (1, 4, 6), generator=torch.Generator().manual_seed(0))
    images = base.repeat(levels, 1, 1)
    images[:, 3, 3] = torch.arange(levels)
    row, column = (3, 3) if pad else (1, 1)
    value = ride.log_prob_discrete(images, levels=levels)[:, row, column]
    assert float(value.exp().sum()) == pytest.approx(1, abs=1e-12)
    # and what comes before does not depend on it
    before = ride.log_prob_discrete(images, levels=levels)[:, row, :column]
    torch.testing.assert_close(before, before[:1].expand_as(before))


def test_discrete_probability_is_the_density_integrated_over_the_bin() -> None:
    ride = random_ride(4, 1)
    levels, steps = 16, 2000
    image = torch.randint(1, levels - 1, (1, 3, 5), generator=torch.Generator().manual_seed(3))
    centres = (image.double() + 0.5) / levels
    fine = (torch.arange(steps, dtype=torch.float64) + 0.5) / steps
    many = centres.repeat(steps, 1, 1)
    many[:, 2, 2] = (image[0, 2, 2] + fine) / levels
    integral = ride.log_prob(many)[:, 0, 0].exp().mean() / levels
    torch.testing.assert_close(
        ride.log_prob_discrete(image, levels=levels)[0, 0, 0], integral.log(), rtol=1e-6, atol=0
    )


def test_rates_name_their_base_measure_and_agree_with_the_log_probabilities() -> None:
    ride = random_ride(4, 1).float().requires_grad_(False)
    images = torch.randint(256, (6, 8, 9), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    floats = (images.float() + 0.5) / 256
    continuous = ride.bits_per_pixel(floats, batch_size=4)
    assert float(continuous) == pytest.approx(float(ride.log_prob(floats).mean()) / math.log(2), rel=1e-5)
    assert continuous.interval[0] <= continuous <= continuous.interval[1]
    assert continuous.images == 6
    assert continuous.pixels_per_image == 6 * 5
    discrete = ride.bits_per_pixel(images, base="discrete")
    expected = -float(ride.log_prob_discrete(images).mean()) / math.log(2)
    assert float(discrete) == pytest.approx(expected, rel=1e-5)
    assert "continuous base" in str(continuous)
    assert "code length" in str(discrete)


def test_the_surprise_is_minus_the_log2_density() -> None:
    ride, images = random_ride(4, 1), draw(2, 6, 7)
    torch.testing.assert_close(ride.surprise(images) * -math.log(2), ride.log_prob(images))


def test_an_ensemble_is_the_mean_density_over_the_eight_symmetries() -> None:
    from ndrnn.density.use.evaluation import log_prob_ensemble

    ride, images = random_ride(4, 1), draw(3, 7, 8, 1)
    value, pixels = log_prob_ensemble(ride, images)
    assert pixels == 3 * 4
    members = []
    for turn in symmetries():
        turned = turn(images)
        # written out: of each turned image the pixels that have two others on every side
        rows, columns = turned.shape[1] - 2, turned.shape[2] - 2
        total = torch.zeros(3, dtype=torch.float64)
        grid = ride.log_prob(turned)
        for i in range(2, rows):
            for j in range(2, columns):
                total += grid[:, i - 2, j - 2].detach()
        members.append(total)
    torch.testing.assert_close(value, torch.stack(members).exp().mean(0).log())
    rate = ride.bits_per_pixel(images, ensemble=True)
    assert float(rate) == pytest.approx(float(value.mean()) / pixels / math.log(2))
    turned = ride.bits_per_pixel(images.transpose(1, 2).flip(1), ensemble=True)
    assert float(turned) == pytest.approx(float(rate))


def test_a_layer_is_added_on_top_and_the_mcgsm_starts_anew() -> None:
    ride = random_ride(4, 1)
    below = {name: value.clone() for name, value in ride.layers[0].state_dict().items()}
    ride.add_layer()
    assert ride.num_layers == 2
    assert ride.layers[1].input_size == 4
    assert not ride.mcgsm.priors.any()
    for name, value in ride.layers[0].state_dict().items():
        assert torch.equal(value, below[name])
    assert ride.log_prob(draw(1, 5, 6)).isfinite().all()


@pytest.mark.parametrize("cell", [*CELLS, "MDGRU"])
def test_a_layer_that_passes_through_hands_on_what_is_below(cell: Any) -> None:
    ride = RIDE(8, 1, cell=cell).double()
    before = {name: value.clone() for name, value in ride.mcgsm.state_dict().items()}
    images = draw(4, 20, 20)
    below = ride.hidden_and_outputs(images)[0]
    ride.add_layer(pass_through=True)
    above = ride.hidden_and_outputs(images)[0]
    for unit in range(8):
        both = torch.stack([below[..., unit].flatten(), above[..., unit].flatten()])
        assert torch.corrcoef(both)[0, 1] > 0.95
    for name, value in ride.mcgsm.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_short_name_and_the_layers_own_make_the_same_model() -> None:
    short, long = random_ride(4, 2, cell="gru"), random_ride(4, 2, cell="MDGRU")
    images = draw(1, 6, 7)
    assert torch.equal(short.log_prob(images), long.log_prob(images))
    assert RIDE.from_config(long.config()).cell == "MDGRU"


def test_a_registered_layer_is_a_cell(turned: str) -> None:
    ride = random_ride(4, 2, cell=turned)
    assert [type(layer).__name__ for layer in ride.layers] == ["Turned", "Turned"]
    assert ride.layers[1].inner.directions == ((1, 1),)
    image = draw(1, 6, 8, 1).requires_grad_()
    (slope,) = torch.autograd.grad(ride.hidden_and_outputs(image)[0][0, 2, 1].sum(), image)
    assert not slope[0].flatten()[4 * 8 + 3 :].any()
    with pytest.raises(ValueError, match="candidate, got Turned"):
        ride.add_layer(pass_through=True)
    assert ride.num_layers == 2


def test_the_config_makes_the_same_model() -> None:
    mask = [[1, 0, 1], [1, 0, 0]]
    ride = RIDE(4, 2, CausalNeighborhood(mask), 3, 2, 4, channels=2, cell="gru", pad=True)
    again = RIDE.from_config(ride.config())
    assert {k: v.shape for k, v in again.state_dict().items()} == {
        k: v.shape for k, v in ride.state_dict().items()
    }
    again.load_state_dict(ride.state_dict())
    images = draw(2, 4, 5, 2).float()
    assert torch.equal(again.log_prob(images), ride.log_prob(images))


def test_published_sizes() -> None:
    """The weights of the published layers, counted by hand in the table of the paper's notation."""
    ride = RIDE(64, 2, cell="spatial")
    first, second = ride.layers
    assert sum(p.numel() for p in first.parameters()) == 45_120
    trained = [p for p in ride.mcgsm.parameters() if p.requires_grad]
    assert sum(p.numel() for p in trained) == 5_376
    assert sum(p.numel() for p in second.parameters()) == 61_760
    extended = RIDE(64, 1, cell="spatial_extended").layers[0]
    assert sum(p.numel() for p in extended.parameters()) == 86_080


def test_extreme_images_do_not_overflow() -> None:
    ride = random_ride(4, 1).float()
    for scale in (1e-20, 1.0, 1e8):
        value = ride.log_prob(scale * draw(1, 6, 6).float())
        assert value.isfinite().all()


def test_refusals() -> None:
    ride = RIDE(4, num_components=2, num_scales=2, num_features=2)
    with pytest.raises(ValueError, match=r"at least 3 x 5 pixels .* got 2 x 5"):
        ride.log_prob(torch.zeros(1, 2, 5))
    with pytest.raises(TypeError, match="floating-point"):
        ride.log_prob(torch.zeros(1, 8, 8, dtype=torch.uint8))
    with pytest.raises(TypeError, match="float32"):
        ride.log_prob(torch.zeros(1, 8, 8, dtype=torch.float64))
    with pytest.raises(ValueError, match="1 channels, got 3"):
        ride.log_prob(torch.zeros(1, 8, 8, 3))
    with pytest.raises(ValueError, match="NaN"):
        ride.bits_per_pixel(torch.full((1, 8, 8), float("nan")))
    with pytest.raises(ValueError, match="observed must not be given"):
        ride.log_prob(torch.zeros(1, 8, 8), torch.zeros(1, 8, 8))
    with pytest.raises(TypeError, match="integers"):
        ride.bits_per_pixel(torch.zeros(1, 8, 8), base="discrete")
    with pytest.raises(ValueError, match="base must be"):
        ride.bits_per_pixel(torch.zeros(1, 8, 8), base="bytes")
    with pytest.raises(ValueError, match=r"\[0, 16\)"):
        ride.log_prob_discrete(torch.full((1, 8, 8), 16), levels=16)
    with pytest.raises(ValueError, match="1 channels, got 3"):
        ride.log_prob_discrete(torch.zeros(1, 8, 8, 3, dtype=torch.uint8))
    with pytest.raises(ValueError, match=r"levels must be given for images of torch\.int64"):
        ride.log_prob_discrete(torch.zeros(1, 8, 8, dtype=torch.int64))
    with pytest.raises(ValueError, match="constant"):
        ride.fit_whitening(torch.full((2, 16, 16), 0.5))
    with pytest.raises(ValueError, match=r"cell must be one of 'spatial', .* did you mean 'MDGRU'"):
        RIDE(4, cell="MDGUR")
    with pytest.raises(ValueError, match="hidden_size must be at least 1"):
        RIDE(0)
    with pytest.raises(ValueError, match="observed_channels=1 does not fit"):
        RIDE(4, 1, CausalNeighborhood.window(5), observed_channels=1)
