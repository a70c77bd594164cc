"""Every layer in ONNX Runtime gives what it gives in PyTorch."""

from __future__ import annotations

import random
from itertools import product

import numpy as np
import pytest
import torch
from torch import nn

import ndrnn
from ndrnn.cells import Cell
from ndrnn.lattice import all_directions
from ndrnn.nn import ScanLayer, TimeFirst

from .conftest import Several, assert_same, drawn

onnx = pytest.importorskip("onnx")
pytest.importorskip("onnxscript")
pytestmark = pytest.mark.kernels

KINDS = {
    "rnn": (ndrnn.MDRNN, {}),
    "relu": (ndrnn.MDRNN, {"nonlinearity": "relu"}),
    "lstm": (ndrnn.MDLSTM, {}),
    "peepholes": (ndrnn.MDLSTM, {"peepholes": True}),
    "stable": (ndrnn.StableMDLSTM, {}),
    "leaky": (ndrnn.LeakyMDLSTM, {}),
    "spatial": (ndrnn.SpatialLSTM, {}),
    "extended": (ndrnn.SpatialLSTM, {"extended": True}),
    "gru": (ndrnn.MDGRU, {}),
    "linear": (ndrnn.MDLinearRNN, {}),
    "even": (ndrnn.MDLinearRNN, {"normalize": "even"}),
}
# longer along each axis in turn, thin, a single point, and one of equal sides
LATTICES = {
    1: [(6,), (1,), (2,)],
    2: [(3, 7), (7, 3), (1, 5), (4, 1), (1, 1), (4, 4)],
    3: [(2, 3, 5), (5, 2, 3), (2, 5, 3), (1, 1, 4), (3, 1, 2), (1, 1, 1)],
}


def ragged(batch, lattice, generator):
    """Extents from 0 up, the first sample's those of the lattice."""
    sizes = [torch.randint(0, size + 1, (batch, 1), generator=generator) for size in lattice]
    return torch.cat([torch.tensor([lattice]), torch.cat(sizes, 1)])


def assert_layers(exported, layers, *, sizes):
    module = drawn(Several(layers))
    session = exported(module, sizes=sizes)
    generator = torch.Generator().manual_seed(1)
    for batch, lattice in product((0, 2), LATTICES[module.ndim]):
        x = torch.randn(1 + batch, *lattice, module.input_size, generator=generator)
        extents = ragged(batch, lattice, generator) if sizes else None
        if extents is not None:
            for sample, extent in zip(x, extents.tolist(), strict=True):
                beyond = torch.ones(lattice, dtype=torch.bool)
                beyond[tuple(map(slice, extent))] = False
                sample[beyond] = torch.nan
        assert_same(session, module, x, extents)


def test_all_cells_on_two_axes(exported):
    layers = [
        cls(3, 2, directions=corners, merge=merge, bias=number != 2, **options)
        for number, ((cls, options), corners, merge) in enumerate(
            zip(
                KINDS.values(),
                ["all", [(-1, 1)], [(1, -1), (-1, -1)], *["all"] * 8],
                ["concat", "sum", "mean", *["concat"] * 8],
                strict=True,
            )
        )
    ]
    assert_layers(exported, layers, sizes=True)


@pytest.mark.parametrize(("ndim", "kinds"), [(1, ("gru", "stable")), (3, ("peepholes", "gru", "linear"))])
def test_other_axes_without_sizes(exported, ndim, kinds):
    corners = [(1,) * ndim, (-1,) * ndim]
    layers = [KINDS[kind][0](2, 3, ndim, directions=corners, **KINDS[kind][1]) for kind in kinds]
    assert_layers(exported, layers, sizes=False)


def drawn_layer(chance, ndim):
    cls, options = KINDS[chance.choice(list(KINDS))]
    every = all_directions(ndim)
    return cls(
        2,
        chance.randint(1, 5),
        ndim,
        directions=chance.sample(every, chance.randint(1, len(every))),
        merge=chance.choice(["concat", "sum", "mean"]),
        bias=chance.random() < 0.7,
        **options,
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(10))
def test_random_layers(exported, seed):
    # 200 in all
    chance = random.Random(seed)
    ndim = 1 + seed % 3
    assert_layers(exported, [drawn_layer(chance, ndim) for _ in range(20)], sizes=seed % 4 > 0)


class Walk(nn.Module):
    """The linear scan alone."""

    ndim, input_size = 2, 5

    def __init__(self, direction, shared):
        super().__init__()
        self.direction, self.shared = direction, shared

    def forward(self, x, sizes=None):
        z, f = x[..., :2], x[..., 2:4] / 4
        f = torch.stack([f, f.flip(-1)])
        f = f[..., :1] if self.shared else f
        return ndrnn.linear_scan(z, f, direction=self.direction, sizes=sizes)


