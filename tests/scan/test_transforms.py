"""The layers under PyTorch's transforms, tracers, dtypes and devices."""

import copy

import pytest
import torch
from torch.func import functional_call, hessian, jacrev, jvp, stack_module_state, vjp, vmap
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

import ndrnn


@pytest.fixture(autouse=True)
def fresh_dynamo():
    yield
    torch._dynamo.reset()


def test_jvp_is_the_transpose_of_vjp(backend, variant, normal):
    layer = variant(2, 2, 2)
    x, v = normal(1, 2, 3, 2), normal(1, 2, 3, 2)
    y, forward = jvp(layer, (x,), (v,))
    assert_close(y, layer(x), rtol=1e-13, atol=1e-13)
    u = normal(*y.shape)
    (backward,) = vjp(layer, x)[1](u)
    assert_close((u * forward).sum(), (backward * v).sum(), rtol=1e-12, atol=1e-12)


def test_vmap_over_inputs_sizes_and_parameters(backend, variant, normal):
    layer = variant(2, 2, 2)
    x = normal(3, 2, 2, 3, 2)
    assert_close(vmap(layer)(x), torch.stack([layer(one) for one in x]), rtol=1e-13, atol=1e-13)
    sizes = torch.tensor([[[2, 3], [1, 2]], [[0, 1], [2, 2]], [[1, 1], [2, 0]]])
    expected = torch.stack([layer(one, own) for one, own in zip(x, sizes, strict=True)])
    assert_close(vmap(layer)(x, sizes), expected, rtol=1e-13, atol=1e-13)

    ensemble = [variant(2, 2, 2, seed=seed) for seed in range(3)]
    parameters, _ = stack_module_state(ensemble)
    together = vmap(lambda p: functional_call(layer, p, (x[0],)))(parameters)
    assert_close(together, torch.stack([one(x[0]) for one in ensemble]), rtol=1e-13, atol=1e-13)


def test_per_sample_gradients(backend, normal):
    layer = ndrnn.MDLSTM(2, 3, dtype=torch.float64)
    x = normal(4, 3, 2, 2)
    parameters = dict(layer.named_parameters())

    def loss(p, sample):
        return functional_call(layer, p, (sample[None],)).square().sum()

    together = vmap(torch.func.grad(loss), in_dims=(None, 0))(parameters, x)
    for index, sample in enumerate(x):
        alone = torch.autograd.grad(loss(parameters, sample), list(parameters.values()))
        for got, expected in zip(together.values(), alone, strict=True):
            assert_close(got[index], expected, rtol=1e-11, atol=1e-12)


def test_hessian(backend, normal):
    layer = ndrnn.MDGRU(1, 2, dtype=torch.float64)
    x = normal(1, 2, 2, 1)

    def value(flat):
        return layer(flat.reshape(x.shape)).sin().sum()

    found = hessian(value)(x.flatten())
    assert_close(found, found.T, rtol=1e-11, atol=1e-12)
    step = 1e-5 * torch.eye(4, dtype=torch.float64)
    gradient = jacrev(value)
    numeric = torch.stack([(gradient(x.flatten() + e) - gradient(x.flatten() - e)) / 2e-5 for e in step])
    assert_close(found, numeric, rtol=1e-6, atol=1e-8)


def test_gradient_penalty(backend, normal):
    """A loss of a gradient, as users write it; kernels without a second derivative must say so and not be silent."""
    layer = ndrnn.MDLSTM(2, 2, dtype=torch.float64)
    x = normal(1, 2, 3, 2).requires_grad_()
    (gradient,) = torch.autograd.grad(layer(x).square().sum(), x, create_graph=True)
    if backend != "wavefront":
        with pytest.raises(RuntimeError):
            torch.autograd.grad(gradient.square().sum(), [x])
        return
    (penalty,) = torch.autograd.grad(gradient.square().sum(), x)
    direction = normal(*x.shape)
    shifted = []
    for sign in (1, -1):
        moved = (x + sign * 1e-5 * direction).detach().requires_grad_()
        shifted.append(torch.autograd.grad(layer(moved).square().sum(), moved)[0].square().sum())
    assert_close((penalty * direction).sum(), (shifted[0] - shifted[1]) / 2e-5, rtol=1e-6, atol=1e-8)


