"""Inpainting: known pixels stay, and on tiny models the chains have the exact conditional distribution."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from ndrnn.density import RIDE, CausalNeighborhood, inpaint
from ndrnn.density.use.blocks import plan
from ndrnn.density.use.sampling import ancestral

from .test_ride import draw, random_ride
from .test_sampling import kolmogorov_smirnov

AXIS = torch.linspace(-12, 12, 2401, dtype=torch.float64)


@torch.no_grad()
def exact_ranks(ride: RIDE, image: Tensor, hole: list[tuple[int, ...]], values: Tensor) -> list[Tensor]:
    """The distribution functions of the holes' values under p(hole | all other pixels), by integration on a grid."""
    axis = AXIS if len(hole) == 1 else AXIS[::12]
    points = torch.cartesian_prod(*[axis] * len(hole)).view(-1, len(hole))
    log_density = []
    for part in points.split(20_000):
        many = image.expand(len(part), *image.shape[1:]).clone()
        for k, place in enumerate(hole):
            many[(slice(None), *place, 0)] = part[:, k]
        log_density.append(ride.log_prob(many).flatten(1).sum(1))
    mass = torch.cat(log_density).softmax(0).view([len(axis)] * len(hole))
    ranks = []
    for k in range(len(hole)):
        marginal = mass.movedim(k, 0).reshape(len(axis), -1).sum(1)
        cumulative = marginal.cumsum(0) - marginal / 2
        place = (values[:, k] - axis[0]) / (axis[1] - axis[0])
        low = place.floor().long().clamp(0, len(axis) - 2)
        weight = (place - low).clamp(0, 1)
        ranks.append(cumulative[low] * (1 - weight) + cumulative[low + 1] * weight)
    return ranks


def dependent_ride(**options: Any) -> RIDE:
    """A RIDE whose pixels depend strongly on those to their left and above, so that what comes after a hole matters."""
    ride = random_ride(4, 1, seed=4, **options)
    offsets = ride.neighborhood.offsets
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(500, len(offsets), generator=generator, dtype=torch.float64)
    noise = torch.randn(500, 1, generator=generator, dtype=torch.float64)
    ndim = ride.ndim
    left = inputs[:, [offsets.index((*(0,) * (ndim - 1), -1))]]
    above = inputs[:, [offsets.index((-1, *(0,) * (ndim - 1)))]]
    ride.whitening.fit(inputs, 0.7 * noise + 0.5 * left + 0.4 * above)
    return ride


