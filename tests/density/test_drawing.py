"""Drawing from given random numbers, beside what it is drawn from."""

from __future__ import annotations

import pytest
import torch

from ndrnn.density import MCGSM
from ndrnn.density.drawing import Drawer
from ndrnn.density.mixture import MixtureParams


@pytest.mark.parametrize("outputs", [1, 2])
def test_linear_terms_of_zero_are_left_out_without_a_trace(outputs: int) -> None:
    """The same random numbers give the same outputs where the terms are too small to count, but are there."""
    generator = torch.Generator().manual_seed(0)
    model = MCGSM(5, outputs, 4, 3, 6, dtype=torch.float64)
    with torch.no_grad():
        for parameter in (model.features, model.weights, model.predictors, model.means):
            parameter.normal_(generator=generator)
    params = MixtureParams(*(parameter.detach() for parameter in model.mixture_params()))
    x = torch.randn(500, 5, generator=generator, dtype=torch.float64)
    uniform = torch.rand(500, generator=generator, dtype=torch.float64)
    normal = torch.randn(500, outputs, generator=generator, dtype=torch.float64)
    without = Drawer(params).draw(x, uniform, normal)
    tiny = params._replace(linear=torch.full_like(params.linear, 1e-300))
    torch.testing.assert_close(Drawer(tiny).draw(x, uniform, normal), without)
    strong = params._replace(linear=torch.randn(4, 5, generator=generator, dtype=torch.float64))
    assert not torch.allclose(Drawer(strong).draw(x, uniform, normal), without)
