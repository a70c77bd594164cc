"""What users of torch.nn expect of a module: unbatched input, other layouts, stacks, meta devices, parametrizations."""

from __future__ import annotations

import inspect
import warnings

import pytest
import torch
from torch.func import functional_call, grad, vmap
from torch.nn.utils import parametrizations, parametrize, skip_init
from torch.testing import assert_close

import ndrnn
from ndrnn.nn.layers import ScanLayer
from ndrnn.registry import layers

EXACT = {"rtol": 1e-13, "atol": 1e-13}
LATTICES = {1: (5,), 2: (3, 4), 3: (2, 3, 2)}
OWN = ("MDRNN", "MDLSTM", "StableMDLSTM", "LeakyMDLSTM", "SpatialLSTM", "MDGRU")


def assert_same_states(got, expected):
    assert isinstance(got, ndrnn.State)
    assert (got.c is None) == (expected.c is None)
    for faces, wanted in zip(got, expected, strict=True):
        for face, other in zip(faces or (), wanted or (), strict=True):
            assert_close(face, other, **EXACT)


@pytest.mark.parametrize("ndim", LATTICES)
def test_unbatched_input_is_a_batch_of_one(backend, variant, ndim, normal, random_state):
    layer = variant(2, 3, ndim, directions="all")
    x = normal(1, *LATTICES[ndim], 2)
    sizes, state = torch.tensor([[size - 1 for size in LATTICES[ndim]]]), random_state(layer, x)
    alone = ndrnn.State(*(None if part is None else tuple(face[:, 0] for face in part) for part in state))
    y, exits = layer(x, sizes, state, return_state=True)
    got, got_exits = layer(x[0], sizes[0], alone, return_state=True)
    assert_close(got, y[0], **EXACT)
    outer = ndrnn.State(*(None if part is None else tuple(face[:, 0] for face in part) for part in exits))
    assert_same_states(got_exits, outer)
    assert_close(layer(x[0]), layer(x)[0], **EXACT)


@pytest.mark.parametrize("module", [torch.nn.LSTM, torch.nn.GRU])
def test_unbatched_states_are_torchs(module, normal):
    theirs = module(2, 3, bidirectional=True, dtype=torch.float64)
    ours = (ndrnn.MDLSTM if module is torch.nn.LSTM else ndrnn.MDGRU).from_torch(theirs)
    h, c = normal(2, 3), normal(2, 3)
    y, leaving = theirs(x := normal(5, 2), (h, c) if module is torch.nn.LSTM else h)
    state = ndrnn.State((h,), (c,) if module is torch.nn.LSTM else None)
    got, exits = ours(x, initial_state=state, return_state=True)
    assert_close(got, y, **EXACT)
    assert_close(exits.h[0], leaving[0] if module is torch.nn.LSTM else leaving, **EXACT)


def test_every_form_of_a_state_is_taken(variant, normal, random_state):
    layer = variant(2, 3)
    x = normal(2, 3, 4, 2)
    state = random_state(layer, x)
    expected, exits = layer(x, initial_state=state, return_state=True)
    assert isinstance(exits, ndrnn.State)
    assert (exits.c is not None) == layer.cell.memory
    old = (state.h, state.c) if layer.cell.memory else state.h  # as version 0.1 had it
    for form in (old, list(old), tuple(state)):
        assert torch.equal(layer(x, initial_state=form), expected)
    assert layer(x, initial_state=exits).shape == expected.shape


@pytest.mark.parametrize("ndim", LATTICES)
def test_channels_first_is_the_layer_with_other_axes(backend, ndim, normal, random_state):
    layer = ndrnn.MDLSTM(2, 3, ndim, dtype=torch.float64)
    turned = ndrnn.ChannelsFirst(layer)
    x = normal(2, *LATTICES[ndim], 2)
    first = x.permute(0, -1, *range(1, ndim + 1)).contiguous()
    sizes, state = torch.tensor([LATTICES[ndim], [1] * ndim]), random_state(layer, x)
    y, exits = layer(x, sizes, state, return_state=True)
    got, got_exits = turned(first, sizes, state, return_state=True)
    assert got.shape == (2, layer.output_size, *LATTICES[ndim])
    assert_close(got, y.permute(0, -1, *range(1, ndim + 1)), **EXACT)
    assert_same_states(got_exits, exits)
    assert_close(turned(first[0], sizes[0]), got_of(layer, x[0], sizes[0]), **EXACT)
    assert (turned.ndim, turned.input_size, turned.output_size) == (ndim, 2, layer.output_size)


def got_of(layer, x, sizes):
    y = layer(x, sizes)
    return y.permute(-1, *range(layer.ndim))


def test_channels_first_between_convolutions():
    torch.manual_seed(0)
    network = torch.nn.Sequential(
        torch.nn.Conv2d(1, 4, 3), ndrnn.ChannelsFirst(ndrnn.MDGRU(4, 2)), torch.nn.Conv2d(8, 5, 1)
    )
    assert network(torch.randn(2, 1, 8, 9)).shape == (2, 5, 6, 7)


