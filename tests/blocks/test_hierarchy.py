"""The published networks, ragged samples, and gradients of hierarchies."""

from __future__ import annotations

import pytest
import torch
from torch.autograd import gradcheck

import ndrnn
from ndrnn.nn.hierarchy import Hierarchy
from ndrnn.registry import layers

pytestmark = pytest.mark.filterwarnings("ignore:backend")


def weights(model: torch.nn.Module) -> int:
    return sum(weight.numel() for weight in model.parameters())


@pytest.mark.parametrize(
    ("model", "count"),
    [
        pytest.param(
            lambda: Hierarchy(
                1, 121, hidden=(2, 10, 50), subsample=(6, 20), blocks=((4, 3), (4, 3), (4, 2)), collapse=(0,)
            ),
            159_369,
            id="Graves & Schmidhuber 2009, handwriting",
        ),
        pytest.param(lambda: Hierarchy(1, 11, hidden=(25,)), 27_511, id="Graves et al. 2007, MNIST"),
        pytest.param(lambda: Hierarchy(3, 157, hidden=(25,)), 43_257, id="Graves et al. 2007, Air Freight"),
    ],
)
def test_published_networks_have_their_published_numbers_of_weights(model, count):
    assert weights(model()) == count


SHAPES = [
    pytest.param({"hidden": (3,)}, id="points"),
    pytest.param({"hidden": (3, 2)}, id="two levels on points"),
    pytest.param(
        {"hidden": (2, 3), "subsample": (4,), "blocks": ((2, 3), (2, 1)), "collapse": (0,)}, id="frames"
    ),
    pytest.param(
        {"hidden": (2, 3), "subsample": (4,), "blocks": ((2, 2), (2, 2)), "collapse": (0, 1), "how": "mean"},
        id="whole",
    ),
    pytest.param({"hidden": (2, 2), "blocks": ((2, 2), (1, 2)), "expand": True}, id="expanded"),
    pytest.param({"hidden": (2,), "blocks": ((3, 2),), "dct": 3, "layer": "LeakyMDLSTM"}, id="cosines"),
]


@pytest.mark.parametrize("shape", SHAPES)
def test_a_sample_in_a_padded_batch_gives_what_it_gives_alone(shape):
    torch.manual_seed(0)
    model = Hierarchy(2, 5, **shape).double()
    model.standardize(torch.tensor([0.3, -1.0]), torch.tensor([2.0, 0.5]))  # the padding then is no zero
    sizes = torch.tensor([[7, 8], [5, 3], [1, 6]])
    x = torch.randn(3, 7, 8, 2, dtype=torch.float64)
    y, left = model(x, sizes), model.output_sizes(sizes)
    for index, size in enumerate(sizes.tolist()):
        alone = model(x[(slice(index, index + 1), *map(slice, size))])[0]
        assert left[index].tolist() == list(alone.shape[:-1])
        torch.testing.assert_close(y[(index, *map(slice, alone.shape[:-1]))], alone)


@pytest.mark.parametrize("shape", SHAPES)
def test_gradients(shape):
    torch.manual_seed(0)
    model = Hierarchy(1, 2, **shape).double()
    x = torch.randn(2, 4, 4, 1, dtype=torch.float64, requires_grad=True)
    sizes = torch.tensor([[4, 4], [3, 2]])
    with ndrnn.backend("reference"):
        left = model.output_sizes(sizes)

        def counted(x: torch.Tensor) -> torch.Tensor:
            y = model(x, sizes)
            parts = [y[(index, *map(slice, size))].flatten() for index, size in enumerate(left.tolist())]
            return torch.cat(parts)

        assert gradcheck(counted, x, fast_mode=True)


