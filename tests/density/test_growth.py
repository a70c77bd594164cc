"""Pictures that drive the memory of an additive cell to its limit, and what is said of them."""

import json
import math
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

import ndrnn
from ndrnn.app.cli import main
from ndrnn.data.batches import DensityBatch, Facts
from ndrnn.density import RIDE, Modern, MultiscaleRIDE
from ndrnn.density.use.growth import largest, most
from ndrnn.tasks import Density
from ndrnn.tasks.density import DensityTask

from .test_ride import draw, random_ride

SMALL = {"num_components": 4, "num_scales": 2, "num_features": 4}
LIMIT = 2.0**80


def photographs(count: int, height: int, width: int, seed: int) -> Tensor:
    """Grey pictures (count, height, width) with what photographs have and noise has not: long straight edges, thin
    bright lines, and areas that are wholly black or white."""
    generator = torch.Generator().manual_seed(seed)
    i, j = torch.arange(height).view(-1, 1) / 64, torch.arange(width) / 64

    def uniform() -> float:
        return float(torch.rand((), generator=generator))

    pictures = []
    for _ in range(count):
        grey = (0.3 + 0.15 * uniform() * i / (height / 64)).expand(height, width)
        for _ in range(6):
            angle, offset = 2 * math.pi * uniform(), uniform() * max(height, width) / 64
            value = (0.0, 1.0, uniform())[int(3 * uniform())]
            breadth = (0.05, 0.3, math.inf)[int(3 * uniform())]
            distance = i * math.sin(angle) + j * math.cos(angle) - offset
            grey = grey.masked_fill((distance > 0) & (distance < breadth), value)
        noisy = 255 * grey + 3 * torch.randn(height, width, generator=generator)
        pictures.append(noisy.round().clamp(0, 255).to(torch.uint8))
    return torch.stack(pictures)


def briefly_trained(cell: str) -> RIDE:
    torch.manual_seed(0)
    ride = RIDE(8, 1, cell=cell, **SMALL)
    layer = ride.scan_layers()[0]
    if cell == "spatial":
        assert layer.bias is not None
        with torch.no_grad():
            layer.bias[:, 8:24] = 1.0  # of both forget gates, as is customary
    schedule = Modern(
        steps=40,
        batch_size=8,
        crop=20,
        learning_rate=0.01,
        averaging=0.9,
        tune_iterations=0,
        validate_every=None,
    )
    ride.fit(photographs(24, 64, 64, seed=0), levels=256, schedule=schedule, progress=False)
    return ride.requires_grad_(False)


@pytest.fixture(scope="module")
def spatial() -> RIDE:
    return briefly_trained("spatial")


def large(count: int = 2) -> Tensor:
    return ((photographs(count, 256, 256, seed=7) + 0.5) / 256).unsqueeze(-1)


def memory(ride: RIDE, images: Tensor) -> Tensor:
    found = []
    handle = ride.layers[0].register_forward_pre_hook(
        lambda layer, given: found.append(largest(layer, given[0]))
    )
    ride.log_prob(images)
    handle.remove()
    return found[0]


def test_a_trained_spatial_memory_reaches_its_limit_on_large_pictures_and_it_is_said(spatial: RIDE) -> None:
    images = large()
    assert (memory(spatial, images) == LIMIT).all()
    assert memory(spatial, images[:, :20, :20]).max() < LIMIT
    with pytest.warns(RuntimeWarning, match=r"image 0, 1 of 2 .* memory grew to its limit, .* bounded cell"):
        rate = spatial.bits_per_pixel(images, batch_size=1)
    assert math.isfinite(rate)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        spatial.bits_per_pixel(images[:, :20, :20])


def test_the_memory_of_the_default_cell_does_not_and_its_bits_stay_level() -> None:
    ride, images = briefly_trained(RIDE().cell), large(4)
    assert memory(ride, images).max() <= 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ride.bits_per_pixel(images)
    # each quarter of a picture costs what it costs where it stands and as a picture of its own
    whole = ride.log_prob(images)[:, -100:, -100:].mean()
    alone = ride.log_prob(images[:, -130:, -130:])[:, -100:, -100:].mean()
    assert abs(float(whole - alone)) < 0.02


def test_the_largest_memory_is_that_of_the_reference() -> None:
    layer = ndrnn.SpatialLSTM(3, 4, 2, dtype=torch.float64)
    x = draw(2, 5, 6, 3)
    peaks = largest(layer, x)
    for sample in range(2):
        highest = 0.0
        for row in range(1, 6):
            for column in range(1, 7):  # the memory at the last point of every part of the lattice
                _, state = layer(x[[sample], :row, :column], return_state=True)
                assert state.c is not None
                highest = max(highest, float(state.c[0][..., -1, :].abs().max().detach()))
        assert float(peaks[sample]) == pytest.approx(highest, rel=1e-12)


def test_what_cannot_grow_so_far_is_not_looked_at() -> None:
    for cell in ("leaky", "stable", "gru", "rnn"):
        assert most(random_ride(2, 1, cell=cell).scan_layers()[0].cell, (10**6, 10**6)) == 1
    for layer in (ndrnn.MDLSTM, ndrnn.SpatialLSTM):
        cell = layer(1, 1, 2).cell
        assert most(cell, (40, 40)) < LIMIT < most(cell, (41, 41)) < most(cell, (10**6, 10**6)) == math.inf
        assert most(cell, (10**6,)) == 10**6  # along one axis memories only add up
    assert most(ndrnn.MDRNN(1, 1, 2, nonlinearity="relu").cell, (2, 2)) == math.inf


def opened(ride: RIDE) -> RIDE:
    """With gates so open that the memory doubles with every wavefront."""
    layer = ride.scan_layers()[0]
    assert layer.bias is not None
    with torch.no_grad():
        layer.weight_ih.mul_(0.01)
        layer.weight_hh.zero_()
        layer.bias.fill_(20.0)
    return ride


def test_both_models_of_a_pair_are_looked_at() -> None:
    pair = MultiscaleRIDE(2, width=3, cell="spatial", **SMALL)  # type: ignore[arg-type]
    images = torch.rand(2, 120, 120, 1)
    opened(pair.second)  # type: ignore[arg-type]
    with pytest.warns(RuntimeWarning, match="image 0, 1 of 2"):
        pair.bits_per_pixel(images)


def test_commands_name_the_image(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = Density(hidden=2, components=2, scales=1, features=2, patch=6, cell="spatial")
    task = DensityTask(settings, Facts())
    opened(task.model)
    ndrnn.save(task, tmp_path / "model.safetensors")
    generator = np.random.default_rng(0)
    for name, side in (("small", 20), ("large", 90)):
        Image.fromarray(generator.integers(0, 256, (side, side), dtype=np.uint8)).save(
            tmp_path / f"{name}.png"
        )
    pictures = [str(tmp_path / f"{name}.png") for name in ("small", "large")]
    assert main(["predict", str(tmp_path / "model.safetensors"), *pictures]) == 0
    shown = capsys.readouterr()
    small, large_one = (json.loads(line) for line in shown.out.splitlines()[:2])
    assert "memory_at_limit" not in small
    assert large_one["memory_at_limit"] is True
    assert f"{pictures[1]}: the model's memory grew to its limit" in shown.err
    assert pictures[0] not in shown.err
    batch = DensityBatch(torch.rand(2, 90, 90, 1), names=("a.png", "b.png"))
    with torch.no_grad():
        task.check(batch)
    assert task.saturated == ["a.png", "b.png"]