class Walks(nn.Module):
    ndim, input_size = 2, 5

    def __init__(self):
        super().__init__()
        self.walks = nn.ModuleList([Walk((1, -1), False), Walk((-1, 1), True)])

    def forward(self, x, sizes=None):
        return tuple(walk(x, sizes) for walk in self.walks)


@pytest.mark.slow
def test_linear_scans(exported):
    session = exported(Walks())
    x = torch.randn(2, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    assert_same(session, Walks(), x, torch.tensor([[3, 4], [2, 5]]))


def test_layouts_stacks_and_double_precision(exported):
    torch.manual_seed(0)
    first = drawn(
        ndrnn.ChannelsFirst(ndrnn.Stack(ndrnn.MDRNN(3, 2, merge="sum"), ndrnn.MDGRU(2, 2))).double()
    )
    session = exported(first)
    assert [value.shape for value in session.get_inputs()] == [["N", 3, "D1", "D2"], ["N", 2]]
    x, sizes = torch.randn(2, 3, 4, 6, dtype=torch.float64), torch.tensor([[4, 6], [3, 2]])
    assert_same(session, first, x, sizes, tolerance=1e-13)
    time = drawn(TimeFirst(ndrnn.MDLSTM(2, 3, ndim=1)))
    session = exported(time, sizes=False)
    assert [value.shape for value in session.get_inputs()] == [["D1", "N", 2]]
    assert_same(session, time, torch.randn(7, 2, 2))


def test_what_a_file_says_of_itself(tmp_path):
    layer = ndrnn.MDRNN(1, 2, ndim=1)
    layer.train()
    ndrnn.onnx.export(layer, tmp_path / "layer.onnx", metadata={"alphabet": "aß"}, outputs=["states"])
    assert layer.training
    model = onnx.load(tmp_path / "layer.onnx")
    onnx.checker.check_model(model, full_check=True)
    assert [(opset.domain, opset.version) for opset in model.opset_import if not opset.domain] == [("", 18)]
    assert [output.name for output in model.graph.output] == ["states"]
    (entry,) = model.metadata_props
    assert entry.key == "ndrnn"
    assert entry.value == (
        f'{{"ndrnn": "{ndrnn.__version__}", "model": "MDRNN", "ndim": 1, "input_size": 1, "alphabet": "aß"}}'
    )
    # nothing of the machine that wrote it
    assert b".py" not in (tmp_path / "layer.onnx").read_bytes()


def test_states_that_grow_stay_finite(exported):
    options = {"ndim": 1, "directions": [(1,)]}
    module = Several([ndrnn.MDLSTM(1, 1, **options), ndrnn.MDRNN(1, 1, nonlinearity="relu", **options)])
    with torch.no_grad():
        for weight in module.parameters():
            weight.zero_()
        lstm, relu = module.layers
        lstm.bias[:] = 50.0  # every gate open: the memory is the number of points
        relu.weight_hh[:] = 1e9
        relu.bias[:] = 1.0
    x = torch.zeros(1, 40, 1)
    session = exported(module, sizes=False)
    memories, grown = session.run(None, {"x": x.numpy()})
    np.testing.assert_allclose(memories[0, :, 0], np.tanh(np.arange(1, 41)), rtol=1e-6)
    assert grown[0, :, 0].tolist() == relu(x)[0, :, 0].tolist()
    assert grown.max() == 2.0**80


class Own(Cell):
    memory = False

    def gates(self, ndim):
        return ("a",)

    def step(self, a, u, h, c, extra):
        return torch.sin(sum(u, a)), None


class WithStates(nn.Module):
    ndim, input_size = 1, 2

    def __init__(self):
        super().__init__()
        self.layer = ndrnn.MDGRU(2, 3, ndim=1)

    def forward(self, x, sizes=None):
        return self.layer(x, sizes, return_state=True)[0]


@pytest.mark.parametrize(
    ("module", "error", "words"),
    [
        (ndrnn.MCGSM(3), TypeError, "MCGSM is a density model"),
        (ScanLayer(Own(), 2, 3), TypeError, "the cell Own has no equations in ONNX"),
        (
            ndrnn.MDGRU(2, 3).half(),
            TypeError,
            "weights must be float32 or float64, got torch.float16 for weight_ih",
        ),
        (
            nn.Linear(2, 3),
            TypeError,
            "must be a layer or network of ndrnn, or have .* ndim and input_size, got Linear",
        ),
        (WithStates(), ValueError, "initial and final states are no part of an ONNX file"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, module, error, words):
    with pytest.raises(error, match=words):
        ndrnn.onnx.export(module, tmp_path / "model.onnx")
    assert not list(tmp_path.iterdir())


def test_other_endings_are_refused(tmp_path):
    with pytest.raises(ValueError, match=r"must end in \.onnx, got .*model\.pb"):
        ndrnn.onnx.export(ndrnn.MDRNN(1, 1), tmp_path / "model.pb")
