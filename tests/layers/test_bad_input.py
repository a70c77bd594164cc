"""Wrong arguments are refused by an error that names the argument, what was expected and what came."""

import pytest
import torch

import ndrnn
from ndrnn.cells import LSTMCell, RNNCell
from ndrnn.nn.layers import ScanLayer


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((0, 4), ValueError, "input_size must be at least 1, got 0"),
        ((3, -1), ValueError, "hidden_size must be at least 1, got -1"),
        ((3, 4, 0), ValueError, "ndim must be at least 1, got 0"),
        ((3.0, 4), TypeError, "input_size must be an int, got float"),
        ((3, "4"), TypeError, "hidden_size must be an int, got str"),
        ((3, True), TypeError, "hidden_size must be an int, got bool"),
        ((3, 4, 2.0), TypeError, "ndim must be an int, got float"),
        ((3, 4, None), TypeError, "ndim must be an int, got NoneType"),
    ],
)
@pytest.mark.parametrize("layer", [ndrnn.MDLSTM, ndrnn.SpatialLSTM])
def test_sizes_of_a_layer(layer, arguments, error, message):
    with pytest.raises(error, match=message):
        layer(*arguments)


@pytest.mark.parametrize(
    "directions",
    [
        "some",
        "",
        [],
        None,
        3,
        [1, -1],
        [(1,)],
        [(1, 1, 1)],
        [(1, 0)],
        [(1, 2)],
        [(1, -1), (1, -1)],
        [("+", "-")],
        [[[1], [-1]]],
        ["ab"],
        [(1, None)],
        [(0.5, 1)],
    ],
)
def test_directions(directions):
    expected = r'directions must be "all" or a non-empty sequence of distinct 2-tuples of \+1 and -1, got '
    with pytest.raises(ValueError, match=expected):
        ndrnn.MDLSTM(3, 4, directions=directions)


def test_lists_are_directions_too():
    assert ndrnn.MDLSTM(1, 1, directions=[[1, -1], [-1, -1]]).directions == ((1, -1), (-1, -1))


def test_one_direction_of_many_axes_is_cheap_to_check():
    layer = ndrnn.SpatialLSTM(1, 1, 60)
    assert layer.directions == ((1,) * 60,)
    assert layer.config()["directions"] == ((1,) * 60,)
    assert "ndim=60" in repr(layer)


@pytest.mark.parametrize("ndim", [17, 60, 10**9])
def test_all_directions_of_many_axes_are_not_listed(ndim):
    with pytest.raises(
        ValueError, match=f"must be named one by one for more than 16 axes, got all 2\\^{ndim}"
    ):
        ndrnn.MDLSTM(1, 1, ndim)


def test_options():
    with pytest.raises(ValueError, match='merge must be "concat", "sum" or "mean", got \'max\''):
        ndrnn.MDGRU(3, 4, merge="max")
    with pytest.raises(TypeError, match=r"dtype must be a floating-point torch\.dtype, got torch\.int64"):
        ndrnn.MDGRU(3, 4, dtype=torch.int64)
    with pytest.raises(TypeError, match=r"dtype must be a floating-point torch\.dtype, got 'float32'"):
        ndrnn.MDGRU(3, 4, dtype="float32")
    with pytest.raises(ValueError, match='nonlinearity must be "tanh" or "relu", got \'sigmoid\''):
        ndrnn.MDRNN(3, 4, nonlinearity="sigmoid")
    with pytest.raises(TypeError, match="peephole"):
        ndrnn.MDLSTM(3, 4, peephole=True)
    with pytest.raises(TypeError, match="cell must be a Cell, got str"):
        ScanLayer("lstm", 3, 4)
    with pytest.raises(TypeError, match="cell must be a Cell, got ABCMeta"):
        ScanLayer(LSTMCell, 3, 4)
    with pytest.raises(ValueError, match="nonlinearity"):
        RNNCell("sin")


@pytest.fixture
def layer():
    return ndrnn.MDLSTM(3, 4)


