"""An output depends on exactly the inputs that its direction has met: the zero pattern of the Jacobian."""

import pytest
import torch

from ndrnn.lattice import all_directions

LATTICES = {1: (5,), 2: (3, 4), 3: (2, 2, 2)}


def dependence(layer, x, sizes=None):
    """Whether output point q depends on input point p, by direction: bool (D, P, P), indexed [d, q, p]."""
    points = x[0, ..., 0].numel()

    def outputs(flat):
        states = layer(flat.reshape(x.shape), sizes).reshape(points, len(layer.directions), -1)
        return states @ torch.tensor([1.0, -0.7], dtype=x.dtype)  # one number a point halves the work

    jacobian = torch.autograd.functional.jacobian(outputs, x.reshape(points, -1))  # (P, D, P, C)
    return (jacobian != 0).any(-1).permute(1, 0, 2)


def expected_dependence(lattice, directions, extent):
    points = torch.cartesian_prod(*(torch.arange(size) for size in lattice)).reshape(-1, len(lattice))
    signs = torch.tensor(directions)
    behind = (signs[:, None, None] * (points[:, None] - points[None])) >= 0  # (D, Q, P, n)
    inside = (points < torch.tensor(extent)).all(-1)
    return behind.all(-1) & inside[None, :, None] & inside[None, None, :]


@pytest.mark.parametrize("ndim", LATTICES)
def test_every_direction_sees_what_lies_behind_it_and_nothing_else(backend, variant, ndim, normal):
    layer = variant(2, 2, ndim, directions="all", scale=0.3)
    x = normal(1, *LATTICES[ndim], 2)
    if variant.name == "rnn_relu":
        with torch.no_grad():
            layer.bias.add_(3)  # keeps all units alive, so that nothing is zero by chance
    found = dependence(layer, x)
    assert torch.equal(found, expected_dependence(LATTICES[ndim], all_directions(ndim), LATTICES[ndim]))


@pytest.mark.parametrize("extent", [(2, 3), (3, 1), (0, 4)])
def test_padding_is_neither_read_nor_written(backend, variant, extent, normal):
    layer = variant(2, 2, 2, directions="all", scale=0.3)
    x = normal(1, 3, 4, 2)
    if variant.name == "rnn_relu":
        with torch.no_grad():
            layer.bias.add_(3)
    found = dependence(layer, x, torch.tensor([extent]))
    assert torch.equal(found, expected_dependence((3, 4), all_directions(2), extent))
