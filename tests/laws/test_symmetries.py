"""What turning the data, the axes, the batch or the choice of directions may change, and what not."""

from itertools import permutations

import pytest
import torch
from torch.testing import assert_close

import ndrnn
from ndrnn.lattice import all_directions

LATTICES = {1: (5,), 2: (4, 3), 3: (3, 2, 4)}


def map_state(state, change):
    """A state with every tuple of faces changed."""
    return ndrnn.State(*(None if faces is None else change(faces) for faces in state))


def flat(state):
    return [face for faces in state for face in faces or ()]


@pytest.mark.parametrize("ndim", LATTICES)
def test_flipping_input_and_direction_flips_the_output(backend, variant, ndim, normal, random_state):
    forward = variant(2, 3, ndim, directions=[(1,) * ndim])
    x = normal(2, *LATTICES[ndim], 2)
    state = random_state(forward, x)
    y, exits = forward(x, initial_state=state, return_state=True)
    for direction in all_directions(ndim):
        axes = [axis for axis in range(ndim) if direction[axis] < 0]

        def flip_faces(faces, axes=axes):
            return tuple(
                face.flip([2 + axis - (axis > k) for axis in axes if axis != k])
                for k, face in enumerate(faces)
            )

        turned = variant(2, 3, ndim, directions=[direction])  # the same seed: the same weights
        flips = [axis + 1 for axis in axes]
        got, got_exits = turned(x.flip(flips), initial_state=map_state(state, flip_faces), return_state=True)
        assert_close(got, y.flip(flips), rtol=1e-13, atol=1e-13)
        for a, b in zip(flat(got_exits), flat(map_state(exits, flip_faces)), strict=True):
            assert_close(a, b, rtol=1e-13, atol=1e-13)


def permute_weights(layer, target, order):
    """Give ``target`` the weights with which it does on axes (order[0], order[1], ...) what ``layer`` does."""
    hidden, ndim = layer.hidden_size, layer.ndim
    gates = layer.cell.gates(ndim)

    def permute_gates(weight, dim):
        block = dict(zip(gates, weight.split(hidden, dim), strict=True))
        # the logit of the last axis is fixed at 0: logits count relative to the axis that is last now
        logits = [
            block.get(f"m{axis + 1}", torch.zeros_like(weight.narrow(dim, 0, hidden))) for axis in range(ndim)
        ]
        changed = []
        for gate in gates:
            prefix, number = gate.rstrip("0123456789"), gate.lstrip("abcdefghijklmnopqrstuvwxyz")
            if prefix == "m":
                changed.append(logits[order[int(number) - 1]] - logits[order[-1]])
            elif number and prefix != "o":  # o1 and o2 count output gates, not axes
                changed.append(block[f"{prefix}{order[int(number) - 1] + 1}"])
            else:
                changed.append(block[gate])
        return torch.cat(changed, dim)

    with torch.no_grad():
        target.weight_ih.copy_(permute_gates(layer.weight_ih, 1))
        if layer.cell.recurrent:
            target.weight_hh.copy_(permute_gates(layer.weight_hh[:, list(order)], 2))
        target.bias.copy_(permute_gates(layer.bias, 1))
        name = layer.cell.extra_name
        if name == "weight_peephole":
            rows = [0, *(1 + axis for axis in order), ndim + 1]
            target.weight_peephole.copy_(layer.weight_peephole[:, rows])
        elif name == "weight_ch":
            target.weight_ch.copy_(permute_gates(layer.weight_ch[:, list(order)], 2))
        elif name == "bias_hn":
            target.bias_hn.copy_(layer.bias_hn[:, list(order)])
    return target


