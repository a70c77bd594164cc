"""Bits per pixel, their intervals and their words."""

from __future__ import annotations

import copy
import math

import pytest
import torch

from ndrnn.density.lattices.rate import rate_of


def test_the_sign_follows_the_base():
    nats = torch.tensor([2.0, 4.0]) * math.log(2)
    continuous = rate_of(nats, "continuous", 100)
    discrete = rate_of(-nats, "discrete", 100)
    assert float(continuous) == pytest.approx(3)
    assert float(discrete) == pytest.approx(3)
    assert (continuous.images, continuous.pixels_per_image) == (2, 100)
    assert "log2-density; 2 images of 100 predicted pixels" in str(continuous)
    assert "code length" in str(discrete)


def test_the_interval_covers_the_mean_as_often_as_it_says():
    generator = torch.Generator().manual_seed(0)
    hits = 0
    for _ in range(200):
        nats = torch.randn(80, generator=generator)
        low, high = rate_of(nats, "continuous", 1, confidence=0.9).interval
        assert low < high
        hits += low <= 0 <= high
    # binomial(200, 0.9) has a deviation of 4.2
    assert 165 <= hits <= 195


def test_it_is_a_float_that_can_be_copied():
    rate = rate_of(torch.tensor([1.0, 2.0]), "discrete", 7)
    assert rate + 1 == float(rate) + 1
    for other in (copy.copy(rate), copy.deepcopy(rate)):
        assert (other, other.base, other.interval, other.images) == (rate, rate.base, rate.interval, 2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((torch.zeros(3), "bits", 1), 'base must be "continuous" or "discrete", got \'bits\''),
        ((torch.zeros(3), "discrete", 1, 1.0), "confidence must lie between 0 and 1, got 1.0"),
        (
            (torch.zeros(0), "discrete", 1),
            r"nats_per_image must hold one value per image, \(N,\), got \(0,\)",
        ),
        ((torch.zeros(2, 2), "discrete", 1), r"nats_per_image must hold .* got \(2, 2\)"),
    ],
)
def test_bad_arguments(arguments, message):
    with pytest.raises(ValueError, match=message):
        rate_of(*arguments)
