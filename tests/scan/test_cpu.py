"""The compiled scan against the point-by-point definition, on random configurations and at the edges."""

from __future__ import annotations

import os
import random
import warnings
from collections.abc import Iterator
from itertools import product
from math import prod

import pytest
import torch
from torch import Tensor

import ndrnn
from ndrnn.cells import Cell, GRUCell, LeakyLSTMCell, LSTMCell, RNNCell, SpatialLSTMCell, StableLSTMCell
from ndrnn.lattice import all_directions, face_points
from ndrnn.nn.layers import ScanLayer
from ndrnn.scan import cpu, operators

CELLS: dict[str, Cell] = {
    "rnn_tanh": RNNCell("tanh"),
    "rnn_relu": RNNCell("relu"),
    "lstm": LSTMCell(),
    "lstm_peephole": LSTMCell(peepholes=True),
    "stable": StableLSTMCell(),
    "leaky": LeakyLSTMCell(),
    "spatial": SpatialLSTMCell(),
    "spatial_extended": SpatialLSTMCell(extended=True),
    "gru": GRUCell(),
}
# A longer run, as under the sanitizers, asks for more.
CONFIGURATIONS = int(os.environ.get("NDRNN_TEST_CONFIGURATIONS", "220"))

pytestmark = pytest.mark.kernels


@pytest.fixture(autouse=True)
def _poisoned_memory() -> Iterator[None]:
    """Fresh memory holds NaN, so that a forgotten write shows."""
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield
    torch.use_deterministic_algorithms(False)


def make_layer(cell: Cell, inputs: int, hidden: int, ndim: int, **options: object) -> ScanLayer:
    """A layer whose parameters are all at work, the neutral ones of the initialisation too, but not chaotic."""
    layer = ScanLayer(cell, inputs, hidden, ndim, dtype=torch.float64, **options)
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.7 / (ndim * hidden) ** 0.5)
    return layer


def faces_of(layer: ScanLayer, batch: int, lattice: tuple[int, ...]) -> tuple[Tensor, ...]:
    return tuple(
        torch.randn(len(layer.directions), batch, *lattice[:k], *lattice[k + 1 :], layer.hidden_size).double()
        for k in range(len(lattice))
    )


def flat(state: object) -> list[Tensor]:
    if state is None:
        return []
    return [state] if isinstance(state, Tensor) else [part for item in state for part in flat(item)]


def outputs_and_gradients(
    backend: str,
    layer: ScanLayer,
    x: Tensor,
    sizes: Tensor | None,
    state: object,
    return_state: bool,
    wanted: list[Tensor],
) -> list[Tensor]:
    """All outputs, and the gradients of a sum over them in which no two elements weigh the same."""
    with ndrnn.backend(backend):
        result = layer(x, sizes, state, return_state)
    outputs = flat(result)
    loss = sum(
        (output * torch.linspace(-1, 1, output.numel(), dtype=output.dtype).view(output.shape).cos()).sum()
        for output in outputs
    )
    if not loss.requires_grad:  # nothing but zeros came out
        return [*outputs, *map(torch.zeros_like, wanted)]
    grads = torch.autograd.grad(loss, wanted, materialize_grads=True)
    return [*(output.detach() for output in outputs), *grads]