def test_channels_first_of_a_network():
    torch.manual_seed(0)
    model = ndrnn.Hierarchy(2, 3, hidden=(2,), blocks=((2, 2),), collapse=(0,)).double()
    x, sizes = torch.randn(2, 5, 6, 2, dtype=torch.float64), torch.tensor([[5, 6], [3, 2]])
    turned = ndrnn.ChannelsFirst(model)
    assert_close(turned(x.movedim(-1, 1), sizes), model(x, sizes).movedim(-1, 1), **EXACT)
    assert_close(turned(x[0].movedim(-1, 0)), model(x[:1])[0].movedim(-1, 0), **EXACT)
    assert torch.equal(turned.output_sizes(sizes), model.output_sizes(sizes))


def test_what_channels_first_refuses():
    turned = ndrnn.ChannelsFirst(ndrnn.MDLSTM(2, 3))
    with pytest.raises(ValueError, match=r"x must have 2 axes beside .*, got \(2, 3, 4, 5, 6\)"):
        turned(torch.zeros(2, 3, 4, 5, 6))
    with pytest.raises(TypeError, match=r"layer must be a module with .* ndim, got Linear"):
        ndrnn.ChannelsFirst(torch.nn.Linear(1, 1))
    with pytest.raises(ValueError, match="layer must have one lattice axis, got ndim=2"):
        ndrnn.nn.TimeFirst(ndrnn.MDLSTM(2, 3))


@pytest.fixture
def stack():
    torch.manual_seed(0)
    return ndrnn.Stack(
        ndrnn.MDLSTM(2, 3, dtype=torch.float64),
        ndrnn.MDGRU(12, 2, merge="sum", dtype=torch.float64),
        ndrnn.SpatialLSTM(2, 4, dtype=torch.float64),
        dropout=0.4,
    )


def test_a_stack_runs_its_layers_in_turn(backend, stack, normal, random_state):
    first, second, third = stack.eval()
    x, sizes = normal(2, 3, 4, 2), torch.tensor([[3, 4], [2, 1]])
    states = [random_state(layer, x) for layer in stack]
    a, of_first = first(x, sizes, states[0], return_state=True)
    b, of_second = second(a, sizes, return_state=True)
    c, of_third = third(b, sizes, states[2], return_state=True)
    y, exits = stack(x, sizes, [states[0], None, states[2]], return_state=True)
    assert torch.equal(y, c)
    assert isinstance(exits, tuple)
    for got, expected in zip(exits, (of_first, of_second, of_third), strict=True):
        assert_same_states(got, expected)
    assert torch.equal(stack(x, sizes), third(second(first(x, sizes), sizes), sizes))
    assert_close(stack(x[1], sizes[1]), stack(x, sizes)[1], **EXACT)
    assert (stack.ndim, stack.input_size, stack.output_size, len(stack)) == (2, 2, 4, 3)


def test_dropout_lies_between_the_layers_of_a_stack(stack, normal):
    first, second, third = stack
    x = normal(2, 3, 4, 2)
    torch.manual_seed(3)
    expected = third(torch.dropout(second(torch.dropout(first(x), 0.4, True)), 0.4, True))
    torch.manual_seed(3)
    assert torch.equal(stack(x), expected)
    stack.eval()
    assert torch.equal(stack(x), stack(x))


def test_what_a_stack_refuses(stack):
    with pytest.raises(ValueError, match="layers must be at least one, got none"):
        ndrnn.Stack()
    with pytest.raises(TypeError, match=r"given one by one as to torch\.nn\.Sequential, got list"):
        ndrnn.Stack([ndrnn.MDGRU(1, 2)])
    with pytest.raises(ValueError, match="layer 1 takes 3 features but layer 0 gives 8"):
        ndrnn.Stack(ndrnn.MDGRU(1, 2), ndrnn.MDGRU(3, 2))
    with pytest.raises(ValueError, match="layer 1 takes 1 lattice axes but layer 0 gives 2"):
        ndrnn.Stack(ndrnn.MDGRU(1, 2), ndrnn.MDGRU(8, 2, 1))
    x = torch.zeros(1, 2, 2, 2, dtype=torch.float64)
    for states, got in (([None], "a list of 1"), (ndrnn.State((x, x, x)), "a State")):
        with pytest.raises(TypeError, match=f"must hold a state for each of the 3 layers, got {got}"):
            stack(x, initial_state=states)


def test_nested_modules_are_saved_and_loaded(stack, tmp_path, normal):
    for model in (
        stack,
        ndrnn.ChannelsFirst(stack),
        ndrnn.MDGRU.from_torch(torch.nn.GRU(2, 3, 2)),
        ndrnn.ChannelsFirst(ndrnn.Hierarchy(2, 3, hidden=(2,))),
    ):
        ndrnn.save(model, tmp_path / "model.safetensors")
        found = ndrnn.load(tmp_path / "model.safetensors")
        assert repr(found) == repr(model)
        for name, value in model.state_dict().items():
            assert torch.equal(found.state_dict()[name], value)
    with pytest.raises(TypeError, match="Unknown must be registered"):
        ndrnn.ChannelsFirst(ndrnn.Stack(Unknown(2, 3))).config()


