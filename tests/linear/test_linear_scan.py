"""The linear scan: its backends against the definition, its laws, and what it refuses."""

from __future__ import annotations

import random
import warnings

import pytest
import torch
from torch.autograd import gradcheck, gradgradcheck
from torch.testing import assert_close

import ndrnn
from ndrnn.lattice import all_directions
from ndrnn.scan.linear import operators

LATTICES = {1: (4,), 2: (3, 2), 3: (2, 1, 2)}


def as_function(case):
    def function(z, f, *state):
        outputs = type(case)(z, f, case.direction, case.sizes, state or None).run()
        # gradcheck leaves out what does not depend on its inputs, as what ragged samples without a point give
        return tuple(output + 0 * z.sum() for output in outputs)

    return function


@pytest.mark.parametrize("mode", ["plain", "ragged", "state", "ragged_state", "shared_state"])
@pytest.mark.parametrize("ndim", LATTICES)
def test_gradients(backend, ndim, mode, scans):
    options = {name: name in mode for name in ("ragged", "state", "shared")}
    for number, direction in enumerate(all_directions(ndim)):
        case = scans.draw(LATTICES[ndim], 2, seed=number, direction=direction, **options)
        assert gradcheck(as_function(case), case.inputs, fast_mode=number > 0)


@pytest.mark.parametrize("mode", ["plain", "ragged_state", "shared_state"])
@pytest.mark.parametrize("ndim", LATTICES)
def test_gradients_of_the_reference(ndim, mode, scans):
    options = {name: name in mode for name in ("ragged", "state", "shared")}
    for number, direction in enumerate(all_directions(ndim)):
        case = scans.draw(LATTICES[ndim], 1, seed=number, direction=direction, **options)
        with ndrnn.backend("reference"):
            assert gradcheck(as_function(case), case.inputs, fast_mode=number > 0)


@pytest.mark.parametrize("name", ["reference", "wavefront", pytest.param("cpu", marks=pytest.mark.kernels)])
def test_gradients_on_extents_of_one_and_zero(name, scans):
    for lattice in ((1, 1), (0, 2), (3, 0), (1,), (0,), (1, 3, 1), (2, 0, 1)):
        for number, direction in enumerate(((-1,) * len(lattice), (1,) * len(lattice))):
            case = scans.draw(lattice, 2, direction=direction, state=True, ragged=number > 0)
            with ndrnn.backend(name):
                assert gradcheck(as_function(case), case.inputs, fast_mode=number > 0)


def test_second_derivatives_on_wavefront(scans):
    case = scans.draw((3, 2), 1, ragged=True, state=True)
    with ndrnn.backend("wavefront"):
        assert gradgradcheck(as_function(case), case.inputs)


def agree(scans, count):
    """Whether so many random scans, with their gradients, are the reference's."""
    rng = random.Random(5)
    for seed in range(count):
        case = scans.draw_any(rng, seed)
        got = case.run()
        with ndrnn.backend("reference"):
            expected = case.run()
        for a, b in zip(got, expected, strict=True):
            assert_close(a, b, rtol=1e-12, atol=1e-12)
        for a, b in zip(scans.gradients(case, got), scans.gradients(case, expected), strict=True):
            assert_close(a, b, rtol=1e-11, atol=1e-11)


def test_a_thousand_configurations(backend, scans):
    agree(scans, 1000 if backend == "cpu" else 150)


@pytest.mark.slow
def test_a_thousand_configurations_in_plain_pytorch(scans):
    with ndrnn.backend("wavefront"):
        agree(scans, 1000)


def test_by_hand():
    """Shares of 1/2 on a lattice of ones; every value follows from those above and to the left."""
    z, half = torch.ones(1, 2, 3, 1), torch.full((2, 1, 2, 3, 1), 0.5)
    expected = torch.tensor([[1, 1.5, 1.75], [1.5, 2.5, 3.125]])
    for name in ("reference", "wavefront"):
        with ndrnn.backend(name):
            assert_close(ndrnn.linear_scan(z, half, direction=(1, 1))[0, ..., 0], expected)
            turned = ndrnn.linear_scan(z, half, direction=(-1, -1))[0, ..., 0]
            assert_close(turned, expected.flip(0, 1))


