"""Fresh layers neither explode nor forget at once, whatever the lattice."""

import pytest
import torch

import ndrnn
from ndrnn.lattice import face_points
from ndrnn.scan import wavefront


class Gauge:
    """A cell that only remembers how large its memories grow, so that no test keeps a whole lattice of them."""

    def __init__(self, cell):
        self.cell = cell
        self.feeds_memory = cell.feeds_memory
        self.limit = cell.limit
        self.largest = 0.0

    def step(self, *arguments):
        h, c = self.cell.step(*arguments)
        self.largest = max(self.largest, c.abs().max().item())
        return h, c


@torch.no_grad()
def largest_memory(layer, x):
    gauge = Gauge(layer.cell)
    outside = x.new_zeros(1, x.shape[0], sum(face_points(x.shape[1:-1])), layer.hidden_size)
    wavefront.scan(gauge, x, layer.params, layer.directions, None, outside, outside)
    return gauge.largest


def inputs(kind, lattice):
    if kind == "constant":  # pushes all memories one way
        return torch.ones(1, *lattice, 2)
    return torch.randn(1, *lattice, 2, generator=torch.Generator().manual_seed(0))


def fresh(lstm, ndim, **options):
    torch.manual_seed(0)
    return lstm.make(2, 4, ndim, directions=[(1,) * ndim], **options)


@pytest.mark.parametrize("kind", ["noise", "constant"])
@pytest.mark.parametrize("lattice", [(256, 256), (40, 40, 40)], ids=str)
def test_memories_stay_small_on_large_lattices(lstm, lattice, kind):
    assert largest_memory(fresh(lstm, len(lattice)), inputs(kind, lattice)) < 1e3


@pytest.mark.parametrize("ndim", [2, 3, 4])
@pytest.mark.parametrize(
    "options", [{"peepholes": False}, {"peepholes": True}, {"extended": False}, {"extended": True}]
)
def test_no_lattice_is_too_large(ndim, options):
    """Forget gates that do not see the input bound a memory by 1 / (1 - their sum), here by 1e3."""
    layer = (ndrnn.SpatialLSTM if "extended" in options else ndrnn.MDLSTM)(2, 4, ndim, **options)
    forget = slice(4, 4 * (1 + ndim))
    assert torch.sigmoid(layer.bias.unflatten(1, (ndim + 3, 4))[:, 1 : 1 + ndim]).sum(1).max() <= 0.999
    assert not layer.weight_ih[:, forget].any()
    assert not layer.weight_hh[:, :, forget].any()
    if options.get("extended"):
        assert not layer.weight_ch[:, :, forget].any()
    if options.get("peepholes"):
        assert not layer.weight_peephole.any()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_coarse_dtypes_do_not_round_the_sum_above_one(dtype):
    for ndim in (2, 3, 4, 5):
        layer = ndrnn.MDLSTM(2, 3, ndim, dtype=dtype)
        forget = layer.bias.unflatten(1, (ndim + 3, 3))[:, 1 : 1 + ndim].double()
        assert torch.sigmoid(forget).sum(1).max() <= 1


@pytest.mark.parametrize("ndim", [2, 3])
def test_convex_cells_start_with_an_even_mix(ndim):
    for make in (ndrnn.StableMDLSTM, ndrnn.LeakyMDLSTM):
        layer = make(2, 4, ndim)
        gates = layer.cell.gates(ndim)
        for name, parameter in layer.named_parameters():
            dim = 1 if name == "bias" else -2
            for gate in gates:
                rows = parameter.unflatten(dim, (len(gates), 4)).movedim(dim - (dim < 0), 0)[
                    gates.index(gate)
                ]
                assert rows.any() != gate.startswith("m"), (name, gate)


@pytest.mark.parametrize("make", [ndrnn.MDLSTM, ndrnn.SpatialLSTM])
def test_the_customary_forget_bias_of_one_explodes(make):
    """Why the standard cells start elsewhere: the claim of the documentation, measured."""
    torch.manual_seed(0)
    layer = make(2, 4, directions=[(1, 1)])
    with torch.no_grad():
        layer.bias.unflatten(1, (5, 4))[:, 1:3] = 1
    assert largest_memory(layer, inputs("noise", (64, 64))) > 1e15


def test_leaky_memories_never_exceed_one():
    layer = ndrnn.LeakyMDLSTM(2, 4, directions=[(1, 1)])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(0, 3, generator=torch.Generator().manual_seed(0))
    assert largest_memory(layer, 10 * inputs("noise", (64, 64))) <= 1 + 1e-6


def test_gated_units_stay_within_one(normal):
    layer = ndrnn.MDGRU(2, 4, dtype=torch.float64)
    with ndrnn.backend("wavefront"):
        assert layer(100 * normal(1, 40, 40, 2)).abs().max() <= 1 + 1e-12


def test_one_axis_starts_at_the_customary_bias():
    layer = ndrnn.MDLSTM(2, 50, 1)
    assert layer.bias[:, 50:100].eq(1).all()


def test_every_parameter_is_drawn(variant):
    """Parameters come from uninitialised memory: none may be left as it was."""
    torch.use_deterministic_algorithms(True)  # fills what is not written with NaN
    try:
        layer = variant.make(3, 4)
    finally:
        torch.use_deterministic_algorithms(False)
    assert all(parameter.isfinite().all() for parameter in layer.parameters())
    before = {name: value.clone() for name, value in layer.state_dict().items()}
    layer.reset_parameters()
    assert any(not torch.equal(value, before[name]) for name, value in layer.state_dict().items())


def test_the_seed_decides(variant):
    layers = []
    for _ in range(2):
        torch.manual_seed(7)
        layers.append(variant.make(3, 4).state_dict())
    assert all(torch.equal(layers[0][name], layers[1][name]) for name in layers[0])
