"""Recomputing by strips changes memory and nothing else."""

import pytest
import torch
from torch.testing import assert_close

import ndrnn

EXACT = {"rtol": 1e-11, "atol": 1e-11}


def flat(state):
    return [face for faces in state for face in faces or ()]


def results(layer, recompute, x, sizes=None, entry=None):
    """Output, exit states, and the gradients of a fixed function of these by everything."""
    layer.recompute = recompute
    x = x.clone().requires_grad_()
    inputs = [x, *layer.parameters()]
    if entry is not None:
        faces = [face.clone().requires_grad_() for face in flat(entry)]
        inputs += faces
        n = layer.ndim
        entry = ndrnn.State(tuple(faces[:n]), tuple(faces[n:]) or None)
    y, exits = layer(x, sizes, entry, return_state=True)
    outputs = [y, *flat(exits)]
    generator = torch.Generator().manual_seed(7)
    weights = [torch.randn(out.shape, generator=generator, dtype=torch.float64).to(out) for out in outputs]
    return outputs, torch.autograd.grad(outputs, inputs, weights, materialize_grads=True)


def assert_same(layer, strips, *call):
    plain, in_strips = results(layer, False, *call), results(layer, strips, *call)
    for a, b in zip((*plain[0], *plain[1]), (*in_strips[0], *in_strips[1]), strict=True):
        assert_close(b, a, **EXACT)


@pytest.mark.parametrize("ragged", [False, True], ids=["full", "ragged"])
def test_all_directions_with_boundary_states(backend, variant, ragged, normal, random_state):
    layer = variant(2, 3, 2, directions="all")
    x = normal(3, 4, 7, 2)
    # one sample ends within the first strip, one has no point at all
    sizes = torch.tensor([[4, 5], [3, 1], [0, 7]]) if ragged else None
    assert_same(layer, 3, x, sizes, random_state(layer, x))


@pytest.mark.parametrize(
    ("lattice", "strips"),
    [((6,), 3), ((5,), 5), ((2, 7), 2), ((7, 2), 4), ((3, 2, 4), 2), ((4, 3, 2), 99), ((5, 4), True)],
)
def test_lattices_and_numbers_of_strips(backend, lattice, strips, normal):
    torch.manual_seed(0)
    layer = ndrnn.MDLSTM(2, 3, len(lattice), dtype=torch.float64)
    assert_same(layer, strips, normal(2, *lattice, 2))


def test_merged_outputs_and_some_directions(backend, normal):
    torch.manual_seed(0)
    directions = [(-1, 1), (1, -1), (-1, -1)]
    layer = ndrnn.MDLSTM(2, 3, directions=directions, merge="mean", bias=False, dtype=torch.float64)
    assert_same(layer, 2, normal(2, 5, 4, 2))


def test_gradcheck(backend, variant, normal):
    layer = variant(2, 2, 2, directions=[(1, 1), (1, -1)], recompute=2)
    names = [name for name, _ in layer.named_parameters()]

    def call(x, *parameters):
        return torch.func.functional_call(layer, dict(zip(names, parameters, strict=True)), (x,))

    inputs = (normal(1, 2, 3, 2).requires_grad_(), *layer.parameters())
    assert torch.autograd.gradcheck(call, inputs, fast_mode=True)


def test_input_that_needs_no_gradient_and_backward_twice(backend, normal):
    torch.manual_seed(0)
    layer = ndrnn.MDLSTM(2, 3, recompute=2, dtype=torch.float64)
    y = layer(normal(1, 4, 4, 2)).square().sum()
    y.backward(retain_graph=True)
    once = [parameter.grad.clone() for parameter in layer.parameters()]
    y.backward()
    for parameter, grad in zip(layer.parameters(), once, strict=True):
        assert grad.abs().max() > 0
        assert_close(parameter.grad, 2 * grad, **EXACT)


def kept_bytes(layer, x):
    """What autograd holds for the backward pass, storages counted once."""
    storages = {}

    def pack(tensor):
        storages[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = layer(x)
    y.sum().backward()
    storages.pop(y.untyped_storage().data_ptr(), None)  # the caller has it anyway
    return sum(storages.values())


def test_keeps_a_tenth(backend):
    torch.manual_seed(0)
    x = torch.randn(1, 64, 64, 2)
    plain, in_strips = ndrnn.MDLSTM(2, 8), ndrnn.MDLSTM(2, 8, recompute=True)
    assert kept_bytes(in_strips, x) < kept_bytes(plain, x) / 10


def test_inference_is_not_cut(backend, monkeypatch, normal):
    monkeypatch.setattr("ndrnn.scan.recompute._StripScan.apply", lambda *_: pytest.fail("scanned in strips"))
    layer = ndrnn.MDLSTM(2, 3, recompute=2, dtype=torch.float64)
    with torch.no_grad():
        layer(normal(1, 4, 4, 2))


def test_gradients_of_gradients_are_refused(backend, normal):
    layer = ndrnn.MDLSTM(2, 3, recompute=2, dtype=torch.float64)
    x = normal(1, 4, 4, 2).requires_grad_()
    # of a loss that is linear in the output, too, gradients depend on the input
    for loss in (layer(x).square().sum(), layer(x).sum()):
        for wanted in (x, layer.weight_hh):
            (grad,) = torch.autograd.grad(loss, wanted, create_graph=True)
            message = (
                r"recompute has no second derivatives; .* recompute=False under ndrnn\.backend\('wavefront'\)"
            )
            with pytest.raises(RuntimeError, match=message):
                grad.sum().backward()


@pytest.mark.parametrize(
    ("recompute", "error"), [(0, ValueError), (-1, ValueError), (2.0, TypeError), ("all", TypeError)]
)
def test_bad_option(recompute, error):
    with pytest.raises(error, match="recompute must be a bool or a number of strips"):
        ndrnn.MDLSTM(2, 3, recompute=recompute)


def test_option_is_shown():
    assert "recompute=4" in repr(ndrnn.MDLSTM(2, 3, recompute=4))
    assert "recompute" not in repr(ndrnn.MDLSTM(2, 3))
