"""The linear scan on Triton against the reference: on a GPU where there is one, else under Triton's interpreter.

Without a GPU these tests are skipped here and run by ``tests/scan/test_triton_interpreted.py``, in a process of their own.
"""

from __future__ import annotations

import random

import pytest
import torch
from torch.autograd import gradcheck
from torch.testing import assert_close

import ndrnn
from ndrnn.lattice import all_directions
from ndrnn.scan import triton as package

if package.refusal() is not None:
    pytest.skip(str(package.refusal()), allow_module_level=True)

pytestmark = pytest.mark.usefixtures("poisoned")

DEVICE = "cpu" if package.INTERPRETED else "cuda"


def on_device(case):
    def move(tensor):
        return None if tensor is None else tensor.detach().to(DEVICE).requires_grad_(tensor.requires_grad)

    state = None if case.state is None else tuple(map(move, case.state))
    sizes = None if case.sizes is None else case.sizes.to(DEVICE)
    return type(case)(move(case.z), move(case.f), case.direction, sizes, state)


@pytest.mark.parametrize("count", [16, pytest.param(40, marks=pytest.mark.slow)])
def test_random_configurations(count, scans):
    rng = random.Random(0)
    for seed in range(count):
        case = scans.draw_any(rng, seed)
        if case.z.dim() > 5:
            continue
        with ndrnn.backend("reference"):
            expected = case.run()
        moved = on_device(case)
        with ndrnn.backend("triton"):
            got = moved.run()
        pairs = [*zip(got, expected, strict=True)]
        pairs += zip(scans.gradients(moved, got), scans.gradients(case, expected), strict=True)
        for a, b in pairs:
            assert_close(a.cpu(), b, rtol=1e-11, atol=1e-11)


USUAL = [((-1,), "ragged_state"), ((-1, 1, -1), "ragged_state")]
FURTHER = [(corner, "ragged_state") for ndim in (1, 2, 3) for corner in all_directions(ndim)]
FURTHER += [((1, -1), "plain"), ((-1, 1), "shared"), ((1, -1, 1), "plain"), ((1, 1, -1), "shared")]
SLOW = [pytest.param(*case, marks=pytest.mark.slow) for case in FURTHER if case not in USUAL]


@pytest.mark.parametrize(("direction", "options"), [*USUAL, *SLOW], ids=str)
def test_gradients(direction, options, scans):
    chosen = {name: name in options for name in ("ragged", "state", "shared")}
    case = on_device(scans.draw((2, 2, 2)[: len(direction)], 1, direction=direction, **chosen))

    def function(z, f, *state):
        outputs = type(case)(z, f, case.direction, case.sizes, state or None).run()
        return torch.cat([output.flatten() for output in outputs])  # each output more would cost more scans

    with ndrnn.backend("triton"):
        assert gradcheck(function, case.inputs, fast_mode=True, check_undefined_grad=False)


def test_gradients_on_extents_of_one_and_zero(scans):
    for lattice in ((1, 1), (0, 2), (1,), (1, 2, 1)):
        case = on_device(scans.draw(lattice, 1, direction=(-1,) * len(lattice), state=True))

        def function(z, f, *state, case=case):
            return type(case)(z, f, case.direction, case.sizes, state).run()

        with ndrnn.backend("triton"):
            assert gradcheck(function, case.inputs, fast_mode=True, check_undefined_grad=False)


