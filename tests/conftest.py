"""What all tests share: the variants of the layers, the backends at hand, and poisoned memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import settings
from torch import Tensor

import ndrnn
from ndrnn.nn.layers import ScanLayer
from ndrnn.scan import cpu

# the same examples in every run; HYPOTHESIS_PROFILE=explore draws fresh ones
settings.register_profile("ndrnn", deadline=None, derandomize=True, database=None)
settings.register_profile("explore", deadline=None, database=None, print_blob=True)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "ndrnn"))


@dataclass(frozen=True)
class Variant:
    """A layer class with its options. Calling it builds a layer whose every parameter is random.

    The initialisation of the library sets some weights to zero, which would hide errors in what they multiply.
    """

    name: str
    make: Callable[..., ScanLayer]
    lstm: bool = False

    def __call__(
        self,
        *shape: int,
        seed: int = 0,
        scale: float = 0.5,
        dtype: torch.dtype = torch.float64,
        **options: Any,
    ) -> ScanLayer:
        layer = self.make(*shape, dtype=dtype, **options)
        generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            for parameter in layer.parameters():
                parameter.copy_(
                    scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                )
        return layer


VARIANTS = [
    Variant("rnn_tanh", ndrnn.MDRNN),
    Variant("rnn_relu", partial(ndrnn.MDRNN, nonlinearity="relu")),
    Variant("lstm", ndrnn.MDLSTM, lstm=True),
    Variant("lstm_peephole", partial(ndrnn.MDLSTM, peepholes=True), lstm=True),
    Variant("stable", ndrnn.StableMDLSTM, lstm=True),
    Variant("leaky", ndrnn.LeakyMDLSTM, lstm=True),
    Variant("spatial", ndrnn.SpatialLSTM, lstm=True),
    Variant("spatial_extended", partial(ndrnn.SpatialLSTM, extended=True), lstm=True),
    Variant("gru", ndrnn.MDGRU),
    Variant("linear", ndrnn.MDLinearRNN),
    Variant("linear_even", partial(ndrnn.MDLinearRNN, normalize="even")),
]


def _fast_backends() -> list[str]:
    """Every backend here that is to agree with the reference; triton's need a GPU or its interpreter."""
    available = ndrnn.available_backends()
    return [name for name in ("wavefront", "cpu") if available.get(name) is True]


def pytest_configure(config: pytest.Config) -> None:
    if cpu.refusal() is not None:  # every first scan of a process would fail its test
        config.addinivalue_line(
            "filterwarnings", "ignore:backend 'auto'.* the wavefront backend runs instead"
        )


def pytest_runtest_setup(item: pytest.Item) -> None:
    refusal = cpu.refusal()
    if refusal is not None and item.get_closest_marker("kernels"):
        pytest.skip(refusal)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "variant" in metafunc.fixturenames:
        metafunc.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
    if "lstm" in metafunc.fixturenames:
        lstms = [variant for variant in VARIANTS if variant.lstm]
        metafunc.parametrize("lstm", lstms, ids=lambda variant: variant.name)
    if "backend" in metafunc.fixturenames:
        metafunc.parametrize("backend", _fast_backends(), indirect=True)


@pytest.fixture
def poisoned() -> Iterator[None]:
    """NaN in all memory that torch hands out unwritten."""
    before = torch.are_deterministic_algorithms_enabled(), torch.utils.deterministic.fill_uninitialized_memory
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(before[0])
    torch.utils.deterministic.fill_uninitialized_memory = before[1]


@pytest.fixture
def backend(request: pytest.FixtureRequest, poisoned: None) -> Iterator[str]:
    """Runs the test on one fast backend, with NaN in all memory that torch hands out unwritten."""
    with ndrnn.backend(request.param):
        yield request.param


@pytest.fixture
def backends() -> list[str]:
    """The names of all fast backends, for tests that compare several in one go."""
    return _fast_backends()


@pytest.fixture
def normal() -> Callable[..., Tensor]:
    """Draws float64 normal numbers from a generator of the test's own."""
    generator = torch.Generator().manual_seed(1)

    def draw(*shape: int, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

    return draw


@pytest.fixture
def random_state(normal: Callable[..., Tensor]) -> Callable[..., Any]:
    """Draws a boundary state that fits a layer and an input."""

    def draw(layer: ScanLayer, x: Tensor) -> Any:
        lattice = x.shape[1:-1]

        def faces() -> tuple[Tensor, ...]:
            return tuple(
                normal(
                    len(layer.directions),
                    x.shape[0],
                    *lattice[:axis],
                    *lattice[axis + 1 :],
                    layer.hidden_size,
                    dtype=x.dtype,
                )
                for axis in range(layer.ndim)
            )

        return ndrnn.State(faces(), faces() if layer.cell.memory else None)

    return draw
