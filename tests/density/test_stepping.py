"""The incremental evaluator against the scan of whole images."""

from typing import Any

import pytest
import torch

from ndrnn.density import RIDE, CausalNeighborhood
from ndrnn.density.use.sampling import ancestral
from ndrnn.density.use.stepping import WavefrontEvaluator

from .test_ride import CELLS, draw, random_ride

SHAPES = [(5, 9), (9, 5), (3, 6), (4, 12)]


@torch.no_grad()
def incremental(ride: RIDE, images: Any, order: str, observed: Any = None) -> Any:
    """Hidden vectors and log-probabilities, pixel by pixel in the order of the evaluator."""
    canvas, seen = ride.canvases(images, observed)
    evaluator = WavefrontEvaluator(ride, canvas, seen, order=order)
    grid = evaluator.grid
    pixels = evaluator.rows * evaluator.columns
    hidden = canvas.new_full((pixels, len(canvas), ride.hidden_size), float("nan"))
    value = canvas.new_full((pixels, len(canvas)), float("nan"))
    for step in evaluator:
        hidden[step.pixels] = step.hidden.view(len(step.pixels), len(canvas), -1)
        value[step.pixels] = evaluator.log_prob(step)
    return hidden.transpose(0, 1).unflatten(1, grid), value.T.unflatten(1, grid)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("order", ["wavefront", "raster"])
def test_it_equals_the_scan_of_the_whole_image(cell: str, order: str) -> None:
    ride = random_ride(6, 2, cell=cell)
    for height, width in SHAPES:
        images = draw(3, height, width, 1)
        hidden, value = incremental(ride, images, order)
        torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(value, ride.log_prob(images), rtol=0, atol=1e-10)


@pytest.mark.parametrize("depth", [1, 2])
def test_a_layer_that_is_no_scan_steps_by_its_boundary_states(turned: str, depth: int) -> None:
    ride = random_ride(6, depth, cell=turned)
    images = draw(3, 5, 9, 1)
    hidden, value = incremental(ride, images, "wavefront")
    torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(value, ride.log_prob(images), rtol=0, atol=1e-10)


def test_in_float32_it_equals_the_scan_to_1e_5() -> None:
    torch.manual_seed(0)
    ride = RIDE(64, 2)
    images = draw(2, 24, 24, 1).float().cumsum(1) / 5
    ride.fit_whitening(images)
    hidden, value = incremental(ride, images, "wavefront")
    torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(value, ride.log_prob(images), rtol=0, atol=1e-5)


@pytest.mark.parametrize("cell", CELLS)
def test_extreme_pixels_saturate_the_gates_and_nothing_overflows(cell: str) -> None:
    ride = random_ride(6, 2, cell=cell).float()
    images = 1e18 * draw(2, 7, 9, 1).float()
    hidden, _ = incremental(ride, images, "wavefront")
    assert hidden.isfinite().all()
    if cell != "rnn":  # whose second layer amplifies the rounding of the first
        torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-4)
    canvas = images.clone()
    drawn = ancestral(ride, canvas, generator=torch.Generator().manual_seed(0)).images
    assert drawn.isfinite().all()


NEIGHBORHOODS = {
    "3 wide": CausalNeighborhood.window(3),
    "7 wide": CausalNeighborhood.window(7),
    "left only": CausalNeighborhood([[1, 1, 0]], (0, 2)),
    "far right": CausalNeighborhood([[0, 0, 0, 1], [1, 0, 0, 0]], (1, 1)),
}


@pytest.mark.parametrize("name", NEIGHBORHOODS)
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_any_neighbourhood_and_borders(name: str, pad: bool) -> None:
    ride = random_ride(5, 1, NEIGHBORHOODS[name], pad=pad)
    images = draw(2, 7, 9, 1)
    hidden, _ = incremental(ride, images, "wavefront")
    torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-12)


def test_channels_and_observed_channels() -> None:
    nb = CausalNeighborhood.window(3, observed=True)
    ride = random_ride(5, 1, nb, channels=2, observed_channels=1)
    images, observed = draw(2, 6, 8, 2), draw(2, 6, 8, 1, seed=2)
    hidden, value = incremental(ride, images, "wavefront", observed)
    torch.testing.assert_close(hidden, ride.hidden_and_outputs(images, observed)[0], rtol=0, atol=1e-12)
    torch.testing.assert_close(value, ride.log_prob(images, observed), rtol=0, atol=1e-10)


def test_it_takes_so_many_steps_and_can_walk_twice() -> None:
    ride = random_ride(4, 1)
    evaluator = WavefrontEvaluator(ride, draw(1, 12, 20, 1))
    first = [step.hidden.clone() for step in evaluator]
    assert len(first) == evaluator.columns + 3 * (evaluator.rows - 1)
    again = [step.hidden.clone() for step in evaluator]
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))


def test_a_wavefront_reads_only_what_is_written() -> None:
    """Pixels that are not drawn yet hold NaN; none of them may reach a hidden vector."""
    ride = random_ride(4, 1)
    images = draw(1, 8, 10, 1)
    canvas = images.clone()
    ride.neighborhood.targets(canvas).fill_(float("nan"))
    evaluator = WavefrontEvaluator(ride, canvas)
    truth = WavefrontEvaluator(ride, images)
    for step in evaluator:
        assert step.hidden.isfinite().all()
        evaluator.write(step, truth.flat[step.at])
    assert torch.equal(evaluator.images(), images)


def test_an_unknown_order_is_refused() -> None:
    with pytest.raises(ValueError, match='order must be "wavefront" or "raster"'):
        WavefrontEvaluator(random_ride(4, 1), draw(1, 8, 8, 1), order="spiral")