CASES = {
    "first of a padded image": ({"pad": True}, (2, 3), [(0, 0)]),
    "middle of a stationary one": ({"neighborhood": CausalNeighborhood.window(3)}, (3, 6), [(1, 2)]),
    "two pixels, one block": ({"pad": True}, (2, 3), [(0, 1), (0, 2)]),
    "of a signal": ({"pad": True, "neighborhood": CausalNeighborhood.window(3, ndim=1)}, (4,), [(1,)]),
    "of a volume": (
        {"pad": True, "neighborhood": CausalNeighborhood.window(3, ndim=3)},
        (2, 1, 2),
        [(0, 0, 1)],
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_chains_reach_the_exact_conditional_distribution(case: str) -> None:
    options, size, hole = CASES[case]
    ride = dependent_ride(**options)
    image = draw(1, *size, 1, seed=7)
    mask = torch.zeros(size, dtype=torch.bool)
    for place in hole:
        mask[place] = True
    generator = torch.Generator().manual_seed(0)
    options = {"patch": None, "initializations": 1, "generator": generator}
    result = inpaint(ride, image, mask, chains=2000, epochs=25, **options)
    values = torch.stack([result.images[(slice(None), 0, *place, 0)] for place in hole], 1)
    for ranks in exact_ranks(ride, image, hole, values):
        assert kolmogorov_smirnov(ranks) < 1.95
    # what the chains started from differs, or this would show nothing
    many = image.expand(2000, *image.shape[1:]).clone()
    start = ancestral(ride, many, mask, generator=generator).images
    values = torch.stack([start[(slice(None), *place, 0)] for place in hole], 1)
    assert max(kolmogorov_smirnov(ranks) for ranks in exact_ranks(ride, image, hole, values)) > 2.5
    assert 0.05 < float(result.acceptance.mean()) < 0.999


def test_blocks_that_overlap_keep_the_exact_distribution() -> None:
    """One pixel a block, so that two blocks take turns."""
    ride = dependent_ride(pad=True)
    image, hole = draw(1, 2, 3, 1, seed=7), [(0, 1), (0, 2)]
    mask = torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 1:] = True
    generator = torch.Generator().manual_seed(1)
    result = inpaint(
        ride, image, mask, chains=2000, epochs=25, inner=1, stride=1, initializations=1, generator=generator
    )
    values = torch.stack([result.images[:, 0, i, j, 0] for i, j in hole], 1)
    for ranks in exact_ranks(ride, image, hole, values):
        assert kolmogorov_smirnov(ranks) < 1.95


@pytest.mark.parametrize("method", ["mh", "map"])
def test_known_pixels_stay_to_the_last_bit(method: Any) -> None:
    ride = random_ride(4, 1)
    images = draw(2, 26, 28, 1)
    mask = torch.zeros(2, 26, 28, dtype=torch.bool)
    mask[0, 2:9, 2:12] = True
    mask[1, 15:, 20:26] = True
    images[mask] = float("nan")
    generator = torch.Generator().manual_seed(0)
    result = inpaint(ride, images, mask, method=method, chains=2, epochs=2, generator=generator)
    assert result.images.shape == (2, 2, 26, 28, 1)
    for filled in result.images:
        assert torch.equal(filled[~mask], images[~mask])
        assert filled.isfinite().all()
    assert not torch.equal(result.images[0], result.images[1])
    value = torch.stack([ride.log_prob(filled).sum((1, 2)) for filled in result.images]).detach()
    torch.testing.assert_close(result.log_prob, value)
    assert result.history.shape == (3, 2, 2)
    better = result.log_prob.argmax(0)
    for n in range(2):
        assert torch.equal(result.best[n], result.images[better[n], n])
    if method == "mh":
        assert ((result.acceptance > 0) & (result.acceptance <= 1)).all()


def test_the_start_is_the_most_probable_of_several_samples() -> None:
    ride = random_ride(4, 1)
    images, mask = draw(1, 8, 9, 1), torch.zeros(8, 9, dtype=torch.bool)
    mask[3:6, 3:6] = True
    result = inpaint(
        ride, images, mask, epochs=0, initializations=6, generator=torch.Generator().manual_seed(5)
    )
    generator = torch.Generator().manual_seed(5)
    values = [
        float(ride.log_prob(ancestral(ride, images, mask, generator=generator).images).sum().detach())
        for _ in range(6)
    ]
    assert float(result.log_prob) == pytest.approx(max(values))


def test_it_goes_on_where_an_earlier_result_ended() -> None:
    """The first log-density is the earlier result's last; what is known comes from the images."""
    ride = dependent_ride(pad=True)
    images, mask = torch.randn(2, 4, 5, 1, dtype=torch.float64), torch.zeros(4, 5, dtype=torch.bool)
    mask[1:3, 1:3] = True
    first = ride.inpaint(images, mask, chains=3, epochs=2, generator=torch.Generator().manual_seed(1))
    further = ride.inpaint(images, mask, chains=3, epochs=3, start=first.images)
    torch.testing.assert_close(further.history[0], first.log_prob)
    assert not torch.equal(further.images, first.images)
    elsewhere = torch.where(mask[:, :, None], first.images, torch.nan)
    again = ride.inpaint(images, mask, chains=3, epochs=0, start=elsewhere)
    assert torch.equal(again.images, first.images)
    with pytest.raises(ValueError, match=r"start must have shape \(1, 2, 4, 5, 1\) and dtype torch.float64"):
        ride.inpaint(images, mask, epochs=1, start=first.images)
    with pytest.raises(ValueError, match="start"):
        ride.inpaint(images, mask, chains=3, epochs=1, start=torch.full_like(first.images, torch.nan))


def test_a_hole_at_the_border_is_filled_and_all_else_kept() -> None:
    ride = dependent_ride(neighborhood=CausalNeighborhood.window(3))
    images = draw(2, 6, 7, 1)
    mask = torch.zeros(6, 7, dtype=torch.bool)
    mask[:2, :3], mask[4, 6] = True, True
    unknown = images.masked_fill(mask[:, :, None], torch.nan)
    for method in ("mh", "map"):
        generator = torch.Generator().manual_seed(0)
        result = inpaint(ride, unknown, mask, method=method, chains=2, epochs=2, generator=generator)
        assert result.images.shape == (2, 2, 6, 7, 1)
        assert result.images.isfinite().all()
        assert torch.equal(result.images[:, :, ~mask], images[:, ~mask].expand(2, -1, -1, -1))
        again = inpaint(ride, unknown, mask, chains=2, epochs=0, start=result.images)
        assert torch.equal(again.images, result.images)


def test_a_hole_at_the_border_follows_its_neighbours() -> None:
    """The pixel above the first known row is drawn given what is below: on rows that hardly change it is near them."""
    ride = RIDE(2, 1, CausalNeighborhood.window(3), 1, 1, 1, dtype=torch.float64)
    with torch.no_grad():
        for p in ride.mcgsm.parameters():
            p.zero_()
        ride.mcgsm.cholesky.fill_(1)
    generator = torch.Generator().manual_seed(0)
    inputs = 3 * torch.randn(4000, 4, generator=generator, dtype=torch.float64)
    above = inputs[:, [ride.neighborhood.offsets.index((-1, 0))]]
    ride.whitening.fit(inputs, above + 0.1 * torch.randn(4000, 1, generator=generator, dtype=torch.float64))
    ride.marginal.copy_(3 * torch.randn(ride.marginal.shape, generator=generator, dtype=torch.float64))
    images = torch.full((1, 8, 9, 1), 5.0, dtype=torch.float64)
    mask = torch.zeros(8, 9, dtype=torch.bool)
    mask[0, 4] = True
    filled = inpaint(ride, images, mask, chains=20, epochs=30, generator=generator).images[:, 0, 0, 4, 0]
    # a step down one row changes a value by 0.1 in the standard deviation
    assert float((filled - 5).abs().mean()) < 0.5


def test_a_climb_without_a_finite_gradient_ends_and_says_so() -> None:
    ride = RIDE(2, num_components=2)
    layer = ride.scan_layers()[0]
    assert layer.bias is not None
    with torch.no_grad():
        layer.bias[:, 2:6] = 10.0  # both forget gates open: the memory doubles with every wavefront
    images, mask = draw(1, 90, 90, 1).float(), torch.zeros(90, 90, dtype=torch.bool)
    mask[10, 10] = True
    with pytest.warns(RuntimeWarning, match="ended after 0 of 9 steps .* not finite"):
        result = inpaint(ride, images, mask, method="map", epochs=9)
    assert result.images.isfinite().all()


def test_the_most_probable_pixel_is_found() -> None:
    ride = random_ride(4, 1, seed=4, pad=True)
    image, mask = draw(1, 2, 3, 1, seed=7), torch.zeros(2, 3, dtype=torch.bool)
    mask[0, 1] = True
    generator = torch.Generator().manual_seed(0)
    result = inpaint(ride, image, mask, method="map", chains=8, epochs=30, generator=generator)
    many = image.repeat(len(AXIS), 1, 1, 1)
    many[:, 0, 1, 0] = AXIS
    value = ride.log_prob(many).sum((1, 2)).detach()
    assert float(result.log_prob.max()) >= float(value.max()) - 1e-9
    assert float(result.best[0, 0, 1, 0]) == pytest.approx(float(AXIS[value.argmax()]), abs=0.02)
    assert (result.history.diff(dim=0) >= 0).all()
    assert result.acceptance is None
    assert all(p.requires_grad for p in ride.layers.parameters())


MASKS = {1: ((300,), [(slice(5, 248),), (290,)]), 2: ((60, 50), [(slice(5, 48), slice(3, 40)), (58, 45)])}
MASKS[3] = ((40, 30, 25), [(slice(5, 30), slice(3, 9), slice(20)), (38, 28, 2)])


@pytest.mark.parametrize("patch", [19, None])
@pytest.mark.parametrize("ndim", MASKS)
def test_patches_of_a_group_do_not_see_each_others_pixels(patch: int | None, ndim: int) -> None:
    shape, holes = MASKS[ndim]
    mask = torch.zeros(shape, dtype=torch.bool)
    for hole in holes:
        mask[hole] = True
    found = plan(mask, patch, 5, 3)
    covered = torch.zeros_like(mask)
    for group in found.groups:
        for block in group:
            drawn = tuple(
                slice(corner + begin, corner + end)
                for corner, (begin, end) in zip(block.corner, block.drawn, strict=True)
            )
            covered[drawn] = True
            ends = [corner + size for corner, size in zip(block.corner, found.size, strict=True)]
            assert all(end <= extent for end, extent in zip(ends, shape, strict=True))
            for other in group:
                if other is not block:
                    seen = torch.zeros_like(mask)
                    seen[other.patch(found.size)] = True
                    assert not seen[drawn].any()
    assert covered[mask].all()
    if patch is not None:
        assert max(map(len, found.groups)) > 1


def test_an_observed_channel_is_seen() -> None:
    ride = random_ride(4, 1, CausalNeighborhood.window(3, observed=True), channels=2, observed_channels=1)
    images, observed = draw(1, 9, 9, 2), draw(1, 9, 9, 1, seed=2)
    mask = torch.zeros(9, 9, dtype=torch.bool)
    mask[4:6, 4:6] = True
    result = inpaint(
        ride,
        images,
        mask,
        observed=observed,
        patch=7,
        inner=2,
        stride=2,
        epochs=2,
        generator=torch.Generator().manual_seed(0),
    )
    assert torch.equal(result.best[0][~mask], images[0][~mask])
    assert float(result.log_prob) == pytest.approx(float(ride.log_prob(result.best, observed).sum().detach()))


def test_refusals() -> None:
    ride, images = random_ride(3, 1), draw(1, 30, 30, 1)
    mask = torch.zeros(30, 30, dtype=torch.bool)
    with pytest.raises(ValueError, match="nothing to fill"):
        inpaint(ride, images, mask)
    mask[10, 10] = True
    with pytest.raises(ValueError, match="mask must have shape"):
        inpaint(ride, images, mask[1:])
    with pytest.raises(ValueError, match="chains must be at least 1"):
        inpaint(ride, images, mask, chains=0)
    with pytest.raises(ValueError, match="stride must not exceed inner=5"):
        inpaint(ride, images, mask, stride=6)
    with pytest.raises(ValueError, match="patch must leave 2 pixels"):
        inpaint(ride, images, mask, patch=7)
    with pytest.raises(ValueError, match='"mh" or "map"'):
        inpaint(ride, images, mask, method="gibbs")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="epochs must not be negative"):
        inpaint(ride, images, mask, epochs=-1)
    assert math.isfinite(float(inpaint(ride, images, mask, epochs=1).log_prob))


@pytest.mark.parametrize("ndim", [1, 3])
@pytest.mark.parametrize("method", ["mh", "map"])
def test_holes_of_signals_and_volumes_are_filled_up_to_the_border(ndim: int, method: Any) -> None:
    ride = random_ride(3, 1, CausalNeighborhood.window(3, ndim=ndim))
    shape = (9, 4, 5)[:ndim]
    images = draw(2, *shape, 1)
    mask = torch.zeros(shape, dtype=torch.bool)
    mask[(0,) * ndim], mask[(2,) * ndim] = True, True
    generator = torch.Generator().manual_seed(0)
    result = ride.inpaint(images, mask, method=method, chains=2, epochs=2, patch=9, generator=generator)
    assert result.images.shape == (2, *images.shape)
    assert torch.equal(result.images[:, :, ~mask], images[:, ~mask].expand(2, *images[:, ~mask].shape))
    assert (result.images[:, :, mask] != images[:, mask]).all()
