"""Models that fit pictures, small enough for the slow decoder."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch

from ndrnn.density import RIDE, CausalNeighborhood
from ndrnn.scan.operators import kernels


@pytest.fixture(autouse=True)
def compiled() -> None:
    if kernels.refusal is not None:
        pytest.skip(kernels.refusal)


def picture(shape: tuple[int, ...], seed: int = 0, bits: int = 8, spread: float = 0.08) -> np.ndarray:
    """Smooth along all axes, with some noise."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=shape)
    for axis in range(len(shape)):
        values = values.cumsum(axis)
    values = values / max(values.std(), 1e-9) * spread + 0.5
    return np.clip(values * (1 << bits), 0, (1 << bits) - 1).astype(np.uint16 if bits > 8 else np.uint8)


def make_ride(seed: int = 0, hidden: int = 5, layers: int = 1, seen: int = 0, **options: object) -> RIDE:
    """A RIDE with random parameters whose whitening fits :func:`picture`."""
    torch.manual_seed(seed)
    mixture: dict[str, object] = {"num_components": 3, "num_scales": 2, "num_features": 3}
    ride = RIDE(
        hidden,
        layers,
        CausalNeighborhood.window(3, observed=seen > 0),
        observed_channels=seen,
        **{**mixture, **options},
    )
    with torch.no_grad():
        for parameter in ride.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    floats = torch.stack([torch.from_numpy((picture((60, 60), s) + 0.5) / 256).float() for s in range(seen + 1)], -1)
    noise = 1e-3 * torch.rand(floats.shape)
    if seen:
        ride.fit_whitening((floats + noise)[None, ..., seen:], (floats + noise)[None, ..., :seen])
    else:
        ride.fit_whitening((floats + noise)[None])
    return ride.eval()


@pytest.fixture
def ride() -> RIDE:
    return make_ride()


Make = Callable[..., RIDE]