class Unknown(torch.nn.Linear):
    output_size = 3
    ndim = 2


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"layers": "MDLSTM"}, "layers must be a list, got str"),
        ({"layers": [{"model": "MDLSTM"}]}, "must be described by model and config"),
        ({"layers": [{"model": "MDLST", "config": {}}]}, "did you mean 'MDLSTM'"),
        ({"layers": [{"model": "MDLSTM", "config": []}]}, "config of MDLSTM must be an object, got list"),
    ],
)
def test_broken_descriptions_are_named(config, message):
    with pytest.raises(ValueError, match=message):
        ndrnn.Stack.from_config(config)


def test_the_old_name_of_recompute():
    with pytest.warns(DeprecationWarning, match="option checkpoint is now called recompute") as seen:
        layer = ndrnn.MDLSTM(1, 2, checkpoint=3)
    assert seen[0].filename == __file__
    assert layer.recompute == 3
    with pytest.warns(DeprecationWarning, match="recompute"):
        assert ScanLayer(layer.cell, 1, 2, checkpoint=True).recompute is True
    with (
        pytest.warns(DeprecationWarning, match="recompute"),
        pytest.raises(TypeError, match="give recompute alone"),
    ):
        ndrnn.MDLSTM(1, 2, checkpoint=True, recompute=True)
    with pytest.warns(DeprecationWarning, match="recompute"):
        assert ndrnn.SpatialLSTM(1, 2, checkpoint=False).recompute is False


def test_a_config_of_the_first_version_loads_without_a_warning():
    old = {
        "input_size": 1,
        "hidden_size": 2,
        "ndim": 2,
        "directions": "all",
        "merge": "concat",
        "bias": True,
        "checkpoint": 4,
        "peepholes": True,
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer = ndrnn.MDLSTM.from_config(old)
    assert layer.recompute == 4
    assert layer.cell.peepholes
    assert old["checkpoint"] == 4
    assert "checkpoint" not in layer.config()


@pytest.mark.parametrize("name", OWN)
def test_skip_init_and_the_meta_device(name):
    cls = layers[name]
    layer = skip_init(cls, 2, 3, bias=False)
    assert {parameter.device.type for parameter in layer.parameters()} == {"cpu"}
    with torch.device("meta"):
        empty = cls(2, 3)
    assert {parameter.device.type for parameter in empty.parameters()} == {"meta"}
    filled = empty.to_empty(device="cpu")
    filled.load_state_dict(cls(2, 3).state_dict())
    parameters = inspect.signature(cls).parameters
    assert {"input_size", "directions", "recompute", "device", "dtype"} <= parameters.keys()
    assert "options" not in parameters


def test_a_parametrised_layer_is_drawn_anew():
    torch.manual_seed(0)
    layer = ndrnn.MDLSTM(2, 3)
    parametrizations.weight_norm(layer, "weight_hh")
    torch.manual_seed(1)
    layer.reset_parameters()
    torch.manual_seed(1)
    plain = ndrnn.MDLSTM(2, 3)
    assert parametrize.is_parametrized(layer, "weight_hh")
    for name, weight in plain.named_parameters():
        assert_close(getattr(layer, name), weight, msg=name)


class Doubled(torch.nn.Module):
    def forward(self, weight):
        return 2 * weight


def test_a_parametrization_that_cannot_be_inverted_is_named():
    layer = ndrnn.MDGRU(2, 3)
    parametrize.register_parametrization(layer, "weight_ih", Doubled())
    with pytest.raises(RuntimeError, match="parametrization Doubled does not implement right_inverse"):
        layer.reset_parameters()


def test_a_parametrised_weight_is_computed_once_a_call(normal):
    layer = ndrnn.MDLSTM(2, 3, dtype=torch.float64)
    seen = []

    class Counted(torch.nn.Module):
        def forward(self, weight):
            seen.append(weight)
            return weight

    parametrize.register_parametrization(layer, "weight_ih", Counted())
    seen.clear()
    layer(normal(1, 2, 2, 2))
    assert len(seen) == 1


@pytest.mark.parametrize("recompute", [False, 2])
def test_functional_transforms(recompute, normal):
    layer = ndrnn.MDLSTM(2, 3, recompute=recompute, dtype=torch.float64)
    x, weights = normal(3, 4, 5, 2), dict(layer.named_parameters())

    def loss(weights, sample):
        return functional_call(layer, weights, (sample,)).square().sum()

    got = grad(loss)(weights, x)
    loss(weights, x).backward()
    for name, weight in layer.named_parameters():
        assert_close(got[name], weight.grad, rtol=1e-11, atol=1e-11)
    each = vmap(grad(loss), (None, 0))(weights, x)  # of every sample, unbatched
    for name, weight in layer.named_parameters():
        assert_close(each[name].sum(0), weight.grad, rtol=1e-11, atol=1e-11)
    assert_close(vmap(layer)(x), layer(x), **EXACT)