@pytest.mark.parametrize(
    ("x", "error", "message"),
    [
        (torch.zeros(5, 3), ValueError, r"x must have shape \(N, D1, D2, 3\), or \(D1, D2, 3\) unbatched, got \(5, 3\)"),
        (torch.zeros(2, 5, 6, 7, 3), ValueError, r"x must have shape \(N, D1, D2, 3\), or \(D1, D2, 3\) unbatched, got \(2, 5, 6, 7, 3\)"),
        (torch.zeros(2, 5, 6, 4), ValueError, r"x must have shape \(N, D1, D2, 3\), or \(D1, D2, 3\) unbatched, got \(2, 5, 6, 4\)"),
        (torch.zeros(()), ValueError, r"x must have shape \(N, D1, D2, 3\), or \(D1, D2, 3\) unbatched, got \(\)"),
        (torch.zeros(2, 5, 6, 3).double(), TypeError, r"x must have the dtype of the layer, torch\.float32, got torch\.float64"),
        (torch.zeros(2, 5, 6, 3).long(), TypeError, r"x must have the dtype of the layer, torch\.float32, got torch\.int64"),
        (torch.zeros(2, 5, 6, 3, device="meta"), ValueError, "x must be on the device of the layer, cpu, got meta"),
        ([[[[1.0, 2.0, 3.0]]]], TypeError, "x must be a tensor, got list"),
        (None, TypeError, "x must be a tensor, got NoneType"),
    ],
)  # fmt: skip
def test_input(backend, layer, x, error, message):
    with pytest.raises(error, match=message):
        layer(x)


@pytest.mark.parametrize(
    ("sizes", "error", "message"),
    [
        (torch.tensor([[5, 6]]), ValueError, r"sizes must have shape \(N, n\) = \(2, 2\), got \(1, 2\)"),
        (torch.tensor([5, 6]), ValueError, r"sizes must have shape \(N, n\) = \(2, 2\), got \(2,\)"),
        (torch.tensor([[5], [6]]), ValueError, r"sizes must have shape \(N, n\) = \(2, 2\), got \(2, 1\)"),
        (torch.tensor([[5, 6], [6, 6]]), ValueError, r"sizes on axis 0 must lie in \[0, 5\], .* got 5 to 6"),
        (torch.tensor([[5, -1], [5, 6]]), ValueError, r"sizes on axis 1 must lie in \[0, 6\], .* got -1 to 6"),
        (torch.tensor([[5, 2**40], [5, 6]]), ValueError, "sizes on axis 1 must lie in"),
        (torch.tensor([[5.0, 6], [5, 6]]), TypeError, r"sizes must be an int64 tensor of shape \(N, n\), got torch\.float32"),
        (torch.tensor([[True, True]] * 2), TypeError, r"sizes must be an int64 tensor .* got torch\.bool"),
        ([[5, 6], [5, 6]], TypeError, "sizes must be an int64 tensor .* got list"),
        (torch.zeros(2, 2, dtype=torch.int64, device="meta"), ValueError, "sizes must be on the device of x, cpu, got meta"),
    ],
)  # fmt: skip
def test_sizes(backend, layer, sizes, error, message):
    with pytest.raises(error, match=message):
        layer(torch.zeros(2, 5, 6, 3), sizes)


def test_int32_sizes_are_taken(backend, layer):
    x = torch.randn(2, 5, 6, 3, generator=torch.Generator().manual_seed(0))
    sizes = torch.tensor([[5, 2], [0, 6]])
    assert torch.equal(layer(x, sizes.int()), layer(x, sizes))


def faces(*shapes, dtype=torch.float32, device="cpu"):
    return tuple(torch.zeros(shape, dtype=dtype, device=device) for shape in shapes)


RIGHT = ((4, 2, 6, 4), (4, 2, 5, 4))


