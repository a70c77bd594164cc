"""Augmentation against scipy, and what it must leave alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import ndimage

from ndrnn.data.batches import IGNORE
from ndrnn.tasks.augmentation import Augment
from ndrnn.tasks.warping import displacements, elastic, resample


@pytest.mark.parametrize(("lattice", "sigma"), [((20, 17), 4.0), ((9, 30), 1.5), ((8, 9, 7), 2.0)])
def test_the_elastic_field_is_smoothed_uniform_noise(lattice, sigma):
    # Simard, Steinkraus & Platt 2003: uniform in ±1, a Gaussian of width sigma, times alpha
    like = torch.zeros((), dtype=torch.float64)
    moves = displacements(2, lattice, sigma, 34.0, like=like, generator=torch.Generator().manual_seed(3))
    noise = 2 * torch.rand(
        (2 * len(lattice), 1, *lattice), generator=torch.Generator().manual_seed(3), dtype=torch.float64
    ) - 1  # fmt: skip
    for sample in range(2):
        for axis in range(len(lattice)):
            raw = noise[sample * len(lattice) + axis, 0].numpy()
            expected = 34 * ndimage.gaussian_filter(
                raw, sigma, mode="constant", radius=int(np.ceil(4 * sigma))
            )
            np.testing.assert_allclose(moves[sample, ..., axis].numpy(), expected, atol=1e-10)


@pytest.mark.parametrize("lattice", [(11, 8), (5, 6, 7)])
def test_values_are_taken_bilinearly_and_nothing_lies_outside(lattice):
    generator = torch.Generator().manual_seed(0)
    x = torch.rand((1, *lattice, 2), generator=generator, dtype=torch.float64)
    source = 14 * torch.rand((1, *lattice, len(lattice)), generator=generator, dtype=torch.float64) - 3
    y = resample(x, source)
    for channel in range(2):
        expected = ndimage.map_coordinates(
            x[0, ..., channel].numpy(),
            source[0].movedim(-1, 0).numpy(),
            order=1,
            mode="grid-constant",
            cval=0,
        )
        np.testing.assert_allclose(y[0, ..., channel].numpy(), expected, atol=1e-10)


def test_elastic_is_reproducible_and_of_the_published_strength():
    x = torch.rand(50, 28, 28, 1)
    first, second = (elastic(x, 4, 34, torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(first, second)
    moves = displacements(50, (28, 28), 4, 34, like=x, generator=torch.Generator().manual_seed(1))
    # away from the edges the standard deviation is alpha/sqrt(3) times the norm of the kernel, 1/(2 sqrt(pi) sigma)
    expected = 34 / 3**0.5 / (2 * np.pi**0.5 * 4)
    assert moves[:, 10:18, 10:18].std().item() == pytest.approx(expected, rel=0.1)


def test_warped_digits_are_those_of_scipy():
    # the warp of the 2007 paper from the noise on, by other code
    digit = torch.zeros(1, 28, 28, 1, dtype=torch.float64)
    digit[0, 5:22, 9:13], digit[0, 18:22, 9:20] = 1, 0.5
    warped = elastic(digit, 4, 34, torch.Generator().manual_seed(5))
    noise = torch.rand((2, 1, 28, 28), generator=torch.Generator().manual_seed(5), dtype=torch.float64)
    moves = [
        34 * ndimage.gaussian_filter(2 * field[0].numpy() - 1, 4, mode="constant", cval=0) for field in noise
    ]
    rows, columns = np.mgrid[:28, :28]
    expected = ndimage.map_coordinates(
        digit[0, ..., 0].numpy(),
        [rows + moves[0], columns + moves[1]],
        order=1,
        mode="grid-constant",
        cval=0,
    )
    assert np.abs(expected - digit[0, ..., 0].numpy()).max() > 0.5
    np.testing.assert_allclose(warped[0, ..., 0].numpy(), expected, atol=1e-10)


def test_on_digits_a_field_scaled_to_length_1_would_be_as_strong():
    # the other reading of Simard et al. 2003, with a field of norm 1 before alpha
    like = torch.zeros((), dtype=torch.float64)
    moves = displacements(500, (28, 28), 4, 1, like=like, generator=torch.Generator().manual_seed(0))
    assert moves.square().sum((1, 2)).sqrt().mean().item() == pytest.approx(1, abs=0.05)


def test_labels_move_with_their_points():
    torch.manual_seed(0)
    target = torch.randint(0, 3, (4, 15, 13))
    x = target[..., None].float() + 1
    moved, labels = Augment(rotate=30, scale=0.2, shear=0.2, shift=2, elastic_alpha=8, flip=True)(
        x, None, target
    )
    inner = labels != IGNORE
    assert inner.float().mean() > 0.5
    assert not torch.equal(labels, target)
    assert set(labels.unique().tolist()) <= {IGNORE, 0, 1, 2}
    # where the image is flat, bilinear and nearest values agree
    flat = inner & (moved[..., 0] == moved[..., 0].round()) & (moved[..., 0] > 0)
    assert flat.sum() > 0
    far = Augment(shift=100)(x, None, target)
    assert set(far[1].unique().tolist()) >= {IGNORE}


def test_a_whole_shift_moves_labels_and_values_alike(monkeypatch):
    monkeypatch.setattr(torch, "rand", lambda *shape, **kwargs: torch.ones(*shape))  # the largest shift, +2
    target = torch.randint(0, 5, (1, 6, 7))
    x = target[..., None].float()
    moved, labels = Augment(shift=2)(x, None, target)
    assert torch.equal(labels[:, :4, :5], target[:, 2:, 2:])
    torch.testing.assert_close(moved[:, :4, :5], x[:, 2:, 2:])
    assert (labels[:, 4:] == IGNORE).all()
    assert not moved[:, 4:].any()


def test_a_ragged_sample_moves_about_its_own_centre_and_keeps_its_extent():
    torch.manual_seed(1)
    sizes = torch.tensor([[5, 7], [9, 9]])
    x = torch.zeros(2, 9, 9, 1)
    x[0, 2, 3] = 1  # the centre of the smaller sample
    x[1, 4, 4] = 1
    y, _ = Augment(rotate=180, scale=0.5)(x, sizes)
    assert y[0, 2, 3] == pytest.approx(1, abs=1e-5)
    assert y[1, 4, 4] == pytest.approx(1, abs=1e-5)
    full, _ = Augment(shift=5, elastic_alpha=20)(torch.ones(2, 9, 9, 1), sizes)
    assert not full[0, 5:].any()
    assert not full[0, :, 7:].any()


def test_a_mirror_keeps_each_value():
    torch.manual_seed(0)
    x = torch.rand(16, 4, 5, 2)
    y, _ = Augment(flip=True)(x)
    mirrored = (y - x.flip(2)).abs().amax((1, 2, 3)) < 1e-5
    kept = (y - x).abs().amax((1, 2, 3)) < 1e-5
    assert mirrored.any()
    assert kept.any()
    assert (mirrored | kept).all()


def test_nothing_happens_by_default():
    x = torch.rand(1, 3, 3, 1)
    assert Augment()(x)[0] is x


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Augment(rotate=-1), "rotate must not be below 0, got -1"),
        (lambda: Augment(scale=1.0), "scale must be below 1, got 1.0"),
        (lambda: Augment(elastic_sigma=0), "elastic_sigma must be above 0"),
        (
            lambda: Augment(shift=1)(torch.zeros(1, 5, 1)),
            r"augmentation is for 2 or 3 axes, got x of shape \(1, 5, 1\)",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
