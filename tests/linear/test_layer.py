"""MDLinearRNN: what its definition promises beyond what every layer's tests check."""

from __future__ import annotations

import pytest
import torch
from torch.testing import assert_close

import ndrnn
from ndrnn.lattice import all_directions
from ndrnn.scan.linear import operators

RULES = ["softmax", "even"]


@pytest.mark.parametrize("normalize", RULES)
def test_it_is_gates_a_linear_scan_and_an_output_gate(backend, normalize, normal):
    layer = ndrnn.MDLinearRNN(
        3, 4, 2, normalize=normalize, directions=[(1, -1), (-1, -1)], dtype=torch.float64
    )
    x = normal(2, 3, 5, 3)
    expected = []
    for direction, weight, bias in zip(layer.directions, layer.weight_ih, layer.bias, strict=True):
        a_i, a_1, a_2, a_g, a_o = (x @ weight.T + bias).chunk(5, -1)
        if normalize == "softmax":
            i, f_1, f_2 = torch.softmax(torch.stack([a_i, a_1, a_2]), 0)
        else:
            f_1, f_2 = a_1.sigmoid() / 2, a_2.sigmoid() / 2
            i = a_i.sigmoid() * (1 - f_1 - f_2)
        c = ndrnn.linear_scan(i * a_g.tanh(), torch.stack([f_1, f_2]), direction=direction)
        expected.append(a_o.sigmoid() * c)
    assert_close(layer(x), torch.cat(expected, -1), rtol=1e-12, atol=1e-12)