class Case:
    """A random configuration."""

    def __init__(self, seed: int) -> None:
        self.rng = rng = random.Random(seed)
        torch.manual_seed(seed)
        self.cell = rng.choice(list(CELLS))
        self.ndim = rng.choices([1, 2, 3, 4, 5], [3, 6, 3, 1, 1])[0]
        most = {1: 70, 2: 14, 3: 5, 4: 3, 5: 2}[self.ndim]
        self.lattice = tuple(rng.choice([1, 2, 3, 5, 7, most]) for _ in range(self.ndim))
        self.lattice = tuple(min(size, most) for size in self.lattice)
        if rng.random() < 0.05:
            axis = rng.randrange(self.ndim)
            self.lattice = (*self.lattice[:axis], 0, *self.lattice[axis + 1 :])
        self.batch = rng.choices([0, 1, 2, 3, 5], [1, 6, 6, 4, 2])[0]
        self.inputs = rng.choice([1, 2, 3, 7, 17, 33])
        self.hidden = rng.choice([1, 2, 5, 8, 15, 16, 17, 25, 32, 33, 47])
        if prod(self.lattice) * self.ndim > 100:
            self.hidden = min(self.hidden, 17)
        every = all_directions(self.ndim)
        self.directions = rng.sample(every, rng.randint(1, min(4, len(every))))
        self.bias, self.ragged = rng.random() < 0.8, rng.random() < 0.4
        self.with_state, self.return_state = rng.random() < 0.5, rng.random() < 0.5
        self.strided = rng.random() < 0.4
        # relu has a kink and grows without bound: only double precision compares well
        self.dtype = torch.float32 if rng.random() < 0.4 and self.cell != "rnn_relu" else torch.float64

    def __repr__(self) -> str:
        return str({name: value for name, value in vars(self).items() if name != "rng"})

    def build(self) -> tuple[ScanLayer, Tensor, Tensor | None, object]:
        layer = make_layer(
            CELLS[self.cell], self.inputs, self.hidden, self.ndim, directions=self.directions, bias=self.bias
        )
        x = torch.randn(self.batch, *self.lattice, self.inputs, dtype=torch.float64)
        if self.strided:
            x = torch.randn(*reversed(self.lattice), self.batch, 2 * self.inputs, dtype=torch.float64)
            x = x[..., ::2].permute(self.ndim, *reversed(range(self.ndim)), -1)
        sizes = None
        if self.ragged:
            extents = [[self.rng.randint(0, size) for size in self.lattice] for _ in range(self.batch)]
            sizes = torch.tensor(extents, dtype=torch.int64).view(self.batch, self.ndim)
        state: object = None
        if self.with_state:
            h = faces_of(layer, self.batch, self.lattice)
            state = (h, faces_of(layer, self.batch, self.lattice)) if layer.cell.memory else h
        return layer, x, sizes, state


@pytest.mark.parametrize("start", range(0, CONFIGURATIONS, 20))
def test_random_configurations(start: int) -> None:
    for seed in range(start, start + 20):
        case = Case(seed)
        layer, x, sizes, state = case.build()
        small = case.batch * prod(case.lattice) * len(case.directions) <= 200
        runs = [("reference" if small else "wavefront", torch.float64), ("cpu", case.dtype)]
        # in single precision the plain backend shows what rounding alone does
        runs += [("wavefront", case.dtype)] * (case.dtype == torch.float32)
        results = []
        for backend, dtype in runs:
            layer.to(dtype)

            def leaf(tensor: Tensor, dtype: torch.dtype = dtype) -> Tensor:
                return tensor.to(dtype).detach().requires_grad_()

            inputs = leaf(x)
            parts = [] if state is None else list(state) if layer.cell.memory else [state]
            parts = [[leaf(face) for face in part] for part in parts]
            given = (parts if layer.cell.memory else parts[0]) if parts else None
            wanted = [inputs, *layer.parameters(), *flat(parts)]
            results.append(
                outputs_and_gradients(backend, layer, inputs, sizes, given, case.return_state, wanted)
            )
            layer.to(torch.float64)
        for index, (exact, got, *plain) in enumerate(zip(*results, strict=True)):
            assert got.shape == exact.shape, (index, case)
            if not exact.numel():
                continue
            scale = float(exact.abs().max().clamp(min=1))
            bound = 8 * float((plain[0] - exact).abs().max()) + 2e-6 * scale if plain else 1e-12 * scale
            error = float((got - exact).abs().max())
            assert error <= bound, (index, error, bound, scale, case)


@pytest.mark.parametrize("ndim", [1, 2, 3])
@pytest.mark.parametrize("cell", CELLS)
def test_gradcheck(cell: str, ndim: int) -> None:
    torch.manual_seed(ndim)
    lattice = {1: (5,), 2: (3, 4), 3: (2, 3, 2)}[ndim]
    ragged = torch.tensor([[max(1, size - 1) for size in lattice], list(lattice)])
    for directions, sizes, with_state in (
        ("all", None, False),
        ([(-1,) * ndim], None, True),
        ([all_directions(ndim)[1]], ragged, True),
    ):
        layer = make_layer(CELLS[cell], 2, 3, ndim, directions=directions)
        names = [name for name, _ in layer.named_parameters()]
        x = torch.randn(2, *lattice, 2, dtype=torch.float64)
        faces = []
        if with_state:
            faces = [
                *faces_of(layer, 2, lattice),
                *(faces_of(layer, 2, lattice) if layer.cell.memory else ()),
            ]

        def run(x: Tensor, *tensors: Tensor, layer=layer, names=names, sizes=sizes) -> tuple[Tensor, ...]:
            weights = dict(zip(names, tensors, strict=False))
            given = tensors[len(names) :]
            state = (given[:ndim], given[ndim:]) if layer.cell.memory else given
            arguments = (x, sizes, state if given else None, True)
            return tuple(flat(torch.func.functional_call(layer, weights, arguments)))

        inputs = [t.detach().requires_grad_() for t in (x, *layer.parameters(), *faces)]
        with ndrnn.backend("cpu"):
            assert torch.autograd.gradcheck(run, inputs, fast_mode=True)


