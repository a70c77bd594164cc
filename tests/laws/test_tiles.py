"""A lattice scanned tile by tile, with boundary states handed on, equals the lattice scanned whole."""

import pytest
import torch
from torch.testing import assert_close

import ndrnn
from ndrnn.lattice import all_directions

LATTICES = {1: (5,), 2: (4, 5), 3: (3, 2, 4)}
CASES = [(n, direction, axis) for n in LATTICES for direction in all_directions(n) for axis in range(n)]


def parts(state):
    return [faces for faces in state if faces is not None]


@pytest.mark.parametrize(("ndim", "direction", "axis"), CASES)
def test_two_tiles_equal_the_whole(backend, variant, ndim, direction, axis, normal, random_state):
    layer = variant(2, 3, ndim, directions=[direction])
    x = normal(2, *LATTICES[ndim], 2).requires_grad_()
    entry = random_state(layer, x)
    whole, whole_exits = layer(x, initial_state=entry, return_state=True)

    cut = LATTICES[ndim][axis] // 2
    low, high = x.narrow(axis + 1, 0, cut), x.narrow(axis + 1, cut, LATTICES[ndim][axis] - cut)
    tiles = [(low, slice(0, cut)), (high, slice(cut, None))]
    if direction[axis] < 0:
        tiles.reverse()

    def share_of(faces, handed_on, span):
        """A tile's entry faces: what the tile before handed on, and its own stretch of every other face."""
        return tuple(
            handed_on if k == axis else face[(slice(None),) * (2 + axis - (axis > k)) + (span,)]
            for k, face in enumerate(faces)
        )

    outputs, exits = [], []
    handed_on = [faces[axis] for faces in parts(entry)]
    for tile, span in tiles:
        state = ndrnn.State(
            *(share_of(faces, face, span) for faces, face in zip(parts(entry), handed_on, strict=True))
        )
        y, out = layer(tile, initial_state=state, return_state=True)
        handed_on = [faces[axis] for faces in parts(out)]
        outputs.append(y)
        exits.append(parts(out))
    in_order = slice(None, None, direction[axis])
    assert_close(torch.cat(outputs[in_order], axis + 1), whole, rtol=1e-12, atol=1e-12)
    for part, faces in enumerate(parts(whole_exits)):
        for k, face in enumerate(faces):
            pieces = [tile_exits[part][k] for tile_exits in exits[in_order]]
            tiled = exits[-1][part][k] if k == axis else torch.cat(pieces, 2 + axis - (axis > k))
            assert_close(tiled, face, rtol=1e-12, atol=1e-12)

    weights = normal(*whole.shape)
    inputs = [x, *layer.parameters()]
    of_whole = torch.autograd.grad((whole * weights).sum(), inputs)
    of_tiles = torch.autograd.grad((torch.cat(outputs[in_order], axis + 1) * weights).sum(), inputs)
    for a, b in zip(of_whole, of_tiles, strict=True):
        assert_close(b, a, rtol=1e-11, atol=1e-11)


def test_four_axes(backend, normal, random_state):
    """One step further than the papers go: two tiles along the last of four axes, all 16 directions."""
    for direction in all_directions(4):
        layer = ndrnn.MDLSTM(1, 2, 4, directions=[direction], dtype=torch.float64)
        x = normal(1, 2, 2, 2, 3, 1)
        h, c = random_state(layer, x)
        whole = layer(x, initial_state=(h, c))
        first, second = (x[..., 2:, :], x[..., :2, :])[:: -direction[3]]
        at_first = slice(2, None) if direction[3] < 0 else slice(0, 2)
        at_second = slice(0, 2) if direction[3] < 0 else slice(2, None)

        def entry(faces, last, span):
            return (*(face[..., span, :] for face in faces[:3]), last)

        y1, (h1, c1) = layer(
            first,
            initial_state=(entry(h, h[3], at_first), entry(c, c[3], at_first)),
            return_state=True,
        )
        y2 = layer(second, initial_state=(entry(h, h1[3], at_second), entry(c, c1[3], at_second)))
        assert_close(torch.cat([y1, y2][:: direction[3]], 4), whole, rtol=1e-12, atol=1e-12)