@pytest.mark.parametrize(
    ("normalize", "lattice", "directions"),
    [("softmax", (2, 3), [(1, -1), (-1, 1)]), ("even", (2, 1, 2), [(-1, 1, -1)])],
    ids=str,
)
def test_the_layer_conforms(normalize, lattice, directions, normal, random_state):
    """Ragged samples, empty ones among them, states in and out, all gradients."""
    layer = ndrnn.MDLinearRNN(
        2, 5, len(lattice), normalize=normalize, directions=directions, dtype=torch.float64
    )
    x, sizes = normal(3, *lattice, 2), torch.tensor([lattice, lattice, (0, *lattice[1:])])
    sizes[1, -1] = 1
    state = ndrnn.State(*(tuple(face.to(DEVICE) for face in faces) for faces in random_state(layer, x)))
    layer, x, sizes = layer.to(DEVICE), x.to(DEVICE), sizes.to(DEVICE)
    ndrnn.testing.assert_conforms(layer, x, sizes, state, backends=["triton"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_no_worse_than_twice_plain_pytorch(dtype, scans):
    exact = on_device(scans.draw((3, 4), 8, direction=(1, -1), state=True).to(torch.float32))
    low = exact.to(dtype)
    for tensor in low.inputs:
        tensor.mul_(0.5).requires_grad_()
    exact = low.to(torch.float64)
    for tensor in exact.inputs:
        tensor.requires_grad_()
    with ndrnn.backend("wavefront"):
        expected, plain = exact.run(), low.run()
        wanted, plain_gradients = scans.gradients(exact, expected), scans.gradients(low, plain)
    with ndrnn.backend("triton"):
        got = low.run()
        found = scans.gradients(low, got)
    for ours, theirs, right in [
        *zip(got, plain, expected, strict=True),
        *zip(found, plain_gradients, wanted, strict=True),
    ]:
        assert ours.dtype == dtype
        error, allowed = (float((a.double() - right).abs().max().detach()) for a in (ours, theirs))
        assert error <= 2 * allowed + torch.finfo(dtype).eps * float(right.abs().max().detach())


@pytest.mark.parametrize("normalize", ["softmax", "even"])
def test_the_layer_in_bfloat16_is_no_worse_than_twice_plain_pytorch(normalize, normal, random_state):
    """Outputs and all gradients of the whole layer, gates and read-out included, against float64."""
    dtype = torch.bfloat16
    options = {"normalize": normalize, "directions": [(1, -1), (-1, 1)], "dtype": torch.float64}
    low = ndrnn.MDLinearRNN(3, 8, **options).to(DEVICE, dtype)
    exact = ndrnn.MDLinearRNN(3, 8, **options).to(DEVICE)
    exact.load_state_dict(low.state_dict())
    x, sizes = normal(3, 3, 2, 3).to(DEVICE, dtype), torch.tensor([[3, 2], [2, 1], [0, 2]], device=DEVICE)
    dy = normal(3, 3, 2, low.output_size).to(DEVICE, dtype)

    def run(layer, backend):
        own = next(layer.parameters()).dtype
        given = x.detach().to(own).requires_grad_()
        with ndrnn.backend(backend):
            y = layer(given, sizes)
            found = [y, *torch.autograd.grad(y, [given, *layer.parameters()], dy.to(own))]
        assert all(tensor.dtype == own for tensor in found)
        return [tensor.detach().double() for tensor in found]

    names = ["y", "x", *(name for name, _ in low.named_parameters())]
    for name, right, plain, ours in zip(
        names, run(exact, "wavefront"), run(low, "wavefront"), run(low, "triton"), strict=True
    ):
        allowed = 2 * (plain - right).norm() + torch.finfo(dtype).eps / 4 * right.norm()
        assert (ours - right).norm() <= allowed, name


def test_it_traces(scans):
    case = on_device(scans.draw((3, 4), 2, direction=(1, -1)))

    def run(z, f):
        return ndrnn.linear_scan(z, f, direction=(1, -1)).tanh()

    with ndrnn.backend("triton"):
        compiled = torch.compile(run, fullgraph=True, backend="aot_eager")(case.z, case.f)
        assert_close(compiled, run(case.z, case.f))
    torch._dynamo.reset()


def test_what_it_cannot_serve():
    z, f = torch.zeros(1, 1, 1, 1, 1, 1, device=DEVICE), torch.zeros(4, 1, 1, 1, 1, 1, 1, device=DEVICE)
    with ndrnn.backend("triton"), pytest.raises(RuntimeError, match="at most 3 axes, not 4"):
        ndrnn.linear_scan(z, f, direction=(1,) * 4)
