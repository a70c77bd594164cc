"""Layers that add to what they are given: the sum itself, steps, growth, training, and files."""

from pathlib import Path

import pytest
import torch

import ndrnn
from ndrnn.density import RIDE, LumaChromaRIDE, Modern
from ndrnn.density.use.sampling import ancestral
from ndrnn.density.use.stepping import WavefrontEvaluator

from .test_ride import CELLS, draw, random_ride


def test_each_layer_above_the_first_adds_its_share() -> None:
    ride, images = random_ride(4, 3, residual=True), draw(2, 6, 8, 1)
    assert [tuple(scale.shape) for scale in ride.scales] == [(4,), (4,)]
    windows = ride.neighborhood.windows(images)
    x, _ = ride.whitening(windows, ride.neighborhood.targets(images))
    first, second, third = ride.layers
    one = first(x)
    two = one + ride.scales[0] * second(one)
    three = two + ride.scales[1] * third(two)
    assert torch.equal(ride.hidden_and_outputs(images)[0], three)
    assert not torch.allclose(three, third(second(one)))


def test_fresh_layers_begin_at_a_half_and_models_without_have_no_scales() -> None:
    assert [scale.tolist() for scale in RIDE(3, 2, residual=True).scales] == [[0.5] * 3]
    plain = RIDE(3, 2)
    assert not plain.residual
    assert not [name for name in plain.state_dict() if name.startswith("scales")]


@pytest.mark.parametrize("cell", CELLS)
def test_growth_leaves_the_density_exactly_as_it_is(cell: str) -> None:
    ride, images = random_ride(4, 1, cell=cell, residual=True), draw(2, 6, 8, 1)
    before = ride.log_prob(images)
    for _ in range(2):
        ride.add_layer(pass_through=True)
        assert torch.equal(ride.log_prob(images), before)
    (slope,) = torch.autograd.grad(ride.log_prob(images).sum(), ride.scales[1])
    assert slope.abs().min() > 0  # and the layer can learn
    ride.add_layer()
    assert ride.scales[2].tolist() == [0.5] * 4
    assert not ride.mcgsm.priors.any()


def test_a_layer_of_ones_own_passes_through_too(turned: str) -> None:
    ride, images = random_ride(4, 1, cell=turned, residual=True), draw(1, 6, 7, 1)
    before = ride.log_prob(images)
    assert torch.equal(ride.add_layer(pass_through=True).log_prob(images), before)


@pytest.mark.parametrize("cell", ["leaky", "spatial", "gru"])
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_steps_equal_the_scan(cell: str, pad: bool) -> None:
    ride, images = random_ride(4, 3, cell=cell, pad=pad, residual=True), draw(2, 7, 9, 1)
    hidden, value = ride.hidden_and_outputs(images)[0].flatten(1, 2), ride.log_prob(images).flatten(1)
    evaluator = WavefrontEvaluator(ride, ride.canvas(images))
    for step in evaluator:
        found = step.hidden.unflatten(0, (-1, 2)).transpose(0, 1)
        torch.testing.assert_close(found, hidden[:, step.pixels], rtol=0, atol=1e-12)
        torch.testing.assert_close(evaluator.log_prob(step).T, value[:, step.pixels], rtol=0, atol=1e-10)


def test_drawn_and_filled_pixels_have_the_density_that_is_told() -> None:
    ride = random_ride(4, 2, cell="leaky", residual=True).requires_grad_(False)
    generator = torch.Generator().manual_seed(0)
    drawn = ancestral(ride, draw(2, 8, 9, 1), generator=generator, with_log_prob=True)
    assert drawn.log_prob is not None
    torch.testing.assert_close(drawn.log_prob, ride.log_prob(drawn.images), rtol=0, atol=1e-9)
    mask = torch.zeros(8, 9, dtype=torch.bool)
    mask[3, 4] = True
    filled = ride.inpaint(drawn.images, mask, method="map", epochs=3, patch=None, generator=generator)
    assert torch.equal(filled.images[0][:, ~mask], drawn.images[:, ~mask])
    torch.testing.assert_close(
        filled.log_prob[0], ride.log_prob(filled.images[0]).sum((1, 2)), rtol=1e-6, atol=1e-6
    )


def test_it_comes_back_from_a_file(tmp_path: Path) -> None:
    ride, images = random_ride(4, 2, residual=True), draw(1, 6, 8, 1)
    ndrnn.save(ride, tmp_path / "ride.safetensors")
    found = ndrnn.load(tmp_path / "ride.safetensors")
    assert isinstance(found, RIDE)
    assert found.residual
    assert torch.equal(found.log_prob(images), ride.log_prob(images))
    pair = LumaChromaRIDE(3, 2, residual=True)
    assert pair.config()["residual"]
    assert pair.second.residual


def test_a_configuration_without_the_word_means_what_it_meant() -> None:
    config = random_ride(4, 2).config()
    del config["residual"]
    assert not RIDE.from_config(config).residual


def test_training_reaches_the_scales_and_only_the_top_one_if_wished() -> None:
    torch.manual_seed(0)
    ride = RIDE(4, 2, num_components=2, num_scales=2, num_features=2, residual=True)
    ride.add_layer(pass_through=True)
    before = [scale.detach().clone() for scale in ride.scales]
    schedule = Modern(steps=3, batch_size=2, crop=8, validate_every=None, tune_iterations=0)
    ride.fit(torch.rand(4, 12, 12), schedule=schedule, only_top=True, progress=False)
    assert [torch.equal(a, b) for a, b in zip(before, ride.scales, strict=True)] == [True, False]
    ride.fit(torch.rand(4, 12, 12), schedule=schedule, progress=False)
    assert not torch.equal(before[0], ride.scales[0])