@pytest.mark.parametrize("ndim", [2, 3])
def test_permuting_the_axes_permutes_the_output(backend, variant, ndim, normal, random_state):
    direction = (1, -1, 1)[:ndim]
    layer = variant(2, 3, ndim, directions=[direction])
    x = normal(2, *LATTICES[ndim], 2)
    state = random_state(layer, x)
    y, exits = layer(x, initial_state=state, return_state=True)
    for order in permutations(range(ndim)):
        # axis j of the new lattice is axis order[j] of the old one
        turned = permute_weights(
            layer, variant(2, 3, ndim, directions=[tuple(direction[axis] for axis in order)]), order
        )

        def permute(values, order=order):
            return values.permute(0, *(axis + 1 for axis in order), ndim + 1)

        def permute_faces(faces, order=order):
            permuted = []
            for axis in order:
                others = [other for other in range(ndim) if other != axis]
                dims = [2 + others.index(other) for other in order if other != axis]
                permuted.append(faces[axis].permute(0, 1, *dims, ndim + 1))
            return tuple(permuted)

        got, got_exits = turned(permute(x), initial_state=map_state(state, permute_faces), return_state=True)
        assert_close(got, permute(y), rtol=1e-12, atol=1e-12)
        for a, b in zip(flat(got_exits), flat(map_state(exits, permute_faces)), strict=True):
            assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_batch_order_does_not_matter(backend, variant, normal, random_state):
    layer = variant(2, 3, 2)
    x = normal(4, 3, 5, 2)
    sizes = torch.tensor([[3, 5], [1, 2], [0, 4], [3, 1]])
    state = random_state(layer, x)
    y, exits = layer(x, sizes, state, return_state=True)
    order = [2, 0, 3, 1]

    def shuffle(faces):
        return tuple(face[:, order] for face in faces)

    got, got_exits = layer(x[order], sizes[order], map_state(state, shuffle), return_state=True)
    assert_close(got, y[order], rtol=1e-13, atol=1e-13)
    for a, b in zip(flat(got_exits), flat(map_state(exits, shuffle)), strict=True):
        assert_close(a, b, rtol=1e-13, atol=1e-13)
    for sample in range(4):
        alone_state = map_state(state, lambda faces, i=sample: tuple(f[:, i : i + 1] for f in faces))
        alone = layer(x[sample : sample + 1], sizes[sample : sample + 1], alone_state)
        assert_close(alone, y[sample : sample + 1], rtol=1e-13, atol=1e-13)


def test_directions_do_not_see_each_other(backend, variant, normal):
    """A layer of many directions is its directions side by side, in whatever order they are named."""
    everything = variant(2, 3, 2, directions="all")
    x = normal(2, 4, 3, 2)
    y = everything(x).unflatten(-1, (4, 3))
    for chosen in ([2], [3, 0], [1, 2, 0]):
        some = variant(2, 3, 2, directions=[all_directions(2)[d] for d in chosen])
        some.load_state_dict({name: value[chosen] for name, value in everything.state_dict().items()})
        assert_close(some(x).unflatten(-1, (len(chosen), 3)), y[..., chosen, :], rtol=1e-13, atol=1e-13)


def test_merging_adds_or_averages_what_concat_lays_side_by_side(backend, variant, normal):
    x = normal(2, 3, 4, 2)
    layers = {merge: variant(2, 3, 2, directions="all", merge=merge) for merge in ("concat", "sum", "mean")}
    side_by_side = layers["concat"](x)
    assert side_by_side.shape == (2, 3, 4, 12)
    directions = side_by_side.split(3, -1)
    assert_close(layers["sum"](x), directions[0] + directions[1] + directions[2] + directions[3])
    assert_close(layers["mean"](x), layers["sum"](x) / 4)
    assert [layer.output_size for layer in layers.values()] == [12, 3, 3]


def test_many_directions_in_four_dimensions(backend, normal):
    layer = ndrnn.MDGRU(2, 2, 4, dtype=torch.float64)
    x = normal(1, 2, 3, 1, 2, 2)
    y = layer(x).unflatten(-1, (16, 2))
    for d, direction in enumerate(all_directions(4)):
        one = ndrnn.MDGRU(2, 2, 4, directions=[direction], dtype=torch.float64)
        one.load_state_dict({name: value[d : d + 1] for name, value in layer.state_dict().items()})
        assert_close(one(x), y[..., d, :], rtol=1e-13, atol=1e-13)