@pytest.mark.kernels
@pytest.mark.parametrize("normalize", RULES)
@pytest.mark.parametrize(("lattice", "hidden"), [((150,), 33), ((3, 75), 40), ((2, 3, 73), 70)])
def test_blocks_of_points_and_units_fit_together(lattice, hidden, normalize, normal, random_state):
    """Lattices and widths beyond a block of the compiled kernels, 72 points and 32 units, against plain PyTorch."""
    corners = all_directions(len(lattice))
    layer = ndrnn.MDLinearRNN(
        5, hidden, len(lattice), normalize=normalize, directions=corners[1:3], dtype=torch.float64
    )
    x = normal(2, *lattice, 5).requires_grad_()
    sizes = torch.tensor([lattice, [extent - 1 for extent in lattice]])
    dy, state = normal(2, *lattice, layer.output_size), random_state(layer, x)

    def results(name):
        with ndrnn.backend(name):
            y = layer(x, sizes, state)
            return [y, *torch.autograd.grad(y, [x, *layer.parameters()], dy)]

    for ours, plain in zip(results("cpu"), results("wavefront"), strict=True):
        assert_close(ours, plain, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("normalize", RULES)
def test_no_memory_leaves_the_range_of_the_candidate(normalize, normal):
    layer = ndrnn.MDLinearRNN(2, 8, 2, normalize=normalize)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.copy_(30 * torch.randn_like(parameter))
    with torch.no_grad():
        y, (_, c) = layer(normal(1, 250, 250, 2, dtype=torch.float32), return_state=True)
    assert y.abs().max() <= 1 + 1e-4
    assert max(face.abs().max() for face in c) <= 1 + 1e-4


def test_even_shares_bound_the_gradient_where_a_softmax_does_not(normal):
    """Of the sum over all points' outputs by one source: the sum of what every path from it carries."""

    def growth(normalize):
        layer = ndrnn.MDLinearRNN(1, 1, 2, normalize=normalize, directions=[(1, 1)], dtype=torch.float64)
        f = torch.zeros(2, 1, 20, 20, 1, dtype=torch.float64)
        # adverse shares: every point listens to its predecessor along one axis alone, the one that comes from the source
        logits = torch.full((1, 20, 20, 5), -40.0, dtype=torch.float64)
        logits[..., 1], logits[0, 0, :, 1], logits[0, 0, :, 2] = 40.0, -40.0, 40.0
        values = layer.cell.values(logits, 2)
        f = torch.stack([values["f1"], values["f2"]])
        z = torch.zeros(1, 20, 20, 1, dtype=torch.float64, requires_grad=True)
        c = ndrnn.linear_scan(z, f, direction=(1, 1))
        (last,) = torch.autograd.grad(c[:, -1].sum(), z)  # the last row, one wavefront's worth
        return float(last[0, 0, 0])

    assert growth("softmax") > 19
    assert growth("even") <= 1


@pytest.mark.parametrize("normalize", RULES)
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_fresh_memories_reach_from_two_points_to_hundreds(ndim, normalize):
    layer = ndrnn.MDLinearRNN(2, 9, ndim, normalize=normalize)
    a = layer.bias.detach()
    kept = sum(value for name, value in layer.cell.values(a, ndim).items() if name.startswith("f"))
    reach = 1 / (1 - kept)
    assert_close(reach[:, 0], torch.full_like(reach[:, 0], 2.0))
    assert_close(reach[:, -1], torch.full_like(reach[:, -1], 256.0), rtol=1e-3, atol=0)
    steps = reach.log().diff(dim=1)
    assert_close(steps, steps[:, :1].expand_as(steps), rtol=1e-2, atol=0)


def test_diagnose_sees_the_reach():
    torch.manual_seed(0)
    layer = ndrnn.MDLinearRNN(3, 16, 2, directions=[(1, 1)])
    report = ndrnn.diagnose(layer, torch.randn(2, 24, 24, 3)).directions[0]
    assert report.forget_sum_max < 1
    assert min(report.reach) >= 15
    assert report.largest_state <= 1
    assert set(report.saturation) == {"i", "f1", "f2", "g", "o"}


@pytest.mark.parametrize("ndim", [1, 2])
def test_shares_near_their_limits_are_no_fault_and_a_stuck_candidate_is(ndim):
    torch.manual_seed(0)
    layer, x = ndrnn.MDLinearRNN(3, 16, ndim), torch.randn(2, *(24,) * ndim, 3)
    fresh = ndrnn.diagnose(layer, x)
    assert max(fresh.directions[0].saturation["i"]) > 0.5
    assert not [warning for warning in fresh.warnings if "at a limit" in warning]
    with torch.no_grad():
        layer.weight_ih[:, -32:] *= 100
    stuck = [warning for warning in ndrnn.diagnose(layer, x).warnings if "at a limit" in warning]
    assert len(stuck) == 2
    assert "of the values of g are" in stuck[0]
    assert "of the values of o are" in stuck[1]


def test_estimate_counts_one_product():
    layer = ndrnn.MDLinearRNN(3, 16, 2)
    found = ndrnn.estimate(layer, (2, 8, 8, 3), training=False)
    assert found.operations == 2 * (2 * 8 * 8) * 4 * 5 * 16 * 3


def test_options_and_names():
    layer = ndrnn.MDLinearRNN(3, 4, 2, normalize="even", bias=False, merge="sum", directions=[(1, 1)])
    again = ndrnn.MDLinearRNN(**layer.config())
    assert repr(again) == repr(layer)
    assert "normalize='even'" in repr(layer)
    assert [name for name, _ in layer.named_parameters()] == ["weight_ih"]
    assert ndrnn.registry.layers["MDLinearRNN"] is ndrnn.MDLinearRNN
    with pytest.raises(ValueError, match='normalize must be "softmax" or "even"'):
        ndrnn.MDLinearRNN(3, 4, normalize="sum")


@pytest.mark.parametrize("part", ["h", "c"])
def test_a_state_has_both_its_parts(part, normal, random_state):
    layer, x = ndrnn.MDLinearRNN(3, 4, dtype=torch.float64), normal(2, 3, 5, 3)
    state = random_state(layer, x)._replace(**{part: None})
    with pytest.raises(TypeError, match=f"initial_state must be .*, got a State without {part}"):
        layer(x, initial_state=state)


def test_tiles_with_their_states_give_the_whole(backend, normal):
    layer, x = ndrnn.MDLinearRNN(3, 4, directions=[(1, -1)], dtype=torch.float64), normal(2, 3, 7, 3)
    whole, leaving = layer(x, return_state=True)
    right, state = layer(x[:, :, 4:], return_state=True)
    zeros = [torch.zeros(1, 2, 4, 4, dtype=torch.float64)] * 2
    entering = ndrnn.State((zeros[0], state.h[1]), (zeros[1], state.c[1]))
    left, last = layer(x[:, :, :4], initial_state=entering, return_state=True)
    assert_close(torch.cat([left, right], 2), whole)
    for part in ("h", "c"):
        ours, theirs = getattr(last, part), getattr(leaving, part)
        assert_close(ours[1], theirs[1])
        assert_close(ours[0], theirs[0][:, :, :4])


def test_in_a_stack_channels_first_and_without_a_batch(backend, normal, tmp_path):
    first = ndrnn.MDLinearRNN(3, 4, merge="sum", dtype=torch.float64)
    second = ndrnn.MDLinearRNN(4, 2, normalize="even", dtype=torch.float64)
    stack, x = ndrnn.Stack(first, second), normal(2, 3, 5, 3)
    y, states = stack(x, return_state=True)
    assert_close(y, second(first(x)))
    assert_close(ndrnn.ChannelsFirst(stack)(x.movedim(-1, 1)), y.movedim(-1, 1))
    alone, state = first(x[0], return_state=True)
    assert_close(alone, first(x)[0])
    assert_close(state.c, tuple(face[:, 0] for face in states[0].c))
    assert_close(state.h, tuple(face[:, 0] for face in states[0].h))
    again = first(x[0], initial_state=state)
    assert_close(again, first(x, initial_state=states[0])[0])
    ndrnn.save(stack, tmp_path / "stack.safetensors")
    assert_close(ndrnn.load(tmp_path / "stack.safetensors")(x), y)


def test_in_a_hierarchy():
    hierarchy = ndrnn.Hierarchy(
        1, 3, hidden=(2, 4), subsample=(3,), blocks=((2, 2), (2, 2)), layer="MDLinearRNN"
    )
    assert hierarchy(torch.randn(2, 8, 8, 1)).shape[0] == 2


def test_in_the_networks_of_tasks():
    from ndrnn.data.batches import Facts
    from ndrnn.saving.config import from_dict
    from ndrnn.tasks import Classify, Label, build

    x, sizes = torch.randn(2, 8, 9, 1), torch.tensor([[8, 9], [5, 7]])
    for kind, options in (
        ("unet", {"widths": [4, 6], "scans": [0, 1]}),
        ("hierarchy", {"hidden": [3, 4], "blocks": ["1x1", "2x2"]}),
    ):
        recipe = {"kind": kind, "layer": "MDLinearRNN", **options}
        settings = from_dict(Label if kind == "unet" else Classify, {"network": recipe})
        task = build(settings, Facts(2, 1, ("paper", "ink")))
        inner = [layer for layer in task.model.modules() if isinstance(layer, ndrnn.MDLinearRNN)]
        assert inner
        task.model(x, sizes).sum().backward()
        assert all(parameter.grad is not None for layer in inner for parameter in layer.parameters())


@pytest.mark.kernels
def test_opcheck():
    layer = ndrnn.MDLinearRNN(2, 3, dtype=torch.float64)
    x, entry = torch.randn(2, 3, 4, 2, dtype=torch.float64), torch.randn(4, 2, 7, 3, dtype=torch.float64)
    signs = [sign for direction in layer.directions for sign in direction]
    weights = (layer.weight_ih.detach(), layer.bias.detach())
    plain = (x, *weights, None, entry, "softmax", signs, True, True)
    differentiable = tuple(
        a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
        for a in plain
    )
    ragged = (x, *weights, torch.tensor([[3, 4], [2, 0]]), entry, "even", signs, True, False)
    for case in (plain, differentiable, ragged):
        assert set(torch.library.opcheck(operators.layer, case).values()) == {"SUCCESS"}
    y, exits, c = operators.layer(*plain)
    backward = (y, exits, x, *weights, None, entry, c, "softmax", signs, True, True, True)
    assert set(torch.library.opcheck(operators.layer_backward, backward).values()) == {"SUCCESS"}


@pytest.mark.kernels
def test_the_number_of_threads_changes_nothing(normal):
    layer = ndrnn.MDLinearRNN(16, 20)
    x = normal(3, 40, 30, 16, dtype=torch.float32).requires_grad_()

    def results():
        y = layer(x)
        return [y, *torch.autograd.grad(y.square().sum(), [x, *layer.parameters()])]

    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = results()
        torch.set_num_threads(3)
        three = results()
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for a, b in zip(one, three, strict=True))


@pytest.mark.kernels
def test_compiling_and_exporting(normal):
    layer = ndrnn.MDLinearRNN(2, 3, dtype=torch.float64)
    x, sizes = normal(2, 4, 5, 2).requires_grad_(), torch.tensor([[4, 5], [2, 3]])
    eager = layer(x, sizes)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")(x, sizes)
    assert_close(compiled, eager)
    inputs = [x, *layer.parameters()]
    for a, b in zip(
        torch.autograd.grad(compiled.square().sum(), inputs),
        torch.autograd.grad(eager.square().sum(), inputs),
        strict=True,
    ):
        assert_close(a, b)
    exported = torch.export.export(layer, (x.detach(),))
    assert_close(exported.module()(x.detach()), layer(x))
    torch._dynamo.reset()
