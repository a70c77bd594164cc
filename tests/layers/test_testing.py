"""The oracle must notice what it is for: wrong values, wrong gradients, touched padding."""

import pytest
import torch

import ndrnn
from ndrnn.inspect.conformance import assert_conforms
from ndrnn.scan import wavefront


@pytest.fixture
def layer():
    return ndrnn.MDLSTM(2, 3, dtype=torch.float64)


@pytest.fixture
def break_scan(monkeypatch):
    """Replaces the wavefront backend by one whose results a function has changed."""
    right = wavefront.scan

    def replace(change):
        monkeypatch.setattr(wavefront, "scan", lambda *arguments: change(*right(*arguments)))

    return replace


class WrongGradient(torch.autograd.Function):
    @staticmethod
    def forward(ctx, y):
        return y.clone()

    @staticmethod
    def backward(ctx, gradient):
        return 1.0001 * gradient


def test_a_right_layer_passes(layer, variant, backends, normal, random_state):
    other = variant(2, 3, 2, dtype=torch.float32)
    x = normal(2, 3, 2, 2, dtype=torch.float32)
    assert_conforms(other, x, torch.tensor([[3, 1], [0, 2]]), random_state(other, x), backends=backends)


def test_one_wrong_element_is_named(layer, break_scan, normal):
    def change(y, h, c):
        y = y.clone()
        y[1, 2, 0, 3, 1] += 1e-6
        return y, h, c

    break_scan(change)
    expected = (
        r"MDLSTM\(2, 3, .*\) in torch\.float64 on the backend 'wavefront' differs from the reference in float64:\n"
        r"  y \(2, 3, 2, 12\): 1 of 144 elements are off; the worst, at \[1, 2, 0, 10\], is .* instead of .*, "
        r"off by 1e-06 where .* is allowed"
    )
    with pytest.raises(AssertionError, match=expected):
        assert_conforms(layer, normal(2, 3, 2, 2), backends=["wavefront"])


def test_wrong_gradients_are_noticed(layer, break_scan, normal):
    break_scan(lambda y, h, c: (WrongGradient.apply(y), h, c))
    with pytest.raises(
        AssertionError, match=r"the gradient by weight_hh \(4, 2, 15, 3\): \d+ of 360 elements"
    ):
        assert_conforms(layer, normal(1, 3, 2, 2), backends=["wavefront"])
    assert_conforms(layer, normal(1, 3, 2, 2), backends=["wavefront"], gradients=False)


def test_lost_gradients_are_noticed(layer, break_scan, normal):
    break_scan(lambda y, h, c: (y.detach(), h, c))
    with pytest.raises(AssertionError, match="the gradient by x"):
        assert_conforms(layer, normal(1, 3, 2, 2), backends=["wavefront"])


def test_wrong_exit_states_are_noticed(layer, break_scan, normal):
    break_scan(lambda y, h, c: (y, h, c * (1 + 1e-9)))
    with pytest.raises(AssertionError, match=r"exit face 0 of c.*\n  exit face 1 of c"):
        assert_conforms(layer, normal(1, 3, 2, 2), backends=["wavefront"], gradients=False)


@pytest.mark.parametrize("garbage", [1e-30, float("nan")])
def test_padding_must_be_exactly_zero(layer, break_scan, garbage, normal):
    def change(y, h, c):
        y = y.clone()
        y[0, 2] = garbage
        return y, h, c

    break_scan(change)
    with pytest.raises(AssertionError, match="y is not zero outside the sizes"):
        assert_conforms(layer, normal(1, 3, 2, 2), torch.tensor([[2, 2]]), backends=["wavefront"])


def test_nan_is_an_error_of_any_size(layer, break_scan, normal):
    break_scan(lambda y, h, c: (y * float("nan"), h, c))
    with pytest.raises(AssertionError, match=r"is nan instead of .*, off by inf"):
        assert_conforms(layer, normal(1, 3, 2, 2), backends=["wavefront"])


@pytest.mark.parametrize(("dtype", "error"), [(torch.float32, 1e-4), (torch.bfloat16, 0.2)])
def test_tolerances_fit_the_dtype(break_scan, dtype, error, normal):
    layer = ndrnn.MDLSTM(2, 3, dtype=dtype)
    x = normal(1, 3, 2, 2, dtype=dtype)
    assert_conforms(layer, x, backends=["wavefront"])
    break_scan(lambda y, h, c: (y * (1 + error), h, c))
    with pytest.raises(AssertionError, match=f"in {dtype}"):
        assert_conforms(layer, x, backends=["wavefront"])


def test_the_backend_in_force_is_tried_and_all_is_left_as_it_was(layer, break_scan, normal):
    layer.train()
    (layer.weight_ih.sum()).backward()
    gradient = layer.weight_ih.grad.clone()
    x = normal(1, 3, 2, 2)
    with ndrnn.backend("reference"), torch.no_grad():
        assert_conforms(layer, x)
    assert torch.equal(layer.weight_ih.grad, gradient)
    assert layer.bias.grad is None
    assert not x.requires_grad
    break_scan(lambda y, h, c: (y + 1, h, c))
    with ndrnn.backend("wavefront"), pytest.raises(AssertionError, match=r"in torch\.float64 differs from"):
        assert_conforms(layer, x)


def test_other_modules_are_refused():
    with pytest.raises(TypeError, match="layer must be a layer of ndrnn, got LSTM"):
        assert_conforms(torch.nn.LSTM(2, 3), torch.zeros(1, 2, 2))


def test_unbatched_input(backends):
    layer = ndrnn.MDLSTM(2, 2, directions=[(1, -1)], dtype=torch.float64)
    torch.manual_seed(0)
    x = torch.randn(3, 4, 2, dtype=torch.float64)
    state = layer(x.flip(0), return_state=True)[1]
    assert_conforms(layer, x, torch.tensor([2, 4]), state, backends=backends)
    assert_conforms(layer, x, backends=backends)