@pytest.mark.parametrize(
    ("state", "error", "message"),
    [
        (faces(*RIGHT), TypeError, "initial_state must be a State or a pair of tuples of 2 faces"),
        (ndrnn.State(faces(*RIGHT)), TypeError, r"initial_state must be a State or a pair .*, got a State without c"),
        (torch.zeros(4, 2, 6, 4), TypeError, r"initial_state must be a State or a pair of tuples of 2 faces, \(h, c\), got Tensor"),
        ((faces(*RIGHT),), TypeError, r"initial_state must be a State or a pair of tuples of 2 faces, \(h, c\), got a tuple of 1"),
        ((faces(*RIGHT), faces(RIGHT[0])), TypeError, "initial_state must be a State or a pair of tuples of 2 faces"),
        ((faces(*RIGHT), None), TypeError, "initial_state must be a State or a pair of tuples of 2 faces"),
        ((faces(*RIGHT), (*faces(RIGHT[0]), None)), TypeError, "initial_state: face 1 of c must be a tensor, got NoneType"),
        ((faces(*RIGHT[::-1]), faces(*RIGHT)), ValueError, r"initial_state: face 0 of h must have shape \(4, 2, 6, 4\), got \(4, 2, 5, 4\)"),
        ((faces(*RIGHT), faces(RIGHT[0], (4, 2, 5, 5))), ValueError, r"initial_state: face 1 of c must have shape \(4, 2, 5, 4\), got \(4, 2, 5, 5\)"),
        ((faces(*RIGHT), faces((1, 2, 6, 4), RIGHT[1])), ValueError, r"face 0 of c must have shape \(4, 2, 6, 4\), got \(1, 2, 6, 4\)"),
        ((faces(*RIGHT), faces(*RIGHT, dtype=torch.float64)), TypeError, r"face 0 of c must have the dtype of the layer, torch\.float32, got torch\.float64"),
        ((faces(*RIGHT), faces(*RIGHT, device="meta")), ValueError, "face 0 of c must be on the device of x, cpu, got meta"),
    ],
)  # fmt: skip
def test_states(backend, layer, state, error, message):
    x = torch.zeros(2, 5, 6, 3)
    with pytest.raises(error, match=message):
        layer(x, initial_state=state)


def test_states_of_a_cell_without_memory(backend):
    layer = ndrnn.MDGRU(3, 4)
    x = torch.zeros(2, 5, 6, 3)
    with pytest.raises(
        TypeError, match="initial_state must be a State or a tuple of 2 faces, got a tuple of 1"
    ):
        layer(x, initial_state=faces(RIGHT[0]))
    with pytest.raises(TypeError, match="initial_state: face 0 of h must be a tensor, got tuple"):
        layer(x, initial_state=(faces(*RIGHT), faces(*RIGHT)))
    with pytest.raises(TypeError, match="a State or a tuple of 2 faces, got a State with c"):
        layer(x, initial_state=ndrnn.State(faces(*RIGHT), faces(*RIGHT)))


@pytest.mark.parametrize(
    ("sizes", "message"),
    [
        (torch.tensor([[5, 6]]), r"sizes of an unbatched x must have shape \(n,\) = \(2,\), got \(1, 2\)"),
        (torch.tensor([5]), r"sizes of an unbatched x must have shape \(n,\) = \(2,\), got \(1,\)"),
        (torch.tensor([5, 7]), r"sizes on axis 1 must lie in \[0, 6\]"),
    ],
)
def test_sizes_of_unbatched_input(layer, sizes, message):
    with pytest.raises(ValueError, match=message):
        layer(torch.zeros(5, 6, 3), sizes)


def test_states_of_unbatched_input(layer):
    with pytest.raises(ValueError, match=r"face 0 of h must have shape \(4, 6, 4\), got \(4, 2, 6, 4\)"):
        layer(torch.zeros(5, 6, 3), initial_state=(faces(*RIGHT), faces(*RIGHT)))


def test_weights_that_do_not_fit(layer):
    for change, message in [
        (lambda weights: weights.pop("bias"), "bias"),
        (lambda weights: weights.update(weight_peephole=torch.zeros(4, 4, 4)), "weight_peephole"),
        (lambda weights: weights.update(bias=torch.zeros(4, 16)), "bias"),
    ]:
        weights = layer.state_dict()
        change(weights)
        with pytest.raises(RuntimeError, match=message):
            layer.load_state_dict(weights)


def test_backends():
    with pytest.raises(
        ValueError, match="name must be one of 'auto', 'reference', 'wavefront', 'cpu', 'triton', got 'gpu'"
    ):
        ndrnn.backend("gpu").__enter__()