def test_a_line_against_a_loop_and_the_closed_form(backend):
    z, f = torch.randn(2, 50, 3, dtype=torch.float64), torch.rand(1, 2, 50, 3, dtype=torch.float64)
    c, expected = torch.zeros(2, 3, dtype=torch.float64), []
    for t in range(50):
        c = z[:, t] + f[0, :, t] * c
        expected.append(c)
    assert_close(ndrnn.linear_scan(z, f, direction=(1,)), torch.stack(expected, 1), rtol=1e-13, atol=1e-13)
    # constant shares: c_t = sum over s of f^(t - s) z_s, by a cumulative sum over f^-s z_s
    log_f = torch.tensor(0.9, dtype=torch.float64).log()
    steps = torch.arange(50, dtype=torch.float64)[:, None]
    closed = torch.exp(steps * log_f) * torch.cumsum(torch.exp(-steps * log_f) * z, 1)
    got = ndrnn.linear_scan(z, torch.full_like(f, 0.9), direction=(1,))
    assert_close(got, closed, rtol=1e-11, atol=1e-11)


def test_a_long_line_in_the_log_domain(backend):
    """Positive inputs and any shares: log c_t is a log-cumsum-exp less the sum of logs, here down to e^-3000."""
    generator = torch.Generator().manual_seed(0)
    z = torch.rand(2, 3000, 3, generator=generator, dtype=torch.float64) + 0.1
    f = 0.05 + 0.9 * torch.rand(1, 2, 3000, 3, generator=generator, dtype=torch.float64)
    kept = torch.cumsum(f[0].log(), 1)
    expected = torch.exp(kept + torch.logcumsumexp(z.log() - kept, 1))
    assert_close(ndrnn.linear_scan(z, f, direction=(1,)), expected, rtol=1e-9, atol=0)
    backwards = ndrnn.linear_scan(z.flip(1), f.flip(2), direction=(-1,))
    assert_close(backwards.flip(1), expected, rtol=1e-9, atol=0)


def test_constant_shares_count_paths(backend):
    """From a single source the weights at (i, j) are binomial(i + j, i) f1^i f2^j, one for every path."""
    z = torch.zeros(1, 5, 6, 1, dtype=torch.float64)
    z[0, 0, 0] = 1
    f = torch.tensor([0.3, 0.6], dtype=torch.float64).view(2, 1, 1, 1, 1).expand(2, 1, 5, 6, 1)
    got = ndrnn.linear_scan(z, f, direction=(1, 1))[0, ..., 0]
    i, j = torch.meshgrid(torch.arange(5.0), torch.arange(6.0), indexing="ij")
    paths = torch.exp(torch.lgamma(i + j + 1) - torch.lgamma(i + 1) - torch.lgamma(j + 1)).double().round()
    assert_close(got, paths * 0.3 ** i.double() * 0.6 ** j.double(), rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("ndim", LATTICES)
def test_tiles_flips_and_permutations(backend, ndim, scans):
    lattice = (4, 3, 5)[:ndim]
    for direction in all_directions(ndim):
        case = scans.draw(lattice, 3, direction=direction, state=True)
        whole, *exits = case.run()
        for axis in range(ndim):
            cut = lattice[axis] // 2
            spans = [slice(0, cut), slice(cut, None)][:: direction[axis]]
            parts, handed = [], case.state[axis]
            for span in spans:
                state = tuple(
                    handed if k == axis else face[(slice(None),) * (1 + axis - (axis > k)) + (span,)]
                    for k, face in enumerate(case.state)
                )
                place = (slice(None),) * (1 + axis) + (span,)
                c, *out = scans.Case(
                    case.z[place], case.f[(slice(None), *place)], direction, None, state
                ).run()
                handed = out[axis]
                parts.append(c)
            joined = torch.cat(parts[:: direction[axis]], axis + 1)
            assert_close(joined, whole, rtol=1e-12, atol=1e-12)
            assert_close(handed, exits[axis], rtol=1e-12, atol=1e-12)
        back = [axis for axis in range(ndim) if direction[axis] < 0]
        turned = tuple(
            face.flip([1 + axis - (axis > k) for axis in back if axis != k])
            for k, face in enumerate(case.state)
        )
        z, f = case.z.flip([1 + axis for axis in back]), case.f.flip([2 + axis for axis in back])
        flipped = scans.Case(z, f, (1,) * ndim, None, turned).run()[0]
        assert_close(flipped.flip([1 + axis for axis in back]), whole, rtol=1e-12, atol=1e-12)
        order = list(range(ndim))[::-1]
        moved = ndrnn.linear_scan(
            case.z.permute(0, *(1 + axis for axis in order), -1),
            case.f[order].permute(0, 1, *(2 + axis for axis in order), -1),
            direction=[direction[axis] for axis in order],
        )
        plain = ndrnn.linear_scan(case.z, case.f, direction=direction)
        assert_close(moved.permute(0, *(1 + axis for axis in order), -1), plain, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), 1e300])