@pytest.mark.parametrize("bidirectional", [False, True])
@pytest.mark.parametrize(
    ("module", "layer"),
    [
        (torch.nn.RNN, ndrnn.MDRNN),
        (torch.nn.LSTM, ndrnn.MDLSTM),
        (torch.nn.LSTM, ndrnn.StableMDLSTM),
        (torch.nn.GRU, ndrnn.MDGRU),
    ],
)
def test_one_axis_is_torch(module: type, layer: type, bidirectional: bool) -> None:
    torch.manual_seed(0)
    theirs = module(6, 19, batch_first=True, bidirectional=bidirectional, dtype=torch.float64)
    ours = layer.from_torch(theirs)
    x = torch.randn(3, 41, 6, dtype=torch.float64)
    x_theirs, x_ours = x.clone().requires_grad_(), x.clone().requires_grad_()
    state = tuple(torch.randn(1 + bidirectional, 3, 19, dtype=torch.float64) for _ in range(2))
    lstm = module is torch.nn.LSTM
    y_theirs, exit_theirs = theirs(x_theirs, state if lstm else state[0])
    with ndrnn.backend("cpu"):
        given = ((state[0],), (state[1],)) if lstm else (state[0],)
        y_ours, exit_ours = ours(x_ours, initial_state=given, return_state=True)
    torch.testing.assert_close(y_ours, y_theirs, rtol=0, atol=1e-12)
    for a, b in zip(flat(exit_ours), flat(exit_theirs), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-12)
    y_theirs.cos().sum().backward()
    y_ours.cos().sum().backward()
    torch.testing.assert_close(x_ours.grad, x_theirs.grad, rtol=0, atol=1e-12)
    for d in range(1 + bidirectional):
        suffix = "_l0" + "_reverse" * d
        for ours_grad, name in (
            (ours.weight_ih.grad[d], "weight_ih"),
            (ours.weight_hh.grad[d, 0], "weight_hh"),
        ):
            wanted = getattr(theirs, name + suffix).grad
            torch.testing.assert_close(ours_grad, wanted, rtol=0, atol=1e-11)


def _training_step(layer: ScanLayer, x: Tensor) -> list[Tensor]:
    with ndrnn.backend("cpu"):
        y = layer(x)
    return [y.detach(), *torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])]


@pytest.mark.parametrize("shape", [(1, 150, 40), (5, 20, 30), (1, 9, 13, 11), (3, 400)])
@pytest.mark.parametrize("directions", ["all", "one"])
def test_threads_and_repetition_change_no_bit(shape: tuple[int, ...], directions: str) -> None:
    torch.manual_seed(0)
    ndim = len(shape) - 1
    layer = make_layer(LSTMCell(), 3, 20, ndim, directions="all" if directions == "all" else [(1,) * ndim])
    x = torch.randn(*shape, 3, dtype=torch.float64, requires_grad=True)
    threads = torch.get_num_threads()
    try:
        runs = []
        for count in (1, 2, 2, 3):
            torch.set_num_threads(count)
            runs.append(_training_step(layer, x))
    finally:
        torch.set_num_threads(threads)
    for run in runs[1:]:
        for a, b in zip(run, runs[0], strict=True):
            assert torch.equal(a, b)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_what_is_not_finite_stays_visible(cell: str, value: float) -> None:
    """NaN and infinity reach the same points as in the definition, in the outputs and in the gradients."""
    torch.manual_seed(0)
    layer = make_layer(CELLS[cell], 2, 5, 2, directions=[(1, -1)])
    x = torch.randn(1, 4, 5, 2, dtype=torch.float64)
    x[0, 1, 3, 0] = value
    x.requires_grad_()
    results = []
    for backend in ("cpu", "reference"):
        with ndrnn.backend(backend):
            y = layer(x)
        results.append((y, torch.autograd.grad(y[0, :, :2].sum(), x)[0]))
    for got, wanted in zip(*results, strict=True):
        assert torch.equal(got.isnan(), wanted.isnan())
        finite = ~wanted.isnan()
        torch.testing.assert_close(got[finite], wanted[finite], rtol=1e-10, atol=1e-12)


