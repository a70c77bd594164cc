"""Numbers that are not finite: every use of a model names the image, and none goes on as if nothing were."""

import math
import warnings
from typing import Any

import pytest
import torch
from torch import nn

from ndrnn.density import RIDE, Modern, MultiscaleRIDE, compress
from ndrnn.density.lattices.whitening import Whitening

from .test_ride import random_ride


class Overflowing(nn.Module):
    """A layer whose memory has overflowed wherever an input is above a bound."""

    def __init__(self, layer: nn.Module, bound: float) -> None:
        super().__init__()
        self.layer, self.bound = layer, bound

    def forward(self, x: torch.Tensor, **options: Any) -> Any:
        found = self.layer(x, **options)
        y, *state = found if isinstance(found, tuple) else (found,)
        y = y.masked_fill((x.amax(-1, keepdim=True) > self.bound), math.nan)
        return (y, *state) if state else y


def overflowing(bound: float = 20.0, **options: object) -> RIDE:
    ride = random_ride(3, 1, **options)
    ride.layers[0] = Overflowing(ride.layers[0], bound)
    return ride


def one_bad(count: int = 4, bad: int = 2) -> torch.Tensor:
    images = torch.rand(count, 8, 9, 1, generator=torch.Generator().manual_seed(0)).double()
    images[bad, 4, 4] = 1000
    return images


def test_the_rate_names_the_image() -> None:
    ride = overflowing()
    assert math.isfinite(ride.bits_per_pixel(one_bad()[:2]))
    with pytest.raises(
        FloatingPointError, match=r"log-density is not finite for image 2 of 4 .* bounded cell"
    ):
        ride.bits_per_pixel(one_bad(), batch_size=3)


def test_the_rate_of_a_pair_names_the_image() -> None:
    pair = MultiscaleRIDE(2, width=3, pad=True).double()
    pair.first.layers[0] = Overflowing(pair.first.layers[0], 20.0)
    images = one_bad()[:, :, :8]
    with pytest.raises(FloatingPointError, match="image 2 of 4"):
        pair.bits_per_pixel(images)


def test_samples_are_never_nan() -> None:
    ride = RIDE(2, num_components=2)
    with torch.no_grad():
        ride.mcgsm.means[:] = math.inf
    with pytest.raises(FloatingPointError, match="what is drawn is not finite for image 0, 1, 2 of 3"):
        ride.sample(3, 4, 5)


@pytest.mark.parametrize("method", ["mh", "map"])
def test_a_filling_names_the_image(method: str) -> None:
    ride = overflowing(pad=True)
    mask = torch.zeros(8, 9, dtype=torch.bool)
    mask[2, 2] = True  # the overflow comes after the hole, in what is known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        with pytest.raises(
            FloatingPointError, match="log-density of what is filled in is not finite for image 2 of 4"
        ):
            ride.inpaint(one_bad(), mask, method=method, epochs=1, patch=None)


def test_an_image_that_overflows_is_not_coded() -> None:
    ride = RIDE(2, num_components=2)
    with torch.no_grad():
        ride.mcgsm.means[:] = math.nan
    with pytest.raises(ValueError, match="finite"):
        compress(ride, torch.zeros(3, 4, dtype=torch.uint8))


def test_a_whitening_is_not_fitted_to_what_is_not_finite() -> None:
    mean, covariance = torch.zeros(2), torch.eye(2)
    for bad in ((mean / 0, covariance), (mean, covariance * math.inf)):
        with pytest.raises(ValueError, match="must be finite"):
            Whitening(1, 1).fit_moments(*bad)


def test_a_check_that_is_no_number_is_the_worst_of_a_training() -> None:
    torch.manual_seed(0)
    ride = RIDE(2, num_components=2, num_scales=1, num_features=2)
    pictures = torch.rand(6, 14, 14)
    schedule = Modern(steps=4, batch_size=2, crop=8, validate_every=2, patience=1, tune_iterations=0)
    ride.fit_whitening(pictures)
    ride.layers[0] = Overflowing(ride.layers[0], 50.0)
    val = torch.rand(3, 14, 14)
    val[1, 7, 7] = 1000
    with pytest.warns(
        RuntimeWarning, match=r"1 validation pictures, the first of 14 x 14 .* counts as the worst"
    ):
        report = ride.fit(pictures, val, schedule=schedule, progress=False)
    assert report.reason == "patience"
    assert report.best_loss == math.inf
    assert [look.val_loss for look in report.history] == [math.inf]
