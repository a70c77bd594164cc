"""Drawing from given random numbers, beside what it is drawn from."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import ndrnn
from ndrnn.density import MCGSM
from ndrnn.density.mixture.drawing import Drawer
from ndrnn.density.mixture.likelihood import MixtureParams

# inputs, outputs, components, scales, features: padding on every side, one of each, and none where that is possible
SIZES = [
    (5, 1, 4, 3, 6),
    (64, 1, 32, 4, 32),
    (7, 3, 33, 5, 17),
    (3, 2, 1, 1, 1),
    (2, 1, 50, 1, 3),
    (0, 2, 3, 2, 1),
]


class Case:
    """A mixture with all its parameters at work, and the random numbers of a drawing."""

    def __init__(self, sizes: tuple[int, ...], dtype: torch.dtype, *, linear: bool, count: int = 500) -> None:
        generator = torch.Generator().manual_seed(0)

        def normal(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)

        inputs, outputs, *_ = sizes
        self.model = MCGSM(*sizes, dtype=dtype)
        with torch.no_grad():
            for name, parameter in self.model.named_parameters():
                if name != "linear" or linear:
                    parameter.copy_(normal(*parameter.shape) + (3 if name == "cholesky" else 0))
        self.params = MixtureParams(*(parameter.detach() for parameter in self.model.mixture_params()))
        self.x, self.normal = normal(count, inputs), normal(count, outputs)
        self.uniform = torch.rand(count, generator=generator, dtype=torch.float64).to(dtype)

    def draw(self, part: slice = slice(None), **options: Tensor) -> Tensor:
        return Drawer(self.params, **options).draw(self.x[part], self.uniform[part], self.normal[part])


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("sizes", SIZES)
def test_it_inverts_the_distribution(sizes: tuple[int, ...], linear: bool, backend: str) -> None:
    """Component and scale where the uniform number falls among the gate's shares, then the expert's mean and spread."""
    case = Case(sizes, torch.float64, linear=linear)
    drawn = case.draw()
    gate = case.model(case.x).gate.flatten(1)
    chosen = (gate.cumsum(1) <= case.uniform[:, None]).sum(1).clamp(max=gate.shape[1] - 1)
    component, scale = chosen // sizes[3], chosen % sizes[3]
    params = case.params
    means = (params.predictors[component] @ case.x[..., None]).squeeze(-1) + params.means[component]
    # the expert's precision is e^alpha L L^T
    lower = params.cholesky.tril()
    precision = params.scales.exp()[component, scale, None, None] * (lower @ lower.mT)[component]
    away = drawn - means
    energy = (away.unsqueeze(1) @ precision @ away.unsqueeze(2)).flatten()
    torch.testing.assert_close(energy, case.normal.square().sum(1))
    if sizes[1] == 1:
        assert torch.equal(away.sign(), case.normal.sign() * params.cholesky[component, 0].sign())


@pytest.mark.kernels
@pytest.mark.parametrize("sizes", SIZES)
def test_the_kernel_draws_what_torch_draws(sizes: tuple[int, ...]) -> None:
    for dtype, within in ((torch.float32, 1e-4), (torch.float64, 1e-12)):
        case = Case(sizes, dtype, linear=True)
        with ndrnn.backend("wavefront"):
            by_torch = case.draw()
        apart = (case.draw() - by_torch).abs().amax(1) > within
        assert apart.float().mean() < 0.005  # rounding may move a uniform number over the border of a share


@pytest.mark.kernels
def test_a_sample_does_not_depend_on_the_others() -> None:
    case = Case((40, 1, 32, 4, 32), torch.float32, linear=False, count=3000)
    everything = case.draw()
    for part in (slice(0, 1), slice(17, 200)):
        assert torch.equal(case.draw(part), everything[part])


def test_outputs_can_be_turned_and_shifted(backend: str) -> None:
    case = Case((5, 2, 4, 3, 6), torch.float64, linear=True)
    turn = torch.tensor([[2.0, -1.0], [0.5, 3.0]], dtype=torch.float64)
    shift = torch.tensor([7.0, -4.0], dtype=torch.float64)
    turned = case.draw(transform=turn, shift=shift)
    torch.testing.assert_close(turned, case.draw() @ turn.T + shift)


@pytest.mark.parametrize("size", [1e4, 1e30])
def test_extreme_inputs_draw_finite_outputs(size: float, backend: str) -> None:
    """All but one share underflow; the means are of the size of the inputs."""
    case = Case((5, 1, 4, 3, 6), torch.float32, linear=True)
    case.x = case.x * size
    assert case.draw().isfinite().all()


@pytest.mark.parametrize("outputs", [1, 2])
def test_linear_terms_of_zero_are_left_out_without_a_trace(outputs: int, backend: str) -> None:
    """The same random numbers give the same outputs where the terms are too small to count, but are there."""
    case = Case((5, outputs, 4, 3, 6), torch.float64, linear=False)
    without = case.draw()
    linear = case.params.linear
    case.params = case.params._replace(linear=torch.full_like(linear, 1e-300))
    torch.testing.assert_close(case.draw(), without)
    case.params = case.params._replace(linear=torch.ones_like(linear))
    assert not torch.allclose(case.draw(), without)


@pytest.mark.kernels
def test_opcheck() -> None:
    case = Case((5, 2, 4, 3, 6), torch.float64, linear=True, count=4)
    drawer = Drawer(case.params)
    arguments = (case.x, *drawer.weights, case.uniform, case.normal, 1e75, 1e150)
    assert set(torch.library.opcheck(torch.ops.ndrnn.draw.default, arguments).values()) == {"SUCCESS"}
    with pytest.raises(RuntimeError, match=r"uniform must have shape \(4\), got \(3\)"):
        torch.ops.ndrnn.draw(case.x, *drawer.weights, case.uniform[:3], case.normal, 1e75, 1e150)
