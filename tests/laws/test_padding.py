"""A ragged sample is scanned as if its padding did not exist, whatever the padding holds."""

import pytest
import torch
from torch.testing import assert_close

import ndrnn

LATTICES = {1: (5,), 2: (4, 3), 3: (3, 2, 4)}
SIZES = {
    1: [[5], [2], [1], [0]],
    2: [[4, 3], [2, 3], [1, 1], [0, 2]],
    3: [[3, 2, 4], [1, 2, 3], [2, 1, 1], [2, 2, 0]],
}


def crop_faces(faces, sample, extent):
    """The faces of one sample, cut to its own extent."""
    cut = []
    for k, face in enumerate(faces):
        others = [size for axis, size in enumerate(extent) if axis != k]
        cut.append(face[(slice(None), slice(sample, sample + 1), *map(slice, others))])
    return tuple(cut)


@pytest.mark.parametrize("garbage", [float("nan"), float("inf"), -1e30])
@pytest.mark.parametrize("ndim", LATTICES)
def test_padding_changes_nothing(backend, variant, ndim, garbage, normal, random_state):
    layer = variant(2, 3, ndim, directions="all")
    x = normal(4, *LATTICES[ndim], 2)
    sizes = torch.tensor(SIZES[ndim])
    state = random_state(layer, x)
    groups = [faces for faces in state if faces is not None]
    # garbage wherever a sample has no points, in the input and on the faces
    for sample, extent in enumerate(SIZES[ndim]):
        outside = torch.ones(LATTICES[ndim], dtype=torch.bool)
        outside[tuple(map(slice, extent))] = False
        x[sample][outside] = garbage
        for faces in groups:
            for k, face in enumerate(faces):
                others = [size for axis, size in enumerate(extent) if axis != k]
                outside = torch.ones(face.shape[2:-1], dtype=torch.bool)
                outside[tuple(map(slice, others))] = False
                face[:, sample, outside] = garbage
    x.requires_grad_()
    leaves = [face.requires_grad_() for faces in groups for face in faces]
    inputs = [x, *leaves, *layer.parameters()]

    y, exits = layer(x, sizes, state, return_state=True)
    exits = [faces for faces in exits if faces is not None]
    weights = normal(*y.shape)
    exit_weights = [[normal(*face.shape) for face in faces] for faces in exits]

    expected = [torch.zeros_like(value) for value in inputs]
    loss = (y * weights).sum()
    for faces, of_faces in zip(exits, exit_weights, strict=True):
        loss = loss + sum((face * weight).sum() for face, weight in zip(faces, of_faces, strict=True))
    for sample, extent in enumerate(SIZES[ndim]):
        own = (slice(sample, sample + 1), *map(slice, extent))
        own_state = ndrnn.State(*(crop_faces(faces, sample, extent) for faces in groups))
        alone, alone_exits = layer(x[own], initial_state=own_state, return_state=True)
        assert_close(y[own], alone, rtol=1e-12, atol=1e-12)
        masked = y[sample].detach().clone()
        masked[tuple(map(slice, extent))] = 0
        assert not masked.any(), "the output outside the extent must be exactly zero"
        own_loss = (alone * weights[own]).sum()
        for part, faces in enumerate(faces for faces in alone_exits if faces is not None):
            for k, (face, weight) in enumerate(
                zip(faces, crop_faces(exit_weights[part], sample, extent), strict=True)
            ):
                assert_close(crop_faces(exits[part], sample, extent)[k], face, rtol=1e-12, atol=1e-12)
                rest = exits[part][k][:, sample].detach().clone()
                others = [size for axis, size in enumerate(extent) if axis != k]
                rest[(slice(None), *map(slice, others))] = 0
                assert not rest.any(), "an exit face outside the extent must be exactly zero"
                own_loss = own_loss + (face * weight).sum()
        if own_loss.requires_grad:
            of_sample = torch.autograd.grad(own_loss, inputs, allow_unused=True)
            expected = [e if g is None else e + g for e, g in zip(expected, of_sample, strict=True)]
    got = torch.autograd.grad(loss, inputs)
    for a, b in zip(got, expected, strict=True):
        assert_close(a, b, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("shape", [(2, 0, 3), (2, 3, 0), (2, 0, 0), (0, 2, 3)])
def test_a_lattice_without_points_has_gradients_that_are_zero(backends, variant, shape, normal, random_state):
    layer = variant(2, 3, 2)
    x = normal(*shape, 2).requires_grad_()
    groups = [faces for faces in random_state(layer, x) if faces is not None]
    leaves = [face.requires_grad_() for faces in groups for face in faces]
    for name in ("reference", *backends):
        for state in (None, ndrnn.State(*groups)):
            with ndrnn.backend(name):
                y = layer(x, None, state)
                assert y.requires_grad
                inputs = [x, *layer.parameters(), *(leaves if state is not None else ())]
                found = torch.autograd.grad(y.sum(), inputs, materialize_grads=True)
            for value, gradient in zip(inputs, found, strict=True):
                assert_close(gradient, torch.zeros_like(value))
