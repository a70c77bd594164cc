"""Densities of signals, images and volumes: the same laws on lattices of one, two and three axes."""

from itertools import product
from math import prod

import pytest
import torch

from ndrnn.density import RIDE, CausalNeighborhood
from ndrnn.density.use.sampling import Noise, ancestral

from .test_ride import draw, random_ride
from .test_stepping import incremental

AXES = [1, 2, 3]
SHAPES = {1: (9,), 2: (5, 6), 3: (4, 5, 6)}
NEIGHBORHOODS = {
    "signal": CausalNeighborhood.window(5, ndim=1),
    "image": CausalNeighborhood.window(5),
    "volume": CausalNeighborhood.window(3, ndim=3),
    "wide volume": CausalNeighborhood.window(5, ndim=3),
    "a few of a volume": CausalNeighborhood([[[0, 0, 1], [0, 0, 0]], [[1, 0, 0], [0, 1, 0]]], (1, 1, 2)),
}


def window(ndim: int) -> CausalNeighborhood:
    return CausalNeighborhood.window(3, ndim=ndim)


@pytest.mark.parametrize(("ndim", "sizes"), [(1, [1, 2, 3]), (2, [4, 12, 24]), (3, [13, 62, 171])])
def test_windows_hold_half_of_a_cube(ndim: int, sizes: list[int]) -> None:
    for width, size in zip((3, 5, 7), sizes, strict=True):
        nb = CausalNeighborhood.window(width, ndim=ndim)
        assert nb.ndim == ndim
        assert nb.size == size == width**ndim // 2
        assert nb.strides == tuple((width // 2 + 1) ** (ndim - 1 - axis) for axis in range(ndim))
        seen = CausalNeighborhood.window(width, ndim=ndim, observed=True)
        assert seen.observed_size == width**ndim
        assert seen.offsets == nb.offsets


@pytest.mark.parametrize("name", NEIGHBORHOODS)
def test_windows_against_loops(name: str) -> None:
    nb = NEIGHBORHOODS[name]
    lattice = (7,) if nb.ndim == 1 else (5, 6) if nb.ndim == 2 else (4, 6, 7)
    images = torch.arange(2 * prod(lattice) * 2, dtype=torch.float64).view(2, *lattice, 2)
    inputs, outputs = [], []
    for image in images:
        for place in product(*map(range, lattice)):
            around = [tuple(p + d for p, d in zip(place, o, strict=True)) for o in nb.offsets]
            fits = all(0 <= p < s for at in around for p, s in zip(at, lattice, strict=True))
            if fits:
                inputs.append(torch.cat([image[at] for at in around]))
                outputs.append(image[place])
    found = nb.extract(images)
    assert torch.equal(found[0], torch.stack(inputs))
    assert torch.equal(found[1], torch.stack(outputs))
    drawn = nb.sample(images, 5, generator=torch.Generator().manual_seed(0))
    rows = {tuple(row) for row in torch.cat(found, 1).tolist()}
    assert {tuple(row) for row in torch.cat(drawn, 1).tolist()} < rows
    assert len(drawn[0]) == 5


@pytest.mark.parametrize("name", NEIGHBORHOODS)
def test_every_causal_neighbour_lies_in_an_earlier_wavefront(name: str) -> None:
    nb = NEIGHBORHOODS[name]
    grid = (6,) if nb.ndim == 1 else (4, 9) if nb.ndim == 2 else (3, 4, 9)
    step_of = {}
    for number, places in enumerate(nb.wavefronts(*grid)):
        for place in zip(*(each.tolist() for each in places), strict=True):
            step_of[place] = number
    assert len(step_of) == prod(grid)
    back = [tuple(-(axis == k) for axis in range(nb.ndim)) for k in range(nb.ndim)]
    for place, number in step_of.items():
        for offset in [*nb.offsets, *back]:
            before = tuple(p + o for p, o in zip(place, offset, strict=True))
            assert step_of.get(before, -1) < number


@pytest.mark.parametrize("ndim", AXES)
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_no_pixel_sees_itself_or_a_later_one(ndim: int, pad: bool) -> None:
    ride = random_ride(3, 2, window(ndim), pad=pad)
    assert ride.ndim == ndim
    lattice = SHAPES[ndim]
    image = draw(1, *lattice, 1).requires_grad_()
    hidden = ride.hidden_and_outputs(image)[0][0]
    numbers = ride.predicted(torch.arange(prod(lattice)).view(1, *lattice)).flatten().tolist()
    assert len(numbers) == prod(hidden.shape[:-1])
    seen = set()
    for number, vector in zip(numbers, hidden.flatten(0, -2), strict=True):
        (slope,) = torch.autograd.grad(vector.square().sum(), image, retain_graph=True)
        used = slope.flatten().nonzero().flatten().tolist()
        assert all(before < number for before in used)
        seen.update(used)
    # nothing that could be seen is left out
    assert seen >= set(numbers[: -1 - (ndim > 1) * lattice[-1]])


@pytest.mark.parametrize("ndim", AXES)
def test_a_lattice_of_few_levels_integrates_to_one(ndim: int) -> None:
    """Every picture of three levels, on all pixels of a small lattice: the probabilities of all sum to 1."""
    ride = random_ride(3, 1, window(ndim), pad=True)
    lattice = {1: (6,), 2: (2, 3), 3: (2, 1, 3)}[ndim]
    images = torch.tensor(list(product(range(3), repeat=prod(lattice)))).view(-1, *lattice)
    value = ride.log_prob_discrete(images, levels=3)
    assert value.shape == images.shape
    total = value.flatten(1).double().sum(1).exp().sum()
    assert float(total) == pytest.approx(1, abs=1e-9)


@pytest.mark.parametrize("ndim", AXES)
def test_the_rate_counts_all_pixels(ndim: int) -> None:
    ride = random_ride(3, 1, window(ndim))
    images = draw(4, *SHAPES[ndim], 1)
    rate = ride.bits_per_pixel(images, batch_size=3)
    value = ride.log_prob(images).detach()
    assert rate.pixels_per_image == value[0].numel()
    assert float(rate) == pytest.approx(float(value.mean()) / 0.6931471805599453)


@pytest.mark.parametrize("ndim", AXES)
def test_a_model_comes_back_from_its_config(ndim: int) -> None:
    ride = RIDE(3, ndim=ndim)
    assert ride.neighborhood.size == 5**ndim // 2
    again = RIDE.from_config(ride.config())
    again.load_state_dict(ride.state_dict())
    images = torch.rand(1, *(6,) * ndim)
    assert torch.equal(again.log_prob(images), ride.log_prob(images))
    ride.fit_whitening(torch.rand(4, *(8,) * ndim))
    assert bool(ride.whitening.fitted)


@torch.no_grad()
@pytest.mark.parametrize("order", ["wavefront", "raster"])
@pytest.mark.parametrize("name", NEIGHBORHOODS)
def test_steps_equal_the_scan(name: str, order: str) -> None:
    nb = NEIGHBORHOODS[name]
    ride = random_ride(4, 2, nb, channels=2, cell="gru" if nb.ndim == 1 else "spatial")
    for extra in product((1, 3), repeat=nb.ndim):
        lattice = [sum(pair) + more for pair, more in zip(nb._pairs(), extra, strict=True)]
        images = draw(2, *lattice, 2)
        hidden, value = incremental(ride, images, order)
        torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-12)
        torch.testing.assert_close(value, ride.log_prob(images), rtol=0, atol=1e-10)


@torch.no_grad()
@pytest.mark.parametrize("ndim", AXES)
def test_a_layer_that_is_no_scan_steps_on_any_axes(turned: str, ndim: int) -> None:
    ride = random_ride(4, 2, window(ndim), cell=turned, pad=True)
    images = draw(2, *SHAPES[ndim], 1)
    hidden, _ = incremental(ride, images, "wavefront")
    torch.testing.assert_close(hidden, ride.hidden_and_outputs(images)[0], rtol=0, atol=1e-12)


@pytest.mark.parametrize("ndim", AXES)
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_the_order_of_drawing_does_not_matter(ndim: int, pad: bool) -> None:
    nb = CausalNeighborhood.window(3, ndim=ndim, observed=True)
    ride = random_ride(4, 1, nb, pad=pad, observed_channels=1)
    images, observed = draw(2, *SHAPES[ndim], 1), draw(2, *SHAPES[ndim], 1, seed=2)
    grid = ride.predicted(images).shape[1:-1]
    noise = Noise.draw(ride, 2, *grid, generator=torch.Generator().manual_seed(3))
    fast, slow = (
        ancestral(ride, images, observed=observed, noise=noise, order=order, with_log_prob=True)
        for order in ("wavefront", "raster")
    )
    torch.testing.assert_close(fast.images, slow.images, rtol=0, atol=1e-10)
    assert fast.log_prob is not None
    torch.testing.assert_close(fast.log_prob, ride.log_prob(fast.images, observed))
    assert not torch.equal(ride.predicted(fast.images), ride.predicted(images))


@pytest.mark.parametrize("ndim", AXES)
def test_only_masked_points_are_drawn(ndim: int) -> None:
    ride = random_ride(4, 1, window(ndim))
    images = draw(1, *SHAPES[ndim], 1)
    mask = torch.zeros(SHAPES[ndim], dtype=torch.bool)
    mask[(2,) * ndim] = True
    drawn = ancestral(ride, images, mask, generator=torch.Generator().manual_seed(0)).images
    assert torch.equal((drawn != images)[0, ..., 0], mask)


@pytest.mark.parametrize("ndim", AXES)
@pytest.mark.parametrize("pad", [False, True], ids=["stationary", "pad"])
def test_samples_have_the_size_asked_for(ndim: int, pad: bool) -> None:
    ride = random_ride(3, 1, window(ndim), channels=2, pad=pad)
    size = (5, 4, 3)[:ndim]
    drawn = ride.sample(2, *size, margin=2, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (2, *size, 2)
    with pytest.raises(ValueError, match=f"size must have {ndim} extents"):
        ride.sample(2, *size, 3)


@pytest.mark.parametrize("ndim", AXES)
def test_the_first_point_is_drawn_as_the_density_has_it(ndim: int) -> None:
    """The share of first points below a bound, against the integral of the density."""
    ride = random_ride(3, 1, window(ndim), pad=True)
    one = (1,) * ndim
    drawn = ride.sample(20_000, *one, generator=torch.Generator().manual_seed(1)).flatten()
    axis = torch.linspace(-25, 25, 5001, dtype=torch.float64)
    density = ride.log_prob(axis.view(-1, *one, 1)).detach().exp().flatten()
    assert float(density.sum()) * 0.01 == pytest.approx(1, abs=1e-4)
    for bound in (-1.0, 0.0, 1.0):
        expected = float(density[axis < bound].sum()) * 0.01
        assert float((drawn < bound).double().mean()) == pytest.approx(expected, abs=0.015)


def test_axes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="ndim=1 does not fit"):
        RIDE(3, 1, CausalNeighborhood.window(3), ndim=1)
    with pytest.raises(ValueError, match="ndim must be 1, 2 or 3, got 4"):
        CausalNeighborhood.window(3, ndim=4)
    with pytest.raises(ValueError, match=r"shape \(N, D1, D2, D3\) or \(N, D1, D2, D3, C\), got \(1, 8, 8\)"):
        RIDE(3, ndim=3).log_prob(torch.zeros(1, 8, 8))
    with pytest.raises(ValueError, match="at least 3 x 5 x 5 pixels for this neighborhood, got 8 x 4 x 8"):
        RIDE(3, ndim=3).log_prob(torch.zeros(1, 8, 4, 8))