def test_compiled_in_one_graph(backend, normal):
    layer = ndrnn.MDLSTM(2, 2, directions=[(1, -1)], dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    sizes = torch.tensor([[2, 2], [1, 2]])
    x = normal(2, 2, 2, 2).requires_grad_()
    inputs = [x, *layer.parameters()]
    expected = layer(x, sizes)
    y = compiled(x, sizes)
    assert_close(y, expected, rtol=1e-13, atol=1e-13)
    weights = normal(*y.shape)
    got = torch.autograd.grad((y * weights).sum(), inputs)
    want = torch.autograd.grad((expected * weights).sum(), inputs)
    for a, b in zip(got, want, strict=True):
        assert_close(a, b, rtol=1e-12, atol=1e-12)


class Operators(TorchDispatchMode):
    """The names of all operators that run."""

    def __init__(self):
        super().__init__()
        self.names = set()

    def __torch_dispatch__(self, function, types, arguments=(), options=None):
        self.names.add(function.overloadpacket.__name__)
        return function(*arguments, **(options or {}))


@pytest.mark.parametrize(
    "layer", [ndrnn.MDLSTM(2, 2), ndrnn.MDLinearRNN(2, 2)], ids=lambda layer: type(layer).__name__
)
def test_plain_steps_neither_copy_from_the_host_nor_wait_for_the_device(layer, normal):
    """A CUDA graph refuses both while it captures."""
    x = normal(1, 2, 3, 2).float().requires_grad_()
    with ndrnn.backend("wavefront"), Operators() as seen:
        layer(x).sum().backward()
    assert "sort" in seen.names
    assert not seen.names & {"lift_fresh", "_to_copy", "_local_scalar_dense", "nonzero"}


def test_compiled_with_states_and_a_choice_of_backend_inside(backend, normal):
    layer = ndrnn.MDLSTM(2, 2, directions=[(-1, 1)], dtype=torch.float64)

    @torch.compile(fullgraph=True, backend="eager")
    def two_tiles(x):
        y, state = layer(x, return_state=True)
        with ndrnn.backend("wavefront"):
            return layer(x, initial_state=state) + y

    x = normal(1, 2, 2, 2)
    y, state = layer(x, return_state=True)
    assert_close(two_tiles(x), layer(x, initial_state=state) + y, rtol=1e-13, atol=1e-13)


def test_a_compiled_layer_follows_the_choice_of_backend(normal):
    graphs = []

    def count(graph, inputs):
        graphs.append(graph)
        return graph.forward

    layer = ndrnn.MDRNN(2, 2, directions=[(1, 1)], dtype=torch.float64)
    compiled = torch.compile(layer, fullgraph=True, backend=count)
    x = normal(1, 2, 2, 2)
    with ndrnn.backend("wavefront"):
        expected = compiled(x)
    with ndrnn.backend("reference"):
        assert_close(compiled(x), expected, rtol=1e-13, atol=1e-13)
    assert len(graphs) == 2


def test_export(backend, normal):
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = ndrnn.MDLSTM(2, 2, directions=[(1, 1), (-1, 1)], dtype=torch.float64)

        def forward(self, x, sizes):
            return self.layer(x, sizes, return_state=True)

    network, sizes = Network(), torch.tensor([[2, 2], [1, 2]])
    program = torch.export.export(network, (normal(2, 2, 2, 2), sizes))
    x = normal(2, 2, 2, 2)
    y, (h, c) = program.module()(x, sizes)
    expected, (expected_h, expected_c) = network(x, sizes)
    assert_close((y, h, c), (expected, expected_h, expected_c), rtol=1e-13, atol=1e-13)


@pytest.mark.parametrize("lowered", [torch.bfloat16, torch.float16])
def test_autocast_lowers_the_output_and_keeps_the_recurrence(backend, variant, lowered, normal):
    layer = variant(2, 3, 2, dtype=torch.float32)
    x = normal(1, 3, 2, 2, dtype=torch.float32)
    full, full_exits = layer(x, return_state=True)
    with torch.autocast("cpu", dtype=lowered):
        y, exits = layer(x, return_state=True)
        again = layer(
            x.to(lowered), initial_state=exits
        )  # lowered inputs and states of full precision go together
    assert y.dtype == again.dtype == lowered
    assert torch.equal(y, full.to(lowered))
    assert all(torch.equal(a, b) for a, b in zip(exits.h, full_exits.h, strict=True))
    y.float().square().sum().backward()
    assert all(parameter.grad.dtype == torch.float32 for parameter in layer.parameters())

    with torch.autocast("cpu", dtype=lowered):
        states = [None if faces is None else [face.to(lowered) for face in faces] for faces in exits]
        assert layer(x, initial_state=ndrnn.State(*states)).dtype == lowered
        doubled = copy.deepcopy(layer).double()
        assert doubled(x.double()).dtype == torch.float64  # as torch's layers: autocast leaves float64 alone


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_layers(variant, dtype, normal):
    layer = variant(2, 3, 2, dtype=dtype)
    x = normal(1, 3, 2, 2, dtype=dtype)
    with ndrnn.backend("wavefront"):
        y = layer(x)
        y.sum().backward()
    assert y.dtype == dtype
    assert all(
        parameter.grad.dtype == dtype and parameter.grad.isfinite().all() for parameter in layer.parameters()
    )


def test_meta_and_fake_tensors(variant):
    layer = variant.make(2, 3, device="meta")
    y, exits = layer(torch.empty(2, 4, 5, 2, device="meta"), return_state=True)
    assert y.is_meta
    assert y.shape == (2, 4, 5, layer.output_size)
    faces = exits.c if layer.cell.memory else exits.h
    directions = len(layer.directions)
    assert [face.shape for face in faces] == [(directions, 2, 5, 3), (directions, 2, 4, 3)]
    sizes = torch.empty(2, 2, dtype=torch.int64, device="meta")
    assert layer(torch.empty(2, 4, 5, 2, device="meta"), sizes).shape == y.shape
    with torch._subclasses.FakeTensorMode(), ndrnn.backend("wavefront"):
        fake = variant.make(2, 3)
        sizes = torch.ones(2, 2, dtype=torch.int64)
        assert fake(torch.empty(2, 4, 5, 2), sizes).shape == y.shape


def test_one_input_and_layer_many_times_in_one_graph(backend, normal):
    """Shared weights gather their gradients over all uses."""
    layer = ndrnn.StableMDLSTM(2, 2, directions=[(1, 1)], dtype=torch.float64)
    x = normal(1, 2, 3, 2)
    once = torch.autograd.grad(layer(x).sum(), list(layer.parameters()))
    thrice = torch.autograd.grad(sum(layer(x).sum() for _ in range(3)), list(layer.parameters()))
    for a, b in zip(once, thrice, strict=True):
        assert_close(3 * a, b, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("frozen", ["weight_ih", "weight_hh", "bias", "weight_peephole", "all"])
def test_frozen_parameters(backend, frozen, normal):
    layer = ndrnn.MDLSTM(2, 2, peepholes=True, dtype=torch.float64)
    x = normal(1, 2, 3, 2).requires_grad_()
    expected = dict(
        zip(
            ["x", *dict(layer.named_parameters())],
            torch.autograd.grad(layer(x).square().sum(), [x, *layer.parameters()]),
            strict=True,
        )
    )
    for name, parameter in layer.named_parameters():
        parameter.requires_grad_(name != frozen and frozen != "all")
    layer(x).square().sum().backward()
    assert_close(x.grad, expected["x"], rtol=1e-12, atol=1e-12)
    for name, parameter in layer.named_parameters():
        if parameter.requires_grad:
            assert_close(parameter.grad, expected[name], rtol=1e-12, atol=1e-12)
        else:
            assert parameter.grad is None


def test_inputs_are_left_as_they_were(backend, variant, normal, random_state):
    layer = variant(2, 2, 2)
    x = normal(2, 3, 2, 2)
    state, sizes = random_state(layer, x), torch.tensor([[3, 1], [2, 2]])
    before = copy.deepcopy((x, state, sizes, layer.state_dict()))
    layer(x, sizes, state).sum().backward()
    assert_close((x, state, sizes, layer.state_dict()), before, rtol=0, atol=0)


@pytest.fixture(params=[False, 2], ids=["whole", "in_strips"])
def recomputing(request):
    return ndrnn.MDLSTM(2, 3, 2, recompute=request.param, dtype=torch.float64)


@pytest.mark.filterwarnings(
    "ignore:`torch.jit.script` is deprecated:DeprecationWarning"
)  # torch's own use of it
def test_whatever_the_backend_in_force_cannot_serve_another_does(recomputing, normal):
    """Functional transforms, forward mode and tracing, of layers that recompute too, with nothing said or chosen."""
    layer, x, v = recomputing, normal(2, 3, 4, 2), normal(2, 3, 4, 2)
    with ndrnn.backend("wavefront"):
        plain = ndrnn.MDLSTM(2, 3, 2, dtype=torch.float64)
        plain.load_state_dict(layer.state_dict())
        y, tangent = jvp(plain, (x,), (v,))
        gradient = torch.func.grad(lambda x: plain(x).square().sum())(x)
        jacobian = jacrev(plain)(x)

    def same(a, b):
        assert_close(a, b, rtol=1e-11, atol=1e-12)

    same(vmap(layer)(x[None])[0], y)
    same(jvp(layer, (x,), (v,))[1], tangent)
    same(torch.func.grad(lambda x: layer(x).square().sum())(x), gradient)
    same(jacrev(layer)(x), jacobian)
    same(torch.func.jacfwd(layer)(x), jacobian)
    same(torch.func.functionalize(layer)(x), y)
    for options in ({}, {"vectorize": True}, {"vectorize": True, "strategy": "forward-mode"}):
        same(torch.autograd.functional.jacobian(layer, x, **options), jacobian)
    same(torch.fx.experimental.proxy_tensor.make_fx(layer)(x)(x), y)


@pytest.mark.parametrize("turned", [False, True])
def test_several_gradients_at_once_through_recomputation(turned, normal, random_state):
    """All directions, boundary states and exits: each at its place, also where the directions come in odd orders."""
    directions = [(1, -1), (-1, 1), (1, 1)] if turned else "all"
    layer = ndrnn.MDLSTM(2, 3, 2, recompute=2, directions=directions, dtype=torch.float64)
    x = normal(1, 3, 4, 2).requires_grad_()
    state = [[face.requires_grad_() for face in faces] for faces in random_state(layer, x)]
    y, (h, c) = layer(x, initial_state=state, return_state=True)
    outputs, inputs = [y, *h, *c], [x, *state[0], *state[1], *layer.parameters()]
    weights = [normal(2, *output.shape) for output in outputs]
    together = torch.autograd.grad(outputs, inputs, weights, is_grads_batched=True, retain_graph=True)
    for index in range(2):
        alone = torch.autograd.grad(outputs, inputs, [w[index] for w in weights], retain_graph=True)
        for a, b in zip(together, alone, strict=True):
            assert_close(a[index], b, rtol=1e-11, atol=1e-12)
