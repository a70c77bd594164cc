"""Which backend runs, and what is said when it is another than the one asked for."""

import threading

import pytest
import torch

import ndrnn
from ndrnn.cells import RNNCell
from ndrnn.nn.layers import ScanLayer
from ndrnn.scan import dispatch, reference, wavefront


class Foreign(RNNCell):
    """A cell for which no kernels were compiled."""

    @property
    def kernel(self):
        return None


@pytest.fixture
def ran(monkeypatch):
    """The names of the plain backends in the order in which they ran."""
    names = []

    def watch(module, name):
        right = module.scan

        def run(*arguments):
            names.append(name)
            return right(*arguments)

        monkeypatch.setattr(module, "scan", run)

    watch(reference, "reference")
    watch(wavefront, "wavefront")
    monkeypatch.setattr(dispatch, "_warned", set())
    monkeypatch.delenv("NDRNN_BACKEND", raising=False)
    return names


@pytest.fixture
def layer():
    return ScanLayer(Foreign(), 2, 3)


@pytest.fixture
def x():
    return torch.zeros(1, 2, 2, 2)


def test_the_backends_that_always_are():
    available = ndrnn.available_backends()
    assert available["reference"] is True
    assert available["wavefront"] is True
    assert all(reason is True or (isinstance(reason, str) and reason) for reason in available.values())


def test_nested_choices_and_exceptions(ran, layer, x):
    with ndrnn.backend("reference"):
        with ndrnn.backend("wavefront"):
            layer(x)
        layer(x)
        with pytest.raises(KeyError), ndrnn.backend("wavefront"):
            raise KeyError
        layer(x)
    assert ran == ["wavefront", "reference", "reference"]


def test_the_environment_chooses_and_a_block_overrules_it(ran, layer, x, monkeypatch):
    monkeypatch.setenv("NDRNN_BACKEND", "reference")
    layer(x)
    with ndrnn.backend("wavefront"):
        layer(x)
    assert ran == ["reference", "wavefront"]
    monkeypatch.setenv("NDRNN_BACKEND", "fastest")
    with pytest.raises(ValueError, match=r"NDRNN_BACKEND must be one of 'auto', .*, got 'fastest'"):
        layer(x)


def test_a_fallback_is_said_once(ran, layer, x, recwarn):
    for _ in range(3):
        layer(x)
    assert ran == ["wavefront"] * 3
    (warning,) = recwarn
    assert str(warning.message).startswith("backend 'auto': ")
    assert str(warning.message).endswith("; the wavefront backend runs instead")


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's own use of it
def test_transforms_take_the_plain_backend_without_a_word(ran, x):
    if ndrnn.available_backends()["cpu"] is not True:
        pytest.skip("the compiled kernel is missing")
    layer = ndrnn.MDLSTM(2, 3)
    torch.func.vmap(layer)(x[None])
    torch.func.jvp(layer, (x,), (x,))
    assert set(ran) == {"wavefront"}


def test_a_missing_backend_is_refused_with_its_reason(monkeypatch):
    monkeypatch.setattr(dispatch, "available_backends", lambda: {"triton": "there is no GPU"})
    with pytest.raises(RuntimeError, match="backend 'triton' is not available: there is no GPU"):
        ndrnn.backend("triton").__enter__()


def test_other_threads_see_the_choice(ran, layer, x):
    """As recomputation in the backward pass does, which on GPUs runs in a thread of autograd's own."""
    with ndrnn.backend("reference"):
        thread = threading.Thread(target=layer, args=(x,))
        thread.start()
        thread.join()
    assert ran == ["reference"]
