"""Steps that are all the same work, as CUDA graphs need them: they draw what the plain ones draw. No GPU is needed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import pytest
import torch

from ndrnn.density import CausalNeighborhood
from ndrnn.density.use import captured
from ndrnn.density.use.captured import Repeated
from ndrnn.density.use.sampling import Noise, ancestral
from ndrnn.density.use.stepping import WavefrontEvaluator

from .test_ride import CELLS, draw, random_ride


def both(monkeypatch: pytest.MonkeyPatch, ride: Any, images: Any, **options: Any) -> list[torch.Tensor]:
    """Images drawn by plain steps, and by steps over memory that stays."""
    drawn = []
    for static in (False, True):
        monkeypatch.setattr(captured, "wanted", lambda device, static=static: static)
        drawn.append(ancestral(ride, images, generator=torch.Generator().manual_seed(3), **options).images)
    return drawn


@pytest.mark.parametrize("masked", [False, True], ids=["all", "some"])
@pytest.mark.parametrize("cell", CELLS)
def test_bit_by_bit_where_every_step_has_as_many_pixels(
    cell: str, masked: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In raster order every step has one pixel; in products of other numbers of rows the last bit may differ."""
    ride = random_ride(5, 2, cell=cell, pad=masked)
    images = draw(3, 5, 6, 1)
    mask = None
    if masked:
        mask = torch.zeros(3, 5, 6, dtype=torch.bool)
        mask[0, 1:4, 2:5], mask[2, 2, 1] = True, True
    options = {"mask": mask, "clamp": (-1.5, 1.5)}
    plain, static = both(monkeypatch, ride, images, order="raster", **options)
    assert torch.equal(plain, static)
    plain, static = both(monkeypatch, ride, images, **options)
    torch.testing.assert_close(static, plain, rtol=0, atol=1e-12)


@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_lattices_of_any_axes(ndim: int, monkeypatch: pytest.MonkeyPatch) -> None:
    nb = CausalNeighborhood.window(3, observed=True, ndim=ndim)
    ride = random_ride(4, 1, nb, channels=2, observed_channels=1)
    shape = {1: (9,), 2: (4, 9), 3: (3, 4, 5)}[ndim]
    images, observed = draw(2, *shape, 2), draw(2, *shape, 1, seed=2)
    plain, static = both(monkeypatch, ride, images, observed=observed)
    torch.testing.assert_close(static, plain, rtol=0, atol=1e-12)
    evaluator = WavefrontEvaluator(ride, *ride.canvases(images, observed))
    table = evaluator.table()
    steps = list(evaluator)
    assert len(table.live) == len(steps)
    for step, pixels, at, written, live in zip(steps, *table[:4], strict=True):
        assert torch.equal(pixels[live], step.pixels)
        assert torch.equal(at[live], step.at)
        assert torch.equal(written[live], step.at)
        assert (written[~live] == len(evaluator.flat)).all()


def test_what_nobody_draws_is_read_by_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    """Values that go nowhere, NaN even, leave no trace."""
    ride = random_ride(4, 1)
    evaluator = WavefrontEvaluator(ride, draw(1, 6, 7, 1))
    noise = Noise.draw(ride, 1, *evaluator.grid)
    uniform, normal = noise.uniform.flatten()[:, None], noise.normal.flatten(1, 2).movedim(0, 1)
    steps = captured.DrawingSteps(evaluator, uniform, normal, None, None)
    for _ in range(steps.count):
        steps._canvas[-1] = float("nan")
        for layer in evaluator._layers:
            for ring in layer._whole:
                ring[:, -1] = float("nan")
        steps.step()
    assert evaluator.images().isfinite().all()


def test_steps_end_where_nothing_is_left_to_draw(monkeypatch: pytest.MonkeyPatch) -> None:
    ride = random_ride(4, 1, pad=True)
    evaluator = WavefrontEvaluator(ride, ride.canvas(draw(2, 4, 6, 1)))
    unknown = torch.zeros(24, 2, 1, dtype=torch.bool)
    noise = Noise.draw(ride, 2, 4, 6)
    uniform, normal = noise.uniform.flatten(1).T, noise.normal.flatten(1, 2).movedim(0, 1)
    unknown[1 * 6 + 2, 1] = True
    steps = captured.DrawingSteps(evaluator, uniform, normal, unknown, None)
    # row 1 begins as many steps late as its predecessors reach ahead
    assert steps.count == 2 + ride.neighborhood.strides[0] + 1


class FakeGraph:
    """Stands in for a CUDA graph: what is called under :func:`capturing` it calls again."""

    active: FakeGraph | None = None

    def __init__(self) -> None:
        self.recorded: list[Any] = []

    def replay(self) -> None:
        for work in self.recorded:
            work()


@contextmanager
def capturing(graph: FakeGraph) -> Iterator[None]:
    FakeGraph.active = graph
    yield
    FakeGraph.active = None


@contextmanager
def refusing(graph: FakeGraph) -> Iterator[None]:
    raise RuntimeError("operation not permitted when stream is capturing\nand more")
    yield


@pytest.fixture
def cuda(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "CUDAGraph", FakeGraph)
    monkeypatch.setattr(torch.cuda, "graph", capturing)
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext())


def test_a_call_is_captured_once_and_replayed(cuda: None) -> None:
    counter, launched = torch.zeros(1), []

    def work() -> None:
        counter.add_(1)

    def call() -> None:
        launched.append(FakeGraph.active is not None)
        if FakeGraph.active is None:
            work()
        else:
            FakeGraph.active.recorded.append(work)

    repeated = Repeated(call, torch.device("cuda"))
    for number in range(1, 10):
        repeated()
        assert counter == number
    # three that warm up, one that is captured
    assert launched == [False, False, False, True]


def test_what_cannot_be_captured_goes_on_as_it_is(cuda: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "graph", refusing)
    calls: list[int] = []
    repeated = Repeated(lambda: calls.append(1), torch.device("cuda"))
    for number in range(1, 6):
        if number == 4:
            with pytest.warns(
                UserWarning, match="no CUDA graph, operation not permitted when stream is capturing$"
            ):
                repeated()
        else:
            repeated()
        assert len(calls) == number


def test_nothing_is_captured_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not captured.wanted(torch.device("cpu"))
    monkeypatch.setenv(captured.SWITCH, "0")
    assert not captured.wanted(torch.device("cuda"))
    calls: list[int] = []
    repeated = Repeated(lambda: calls.append(1), torch.device("cpu"))
    for _ in range(6):
        repeated()
    assert len(calls) == 6


@pytest.mark.skipif(not torch.cuda.is_available(), reason="takes a GPU")
@pytest.mark.parametrize("cell", CELLS)
def test_on_a_device_graphs_draw_what_plain_steps_draw(cell: str, monkeypatch: pytest.MonkeyPatch) -> None:
    ride = random_ride(5, 2, cell=cell).to("cuda")
    images = draw(3, 9, 40, 1).to("cuda")
    noise = Noise.draw(ride, 3, *ride.neighborhood.grid(9, 40), generator=torch.Generator().manual_seed(0))
    found = []
    for switch in ("0", "1", "1"):
        monkeypatch.setenv(captured.SWITCH, switch)
        found.append(ancestral(ride, images, noise=noise).images)
    torch.testing.assert_close(found[1], found[0], rtol=0, atol=1e-10)
    assert torch.equal(found[1], found[2])
