"""Which backend runs, and what is said when it is another than the one asked for."""

import asyncio
import contextvars
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


def test_an_empty_variable_is_no_choice(ran, layer, x, monkeypatch):
    monkeypatch.setenv("NDRNN_BACKEND", "")
    with ndrnn.backend("reference"):
        layer(x)
    assert dispatch._name_for(x)[0] == "auto"
    assert ran == ["reference"]


def test_a_block_is_entered_again_but_not_within_itself(ran, layer, x):
    block = ndrnn.backend("reference")
    for _ in range(2):
        with block:
            layer(x)
            with pytest.raises(RuntimeError, match=r"this backend\('reference'\) is entered already"), block:
                pass
            layer(x)
        assert dispatch.choice() is None
    assert ran == ["reference"] * 4


def test_a_choice_decorates_functions_that_call_themselves(ran, layer, x):
    @ndrnn.backend("reference")
    def scan(times):
        layer(x)
        if times > 1:
            scan(times - 1)

    scan(2)
    assert ran == ["reference"] * 2
    assert dispatch.choice() is None


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


def test_a_choice_holds_in_its_own_thread(ran, layer, x, monkeypatch):
    """Two blocks that overlap in two threads disturb neither each other nor what comes after them."""
    monkeypatch.setenv("NDRNN_BACKEND", "wavefront")
    first_is_open, second_is_open = threading.Event(), threading.Event()
    seen = {}

    def choose(name, announce, await_other):
        with ndrnn.backend(name):
            announce.set()
            assert await_other.wait(20)
            seen[name] = dispatch.choice()
        seen[f"after {name}"] = dispatch.choice()

    threads = [
        threading.Thread(target=choose, args=("reference", first_is_open, second_is_open)),
        threading.Thread(target=choose, args=("wavefront", second_is_open, first_is_open)),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert seen == {
        "reference": "reference", "after reference": None, "wavefront": "wavefront", "after wavefront": None,
    }  # fmt: skip
    assert dispatch.choice() is dispatch._traced is None
    with ndrnn.backend("reference"):
        thread = threading.Thread(target=layer, args=(x,))
        thread.start()
        thread.join()
        contextvars.copy_context().run(layer, x)
    assert ran == ["wavefront", "reference"]


def test_blocks_of_generators_end_in_any_order(ran, layer, x):
    def scanning(name):
        with ndrnn.backend(name):
            yield layer(x)
            yield layer(x)

    first, second = scanning("reference"), scanning("wavefront")
    next(first)
    next(second)
    first.close()
    assert dispatch.choice() == "wavefront"
    second.close()
    assert dispatch.choice() is dispatch._traced is None
    assert ran == ["reference", "wavefront"]


def test_tasks_keep_to_their_own_choice(ran, layer, x):
    async def scanning(name):
        with ndrnn.backend(name):
            await asyncio.sleep(0)
            layer(x)
            await asyncio.sleep(0)
            return dispatch.choice()

    async def both():
        return await asyncio.gather(scanning("reference"), scanning("wavefront"))

    assert asyncio.run(both()) == ["reference", "wavefront"]
    assert ran == ["reference", "wavefront"]
    assert dispatch.choice() is dispatch._traced is None


@pytest.mark.parametrize("in_backward", ["wavefront", None])
def test_the_backward_pass_keeps_to_the_choice_of_its_forward_pass(ran, x, in_backward):
    """Where strips are scanned again, also in a thread that has made no choice, as autograd's own for GPUs."""
    layer = ScanLayer(Foreign(), 2, 3, recompute=2)
    with ndrnn.backend("reference"):
        loss = layer(x).sum()
    if in_backward is None:
        thread = threading.Thread(target=loss.backward)
        thread.start()
        thread.join()
    else:
        with ndrnn.backend(in_backward):
            loss.backward()
            assert dispatch.choice() == in_backward
    assert set(ran) == {"reference"}
