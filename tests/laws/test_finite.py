"""Finite input and weights give finite outputs, states and gradients, on every backend: what grows saturates."""

import os
import subprocess
import sys

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.testing import assert_close

import ndrnn
from ndrnn.saturation import limit_of

GROWING = ["rnn_relu", "lstm", "lstm_peephole", "spatial", "spatial_extended"]
LATTICES = {1: (40,), 2: (12, 9), 3: (5, 4, 6)}
DTYPES = [torch.float32, torch.float64]


def flat(state):
    if state is None:
        return []
    return [state] if isinstance(state, torch.Tensor) else [part for item in state for part in flat(item)]


def all_of(layer, x, state=None, *, weigh=None):
    """Outputs, exit states and all gradients, by name."""
    x = x.detach().requires_grad_()
    given_faces = [] if state is None else [face.detach().requires_grad_() for face in flat(state)]
    if state is not None:
        n = layer.ndim
        state = (given_faces[:n], given_faces[n:]) if layer.cell.memory else given_faces
    layer.zero_grad()
    results = flat(layer(x, initial_state=state, return_state=True))
    weigh = weigh or (lambda number: 1.0)
    sum((weigh(number) * result).sum() for number, result in enumerate(results)).backward()
    found = {f"result {number}": result.detach() for number, result in enumerate(results)}
    leaves = {"x": x, **dict(layer.named_parameters())}
    leaves |= {f"state {number}": face for number, face in enumerate(given_faces)}
    return found | {
        f"gradient by {name}": torch.zeros_like(leaf) if leaf.grad is None else leaf.grad
        for name, leaf in leaves.items()
    }


def check_finite(found, where=""):
    for name, tensor in found.items():
        assert tensor.isfinite().all(), f"{name} {where}: {tensor.isnan().sum()} NaN of {tensor.numel()}"


def exploding(variant, ndim, dtype, fraction=2.0**-6):
    """A layer whose forget gates are open, on states that come near the limit: a few steps more and they are there."""
    layer = variant(2, 3, ndim, dtype=dtype, directions=[(1,) * ndim, (-1,) * ndim])
    gates = layer.cell.gates(ndim)
    with torch.no_grad():
        for number, gate in enumerate(gates):
            if gate.startswith("f"):
                layer.bias[:, 3 * number : 3 * number + 3] += 4
        if variant.name == "rnn_relu":
            layer.weight_hh.add_(torch.eye(3, dtype=dtype))
    lattice = LATTICES[ndim]
    generator = torch.Generator().manual_seed(ndim)
    x = torch.randn(2, *lattice, 2, generator=generator, dtype=torch.float64).to(dtype)
    limit = layer.cell.limit(dtype) if variant.name in GROWING else 1.0

    def faces(size):
        shapes = [(2, 2, *lattice[:k], *lattice[k + 1 :], 3) for k in range(ndim)]
        return [(size * torch.randn(s, generator=generator, dtype=torch.float64)).to(dtype) for s in shapes]

    state = (faces(1), faces(limit * fraction)) if layer.cell.memory else faces(limit * fraction)
    return layer, x, state


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("ndim", LATTICES)
def test_exploding_states_give_finite_results(backends, variant, ndim, dtype):
    if variant.name not in GROWING:
        pytest.skip("it cannot grow")
    layer, x, state = exploding(variant, ndim, dtype)
    limit, reached = layer.cell.limit(dtype), []
    for backend in ["reference", *backends]:
        with ndrnn.backend(backend):
            found = all_of(layer, x, state)
        check_finite(found, f"on {backend}")
        reached.append(max(float(t.abs().max()) for name, t in found.items() if name.startswith("result")))
    assert max(reached) <= limit
    if ndim > 1 and variant.name != "rnn_relu":
        assert min(reached) == limit


@pytest.mark.parametrize("ndim", LATTICES)
def test_backends_saturate_alike(backends, variant, ndim):
    """To rounding, also in the gradients: where a state stands at its limit none passes."""
    layer, x, state = exploding(variant, ndim, torch.float64)

    def weigh(number):
        return (0.5, -1.0, 2.0, 0.7, -0.3, 1.1, 0.2)[number]

    with ndrnn.backend("reference"):
        wanted = all_of(layer, x, state, weigh=weigh)
    for backend in backends:
        with ndrnn.backend(backend):
            found = all_of(layer, x, state, weigh=weigh)
        for name, tensor in wanted.items():
            scale = max(1.0, float(tensor.abs().max()))
            assert_close(
                found[name] / scale, tensor / scale, rtol=1e-9, atol=1e-12, msg=f"{name} on {backend}"
            )