def test_large_lattices_keep_to_the_wavefront_backend() -> None:
    torch.manual_seed(0)
    for ndim, lattice in ((2, (131, 37)), (3, (17, 13, 5)), (1, (701,))):
        layer = ndrnn.MDLSTM(2, 6, ndim, dtype=torch.float64)
        x = torch.randn(2, *lattice, 2, dtype=torch.float64, requires_grad=True)
        sizes = torch.tensor([[size - 3 for size in lattice], list(lattice)])
        wanted = [x, *layer.parameters()]
        ours, theirs = (
            outputs_and_gradients(backend, layer, x, sizes, None, True, wanted)
            for backend in ("cpu", "wavefront")
        )
        for got, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-9)


@pytest.mark.parametrize("lattice", [(1024, 1024), (64, 64, 64)])
def test_a_million_points(lattice: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    ndim = len(lattice)
    layer = ndrnn.MDLSTM(1, 4, ndim, directions=[(1,) * ndim, (-1,) * ndim])
    x = torch.randn(1, *lattice, 1)
    y, (_, c_faces) = layer(x, return_state=True)
    y.sum().backward()
    assert all(face.abs().max() < 1e3 for face in c_faces)
    # the last rows must not depend on how the lattice was cut: scan them once more from their boundary
    cut = lattice[0] - 5
    upper = layer(x[:, :cut], return_state=True)[1]
    zeros = [torch.zeros_like(face[:, :, :5] if k else face) for k, face in enumerate(c_faces)]
    h0 = [torch.cat([upper[0][0][:1], zeros[0][1:]]), *zeros[1:]]
    c0 = [torch.cat([upper[1][0][:1], zeros[0][1:]]), *zeros[1:]]
    lower = layer(x[:, cut:], initial_state=(h0, c0))
    torch.testing.assert_close(lower[..., :4], y[:, cut:, ..., :4], rtol=0, atol=1e-6)
    assert layer.weight_hh.grad is not None
    assert layer.weight_hh.grad.isfinite().all()


def test_nothing_is_kept_without_gradients() -> None:
    layer = make_layer(LSTMCell(), 2, 3, 2)
    x = torch.randn(2, 4, 5, 2, dtype=torch.float64)
    arguments = (x, *layer.params, None, None, None, "lstm", [s for d in layer.directions for s in d])
    _, hn, cn, c, kept = operators.scan(*arguments, False, False)
    assert [t.numel() for t in (hn, cn, c, kept)] == [0, 0, 0, 0]
    _, hn, cn, c, kept = operators.scan(*arguments, True, True)
    assert hn.shape == cn.shape == (4, 2, sum(face_points((4, 5))), 3)
    assert c.shape[:3] == (2, 20, 4)
    assert kept.shape[:2] == (160, 5)
    with torch.no_grad():
        assert layer(x).grad_fn is None


def test_second_derivatives_are_refused_with_advice() -> None:
    layer = make_layer(LSTMCell(), 2, 3, 2)
    x = torch.randn(1, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    (grad,) = torch.autograd.grad(layer(x).sin().sum(), x, create_graph=True)
    with pytest.raises(RuntimeError, match="wavefront"):
        grad.sum().backward()


@pytest.mark.filterwarnings(
    "ignore:.*torch.jit.script:DeprecationWarning"
)  # torch's own, when it first needs them
def test_transforms_run_on_the_wavefront_backend_without_a_warning() -> None:
    layer = make_layer(LSTMCell(), 2, 3, 2)
    x = torch.randn(2, 3, 2, 2, dtype=torch.float64)
    out, tangent = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    with ndrnn.backend("wavefront"):
        expected = torch.func.jvp(layer, (x,), (torch.ones_like(x),))
    torch.testing.assert_close((out, tangent), expected)
    each = torch.func.vmap(lambda sample: layer(sample[None])[0])(x)
    torch.testing.assert_close(each, layer(x))
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        pushed = torch.autograd.forward_ad.unpack_dual(layer(dual)).tangent
    torch.testing.assert_close(pushed, tangent)
    torch.func.hessian(lambda x: layer(x).sum())(x[:, :1, :1])


def test_a_cell_of_the_users_own_falls_back_with_one_warning() -> None:
    class Sum(Cell):
        memory = False

        def gates(self, ndim: int) -> tuple[str, ...]:
            return ("a",)

        def step(self, a, u, h, c, extra):  # type: ignore[no-untyped-def]
            return sum(u, a) / 3, None

    layer = ScanLayer(Sum(), 2, 3, 2)
    x = torch.randn(1, 3, 3, 2)
    with pytest.warns(UserWarning, match="no compiled kernels for Sum; the wavefront backend"):
        layer(x)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        layer(x)


@pytest.mark.parametrize("axes", [6, 7, 8, 9])
def test_many_axes(axes: int) -> None:
    torch.manual_seed(0)
    layer = make_layer(GRUCell(), 2, 3, axes, directions=[(1, -1) * (axes // 2) + (1,) * (axes % 2)])
    x = torch.randn(2, *([2] * axes), 2, dtype=torch.float64, requires_grad=True)
    if axes > cpu.MOST_AXES:
        with pytest.warns(UserWarning, match="at most 8 axes"):
            layer(x)
        return
    ours, theirs = (
        outputs_and_gradients(backend, layer, x, None, None, True, [x, *layer.parameters()])
        for backend in ("cpu", "wavefront")
    )
    for got, expected in zip(ours, theirs, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-10, atol=1e-11)


@pytest.mark.parametrize("isa", ["avx512", "avx2", "portable", "sse9"])
def test_instruction_sets(isa: str, tmp_path) -> None:  # type: ignore[no-untyped-def]
    """Every instruction set gives the same scan; an unknown one is refused."""
    import subprocess
    import sys

    torch.manual_seed(0)
    layer, x = (
        make_layer(LSTMCell(), 3, 21, 2),
        torch.randn(2, 9, 8, 3, dtype=torch.float64, requires_grad=True),
    )
    torch.save(
        {"layer": layer.state_dict(), "x": x.detach(), "out": _training_step(layer, x)}, tmp_path / "case"
    )
    script = """
import sys, torch, ndrnn
from ndrnn.scan import operators
case = torch.load(sys.argv[1])
layer = ndrnn.MDLSTM(3, 21, 2, dtype=torch.float64)
layer.load_state_dict(case["layer"])
x = case["x"].requires_grad_()
with ndrnn.backend("cpu"):
    y = layer(x)
assert operators.kernels.isa == sys.argv[2], operators.kernels.isa
for got, wanted in zip([y, *torch.autograd.grad(y.sin().sum(), [x, *layer.parameters()])], case["out"], strict=True):
    torch.testing.assert_close(got, wanted, rtol=0, atol=1e-11)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path / "case"), isa],
        env={**os.environ, "NDRNN_CPU_ISA": isa, "NDRNN_REQUIRE": "", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    if isa == "sse9":
        assert done.returncode != 0
        assert "NDRNN_CPU_ISA must be one of" in done.stderr
    elif "does not support" in done.stderr:
        pytest.skip(f"this processor has no {isa}")
    else:
        assert done.returncode == 0, done.stderr


def test_subsets_of_gradients() -> None:
    """Only what is asked for is computed, and it is the same."""
    torch.manual_seed(0)
    for cell in ("lstm", "gru", "spatial_extended"):
        layer = make_layer(CELLS[cell], 2, 3, 2)
        x = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
        everything = torch.autograd.grad(layer(x).sin().sum(), [x, *layer.parameters()])
        (only_x,) = torch.autograd.grad(layer(x).sin().sum(), [x])
        assert torch.equal(only_x, everything[0])
        layer.requires_grad_(False)
        layer.weight_hh.requires_grad_()
        (only_weight,) = torch.autograd.grad(layer(x.detach()).sin().sum(), [layer.weight_hh])
        assert torch.equal(only_weight, everything[2])


def test_every_combination_of_zero_and_one_sizes() -> None:
    layer = make_layer(LSTMCell(), 2, 3, 2)
    for batch, rows, columns in product((0, 1), repeat=3):
        x = torch.randn(batch, rows, columns, 2, dtype=torch.float64, requires_grad=True)
        h, c = faces_of(layer, batch, (rows, columns)), faces_of(layer, batch, (rows, columns))
        ours, theirs = (
            outputs_and_gradients(backend, layer, x, None, (h, c), True, [x, *layer.parameters()])
            for backend in ("cpu", "wavefront")
        )
        for got, expected in zip(ours, theirs, strict=True):
            torch.testing.assert_close(got, expected, rtol=0, atol=1e-13)
