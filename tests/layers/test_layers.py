"""What a layer is besides its arithmetic: parameters, repr, saving and copying."""

import copy
import io

import pytest
import torch
from torch.testing import assert_close

import ndrnn
from ndrnn.cells import Cell
from ndrnn.nn.layers import ScanLayer


def shapes(layer):
    return {name: tuple(parameter.shape) for name, parameter in layer.named_parameters()}


def test_parameters_have_the_shapes_of_the_documentation():
    assert shapes(ndrnn.MDRNN(5, 7)) == {"weight_ih": (4, 7, 5), "weight_hh": (4, 2, 7, 7), "bias": (4, 7)}
    assert shapes(ndrnn.MDLSTM(5, 7, 3, peepholes=True)) == {
        "weight_ih": (8, 42, 5),
        "weight_hh": (8, 3, 42, 7),
        "bias": (8, 42),
        "weight_peephole": (8, 5, 7),
    }
    convex = {"weight_ih": (4, 35, 5), "weight_hh": (4, 2, 35, 7), "bias": (4, 35)}
    assert shapes(ndrnn.StableMDLSTM(5, 7)) == shapes(ndrnn.LeakyMDLSTM(5, 7)) == convex
    assert shapes(ndrnn.SpatialLSTM(5, 7, extended=True)) == {
        "weight_ih": (1, 35, 5),
        "weight_hh": (1, 2, 35, 7),
        "bias": (1, 35),
        "weight_ch": (1, 2, 35, 7),
    }
    assert shapes(ndrnn.MDGRU(5, 7)) == {
        "weight_ih": (4, 35, 5),
        "weight_hh": (4, 2, 35, 7),
        "bias": (4, 35),
        "bias_hn": (4, 2, 7),
    }
    assert set(shapes(ndrnn.MDGRU(5, 7, bias=False))) == {"weight_ih", "weight_hh"}
    assert set(shapes(ndrnn.MDLSTM(5, 7, peepholes=True, bias=False))) == {
        "weight_ih",
        "weight_hh",
        "weight_peephole",
    }


@pytest.mark.parametrize(
    ("inputs", "outputs", "expected"),
    # Graves, Fernandez & Schmidhuber 2007: Air Freight and MNIST, 25 units a direction and a softmax layer
    [(3, 157, 43257), (1, 11, 27511)],
    ids=["air_freight", "mnist"],
)
def test_weight_counts_of_2007(inputs, outputs, expected):
    layer = ndrnn.MDLSTM(inputs, 25, peepholes=True)
    head = outputs * (4 * 25 + 1)
    assert sum(parameter.numel() for parameter in layer.parameters()) + head == expected


def test_gates_come_in_the_order_of_the_documentation():
    order = {
        ndrnn.MDRNN: ("a",),
        ndrnn.MDLSTM: ("i", "f1", "f2", "f3", "g", "o"),
        ndrnn.StableMDLSTM: ("i", "f", "m1", "m2", "g", "o"),
        ndrnn.LeakyMDLSTM: ("f", "m1", "m2", "g", "o1", "o2"),
        ndrnn.SpatialLSTM: ("i", "f1", "f2", "f3", "g", "o"),
        ndrnn.MDGRU: ("r1", "r2", "r3", "z1", "z2", "z3", "g"),
    }
    assert {make: make(1, 1, 3).cell.gates(3) for make in order} == order


def test_repr_says_what_one_would_type():
    assert repr(ndrnn.MDLSTM(3, 25, peepholes=True)) == (
        "MDLSTM(3, 25, ndim=2, directions='all', merge='concat', peepholes=True)"
    )
    assert repr(ndrnn.SpatialLSTM(12, 64, bias=False)) == (
        "SpatialLSTM(12, 64, ndim=2, directions=[(1, 1)], merge='concat', extended=False, bias=False)"
    )
    assert repr(ndrnn.MDRNN(1, 2, 1, merge="sum", nonlinearity="relu")) == (
        "MDRNN(1, 2, ndim=1, directions='all', merge='sum', nonlinearity='relu')"
    )
    for layer in (ndrnn.MDLSTM(3, 25, peepholes=True), ndrnn.MDGRU(2, 3, 3, directions=[(1, 1, -1)])):
        again = eval(f"ndrnn.{layer!r}")
        assert repr(again) == repr(layer)
        assert shapes(again) == shapes(layer)


def test_weights_survive_saving(variant, normal):
    layer, other = variant(2, 3), variant(2, 3, seed=1)
    x = normal(1, 3, 4, 2)
    file = io.BytesIO()
    torch.save(layer.state_dict(), file)
    file.seek(0)
    other.load_state_dict(torch.load(file, weights_only=True))
    with ndrnn.backend("wavefront"):
        assert torch.equal(other(x), layer(x))


def test_copies_are_whole_and_apart(variant, normal):
    layer = variant(2, 3)
    twin = copy.deepcopy(layer)
    x = normal(1, 3, 4, 2)
    with ndrnn.backend("wavefront"):
        y = layer(x)
        assert torch.equal(twin(x), y)
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.add_(1)
        assert torch.equal(layer(x), y)
        assert not torch.equal(twin(x), y)


def test_moving_the_dtype(variant, normal):
    layer = variant(2, 3)
    x = normal(1, 3, 4, 2)
    with ndrnn.backend("wavefront"):
        exact = layer(x)
        assert_close(layer.float()(x.float()).double(), exact, rtol=1e-4, atol=1e-5)


class Running(Cell):
    """A cell of one's own: h = tanh(a) with half of each predecessor added."""

    memory = False

    def gates(self, ndim):
        return ("a",)

    def step(self, a, u, h, c, extra):
        return torch.tanh(sum(u, a)) + 0.5 * sum(h), None


def test_a_cell_of_ones_own(backend, normal):
    layer = ScanLayer(Running(), 2, 3, dtype=torch.float64)
    x = normal(2, 3, 4, 2)
    if backend == "cpu":
        with pytest.warns(
            UserWarning, match="there are no compiled kernels for Running; the wavefront backend runs"
        ):
            y = layer(x)
    else:
        y = layer(x)
    with ndrnn.backend("reference"):
        assert_close(y, layer(x), rtol=1e-13, atol=1e-13)


def test_state_of_one_axis_is_shaped_as_torchs(backend, normal):
    layer = ndrnn.MDLSTM(2, 3, 1, dtype=torch.float64)
    _, ((h,), (c,)) = layer(normal(4, 5, 2), return_state=True)
    assert h.shape == c.shape == (2, 4, 3)


def test_empty_batches_and_lattices_give_zero_gradients(backend, variant, normal):
    """As torch.nn.Linear does, so that a batch without samples does not end a training."""
    for shape in [(0, 3, 4, 2), (2, 0, 4, 2), (2, 3, 0, 2)]:
        layer = variant(2, 3, 2)
        y, _ = layer(normal(*shape), return_state=True)
        assert y.shape == (*shape[:-1], layer.output_size)
        y.sum().backward()
        assert all(
            parameter.grad is not None and not parameter.grad.any() for parameter in layer.parameters()
        )
