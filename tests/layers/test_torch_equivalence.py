"""For one axis the layers are torch's own: values, final states and all gradients."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close

import ndrnn

PAIRS = [
    (ndrnn.MDRNN, nn.RNN, {"nonlinearity": "tanh"}),
    (ndrnn.MDRNN, nn.RNN, {"nonlinearity": "relu"}),
    (ndrnn.MDLSTM, nn.LSTM, {}),
    (ndrnn.StableMDLSTM, nn.LSTM, {}),
    (ndrnn.MDGRU, nn.GRU, {}),
]
pairs = pytest.mark.parametrize(
    ("layer_class", "torch_class", "options"),
    PAIRS,
    ids=["rnn_tanh", "rnn_relu", "lstm", "stable", "gru"],
)


@pairs
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("bidirectional", [False, True])
def test_values_states_and_gradients(backend, layer_class, torch_class, options, bidirectional, bias, normal):
    torch.manual_seed(0)
    module = torch_class(
        3, 4, batch_first=True, bidirectional=bidirectional, bias=bias, dtype=torch.float64, **options
    )
    layer = layer_class.from_torch(module)
    assert layer.ndim == 1
    assert layer.directions == (((1,), (-1,)) if bidirectional else ((1,),))
    memory = torch_class is nn.LSTM
    x = normal(2, 7, 3).requires_grad_()
    h0, c0 = (normal(1 + bidirectional, 2, 4).requires_grad_() for _ in range(2))
    expected, expected_state = module(x, (h0, c0) if memory else h0)
    y, state = layer(x, initial_state=((h0,), (c0,)) if memory else (h0,), return_state=True)
    assert_close(y, expected, rtol=1e-13, atol=1e-13)
    hn, cn = state.h[0], state.c[0] if memory else None
    expected_hn, expected_cn = expected_state if memory else (expected_state, None)
    assert_close(hn, expected_hn, rtol=1e-13, atol=1e-13)
    if memory:
        assert_close(cn, expected_cn, rtol=1e-13, atol=1e-13)

    weights, of_hn, of_cn = normal(*y.shape), normal(*hn.shape), normal(*hn.shape)

    def loss(y, h, c):
        return (y * weights).sum() + (h * of_hn).sum() + ((c * of_cn).sum() if memory else 0)

    leaves = [x, h0, *([c0] if memory else [])]
    got = torch.autograd.grad(loss(y, hn, cn), [*leaves, *layer.parameters()])
    want = torch.autograd.grad(loss(expected, expected_hn, expected_cn), [*leaves, *module.parameters()])
    for a, b in zip(got, want[: len(leaves)], strict=False):
        assert_close(a, b, rtol=1e-11, atol=1e-11)

    by_name = dict(zip((name for name, _ in module.named_parameters()), want[len(leaves) :], strict=True))
    of_layer = dict(zip((name for name, _ in layer.named_parameters()), got[len(leaves) :], strict=True))
    for d, suffix in enumerate(["_l0", "_l0_reverse"][: 1 + bidirectional]):
        assert_close(of_layer["weight_ih"][d], by_name["weight_ih" + suffix], rtol=1e-11, atol=1e-11)
        assert_close(of_layer["weight_hh"][d, 0], by_name["weight_hh" + suffix], rtol=1e-11, atol=1e-11)
        if bias:
            # torch adds two biases; the gradient of either is that of our one
            assert_close(of_layer["bias"][d], by_name["bias_ih" + suffix], rtol=1e-11, atol=1e-11)
        if bias and torch_class is nn.GRU:
            within = by_name["bias_hh" + suffix][2 * 4 :]
            assert_close(of_layer["bias_hn"][d, 0], within, rtol=1e-11, atol=1e-11)


@pairs
def test_ragged_samples_equal_packed_sequences(backend, layer_class, torch_class, options, normal):
    torch.manual_seed(0)
    module = torch_class(3, 4, batch_first=True, bidirectional=True, dtype=torch.float64, **options)
    layer = layer_class.from_torch(module)
    x = normal(3, 6, 3)
    lengths = torch.tensor([6, 2, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=True)
    assert_close(layer(x, lengths[:, None]), expected, rtol=1e-13, atol=1e-13)


@pairs
def test_weights_and_dtype_are_taken_over(layer_class, torch_class, options):
    layer = layer_class.from_torch(torch_class(3, 4, dtype=torch.float32, **options))
    assert {parameter.dtype for parameter in layer.parameters()} == {torch.float32}
    assert all(parameter.requires_grad and parameter.is_leaf for parameter in layer.parameters())


def states_of(module, h, c):
    """The boundary states of a stack, or of a single layer, from those of torch, (num_layers * directions, N, H)."""
    directions = 1 + module.bidirectional
    states = []
    for number in range(module.num_layers):
        own = slice(number * directions, (number + 1) * directions)
        states.append(ndrnn.State((h[own],), (c[own],) if isinstance(module, nn.LSTM) else None))
    return states if module.num_layers > 1 else states[0]


@pairs
@pytest.mark.parametrize("batch_first", [False, True])
@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize("num_layers", [1, 3])
def test_its_own_layout_and_several_layers(
    backend, layer_class, torch_class, options, num_layers, bidirectional, batch_first, normal
):
    torch.manual_seed(0)
    module = torch_class(
        3,
        4,
        num_layers,
        bidirectional=bidirectional,
        batch_first=batch_first,
        dtype=torch.float64,
        **options,
    )
    layer = layer_class.from_torch(module)
    x = normal(5, 2, 3)
    samples = 5 if batch_first else 2
    h, c = (normal(num_layers * (1 + bidirectional), samples, 4) for _ in range(2))
    expected, leaving = module(x, (h, c) if torch_class is nn.LSTM else h)
    y, state = layer(x, initial_state=states_of(module, h, c), return_state=True)
    assert_close(y, expected, rtol=1e-13, atol=1e-13)
    states = state if num_layers > 1 else [state]
    hn, cn = leaving if torch_class is nn.LSTM else (leaving, None)
    assert_close(torch.cat([state.h[0] for state in states]), hn, rtol=1e-13, atol=1e-13)
    if cn is not None:
        assert_close(torch.cat([state.c[0] for state in states]), cn, rtol=1e-13, atol=1e-13)
    alone, _ = module(x[:, 0])
    assert_close(layer(x[:, 0]), alone, rtol=1e-13, atol=1e-13)  # unbatched


@pytest.mark.parametrize("batch_first", [False, True])
def test_packed_sequences_of_several_layers(backend, batch_first, normal):
    torch.manual_seed(0)
    module = nn.LSTM(3, 4, 2, bidirectional=True, batch_first=batch_first, dtype=torch.float64)
    x = normal(3, 6, 3) if batch_first else normal(6, 3, 3)
    lengths = torch.tensor([6, 2, 4])
    packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    expected, _ = nn.utils.rnn.pad_packed_sequence(module(packed)[0], batch_first=batch_first)
    layer = ndrnn.MDLSTM.from_torch(module)
    assert_close(layer(x, lengths[:, None]), expected, rtol=1e-13, atol=1e-13)


def test_dropout_and_mode_are_carried_over():
    module = nn.GRU(3, 4, 2, dropout=0.25, batch_first=True)
    layer = ndrnn.MDGRU.from_torch(module)
    assert isinstance(layer, ndrnn.Stack)
    assert layer.dropout.p == 0.25
    assert layer.training
    x = torch.randn(2, 6, 3)
    assert not torch.equal(layer(x), layer(x))
    quiet = ndrnn.MDGRU.from_torch(module.eval())
    assert not any(part.training for part in quiet.modules())
    assert_close(quiet(x), module(x)[0], rtol=1e-5, atol=1e-6)


def test_modules_without_counterpart_are_refused():
    with pytest.raises(TypeError, match=r"module must be a torch\.nn\.LSTM, got GRU"):
        ndrnn.MDLSTM.from_torch(nn.GRU(2, 3))
    for layers in (1, 2):
        with pytest.raises(ValueError, match=r"module must have proj_size=0.*got 2"):
            ndrnn.MDLSTM.from_torch(nn.LSTM(2, 3, num_layers=layers, proj_size=2))