@pytest.mark.parametrize("backend_name", ["wavefront", "cpu"])
@pytest.mark.parametrize("name", ["MDLSTM", "SpatialLSTM"])
def test_single_precision_is_double_precision_below_the_limit(backends, name, backend_name):
    if backend_name not in backends:
        pytest.skip("not here")
    torch.manual_seed(0)
    layer = getattr(ndrnn, name)(1, 3, 2, directions=[(1, 1)], dtype=torch.float64)
    with torch.no_grad():
        layer.bias[:, 3:9] += 0.7
    x = torch.rand(1, 70, 70, 1, dtype=torch.float64)
    with ndrnn.backend("wavefront"):
        wanted, (_, c) = layer(x, return_state=True)
    with ndrnn.backend(backend_name):
        found, (_, c_found) = layer.float()(x.float(), return_state=True)
    assert max(face.abs().max() for face in c) > 1e6
    assert_close(found.double(), wanted, rtol=0, atol=1e-4)
    for face, face_found in zip(c, c_found, strict=True):
        assert_close(face_found.double(), face, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize(
    ("unit", "last_row", "gradients"),
    [
        (0.5, [0.125, 0.5], [[1.0, 0.0], [3.0, 2.0]]),
        (2.0, [0.5, 1.0], [[0.0, 0.0], [0.0, 1.0]]),  # all but c10 have saturated
    ],
)
def test_a_saturated_memory_by_hand(backends, unit, last_row, gradients):
    """Open gates and no input: a memory is the sum of its two predecessors', and passes on what gradient it gets.

    From above come 1/4 and 1/4, from the left 1/4 and -1/4: c00 = 1/2, c01 = 3/4, c10 = 1/4, c11 = 1 of the unit, which
    is given in limits. The gradients are those of c10 by what comes from above, and of c10 + c11 by what comes from
    the left.
    """
    layer = ndrnn.SpatialLSTM(1, 1, 2, directions=[(1, 1)], dtype=torch.float64)
    limit = limit_of(torch.float64, False)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        layer.bias[0] = torch.tensor([0.0, 60.0, 60.0, 0.0, 0.0])  # i, f1, f2, g, o

    def face(*values):
        return torch.tensor(values, dtype=torch.float64).view(1, 1, 2, 1).requires_grad_()

    above, left = face(0.25, 0.25), face(0.25, -0.25)
    x, h0 = torch.zeros(1, 2, 2, 1, dtype=torch.float64), [face(0, 0), face(0, 0)]
    for backend in ["reference", *backends]:
        with ndrnn.backend(backend):
            c0 = [unit * limit * above, unit * limit * left]
            _, (_, (row, _)) = layer(x, initial_state=(h0, c0), return_state=True)
        found = row.flatten() / limit
        assert_close(found, torch.tensor(last_row, dtype=torch.float64), rtol=1e-12, atol=0)
        scaled = found / unit
        (by_above,) = torch.autograd.grad(scaled[0], above, retain_graph=True)
        (by_left,) = torch.autograd.grad(scaled.sum(), left)
        for got, wanted in zip((by_above, by_left), gradients, strict=True):
            assert_close(got.flatten(), torch.tensor(wanted, dtype=torch.float64), rtol=1e-12, atol=0)


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_exploding_gradients_of_quiet_states_are_finite(backends, variant, dtype):
    """At rest nothing has saturated, while the gradient doubles, or worse, with every step."""
    steps = 400 if dtype == torch.float32 else 900
    layer = variant(1, 2, 1, dtype=dtype, directions=[(1,)])
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.zero_()
        if layer.weight_hh is not None:
            layer.weight_hh.fill_(50)
        layer.weight_ih.fill_(1)
    x = torch.full((1, steps, 1), 1e-9 if variant.name == "rnn_relu" else 0.0, dtype=dtype)
    for backend in backends:
        with ndrnn.backend(backend):
            check_finite(all_of(layer, x), f"on {backend}")


def test_an_overflow_from_outside_stays_visible(backends, variant, normal):
    """A gradient that is infinite already, as scaled losses have it, must not be made a finite one."""
    layer = variant(2, 3, 2)
    x = normal(1, 3, 3, 2).requires_grad_()
    for backend in backends:
        with ndrnn.backend(backend):
            y = layer(x)
        (gradient,) = torch.autograd.grad(y, layer.weight_ih, torch.full_like(y, torch.inf))
        assert not gradient.isfinite().all(), backend


@settings(
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.differing_executors],
)
@given(data=st.data())
def test_large_weights_and_inputs(backends, variant, data):
    ndim = data.draw(st.integers(1, 3))
    dtype = data.draw(st.sampled_from(DTYPES))
    scale = 10.0 ** data.draw(st.integers(-1, 3))
    size = 10.0 ** data.draw(st.integers(-2, 6))
    lattice = {1: (30,), 2: (5, 6), 3: (3, 2, 4)}[ndim]
    torch.manual_seed(data.draw(st.integers(0, 1000)))
    layer = variant(2, 3, ndim, seed=data.draw(st.integers(0, 1000)), scale=scale, dtype=dtype)
    x = size * torch.randn(1, *lattice, 2, dtype=dtype)
    for backend in backends:
        with ndrnn.backend(backend):
            check_finite(all_of(layer, x), f"of {variant.name} on {backend}")


SCRIPT = """
import torch, ndrnn
from ndrnn.scan import operators
for make in (ndrnn.SpatialLSTM, ndrnn.MDLSTM):
    torch.manual_seed(0)
    layer = make(1, 8, 2)
    layer.weight_ih.data.normal_(0, 3)
    x = torch.rand(1, {side}, {side}, 1, requires_grad=True)
    with ndrnn.backend("cpu"):
        y = layer(x)
    y.sum().backward()
    for tensor in (y, x.grad, *(parameter.grad for parameter in layer.parameters())):
        assert tensor.isfinite().all(), (make, tensor.isnan().sum())
print(operators.kernels.isa)
"""


@pytest.mark.kernels
@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable"])
def test_a_layer_that_explodes_on_a_photograph(isa):
    environment = {**os.environ, "NDRNN_CPU_ISA": isa, "NDRNN_REQUIRE": ""}
    script = SCRIPT.format(side=512 if isa == "avx512" else 300)
    done = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, text=True)
    if "does not support" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == isa
