"""Reports that one can check by hand."""

import dataclasses
import re
from math import floor, log

import pytest
import torch

import ndrnn
from ndrnn.cells import Cell
from ndrnn.nn.layers import ScanLayer


@pytest.fixture(autouse=True)
def plain():
    with ndrnn.backend("wavefront"):
        yield


def chain(weight, ndim=1, **options):
    """h(p) = relu(x(p) + weight * h before p on every axis): gradients are powers of the weight."""
    layer = ndrnn.MDRNN(1, 1, ndim, nonlinearity="relu", bias=False, dtype=torch.float64, **options)
    with torch.no_grad():
        layer.weight_ih.fill_(1)
        layer.weight_hh.fill_(weight)
    return layer


@pytest.mark.parametrize("weight", [0.3, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("direction", [(1,), (-1,)])
def test_reach_of_powers(weight, direction):
    layer = chain(weight, directions=[direction])
    (report,) = ndrnn.diagnose(layer, torch.ones(2, 60, 1, dtype=torch.float64)).directions
    # the last distance at which weight ** distance is still a hundredth
    assert report.reach == (59 if weight == 1 else min(59, floor(log(0.01) / log(weight))),)
    assert report.gradient_growth == pytest.approx(1)


def test_reach_and_growth_when_gradients_explode():
    (report,) = ndrnn.diagnose(
        chain(2.0, directions=[(1,)]), torch.ones(1, 12, 1, dtype=torch.float64)
    ).directions
    assert report.reach == (11,)
    assert report.gradient_growth == pytest.approx(2**11)
    assert report.largest_state == pytest.approx(2**12 - 1)


def test_reach_differs_by_axis():
    layer = chain(0.5, ndim=2, directions=[(1, -1)])
    with torch.no_grad():
        layer.weight_hh[:, 0] = 0  # nothing comes along the first axis
    (report,) = ndrnn.diagnose(layer, torch.ones(1, 5, 20, 1, dtype=torch.float64)).directions
    assert report.reach == (0, 6)


def test_reach_stops_at_a_samples_own_extent():
    layer = chain(1.0, directions=[(-1,), (1,)])
    x = torch.ones(2, 9, 1, dtype=torch.float64)
    x[:, 4:] = float("nan")
    reports = ndrnn.diagnose(layer, x, torch.tensor([[4], [2]])).directions
    assert [report.reach for report in reports] == [(3,), (3,)]
    assert [report.largest_state for report in reports] == [4, 4]


def test_forget_sums_of_fresh_layers(lstm):
    layer = lstm.make(2, 3, 3)
    diagnosis = ndrnn.diagnose(layer, torch.randn(1, 3, 4, 5, 2, generator=torch.Generator().manual_seed(0)))
    assert len(diagnosis.directions) == len(layer.directions)
    for report in diagnosis.directions:
        assert 0 < report.forget_sum_mean <= report.forget_sum_max <= 1
        if "f3" in layer.cell.gates(3):
            assert report.forget_sum_mean == pytest.approx(0.995, abs=1e-3)


def test_forget_sums_and_saturation_of_given_gates():
    layer = ndrnn.MDLSTM(1, 2, directions=[(1, 1)])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        i, f1, f2, g, o = layer.bias.unflatten(1, (5, 2))[0]
        i.fill_(10)
        f1.fill_(log(0.7 / 0.3))
        f2.fill_(log(0.5 / 0.5))
        g[0] = -5
        o.fill_(-10)
    (report,) = ndrnn.diagnose(layer, torch.zeros(1, 4, 4, 1)).directions
    assert report.forget_sum_mean == pytest.approx(1.2)
    assert report.forget_sum_max == pytest.approx(1.2)
    assert report.saturation == {"i": (0, 1), "f1": (0, 0), "f2": (0, 0), "g": (0.5, 0), "o": (1, 0)}


def test_shares_of_the_gru():
    layer = ndrnn.MDGRU(1, 2, directions=[(1, 1)])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
    (report,) = ndrnn.diagnose(layer, torch.ones(1, 4, 4, 1)).directions
    assert report.forget_sum_mean == pytest.approx(2 / 3)  # three equal shares, two of them the predecessors'


def test_gates_are_those_that_the_reference_computes(variant, normal):
    """Recomputed from the largest state on: a lattice of one point has one value of every gate."""
    layer = variant(2, 1, 2, directions=[(1, 1)])
    x = normal(1, 1, 1, 2)
    (report,) = ndrnn.diagnose(layer, x).directions
    with ndrnn.backend("reference"):
        y, exits = layer(x, return_state=True)
    state = exits.c[0] if layer.cell.memory else y
    assert report.largest_state == pytest.approx(state.abs().item(), rel=1e-6)
    a = (layer.weight_ih[0] @ x.flatten() + layer.bias[0]).detach()
    if variant.name in ("lstm", "spatial"):
        assert report.forget_sum_mean == pytest.approx(torch.sigmoid(a[1:3]).sum().item(), rel=1e-6)
    if variant.name == "leaky":
        assert report.forget_sum_mean == pytest.approx(torch.sigmoid(a[0]).item(), rel=1e-6)


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda layer: layer.bias.unflatten(1, (5, 3))[:, 1:3].fill_(1.0), "in all directions the forget gates sum to up to 1.46"),
        (lambda layer: layer.bias.unflatten(1, (5, 3))[:, 1:3].fill_(1.0), "states reach"),
        (lambda layer: layer.bias.unflatten(1, (5, 3))[0, 1:3].fill_(-4.0), r"in direction \(1, 1\) the forget gates sum to as little as 0.04"),
        (lambda layer: layer.bias.unflatten(1, (5, 3))[:, 4].fill_(-9.0), "values of o are at a limit"),
        (lambda layer: (layer.bias.unflatten(1, (5, 3))[:, 1:3].fill_(-9.0), layer.weight_hh.zero_()), "learns from no more than 0 points back along axis 1, of 40"),
    ],
)  # fmt: skip
def test_warnings(spoil, words, normal):
    torch.manual_seed(0)
    layer = ndrnn.MDLSTM(2, 3)
    x = normal(1, 40, 40, 2, dtype=torch.float32)
    assert not ndrnn.diagnose(layer, x).warnings
    with torch.no_grad():
        spoil(layer)
    diagnosis = ndrnn.diagnose(layer, x)
    assert any(re.search(words, warning) for warning in diagnosis.warnings), diagnosis.warnings
    assert all(f"! {warning}" in str(diagnosis) for warning in diagnosis.warnings)


