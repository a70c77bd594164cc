"""One step of a scan that the caller walks, against the definition."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import pytest
import torch
from torch import Tensor

import ndrnn
from ndrnn.nn.layers import ScanLayer
from ndrnn.scan import operators, scan, step


class Points:
    """N points with random predecessors, and the states that a step gives them."""

    def __init__(self, layer: ScanLayer, count: int, dtype: torch.dtype) -> None:
        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, dtype=torch.float64).to(dtype)

        layer = layer.to(dtype)
        self.cell, self.ndim = layer.cell, layer.ndim
        self.params = type(layer.params)(*(None if p is None else p.detach() for p in layer.params))
        self.x = draw(count, layer.input_size)
        self.h = [draw(count, layer.hidden_size) for _ in range(layer.ndim)]
        self.c = [draw(count, layer.hidden_size) for _ in range(layer.ndim) if layer.cell.memory]

    def step(self, part: slice = slice(None)) -> list[Tensor]:
        """h and, if there is one, c of some of the points."""
        new = [torch.full_like(self.h[0][part], torch.nan) for _ in range(1 + self.cell.memory)]
        step(self.cell, self.x[part], self.params, [h[part] for h in self.h], [c[part] for c in self.c], *new)
        return new

    def as_lattices(self) -> list[Tensor]:
        """The same by the definition: each point is a lattice, its predecessors' states are the boundary's."""
        boundary = [torch.stack(states, 1).unsqueeze(0) for states in (self.h, self.c) if states]
        x = self.x.reshape(len(self.x), *(1,) * self.ndim, self.x.shape[-1])
        with ndrnn.backend("reference"):
            _, leaving = scan(
                self.cell,
                x,
                self.params,
                [(1,) * self.ndim],
                None,
                (boundary[0], boundary[1] if self.c else None),
                return_state=True,
            )
        assert leaving is not None
        return [state[0, :, 0] for state in leaving if state is not None]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
def test_it_is_the_definition(variant: Callable[..., ScanLayer], dtype: torch.dtype, backend: str) -> None:
    torch.manual_seed(0)
    sizes = [(1, 1, 1), (1, 3, 5), (2, 2, 16), (2, 7, 33), (3, 4, 8)]
    for (ndim, inputs, hidden), count in product(sizes, (0, 1, 9, 300)):
        layer = variant(inputs, hidden, ndim, scale=0.3, directions=[(1,) * ndim])
        points = Points(layer, count, dtype)
        for state, wanted in zip(points.step(), points.as_lattices(), strict=True):
            torch.testing.assert_close(
                state, wanted, rtol=1e-5, atol=1e-5 if dtype == torch.float32 else 1e-12
            )


def test_walking_a_lattice_gives_its_scan(variant: Callable[..., ScanLayer], backend: str) -> None:
    """Point by point, in slots that are written once: also where the bias is left out."""
    torch.manual_seed(0)
    layer = variant(3, 6, 2, directions=[(1, 1)], bias=False).requires_grad_(False)
    batch, rows, columns = 2, 4, 5
    x = torch.randn(batch, rows, columns, 3, dtype=torch.float64)
    slots = [
        torch.zeros(rows + 1, columns + 1, batch, 6, dtype=torch.float64)
        for _ in range(1 + layer.cell.memory)
    ]
    for i, j in product(range(rows), range(columns)):
        h, *c = ([states[i, j + 1], states[i + 1, j]] for states in slots)
        new = [states[i + 1, j + 1] for states in slots]
        step(layer.cell, x[:, i, j], layer.params, h, c[0] if c else (), *new)
    torch.testing.assert_close(slots[0][1:, 1:].permute(2, 0, 1, 3), layer(x))


@pytest.mark.kernels
def test_a_point_does_not_depend_on_the_others(variant: Callable[..., ScanLayer]) -> None:
    """Nor on how many threads share them: to the last bit."""
    torch.manual_seed(0)
    points = Points(variant(12, 64, 2, directions=[(1, 1)]), 500, torch.float32)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        alone = points.step()
        torch.set_num_threads(3)
        together = points.step()
    finally:
        torch.set_num_threads(threads)
    for part in (slice(0, 1), slice(37, 150), slice(None)):
        for state, one, many in zip(points.step(part), alone, together, strict=True):
            assert torch.equal(state, one[part])
            assert torch.equal(state, many[part])


@pytest.mark.kernels
def test_what_does_not_fit_is_refused() -> None:
    points = Points(ndrnn.MDLSTM(3, 5, 2, directions=[(1, 1)]), 4, torch.float32)
    new = [torch.empty(4, 5), torch.empty(4, 5)]
    with pytest.raises(RuntimeError, match="h must hold 2 tensors, got 1"):
        operators.step(points.x.view(4, 1, 1, 3), *points.params, points.h[:1], points.c, *new, "lstm")
    with pytest.raises(RuntimeError, match=r"the new h must have shape \(4, 5\), got \(3, 5\)"):
        step(points.cell, points.x, points.params, points.h, points.c, new[0][:3], new[1])
    with pytest.raises(RuntimeError, match="a new c belongs to cells with a memory"):
        step(points.cell, points.x, points.params, points.h, points.c, new[0])
    linear = ndrnn.MDLinearRNN(3, 5, 2, directions=[(1, 1)])
    with pytest.raises(RuntimeError, match="a new c belongs to cells with a memory"):
        step(linear.cell, points.x, linear.params, points.h, points.c, new[0])
    with pytest.raises(RuntimeError, match="shape"):
        step(linear.cell, points.x, linear.params, points.h, points.c, new[0][:3], new[1])
    with pytest.raises(RuntimeError, match="signs must have 2 entries, got 1"):
        step(linear.cell, points.x, linear.params, points.h, points.c[:1], *new)
    with pytest.raises(RuntimeError, match="one point of every lattice"):
        operators.step(points.x.view(2, 2, 1, 3), *points.params, points.h, points.c, *new, "lstm")
    both = ndrnn.MDLSTM(3, 5, 2, directions=[(1, 1), (-1, 1)])
    with pytest.raises(RuntimeError, match="a step takes one direction, got 2"):
        operators.step(points.x.view(4, 1, 1, 3), *both.params, points.h, points.c, *new, "lstm")


@pytest.mark.kernels
def test_opcheck(variant: Callable[..., ScanLayer]) -> None:
    torch.manual_seed(0)
    points = Points(variant(3, 5, 2, directions=[(1, 1)]), 4, torch.float64)
    if not points.cell.recurrent:
        pytest.skip("its points are lattices to ndrnn::linear_layer, which has a check of its own")
    new = [torch.zeros(4, 5, dtype=torch.float64) for _ in range(1 + points.cell.memory)]
    if not points.cell.memory:
        new.append(None)
    case = (points.x.view(4, 1, 1, 3), *points.params, points.h, points.c, *new, points.cell.kernel)
    assert set(torch.library.opcheck(operators.step, case).values()) == {"SUCCESS"}
