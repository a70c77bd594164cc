"""Values of samples changed for training: light, strokes and noise."""

import pytest
import torch
import torch.nn.functional as F
from torch.testing import assert_close

from ndrnn.lattice import inside
from ndrnn.tasks import Augment
from ndrnn.tasks.shading import stroked

SIZES = torch.tensor([[5, 7], [4, 3], [1, 7]])
X = torch.rand(3, 5, 7, 2, generator=torch.Generator().manual_seed(0))


def changed(seed=0, x=X, sizes=SIZES, **how):
    torch.manual_seed(seed)
    return Augment(**how)(x, sizes)[0]


def own(x, index):
    height, width = SIZES[index].tolist()
    return x[index, :height, :width]


@pytest.mark.parametrize(
    "how",
    [
        {"brightness": 0.2},
        {"contrast": 0.5},
        {"gamma": 1.0},
        {"tint": 0.5},
        {"stroke": 1.0},
        {"noise": 0.3},
        {"cutout": 1.0},
    ],
    ids=str,
)
def test_padding_has_no_say_and_stays_0(how):
    outside = ~inside(SIZES, (5, 7))
    filled = X.masked_fill(outside[..., None], torch.nan)
    first, second = changed(x=filled, **how), changed(**how)
    assert (first[outside] == 0).all()
    assert_close(first, second)
    if "cutout" not in how:  # a box may be too small to hold the middle of a point
        assert all((own(first, index) != own(X, index)).any() for index in range(3))
    assert torch.equal(changed(seed=1, **how), changed(seed=1, **how))
    assert not torch.equal(changed(seed=1, **how), second)


def test_brightness_moves_a_sample_as_a_whole():
    for index in range(3):
        moves = own(changed(brightness=0.2), index) - own(X, index)
        assert_close(moves, moves[:1, :1, :1].expand_as(moves), rtol=0, atol=1e-6)
        assert 0 < moves.abs().max() <= 0.2


def test_contrast_keeps_the_mean():
    for index in range(3):
        before, after = own(X, index), own(changed(contrast=0.5), index)
        assert_close(after.mean(), before.mean())
        share = (after.std() / before.std()).item()
        assert 0.5 <= share <= 1.5
        assert share != pytest.approx(1, abs=1e-3)


def test_gamma_is_a_power_that_differs_from_sample_to_sample():
    powers = []
    for index in range(3):
        power = own(changed(gamma=1.0), index).log() / own(X, index).log()
        assert_close(power, power[:1, :1, :1].expand_as(power), rtol=1e-3, atol=1e-3)
        powers.append(power.mean().item())
    assert all(0.5 <= power <= 2 for power in powers)
    assert len({round(power, 3) for power in powers}) == 3
    assert_close(changed(x=-X, gamma=1.0), -changed(gamma=1.0))


def test_a_box_is_cut_out_and_its_labels_stay():
    x = torch.rand(300, 6, 8, 2)
    labels = torch.randint(0, 3, (300, 6, 8))
    torch.manual_seed(0)
    found, target = Augment(cutout=0.5)(x, None, labels)
    assert torch.equal(target, labels)
    cut = (found != x).any(-1)
    for sample, mean, where in zip(found, x.mean((1, 2)), cut, strict=True):
        assert_close(sample[where], mean.expand(int(where.sum()), 2))
        rows, columns = where.any(1).nonzero(), where.any(0).nonzero()
        if len(rows):
            height, width = int(rows.max() - rows.min() + 1), int(columns.max() - columns.min() + 1)
            assert height * width == where.sum()
            assert height <= 3
            assert width <= 4
    # in all places, and of all extents
    assert cut.any((0, 1)).all()
    assert cut.any((0, 2)).all()
    assert set(cut.any(2).sum(1).tolist()) == {0, 1, 2, 3}


def test_tint_scales_each_feature():
    share = own(changed(tint=0.5), 0) / own(X, 0)
    assert_close(share, share[:1, :1].expand_as(share))
    assert abs(share[0, 0, 0] - share[0, 0, 1]) > 1e-3


def test_strokes_grow_and_shrink_by_a_point():
    x = torch.zeros(200, 9, 9, 1)
    x[:, 3:6, 3:6] = 1
    torch.manual_seed(0)
    found = stroked(x, None, 1.0)
    thick = F.max_pool2d(x[:1].movedim(-1, 1), 3, 1, 1).movedim(1, -1)
    thin = torch.zeros_like(thick)
    thin[:, 4, 4] = 1
    areas = found.sum((1, 2, 3))
    assert areas.min() < 2
    assert areas.max() > 24
    for sample, area in zip(found, areas, strict=True):
        share = (area - 9) / 16 if area > 9 else (9 - area) / 8
        assert_close(sample, torch.lerp(x[0], (thick if area > 9 else thin)[0], share))


def test_strokes_of_volumes():
    x = torch.zeros(1, 3, 3, 3, 1)
    x[0, 1, 1, 1] = 1
    torch.manual_seed(1)  # an amount above 0
    found = stroked(x, None, 1.0)
    assert (found > 0).all()


def test_noise_is_bounded_by_its_deviation():
    x = torch.zeros(50, 40, 40, 1)
    deviations = changed(x=x, sizes=None, noise=0.2).flatten(1).std(1)
    assert deviations.max() < 0.21
    assert deviations.min() < 0.05


def test_labels_stay():
    labels = torch.randint(0, 3, (3, 5, 7))
    _, target = Augment(brightness=0.1, noise=0.1)(X, SIZES, labels)
    assert torch.equal(target, labels)


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"noise": -1.0}, "noise must not be below 0, got -1.0"),
        ({"gamma": float("inf")}, "gamma must be finite, got inf"),
        ({"brightness": float("nan")}, "brightness must not be below 0, got nan"),
        ({"contrast": 1.0}, "contrast must be below 1, got 1.0"),
        ({"tint": 2.0}, "tint must be below 1, got 2.0"),
        ({"stroke": 1.5}, "stroke must be at most 1, got 1.5"),
        ({"cutout": 1.5}, "cutout must be at most 1, got 1.5"),
    ],
)
def test_bad_amounts_are_named(how, message):
    with pytest.raises(ValueError, match=message):
        Augment(**how)