def test_dead_units():
    layer = chain(0.5, ndim=2)
    diagnosis = ndrnn.diagnose(layer, -torch.ones(1, 4, 4, 1, dtype=torch.float64))
    assert diagnosis.directions[0].saturation == {"a": (1, 0)}
    assert any("100% of the values of a are zero" in warning for warning in diagnosis.warnings)


def test_states_at_their_limit_are_reported():
    layer = chain(1e3, ndim=2, directions=[(1, 1)])
    diagnosis = ndrnn.diagnose(layer.float(), torch.ones(1, 20, 20, 1))
    assert diagnosis.directions[0].largest_state == 2.0**80
    assert any("the limit at which they saturate" in warning for warning in diagnosis.warnings)


def test_the_layout_of_a_report():
    layer = chain(0.5, directions=[(1,), (-1,)])
    lines = str(ndrnn.diagnose(layer, torch.ones(1, 8, 1, dtype=torch.float64))).splitlines()
    assert lines[0].startswith("MDRNN(1, 1, ndim=1, ")
    assert lines[0].endswith(" on 8 points")
    heads = ["direction", "sum of f", "max", "max |state|", "reach", "gates near a limit, % low/high"]
    assert lines[1].split() == " ".join(heads).split()
    assert lines[2].split() == ["(+1)", "-", "-", "1.99", "6", "a", "0/0"]
    assert lines[3].split() == ["(-1)", "-", "-", "1.99", "6", "a", "0/0"]
    assert len(lines) == 4


def test_a_cell_that_does_not_tell_its_gates(normal):
    class Sum(Cell):
        memory = False

        def gates(self, ndim):
            return ("a",)

        def step(self, a, u, h, c, extra):
            return a + 0.5 * sum(h), None

    layer = ScanLayer(Sum(), 2, 3, 1, directions=[(1,)], dtype=torch.float64)
    (report,) = ndrnn.diagnose(layer, normal(1, 20, 2)).directions
    assert report.forget_sum_mean is None
    assert report.saturation == {}
    assert report.reach == (6,)


def test_nothing_is_changed(variant, normal):
    layer = variant(2, 3, 2)
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    x = normal(1, 3, 4, 2)
    diagnosis = ndrnn.diagnose(layer, x)
    assert all(torch.equal(value, before[name]) for name, value in layer.state_dict().items())
    assert all(parameter.requires_grad and parameter.grad is None for parameter in layer.parameters())
    with pytest.raises(dataclasses.FrozenInstanceError):
        diagnosis.warnings = ()


def test_bad_arguments():
    layer = ndrnn.MDLSTM(2, 3)
    with pytest.raises(TypeError, match="layer must be a layer of ndrnn, got Linear"):
        ndrnn.diagnose(torch.nn.Linear(2, 3), torch.zeros(1, 2))
    with pytest.raises(
        ValueError,
        match=r"x must have shape \(N, D1, D2, 2\), or \(D1, D2, 2\) unbatched, got \(1, 2, 2, 3\)",
    ):
        ndrnn.diagnose(layer, torch.zeros(1, 2, 2, 3))
    with pytest.raises(
        ValueError, match=r"x must have at least one sample and one point, got shape \(0, 2, 2, 2\)"
    ):
        ndrnn.diagnose(layer, torch.zeros(0, 2, 2, 2))
    with pytest.raises(ValueError, match="sizes on axis 0"):
        ndrnn.diagnose(layer, torch.zeros(1, 2, 2, 2), torch.tensor([[3, 1]]))
    with pytest.raises(ValueError, match="sizes must leave at least one point"):
        ndrnn.diagnose(layer, torch.zeros(1, 2, 2, 2), torch.tensor([[0, 1]]))


def test_unbatched_input():
    torch.manual_seed(0)
    layer, x, sizes = ndrnn.MDLSTM(2, 3), torch.randn(5, 6, 2), torch.tensor([4, 6])
    assert ndrnn.diagnose(layer, x, sizes) == ndrnn.diagnose(layer, x[None], sizes[None])