def test_padding_changes_nothing(backend, bad, scans):
    case = scans.draw((4, 5), 3, direction=(-1, 1), state=True)
    sizes = torch.tensor([[3, 2], [4, 0]])
    z, f = case.z.detach().clone(), case.f.detach().clone()
    state = [face.detach().clone() for face in case.state]
    z[0, 3:], z[0, :, 2:], z[1] = bad, bad, bad
    f[:, 0, 3:], f[:, 0, :, 2:], f[:, 1] = bad, bad, bad
    state[0][0, 2:], state[1][0, 3:] = bad, bad
    z.requires_grad_(), f.requires_grad_()
    c, *exits = scans.Case(z, f, (-1, 1), sizes, tuple(state)).run()
    alone, *own = scans.Case(
        case.z[:1, :3, :2],
        case.f[:, :1, :3, :2],
        (-1, 1),
        None,
        (case.state[0][:1, :2], case.state[1][:1, :3]),
    ).run()
    assert_close(c[:1, :3, :2], alone, rtol=1e-13, atol=1e-13)
    assert c.count_nonzero() == alone.numel()
    assert_close(exits[0][:1, :2], own[0], rtol=1e-13, atol=1e-13)
    assert_close(exits[1][:1, :3], own[1], rtol=1e-13, atol=1e-13)
    # without points on the second axis its states pass through
    assert_close(exits[1][1], state[1][1])
    dz, df = torch.autograd.grad(c.square().sum(), [z, f])
    assert dz.isfinite().all()
    assert df.isfinite().all()
    assert not dz[0, 3:].any()
    assert not df[:, 1].any()


def test_causality(backend, scans):
    lattice = (3, 4)
    for direction in all_directions(2):
        case = scans.draw(lattice, 1, batch=1, direction=direction)

        def flat(z, case=case):
            return scans.Case(z.view(case.z.shape), case.f, case.direction, None, None).run()[0].flatten()

        jacobian = torch.autograd.functional.jacobian(flat, case.z.flatten())
        points = torch.cartesian_prod(*(torch.arange(size) for size in lattice))
        behind = (torch.tensor(direction) * (points[:, None] - points[None]) >= 0).all(-1)
        assert torch.equal(jacobian != 0, behind)


def test_float32_is_no_worse_than_plain_pytorch(scans):
    case = scans.draw((40, 50), 16, direction=(1, -1), state=True)

    def error(name):
        small = case.to(torch.float32)
        for tensor in small.inputs:
            tensor.mul_(0.4).requires_grad_()
        double = scans.Case(*(small.to(torch.float64).__dict__.values()))
        for tensor in double.inputs:
            tensor.requires_grad_()
        with ndrnn.backend("wavefront"):
            exact = double.run()
            exact_gradients = scans.gradients(double, exact)
        with ndrnn.backend(name):
            got = small.run()
        pairs = [
            *zip(got, exact, strict=True),
            *zip(scans.gradients(small, got), exact_gradients, strict=True),
        ]
        return [float(((a.double() - b).abs().max() / b.abs().max()).detach()) for a, b in pairs]

    if ndrnn.available_backends()["cpu"] is not True:
        pytest.skip("needs the compiled kernels")
    for ours, plain in zip(error("cpu"), error("wavefront"), strict=True):
        assert ours <= 1.5 * plain + 1e-7


def test_convex_shares_bound_the_memory():
    """A million points of the most adverse shares: c never leaves the range of what is mixed."""
    generator = torch.Generator().manual_seed(0)
    logits = 20 * torch.randn(3, 1, 1000, 1000, 1, generator=generator)
    i, *f = torch.softmax(logits, 0).unbind()
    g = torch.randint(0, 2, i.shape, generator=generator) * 2.0 - 1
    c = ndrnn.linear_scan(i * g, torch.stack(f), direction=(1, -1))
    assert c.isfinite().all()
    assert c.abs().max() <= 1 + 1e-4  # rounding adds up along the longest undamped lines
    ones = ndrnn.linear_scan(i, torch.stack(f), direction=(1, 1), initial_state=[torch.ones(1, 1000, 1)] * 2)
    assert_close(ones, torch.ones_like(ones), rtol=0, atol=1e-4)


@pytest.mark.kernels
def test_opcheck(scans):
    case = scans.draw((3, 4), 2, state=True, ragged=True)
    entry = torch.randn(2, 7, 2, dtype=torch.float64)
    arguments = (case.z.detach(), case.f.detach(), case.sizes, entry, [1, -1], True)
    differentiable = tuple(
        a.clone().requires_grad_() if isinstance(a, torch.Tensor) and a.is_floating_point() else a
        for a in arguments
    )
    for call in (arguments, differentiable, (*arguments[:2], None, None, [-1, 1], False)):
        assert set(torch.library.opcheck(operators.scan, call).values()) == {"SUCCESS"}
    c, exits = operators.scan(*arguments)
    backward = (torch.randn_like(c), exits, arguments[1], case.sizes, entry, c, [1, -1], True, True)
    assert set(torch.library.opcheck(operators.scan_backward, backward).values()) == {"SUCCESS"}


