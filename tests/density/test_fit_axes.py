"""Training on lattices of one, two and three axes: patches, rates that are known, and resumed trainings."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from ndrnn.density import RIDE, CausalNeighborhood, Modern, Published
from ndrnn.density.learn.patches import PatchSource, augmented

QUICK = {"batch_size": 8, "crop": 6, "learning_rate": 1e-2, "averaging": 0.9, "tune_pixels": 20_000}


def autoregressive(ndim: int, count: int, extent: int, noise: float, seed: int = 0) -> Tensor:
    """Lattices whose every point is 0.9 times the mean of those one before along each axis, and Gaussian noise."""
    values = noise * torch.randn(
        count, *(extent,) * ndim, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    for place in torch.cartesian_prod(*[torch.arange(extent)] * ndim).view(-1, ndim).tolist():
        for axis in range(ndim):
            if place[axis]:
                before = [at - (k == axis) for k, at in enumerate(place)]
                values[(slice(None), *place)] += 0.9 / ndim * values[(slice(None), *before)]
    return values.float()


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_a_training_reaches_the_entropy_of_a_linear_process(ndim: int) -> None:
    """The points given those before are Gaussian with a known deviation; no model can have more bits than that."""
    torch.manual_seed(0)
    extent, noise = (400, 24, 10)[ndim - 1], 0.1
    lattices = autoregressive(ndim, 24, extent, noise)
    nb = CausalNeighborhood.window(3, ndim=ndim)
    ride = RIDE(3, 1, nb, num_components=2, num_scales=2, num_features=2)
    schedule = Modern(
        steps=30, tune_iterations=20, validate_every=10, **{**QUICK, "crop": (100, 12, 7)[ndim - 1]}
    )
    report = ride.fit(lattices[:16], lattices[16:20], schedule=schedule, progress=False)
    assert report.reason == "finished"
    rate = ride.bits_per_pixel(lattices[20:])
    best = -0.5 * math.log2(2 * math.pi * math.e * noise**2)
    assert best - 0.1 < float(rate) < best + 0.05
    assert rate.pixels_per_image == math.prod(ride.neighborhood.grid(*(extent,) * ndim))


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_patches_are_boxes_from_all_places(ndim: int) -> None:
    shapes = [(5, 4, 6)[:ndim], (7, 5, 4)[:ndim]]
    pictures, first = [], 0
    for shape in shapes:
        pictures.append(torch.arange(first, first + math.prod(shape)).view(shape).double())
        first += math.prod(shape)
    size = (3, 2, 4)[:ndim]
    source = PatchSource(pictures, ndim=ndim, dtype=torch.float64)
    boxes = {}  # by their first value, which tells where they are
    for picture in pictures:
        for corner in torch.cartesian_prod(
            *[torch.arange(extent - length + 1) for extent, length in zip(picture.shape, size, strict=True)]
        ).view(-1, ndim).tolist():  # fmt: skip
            box = picture[tuple(slice(at, at + length) for at, length in zip(corner, size, strict=True))]
            boxes[float(box.flatten()[0])] = box
    found = set()
    for patch in source.random(400, size, torch.Generator().manual_seed(0))[..., 0]:
        assert torch.equal(patch, boxes[float(patch.flatten()[0])])
        found.add(float(patch.flatten()[0]))
    assert found == set(boxes)
    count = source.num_tiles(size)
    assert count == sum(
        math.prod(extent // length for extent, length in zip(shape, size, strict=True)) for shape in shapes
    )
    tiles = source.tiles(range(count), size, torch.Generator())[..., 0]
    assert len(tiles.unique()) == tiles.numel()  # side by side, none upon another
    assert all(torch.equal(tile, boxes[float(tile.flatten()[0])]) for tile in tiles)


def test_only_patches_of_images_are_turned() -> None:
    generator = torch.Generator().manual_seed(0)
    for ndim in (1, 3):
        patches = torch.randn(8, *(4,) * ndim, 1)
        assert torch.equal(augmented(patches, "horizontal", generator), patches)
    images = torch.randn(8, 4, 4, 1)
    turned = augmented(images, "horizontal", generator)
    assert all(torch.equal(a, b) or torch.equal(a, b.flip(1)) for a, b in zip(turned, images, strict=True))
    assert not torch.equal(turned, images)
    with pytest.raises(
        ValueError, match=r'augment="all", flips and transposes, is for images, .* model of 1'
    ):
        RIDE(3, ndim=1).fit(torch.rand(4, 40), schedule=Modern(augment="all"))


def test_integers_of_volumes_get_noise_and_a_padded_model_learns_whole_ones() -> None:
    torch.manual_seed(0)
    volumes = torch.randint(16, (6, 4, 5, 6))
    nb = CausalNeighborhood.window(3, ndim=3)
    ride = RIDE(2, 1, nb, num_components=2, num_scales=1, num_features=2, pad=True)
    schedule = Published((4,), (0.1,), batch_size=3, tune_iterations=2, tune_pixels=500)
    ride.fit(volumes, levels=16, schedule=schedule, progress=False)
    rate = ride.bits_per_pixel(volumes, base="discrete", levels=16)
    assert rate.pixels_per_image == 4 * 5 * 6
    assert 3 < float(rate) < 5  # 4 bits a point is all there is to know


def test_a_training_on_signals_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    signals, found = autoregressive(1, 8, 60, 0.1), []
    for ends in ((), (2,)):
        torch.manual_seed(0)
        ride = RIDE(2, 1, ndim=1, num_components=2, num_scales=1, num_features=2)
        schedule = Modern(
            steps=6,
            tune_iterations=2,
            validate_every=2,
            **{**QUICK, "crop": 50, "batch_size": 40, "tune_pixels": 1000},
        )
        options = {"schedule": schedule, "progress": False, "checkpoint": tmp_path / f"{len(found)}.state"}
        for end in ends:
            stopped = ride.fit(
                signals, signals[:2], callback=lambda look, end=end: look.step < end, **options
            )
            assert stopped.reason == "interrupted"
        assert ride.fit(signals, signals[:2], **options).reason == "finished"
        found.append(ride.state_dict())
    assert all(torch.equal(value, found[1][name]) for name, value in found[0].items())


def test_what_does_not_fit_is_refused() -> None:
    ride = RIDE(3, ndim=3)
    with pytest.raises(
        ValueError, match="images must be at least as large as a patch, 40 x 40 x 40, got 8 x 8 x 9"
    ):
        ride.fit(torch.rand(2, 8, 8, 9))
    with pytest.raises(ValueError, match=r"must have shape \(N, D1, D2, D3\)"):
        ride.fit(torch.rand(2, 8, 8))
    with pytest.raises(ValueError, match=r"shape \(N, D1, D2, D3\) or \(N, D1, D2, D3, C\), got \(2, 8, 8\)"):
        ride.fit(torch.zeros(2, 8, 8, dtype=torch.uint8), levels=256)
