"""Transforms of images and the dead leaves generator."""

from __future__ import annotations

import math

import pytest
import torch
from scipy import stats

from ndrnn.density.lattices.images import (
    Haar,
    LinearTransform,
    batches,
    dead_leaves,
    dequantize,
    luma_chroma,
    symmetries,
    tiles,
)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize("levels", [2, 256, 65536])
def test_noise_stays_in_its_bin_and_fills_it(levels, dtype):
    pixels = torch.randint(0, levels, (200, 200), generator=seeded(), dtype=torch.int32)
    pixels[:100] = levels - 1
    values = dequantize(pixels, levels=levels, generator=seeded(1), dtype=dtype)
    assert values.dtype == dtype
    assert torch.equal((values.double() * levels).floor().int(), pixels)
    assert float(values.max()) < 1
    if levels == 256:
        noise = values.double() * levels - pixels
        assert stats.kstest(noise.flatten().numpy(), "uniform").pvalue > 0.01


def test_noise_is_seeded():
    pixels = torch.zeros(5, 5, dtype=torch.uint8)
    assert torch.equal(dequantize(pixels, generator=seeded(3)), dequantize(pixels, generator=seeded(3)))
    assert not torch.equal(dequantize(pixels, generator=seeded(3)), dequantize(pixels, generator=seeded(4)))


def test_noise_wants_integers_in_range():
    with pytest.raises(TypeError, match=r"images must hold integers, got torch.float32"):
        dequantize(torch.rand(3, 3))
    with pytest.raises(ValueError, match=r"images must lie in \[0, 4\), got 0 to 5"):
        dequantize(torch.tensor([0, 5]), levels=4)
    with pytest.raises(ValueError, match=r"images must lie in \[0, 256\), got -1 to 5"):
        dequantize(torch.tensor([-1, 5]), levels=256)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_luma_and_chroma(dtype):
    transform = luma_chroma()
    images = torch.rand(2, 4, 5, 3, dtype=dtype)
    coded = transform(images)
    assert coded.dtype == dtype
    torch.testing.assert_close(transform.inverse(coded), images)
    grey = transform(torch.full((1, 1, 1, 3), 0.3, dtype=dtype))[0, 0, 0]
    torch.testing.assert_close(grey, torch.tensor([0.3, 0, 0], dtype=dtype), rtol=0, atol=1e-6)
    jacobian = torch.autograd.functional.jacobian(transform, torch.rand(1, 1, 1, 3, dtype=torch.float64))
    assert transform.log_det == pytest.approx(
        float(torch.linalg.slogdet(jacobian.view(3, 3)).logabsdet), rel=1e-9
    )


@pytest.mark.parametrize(
    ("matrix", "message"),
    [(torch.ones(2, 3), r"square, got shape \(2, 3\)"), (torch.ones(2, 2), "invertible, got rank below 2")],
)
def test_bad_matrices(matrix, message):
    with pytest.raises(ValueError, match=f"matrix must be {message}"):
        LinearTransform(matrix)


def test_haar_is_orthonormal():
    haar = Haar()
    images = torch.rand(2, 6, 8, 1, dtype=torch.float64)
    coded = haar(images)
    assert coded.shape == (2, 3, 4, 4)
    torch.testing.assert_close(haar.inverse(coded), images)
    torch.testing.assert_close(coded.square().sum(), images.square().sum())
    # the first channel is the coarse image, the others vanish where nothing changes
    torch.testing.assert_close(coded[..., 0], 2 * torch.nn.functional.avg_pool2d(images[..., 0], 2))
    assert not haar(torch.ones(1, 2, 2, 1))[..., 1:].any()
    torch.testing.assert_close(haar(images.transpose(1, 2))[..., 0], coded[..., 0].transpose(1, 2))
    with pytest.raises(ValueError, match=r"even sides and one channel .* got \(1, 3, 4, 1\)"):
        haar(torch.zeros(1, 3, 4, 1))


def test_the_eight_symmetries_are_different_and_closed():
    image = torch.arange(12.0).view(1, 3, 4, 1)
    turned = [turn(image) for turn in symmetries()]
    assert torch.equal(turned[0], image)
    keys = {(t.shape, tuple(t.flatten().tolist())) for t in turned}
    assert len(keys) == 8
    for again in symmetries():
        assert {(again(t).shape, tuple(again(t).flatten().tolist())) for t in turned} == keys


def test_tiles_cover_without_overlap():
    image = torch.arange(7 * 11).view(7, 11)
    cut = tiles(image, 3)
    assert cut.shape == (6, 3, 3, 1)
    assert torch.equal(cut[4, :, :, 0], image[3:6, 3:6])
    assert torch.equal(tiles(image[..., None].expand(7, 11, 2), 3)[4, :, :, 1], image[3:6, 3:6])
    with pytest.raises(ValueError, match="image must be at least 8 x 8, got 7 x 11"):
        tiles(image, 8)


def test_batches_cover():
    assert list(batches(7, 3)) == [slice(0, 3), slice(3, 6), slice(6, 7)]
    assert list(batches(0, 3)) == []


def test_dead_leaves_are_covered_by_disks_of_uniform_grey():
    generator = seeded(5)
    images = torch.stack([dead_leaves(48, 64, r_min=4, generator=generator) for _ in range(30)])
    assert images.shape == (30, 48, 64)
    assert float(images.min()) >= 0
    assert float(images.max()) < 1
    greys = images[:, ::23, ::31].flatten()
    assert stats.kstest(greys.numpy(), "uniform").pvalue > 0.01
    assert torch.equal(dead_leaves(9, 9, generator=seeded(1)), dead_leaves(9, 9, generator=seeded(1)))


def test_neighbours_in_dead_leaves_agree_as_often_as_geometry_says():
    # Pixels at distance d lie on one leaf with probability E[lens(R, d)] / (2 E[disk] - E[lens]): the first leaf that
    # touches either of them covers both (Lee, Mumford & Huang 2001). Monte Carlo over the radii gives the areas.
    r_min, r_max, distance = 3.0, 12.0, 4.0
    u = torch.rand(200_000, generator=seeded(6), dtype=torch.float64)
    radius = (r_min**-2 - u * (r_min**-2 - r_max**-2)).rsqrt()
    half = (distance / (2 * radius)).clamp(max=1)
    lens = 2 * radius.square() * (half.acos() - half * (1 - half.square()).sqrt())
    disk = math.pi * radius.square()
    expected = float(lens.mean() / (2 * disk - lens).mean())
    generator = seeded(7)
    agree = []
    for _ in range(60):
        image = dead_leaves(60, 60, r_min=r_min, r_max=r_max, generator=generator)
        agree.append((image[:, :-4] == image[:, 4:]).double().mean())
        agree.append((image[:-4] == image[4:]).double().mean())
    found = torch.stack(agree)
    assert abs(float(found.mean()) - expected) < 4 * float(found.std()) / math.sqrt(60)
    with pytest.raises(ValueError, match=r"0 < r_min < r_max, got 3.0 and 2.0"):
        dead_leaves(10, 10, r_min=3.0, r_max=2.0)
    with pytest.raises(ValueError, match="height and width must be at least 1, got 0 and 10"):
        dead_leaves(0, 10, r_min=1.0, r_max=3.0)