@pytest.mark.kernels
def test_no_second_derivatives_on_cpu(scans):
    case = scans.draw((2, 2), 1)
    with ndrnn.backend("cpu"):
        (dz,) = torch.autograd.grad(case.run()[0].square().sum(), case.z, create_graph=True)
    with pytest.raises(RuntimeError, match="wavefront"):
        torch.autograd.grad(dz.sum(), case.z)


def test_compiling_exporting_and_transforms(backend, scans):
    case = scans.draw((3, 4), 2, direction=(1, -1), state=True)

    def run(z, f):
        return ndrnn.linear_scan(z * 2, f, direction=(1, -1)).tanh()

    eager = run(case.z, case.f)
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")(case.z, case.f)
    assert_close(compiled, eager)
    for a, b in zip(
        torch.autograd.grad(compiled.square().sum(), [case.z, case.f]),
        torch.autograd.grad(eager.square().sum(), [case.z, case.f]),
        strict=True,
    ):
        assert_close(a, b)

    class Module(torch.nn.Module):
        def forward(self, z, f):
            return ndrnn.linear_scan(z, f, direction=(1, -1))

    inputs = (case.z.detach(), case.f.detach())
    exported = torch.export.export(Module(), inputs)
    assert_close(exported.module()(*inputs), Module()(*inputs))
    together = torch.func.vmap(run, in_dims=(0, 1))(case.z[:, None], case.f[:, :, None])
    assert_close(together[:, 0], eager)
    v = torch.randn_like(case.z)
    _, tangent = torch.func.jvp(lambda z: run(z, case.f.detach()), (case.z.detach(),), (v,))
    u = torch.randn_like(eager)
    (back,) = torch.autograd.grad(run(case.z, case.f), case.z, u)
    assert_close((u * tangent).sum(), (back * v).sum())
    torch._dynamo.reset()


def test_bad_input():
    z, f = torch.zeros(2, 3, 4, 5), torch.zeros(2, 2, 3, 4, 5)
    scan = ndrnn.linear_scan
    with pytest.raises(ValueError, match=r"f must have shape \(2, 2, 3, 4, 5\), its last"):
        scan(z, f[:, :, :, :, :2], direction=(1, 1))
    with pytest.raises(ValueError, match="direction must be a tuple of 2 entries"):
        scan(z, f, direction=(1, 0))
    with pytest.raises(ValueError, match="direction must be a tuple of 2 entries"):
        scan(z, f, direction=(1,))
    with pytest.raises(TypeError, match=r"f must have the dtype of z, torch.float32, got torch.float64"):
        scan(z, f.double(), direction=(1, 1))
    with pytest.raises(ValueError, match="at least one axis"):
        scan(z[0, 0], f[0, 0], direction=(1,))
    with pytest.raises(TypeError, match="floating-point"):
        scan(z.long(), f.long(), direction=(1, 1))
    with pytest.raises(TypeError, match="z must be a tensor, got list"):
        scan([0.0], f, direction=(1, 1))
    with pytest.raises(TypeError, match="tuple of 2 faces, got a list of 1"):
        scan(z, f, direction=(1, 1), initial_state=[torch.zeros(2, 4, 5)])
    with pytest.raises(ValueError, match=r"face 1 must have shape \(2, 3, 5\), got \(2, 4, 5\)"):
        scan(z, f, direction=(1, 1), initial_state=[torch.zeros(2, 4, 5)] * 2)
    with pytest.raises(ValueError, match="sizes on axis 0"):
        scan(z, f, direction=(1, 1), sizes=torch.tensor([[4, 1], [1, 1]]))


@pytest.mark.kernels
def test_what_the_compiled_kernels_cannot_serve(monkeypatch):
    z, f = torch.zeros(1, *[1] * 9, 1), torch.zeros(9, 1, *[1] * 9, 1)
    with ndrnn.backend("cpu"), pytest.raises(RuntimeError, match="at most 8 axes, not 9"):
        ndrnn.linear_scan(z, f, direction=(1,) * 9)
    monkeypatch.setattr("ndrnn.scan.linear.function._warned", set())
    with pytest.warns(UserWarning, match="at most 8 axes, not 9"):
        ndrnn.linear_scan(z, f, direction=(1,) * 9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        ndrnn.linear_scan(z, f, direction=(1,) * 9)
