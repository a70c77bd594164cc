"""Models that fit pictures, small enough for the slow decoder."""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from ndrnn.density import MCGSM, RIDE, CausalNeighborhood, Whitening
from ndrnn.density.ride.cells import make_layer
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
    floats = torch.stack(
        [torch.from_numpy((picture((60, 60), s) + 0.5) / 256).float() for s in range(seen + 1)], -1
    )
    noise = 1e-3 * torch.rand(floats.shape)
    if seen:
        ride.fit_whitening((floats + noise)[None, ..., seen:], (floats + noise)[None, ..., :seen])
    else:
        ride.fit_whitening((floats + noise)[None])
    return ride.eval()


def make_model(axes: int, cell: str, hidden: int = 3, seed: int = 0) -> Any:
    """What the codec needs of a RIDE, on any number of axes: every earlier point of the nearest ones is a neighbour."""
    torch.manual_seed(seed)
    offsets = [o for o in product((-1, 0, 1), repeat=axes) if o < (0,) * axes]
    offsets += [(*[0] * (axes - 1), -2)]
    inputs = len(offsets)
    model = SimpleNamespace(
        channels=1,
        observed_channels=0,
        pad=False,
        residual=False,
        cell=cell,
        hidden_size=hidden,
        neighborhood=SimpleNamespace(
            offsets=offsets, observed_offsets=[], num_inputs=lambda channels, observed: inputs * channels
        ),
        whitening=Whitening(inputs),
        layers=[make_layer(cell, inputs, hidden, axes)],
        mcgsm=MCGSM(hidden, 1, 3, 2, 3),
    )
    rng = np.random.default_rng(seed)
    model.whitening.fit_moments(
        torch.full((inputs + 1,), 0.5),
        0.01 * (torch.full((inputs + 1,) * 2, 0.9) + 0.1 * torch.eye(inputs + 1)),
    )
    with torch.no_grad():
        for parameter in [*model.layers[0].parameters(), *model.mcgsm.parameters()]:
            parameter.add_(torch.from_numpy(0.3 * rng.normal(size=parameter.shape)).float())
    return model
