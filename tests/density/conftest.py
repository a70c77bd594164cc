"""A layer that is not of the library, for the tests of densities."""

from collections.abc import Iterator
from typing import Any

import pytest
from torch import Tensor, nn

import ndrnn


class Turned(nn.Module):
    """A layer that is no scan layer: it keeps one inside, and turns what it gives."""

    def __init__(self, input_size: int, hidden_size: int, ndim: int, **options: Any) -> None:
        super().__init__()
        self.output_size = hidden_size
        self.inner = ndrnn.MDLSTM(input_size, hidden_size, ndim, **options)

    def forward(self, x: Tensor, **options: Any) -> Any:
        y = self.inner(x, **options)
        return (y[0].flip(-1), y[1]) if isinstance(y, tuple) else y.flip(-1)


@pytest.fixture
def turned() -> Iterator[str]:
    ndrnn.registry.layers.register(Turned)
    yield "Turned"
    ndrnn.registry.layers.unregister("Turned")