def test_the_layers_of_directions_are_summed_into_one_output():
    # 2^n layers feed one output layer: a linear map of their concatenation (Graves et al. 2007)
    torch.manual_seed(0)
    model = Hierarchy(1, 3, hidden=(4,)).double()
    x = torch.randn(1, 3, 4, 1, dtype=torch.float64)
    expected = model.output.bias.expand(1, 3, 4, 3)
    layer = model.layers[0]
    for d, direction in enumerate(layer.directions):
        single = ndrnn.MDLSTM(1, 4, peepholes=True, directions=[direction], dtype=torch.float64)
        single.load_state_dict({name: value[d : d + 1] for name, value in layer.state_dict().items()})
        expected = expected + single(x) @ model.output.weight[:, 4 * d : 4 * d + 4].T
    torch.testing.assert_close(model(x), expected)


def test_three_axes_and_every_layer():
    for name in layers:
        model = Hierarchy(1, 2, hidden=(2,), ndim=3, layer=name, blocks=((2, 1, 2),), expand=True)
        assert model(torch.randn(1, 3, 2, 3, 1)).shape == (1, 3, 2, 3, 2)


def test_dropout_is_for_training_alone():
    model = Hierarchy(1, 2, hidden=(8,), dropout=0.5)
    x = torch.randn(1, 3, 3, 1)
    assert not torch.equal(model(x), model(x))
    model.eval()
    assert torch.equal(model(x), model(x))


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"blocks": ((2, 1), (1, 3)), "expand": True},
        {"blocks": ((2, 1), (1, 3)), "collapse": (0, 1), "how": "mean"},
    ],
    ids=["points", "blocks", "collapsed"],
)
def test_every_level_has_its_say(shape):
    torch.manual_seed(0)
    model = Hierarchy(1, 3, hidden=(2, 4), auxiliary=True, **shape).double()
    x, sizes = torch.randn(2, 5, 6, 1, dtype=torch.float64), torch.tensor([[5, 6], [3, 4]])
    low, top = model.scores(x, sizes)
    assert torch.equal(top, model(x, sizes))
    # the lowest level's output is the output of a network without the others
    cut = {"hidden": (2,), **({**shape, "blocks": shape["blocks"][:1]} if shape else {})}
    alone = Hierarchy(1, 3, **cut).double()
    state = {name: value for name, value in model.state_dict().items() if name in alone.state_dict()}
    state["output.weight"], state["output.bias"] = model.auxiliary[0].weight, model.auxiliary[0].bias
    alone.load_state_dict(state)
    torch.testing.assert_close(low, alone(x, sizes), rtol=0, atol=1e-12)


def test_auxiliary_outputs_are_extra():
    torch.manual_seed(0)
    plain = Hierarchy(1, 3, hidden=(2, 4))
    torch.manual_seed(0)
    model = Hierarchy(1, 3, hidden=(2, 4), auxiliary=True)
    x = torch.randn(1, 3, 4, 1)
    assert torch.equal(model(x), plain(x))
    assert weights(model) - weights(plain) == (4 * 2 + 1) * 3  # four directions of two units, and the bias
    with pytest.raises(ValueError, match="auxiliary must be True for scores of all levels"):
        plain.scores(x)


def test_a_layer_of_ones_own_has_a_name(monkeypatch):
    class Mine(torch.nn.Module):
        def __init__(self, input_size, hidden_size, ndim, *, directions):
            super().__init__()
            self.linear, self.output_size = torch.nn.Linear(input_size, hidden_size), hidden_size

        def forward(self, x, sizes=None):
            return self.linear(x)

    monkeypatch.setitem(layers._objects, "Mine", Mine)
    assert weights(Hierarchy(1, 2, hidden=(3,), layer="Mine")) == (1 + 1) * 3 + (3 + 1) * 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"hidden": ()}, "hidden must name at least one level"),
        (
            {"hidden": (2, 2), "subsample": (3, 3)},
            "subsample must have one entry between each two of the 2 levels.*got 2",
        ),
        ({"hidden": (2,), "blocks": ((2,),)}, "blocks must have 2 numbers for each of the 1 levels"),
        ({"hidden": (2,), "layer": "LSTM"}, "layer 'LSTM' is not known; did you mean 'MDLSTM'"),
        ({"hidden": (2,), "layer": "MDGRU", "peepholes": True}, "peepholes belong to the layer MDLSTM"),
        ({"hidden": (2,), "collapse": (0,), "expand": True}, "expand must be False"),
        (
            {"hidden": (2,), "auxiliary": True},
            r"auxiliary outputs need at least two levels in hidden, got \(2,\)",
        ),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ValueError, match=message):
        Hierarchy(1, 2, **arguments)


def test_unbatched_input():
    torch.manual_seed(0)
    model = Hierarchy(2, 3, hidden=(2, 2), blocks=((2, 2), (1, 2)), auxiliary=True).double()
    x, sizes = torch.randn(1, 5, 6, 2, dtype=torch.float64), torch.tensor([[4, 5]])
    assert torch.equal(model(x[0], sizes[0]), model(x, sizes)[0])
    assert torch.equal(model(x[0]), model(x)[0])
    for alone, batch in zip(model.scores(x[0]), model.scores(x), strict=True):
        assert torch.equal(alone, batch[0])
    for alone, batch in zip(model.hidden(x[0]), model.hidden(x), strict=True):
        assert torch.equal(alone, batch[0])


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 2), r"x must have shape \(N, D1, D2, 2\), or \(D1, D2, 2\) unbatched, got \(5, 2\)"),
        ((1, 5, 6, 7, 2), r"got \(1, 5, 6, 7, 2\)"),
        ((1, 5, 6, 1), r"got \(1, 5, 6, 1\)"),  # one feature would have been spread over both
        ((1, 5, 6, 3), r"got \(1, 5, 6, 3\)"),
    ],
)
def test_input_of_a_wrong_shape_is_refused(shape, message):
    model = Hierarchy(2, 3, hidden=(2,))
    for call in (model, model.hidden):
        with pytest.raises(ValueError, match=message):
            call(torch.zeros(shape))


def test_it_keeps_no_list_of_the_callers():
    lists = {"hidden": [2, 3], "subsample": [4], "blocks": [[2, 1], [1, 2]], "collapse": [0]}
    model = Hierarchy(1, 2, **lists, directions=[[1, 1]])
    directions = [[1, -1]]
    other = Hierarchy(1, 2, hidden=[2], directions=directions)
    for value in lists.values():
        value.clear()
    directions[0][0] = -1
    assert model.config()["hidden"] == (2, 3)
    assert model.config()["subsample"] == (4,)
    assert model.config()["blocks"] == ((2, 1), (1, 2))
    assert model.config()["collapse"] == (0,)
    assert other.config()["directions"] == ((1, -1),)
    assert repr(Hierarchy(**model.config())) == repr(model)


@pytest.mark.parametrize("dct", [None, 3])
def test_made_on_the_meta_device_and_filled_later(dct):
    torch.manual_seed(0)
    shape = {"hidden": (2, 3), "blocks": ((3, 2), (1, 2)), "dct": dct, "auxiliary": True}
    expected = Hierarchy(1, 3, **shape)
    x = torch.randn(2, 6, 8, 1)
    with torch.device("meta"):
        under = Hierarchy(1, 3, **shape)
    for model in (under, Hierarchy(1, 3, **shape, device="meta")):
        assert {value.device.type for value in model.state_dict().values()} == {"meta"}
        model.load_state_dict(expected.state_dict(), assign=True)
        assert torch.equal(model(x), expected(x))
    skipped = torch.nn.utils.skip_init(Hierarchy, 1, 3, **shape)
    skipped.load_state_dict(expected.state_dict())
    assert torch.equal(skipped(x), expected(x))


def test_dtype_of_its_weights():
    model = Hierarchy(1, 3, hidden=(2,), dtype=torch.float64)
    assert {value.dtype for value in model.state_dict().values()} == {torch.float64}
    assert not {"device", "dtype"} & model.config().keys()
