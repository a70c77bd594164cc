"""The Triton backend against the reference: on a GPU where there is one, else under Triton's interpreter.

Without a GPU these tests are skipped here and run by ``test_triton_interpreted.py``, in a process of their own.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
import torch
from torch import Tensor

import ndrnn
from ndrnn.cells import LSTMCell, Params, RNNCell
from ndrnn.lattice import all_directions, face_points
from ndrnn.nn.layers import ScanLayer
from ndrnn.scan import triton as package
from ndrnn.scan.dispatch import scan

if package.refusal() is not None:
    pytest.skip(str(package.refusal()), allow_module_level=True)

import triton

from ndrnn.scan.triton import launch, walk, wide
from ndrnn.scan.triton.plan import CELLS, Chip, Shape, plan
from ndrnn.scan.triton.problem import Problem

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")

pytestmark = pytest.mark.usefixtures("poisoned")

DEVICE = "cpu" if package.INTERPRETED else "cuda"
on_gpu = pytest.mark.skipif(package.INTERPRETED, reason="takes a GPU")

# small, and yet with several strips, wavefronts and tiles; of the directions, two that differ on every axis
LATTICES = {1: (3,), 2: (3, 2), 3: (2, 2, 2)}
HIDDEN, INPUTS, BATCH = 5, 3, 6

NAMES = ("y", "hn", "cn", "dx", "dweight_ih", "dweight_hh", "dbias", "dextra", "dh0", "dc0")


@pytest.fixture
def fronts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole wavefronts in tiles, as many units and points have them, instead of strips."""
    monkeypatch.setenv(wide.CHOICE, "fronts")


@pytest.fixture
def recurrent(variant: Any) -> Any:
    """Every cell but the linear ones, whose kernels have tests of their own, see ``tests/linear``."""
    if variant.name.startswith("linear"):
        pytest.skip("tests/linear has its kernels")
    return variant


@pytest.fixture
def make() -> Callable[[str], Any]:
    classes: dict[str, Callable[..., ScanLayer]] = {
        "rnn": ndrnn.MDRNN,
        "lstm": ndrnn.MDLSTM,
        "lstm_peephole": partial(ndrnn.MDLSTM, peepholes=True),
        "leaky": ndrnn.LeakyMDLSTM,
        "stable": ndrnn.StableMDLSTM,
        "spatial_extended": partial(ndrnn.SpatialLSTM, extended=True),
        "gru": ndrnn.MDGRU,
    }

    def build(name: str) -> Any:
        def layer(*shape: int, scale: float = 0.5, **options: Any) -> ScanLayer:
            made = classes[name](*shape, dtype=torch.float64, **options)
            generator = torch.Generator().manual_seed(0)
            with torch.no_grad():
                for parameter in made.parameters():
                    parameter.copy_(
                        scale * torch.randn(parameter.shape, generator=generator, dtype=torch.float64)
                    )
            return made

        return layer

    return build


class Case:
    """A scan with random weights, inputs and gradients: all in float64, brought to a dtype and device for each run."""

    def __init__(
        self,
        layer: ScanLayer,
        lattice: Sequence[int],
        batch: int = BATCH,
        *,
        sizes: Tensor | None = None,
        state: bool = False,
        exits: bool = False,
        seed: int = 2,
    ) -> None:
        generator = torch.Generator().manual_seed(seed)

        def draw(*shape: int) -> Tensor:
            return torch.randn(shape, generator=generator, dtype=torch.float64)

        self.layer, self.sizes, self.exits = layer, sizes, exits
        count, hidden = len(layer.directions), layer.hidden_size
        faces = (count, batch, sum(face_points(lattice)), hidden)
        memory = layer.cell.memory
        self.x = draw(batch, *lattice, layer.input_size)
        self.state = (draw(*faces), draw(*faces) if memory else None) if state else (None, None)
        self.grads = [draw(batch, *lattice, count, hidden)]
        if exits:
            self.grads += [draw(*faces)] + ([draw(*faces)] if memory else [])

    def run(
        self, backend: Any, dtype: torch.dtype = torch.float64, device: str = DEVICE
    ) -> dict[str, Tensor]:
        """Outputs and gradients, by name."""

        def leaf(tensor: Tensor | None) -> Tensor | None:
            return None if tensor is None else tensor.detach().to(device, dtype).requires_grad_()

        x, params = leaf(self.x), Params(*map(leaf, self.layer.params))  # type: ignore[arg-type]
        h0, c0 = map(leaf, self.state)
        sizes = None if self.sizes is None else self.sizes.to(device)
        with ndrnn.backend(backend):
            y, exits = scan(
                self.layer.cell,
                x,  # type: ignore[arg-type]
                params,
                self.layer.directions,
                sizes,
                None if h0 is None else (h0, c0),
                return_state=self.exits,
            )
            results = {"y": y}
            if exits is not None:
                results |= {
                    name: exit for name, exit in zip(("hn", "cn"), exits, strict=True) if exit is not None
                }
            leaves = {
                name: tensor
                for name, tensor in zip(NAMES[3:], (x, *params, h0, c0), strict=True)
                if tensor is not None
            }
            grads = torch.autograd.grad(
                list(results.values()),
                list(leaves.values()),
                [grad.to(device, dtype) for grad in self.grads],
                # not all that a linear cell is given enters
                materialize_grads=True,
            )
        results |= dict(zip(leaves, grads, strict=True))
        return {name: tensor.detach().double().cpu() for name, tensor in results.items()}


def error(got: Tensor, expected: Tensor) -> float:
    """Of a tensor as a whole, relative."""
    if not expected.numel():
        return 0.0
    return ((got - expected).norm() / expected.norm().clamp(min=1e-30)).item()


def assert_conforms(
    case: Case, tolerance: float, dtype: torch.dtype = torch.float64, oracle: str = "reference"
) -> None:
    expected, got = case.run(oracle, device="cpu"), case.run("triton", dtype)
    assert expected.keys() == got.keys()
    errors = {name: error(got[name], expected[name]) for name in expected}
    # nan compares as false
    wrong = {name: value for name, value in errors.items() if not value <= tolerance}
    assert not wrong, f"relative errors above {tolerance}: {wrong}"


def ragged(lattice: Sequence[int], batch: int = BATCH) -> Tensor:
    """Extents of samples from whole to empty, the first of them whole."""
    full = torch.tensor(lattice)
    shorter = [full, full - torch.arange(len(lattice)).remainder(2), full - 1, full.clone(), full.clone()]
    shorter[3][0], shorter[4][-1] = 0, 1
    return torch.stack([shorter[sample % 5] for sample in range(batch)])


def test_ragged_tiles_conform(recurrent: Any) -> None:
    """Every cell with everything at once: ragged samples, empty ones among them, states in and out, all gradients."""
    layer = recurrent(INPUTS, HIDDEN, 2, directions=[(1, -1), (-1, 1)])
    case = Case(layer, LATTICES[2], sizes=ragged(LATTICES[2]), state=True, exits=True)
    assert_conforms(case, 1e-12)


@pytest.mark.parametrize("ndim", [1, 3])
@pytest.mark.parametrize(
    "name",
    [
        "rnn",
        pytest.param("lstm", marks=pytest.mark.slow),  # with peepholes it is all of this and more
        "lstm_peephole",
        "leaky",
        "stable",
        "spatial_extended",
        "gru",
    ],
)
def test_ragged_tiles_of_other_lattices_conform(make: Callable[[str], Any], name: str, ndim: int) -> None:
    """The same, and of three axes one direction, another one for each cell."""
    corner = random.Random(name).choice(all_directions(3))
    layer = make(name)(INPUTS, HIDDEN, ndim, directions=[corner] if ndim == 3 else [(-1,), (1,)])
    case = Case(layer, LATTICES[ndim], sizes=ragged(LATTICES[ndim]), state=True, exits=True)
    assert_conforms(case, 1e-12)


def test_whole_wavefronts_conform(recurrent: Any, fronts: None) -> None:
    """Every cell with everything at once, and two groups of samples."""
    layer = recurrent(INPUTS, HIDDEN, 2, directions=[(-1, 1)])
    assert_conforms(Case(layer, (2, 2), 2, sizes=ragged((2, 2), 2), state=True, exits=True), 1e-12)


@pytest.mark.parametrize(
    ("name", "lattice", "directions"),
    [("lstm_peephole", (3,), [(-1,), (1,)]), ("gru", (2, 1, 2), [(-1, 1, -1)])],
    ids=str,
)
def test_whole_wavefronts_of_other_lattices_conform(
    make: Callable[[str], Any],
    name: str,
    lattice: Any,
    directions: Any,
    fronts: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Three groups of samples, the last of them smaller; of one axis, with more inputs than tiles multiply themselves."""
    if len(lattice) == 1:
        monkeypatch.setattr(wide, "MOST_INPUTS", INPUTS - 1)
    layer = make(name)(INPUTS, HIDDEN, len(lattice), directions=directions)
    assert_conforms(Case(layer, lattice, 5, sizes=ragged(lattice, 5), state=True, exits=True), 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize("ndim", [1, 2, 3])
def test_whole_wavefronts_of_every_kind_conform(recurrent: Any, ndim: int, fronts: None) -> None:
    directions = all_directions(ndim)[1:] if ndim < 3 else all_directions(3)[3:5]
    layer = recurrent(INPUTS, HIDDEN, ndim, directions=directions)
    lattice = {1: (5,), 2: (4, 5), 3: (2, 3, 2)}[ndim]
    assert_conforms(Case(layer, lattice, sizes=ragged(lattice), state=True, exits=True), 1e-12)
    assert_conforms(Case(layer, lattice, 5), 2e-6, torch.float32)


def test_plain_scan_conforms_in_single_precision(recurrent: Any) -> None:
    """Whole samples, no states in or out, no bias."""
    case = Case(recurrent(INPUTS, HIDDEN, 2, directions=[(-1, 1)], bias=False), (3, 2), seed=3)
    assert_conforms(case, 2e-6, torch.float32)


@pytest.mark.parametrize(("name", "hidden"), [("lstm_peephole", 16), ("gru", 40), ("spatial_extended", 40)])
def test_units_of_several_blocks(make: Callable[[str], Any], name: str, hidden: int) -> None:
    """As many hidden units as fill a block, and more than one block holds, the last one in part."""
    layer = make(name)(INPUTS, hidden, 2, directions=[(1, -1)], scale=0.2)
    assert_conforms(Case(layer, (2, 2), 3, state=True, exits=True), 1e-12)


@pytest.mark.parametrize(
    "tile", [{"M": 64, "BU": 64, "BK": 16}, {"M": 32, "BU": 32, "BK": 32, "resident": True}], ids=str
)
@pytest.mark.parametrize("name", ["gru", "lstm"])
def test_tiles_as_large_problems_have_them(
    make: Callable[[str], Any], name: str, tile: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = launch._plan
    monkeypatch.setattr(launch, "_plan", lambda *problem, **way: replace(cut(*problem, **way), **tile))
    case = Case(make(name)(INPUTS, 20, 2, directions=[(1, -1)], scale=0.2), (2, 2), 3, exits=True)
    assert_conforms(case, 1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(
    "tile",
    [{"M": 64, "BU": 16, "BK": 16, "BO": 32}, {"M": 32, "BU": 32, "BK": 32, "resident": True}],
    ids=str,
)
@pytest.mark.parametrize("name", ["gru", "spatial_extended"])
def test_tiles_of_wavefronts_as_large_problems_have_them(
    make: Callable[[str], Any], name: str, tile: dict[str, Any], fronts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = launch._plan
    tile = tile | {"resident": "resident" in tile and name == "gru"}

    def changed(problem: Any, x: Tensor, backward: bool = False) -> Any:
        # weights that stay in shared memory are laid out by the whole of the predecessors' units, or by gates
        changes = {**tile, "BO": 64} if tile["resident"] else tile
        return replace(cut(problem, x, backward), **changes)

    monkeypatch.setattr(launch, "_plan", changed)
    case = Case(make(name)(INPUTS, 20, 2, directions=[(1, -1)], scale=0.2), (2, 2), 3, exits=True)
    assert_conforms(case, 1e-12)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_weights_split_in_high_and_low_bits(
    make: Callable[[str], Any], name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Float32 on tensor cores; the interpreter multiplies whole numbers, and shows that the parts come together."""
    monkeypatch.setattr(launch, "_precision", lambda *given: "tf32x3")
    case = Case(make(name)(INPUTS, 20, 2, directions=[(1, -1)], scale=0.2), (3, 2), 4, state=True, exits=True)
    assert_conforms(case, 2e-6, torch.float32)


def test_high_bits_are_those_of_tf32() -> None:
    weights = torch.randn(1000, generator=torch.Generator().manual_seed(0))
    weights[:3] = torch.tensor([torch.inf, -torch.inf, 0])
    high, low = launch._stacked(weights)
    assert torch.equal(high + low, weights)
    assert not (high.view(torch.int32) & 0x1FFF).any()
    assert (low[3:].abs() <= weights[3:].abs() * 2**-11).all()


@pytest.mark.parametrize(
    ("name", "dtype", "sweep"),
    [(name, torch.bfloat16, "strips") for name in ("rnn", "lstm", "leaky", "spatial_extended", "gru")]
    + [(name, torch.float16, "strips") for name in ("lstm", "gru")]
    + [("lstm", torch.bfloat16, "fronts")]
    + [
        pytest.param(name, dtype, "fronts", marks=pytest.mark.slow)
        for name, dtype in (("gru", torch.bfloat16), ("stable", torch.float16))
    ],
    ids=str,
)
def test_half_precision_is_no_worse_than_twice_plain_pytorch(
    make: Callable[[str], Any],
    name: str,
    dtype: torch.dtype,
    sweep: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv(wide.CHOICE, sweep)
    case = Case(
        make(name)(INPUTS, HIDDEN, 2, directions=[(1, 1)], scale=0.3), (3, 2), 4, state=True, exits=True
    )
    # what all runs read is the same
    for parameter in case.layer.parameters():
        parameter.data = parameter.data.to(dtype).double()
    case.x, *case.grads = (tensor.to(dtype).double() for tensor in (case.x, *case.grads))
    case.state = tuple(None if face is None else face.to(dtype).double() for face in case.state)  # type: ignore
    exact, plain, got = (
        case.run("wavefront", device="cpu"),
        case.run("wavefront", dtype),
        case.run("triton", dtype),
    )
    for name, expected in exact.items():
        ours, theirs = error(got[name], expected), error(plain[name], expected)
        assert ours <= 2 * theirs + torch.finfo(dtype).eps / 4, name


def test_without_gradients_nothing_differs(make: Callable[[str], Any]) -> None:
    for name in ("gru", "lstm"):
        case = Case(make(name)(INPUTS, HIDDEN, 2, directions=[(1, 1)]), (3, 2))
        layer, x = case.layer.to(DEVICE), case.x.to(DEVICE)
        with ndrnn.backend("triton"):
            with_gradients = layer(x).detach()
            with torch.no_grad():
                assert torch.equal(layer(x), with_gradients)


@pytest.mark.parametrize("sweep", ["strips", pytest.param("fronts", marks=pytest.mark.slow)])
def test_runs_repeat_bit_for_bit(
    make: Callable[[str], Any], sweep: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(wide.CHOICE, sweep)
    case = Case(
        make("lstm_peephole")(INPUTS, HIDDEN, 2, directions=[(1, -1)]),
        (3, 2),
        sizes=ragged((3, 2)),
        state=True,
        exits=True,
    )
    first, second = (case.run("triton", torch.float32) for _ in range(2))
    for name, value in first.items():
        assert torch.equal(value, second[name]), name


def test_gradcheck_of_the_kernels(make: Callable[[str], Any]) -> None:
    """Of all that comes out by all that enters, each as one vector: one more would cost more scans."""
    case = Case(make("lstm_peephole")(2, 2, 2, directions=[(1, -1)]), (2, 2), 1, state=True, exits=True)
    given = [
        tensor.detach().to(DEVICE)
        for tensor in (case.x, *case.state, *case.layer.params)
        if tensor is not None
    ]

    def run(vector: Tensor) -> Tensor:
        parts = vector.split([tensor.numel() for tensor in given])
        x, h0, c0, *weights = (part.view_as(tensor) for part, tensor in zip(parts, given, strict=True))
        y, state = scan(
            case.layer.cell, x, Params(*weights), case.layer.directions, None, (h0, c0), return_state=True
        )
        assert state is not None
        return torch.cat([tensor.flatten() for tensor in (y, *state)])  # type: ignore[arg-type]

    vector = torch.cat([tensor.flatten() for tensor in given]).requires_grad_()
    with ndrnn.backend("triton"):
        assert torch.autograd.gradcheck(run, (vector,), fast_mode=True)


@pytest.mark.parametrize("shape", [(0, 2, 2), (2, 0, 2), (2, 2, 0)], ids=str)
def test_nothing_to_scan(make: Callable[[str], Any], shape: tuple[int, ...]) -> None:
    batch, *lattice = shape
    for name in ("lstm", "gru"):
        case = Case(
            make(name)(INPUTS, HIDDEN, 2, directions=[(-1, 1)]), lattice, batch, state=True, exits=True
        )
        assert_conforms(case, 0.0, oracle="wavefront")


def test_inputs_of_any_layout(make: Callable[[str], Any]) -> None:
    layer = make("lstm")(INPUTS, HIDDEN, 2, directions=[(1, 1)]).to(DEVICE)
    x = torch.randn(2, INPUTS, 3, 2, dtype=torch.float64, device=DEVICE)
    with ndrnn.backend("triton"):
        assert torch.equal(layer(x.movedim(1, -1)), layer(x.movedim(1, -1).contiguous()))


def test_axes_beyond_three_fall_back() -> None:
    layer = ndrnn.MDLSTM(2, 2, 4, directions=[(1, 1, 1, 1)]).to(DEVICE)
    x = torch.randn(1, 2, 2, 1, 1, 2, device=DEVICE)
    with (
        ndrnn.backend("triton"),
        pytest.warns(UserWarning, match="at most 3 axes, not 4; the wavefront backend runs instead"),
    ):
        y = layer(x)
    with ndrnn.backend("wavefront"):
        assert torch.equal(y, layer(x))


def test_reasons_are_named() -> None:
    params = Params(*(torch.zeros(1, 4, 4, device=DEVICE),) * 2, None, None)
    x = torch.zeros(1, 2, 4, device=DEVICE)

    class Own(RNNCell):
        kernel = None  # type: ignore[assignment]

    assert package.refusal_of(LSTMCell(), x, params) is None
    assert "no triton kernels for Own" in str(package.refusal_of(Own(), x, params))
    assert "throughout, not torch.bfloat16" in str(package.refusal_of(LSTMCell(), x.bfloat16(), params))
    assert "not meta tensors" in str(package.refusal_of(LSTMCell(), x.to("meta"), params))


def test_second_derivatives_are_refused(make: Callable[[str], Any]) -> None:
    layer = make("rnn")(2, 2, 1, directions=[(1,)]).to(DEVICE)
    x = torch.randn(1, 2, 2, dtype=torch.float64, device=DEVICE, requires_grad=True)
    with ndrnn.backend("triton"):
        (grad,) = torch.autograd.grad(layer(x).sum(), x, create_graph=True)
        with pytest.raises(RuntimeError, match=r"ndrnn\.backend\('wavefront'\)"):
            grad.sum().backward()


@pytest.mark.parametrize(("name", "dtype"), [("lstm", torch.bfloat16), ("gru", torch.float64)], ids=str)
def test_operators_obey_their_contract(make: Callable[[str], Any], name: str, dtype: torch.dtype) -> None:
    from ndrnn.scan.triton import operators

    case = Case(make(name)(2, 3, 1, directions=[(-1,)]), (2,), 2, state=True)
    tensors = [
        None if tensor is None else tensor.detach().to(DEVICE, dtype).requires_grad_()
        for tensor in (case.x, *case.layer.params, None, *case.state)
    ]
    tests = ["test_schema", "test_autograd_registration", "test_faketensor", "test_aot_dispatch_static"]
    for exits, keep in ((True, True), (False, False)):
        torch.library.opcheck(
            operators.scan,
            (*tensors, case.layer.cell.kernel, 1, exits, keep),
            test_utils=tests[: 4 if keep else 3],
        )


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_gradients_of_exits_that_are_not_there(make: Callable[[str], Any], name: str) -> None:
    """Exits that nobody asked for are empty; so are their gradients, wherever autograd makes zeros of them."""
    from ndrnn.scan.triton import operators

    case = Case(make(name)(2, 3, 1, directions=[(-1,)]), (3,), 2)
    given = [
        None if tensor is None else tensor.detach().to(DEVICE)
        for tensor in (case.x, *case.layer.params, None, *case.state)
    ]
    cell = case.layer.cell.kernel
    y, hn, cn, *kept = operators.scan(*given, cell, 1, False, True)
    assert hn.numel() == cn.numel() == 0
    dy = case.grads[0].to(DEVICE)
    wanted = [tensor is not None for tensor in (*given[:5], *given[6:])]
    absent, empty = (
        operators.scan_backward(dy, *grads, *given, y, *kept, cell, 1, wanted)
        for grads in ((None, None), (hn.clone(), cn.clone()))
    )
    for a, b in zip(absent, empty, strict=True):
        assert torch.equal(a, b)


def test_orders_of_points_are_few_and_each_streams_own() -> None:
    from ndrnn.scan.triton import plan as plans

    device = torch.device("cpu")
    plans._kept_order.cache_clear()
    order = plans.order_of_others((9, 2, 3), device)
    assert order is not None
    # at the distances 0 to 3 lie the points 0; 1 and 3; 2 and 4; 5
    assert order.tolist() == [0, 1, 3, 5, 6, 0, 1, 3, 2, 4, 5]
    assert plans.order_of_others((4, 2, 3), device) is order
    assert plans._kept_order((2, 3), device, 1) is not order
    for extent in range(200):
        plans.order_of_others((2, 2, extent + 1), device)
    assert plans._kept_order.cache_info().currsize <= 64


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["fp32", "fp64"])
@pytest.mark.filterwarnings(
    "ignore:overflow encountered:RuntimeWarning"
)  # of the interpreter; it is limited next
@pytest.mark.parametrize("name", ["lstm_peephole", "spatial_extended", "relu"])
def test_what_grows_saturates_as_in_the_definition(
    make: Callable[[str], Any], name: str, dtype: torch.dtype
) -> None:
    """Finite input gives finite outputs and gradients; see also ``tests/laws/test_finite.py``."""
    if name == "relu":
        layer = ndrnn.MDRNN(2, 2, 2, nonlinearity="relu", directions=[(1, -1)], dtype=torch.float64)
        with torch.no_grad():
            layer.weight_hh.copy_(torch.eye(2))
    else:
        layer = make(name)(2, 2, 2, directions=[(1, -1)])
        with torch.no_grad():
            layer.bias[:, 2:6] += 5  # the forget gates
            if name == "lstm_peephole":
                layer.weight_peephole[:, 1:3] = 0
            else:
                layer.weight_ch[:, :, 2:6] = 0
    case = Case(layer, (2, 3), 2, state=True, exits=True)
    limit = layer.cell.limit(dtype)
    size = limit / 2
    case.state = (
        (case.state[0], case.state[1] * size) if name != "relu" else (case.state[0].abs() * size, None)
    )
    wanted, found = case.run("reference", dtype, "cpu"), case.run("triton", dtype)
    assert max(float(tensor.abs().max()) for tensor in (found["hn"], found.get("cn", found["hn"]))) == limit
    for result, expected in wanted.items():
        assert found[result].isfinite().all(), result
        scale = max(1.0, float(expected.abs().max()))
        torch.testing.assert_close(
            found[result] / scale, expected / scale, rtol=1e-4, atol=1e-5, msg=f"{result} of {name}"
        )


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")
def test_compiles_without_a_break(make: Callable[[str], Any]) -> None:
    layer = make("lstm")(2, 3, 2, directions=[(1, -1)]).to(DEVICE)
    x = torch.randn(2, 2, 2, 2, dtype=torch.float64, device=DEVICE)
    with ndrnn.backend("triton"):
        compiler = "aot_eager" if package.INTERPRETED else "inductor"
        compiled = torch.compile(layer, fullgraph=True, backend=compiler)
        grads = []
        for run in (layer, compiled):
            layer.zero_grad()
            (run(x) ** 2).sum().backward()
            grads.append(layer.weight_hh.grad)
    torch.testing.assert_close(grads[1], grads[0])


@triton.jit
def waits_kernel(p_before, p_after, strips, rows, extent, reach):  # type: ignore[no-untyped-def]
    """needed_before and needed_after of every strip and wavefront, (strips, rows + reach)."""
    i_strip = 0
    while i_strip < strips:
        t = 0
        while t < rows + reach:
            o = i_strip * (rows + reach) + t
            triton.language.store(p_before + o, walk.needed_before(t, i_strip, rows, reach))
            triton.language.store(p_after + o, walk.needed_after(t, i_strip, strips, rows, extent, reach))
            t += 1
        i_strip += 1


@pytest.mark.parametrize(("extent", "rows", "reach"), [(5, 2, 3), (6, 3, 0), (4, 1, 2), (3, 3, 1)])
def test_strips_wait_for_just_what_they_need(extent: int, rows: int, reach: int) -> None:
    """Running one after the other, programs would not show that they wait too little, or for what never comes."""
    strips = -(-extent // rows)
    before, after = torch.full((2, strips, rows + reach), -1, dtype=torch.int32, device=DEVICE)
    waits_kernel[(1,)](before, after, strips, rows, extent, reach)
    heights = [min(rows, extent - strip * rows) for strip in range(strips)]
    for strip, height in enumerate(heights):
        for t in range(height + reach):
            # points of a row on wavefront t lie at the distance t - row from the corner of the other axes
            needs = [t - row for row in range(height) if 0 <= t - row <= reach]
            above = [d + rows for d in needs if strip > 0 and t - d == 0]
            assert before[strip, t].item() == max(above, default=0)
            below = [
                heights[strip + 1] + reach - d for d in needs if strip + 1 < strips and t - d == height - 1
            ]
            assert after[strip, t].item() == max(below, default=0)


@pytest.mark.parametrize("cell", CELLS)
def test_plans_cover_the_lattice(cell: str) -> None:
    chance = random.Random(cell)
    for _ in range(300):
        ndim = chance.randint(1, 3)
        lattice, batch = tuple(chance.randint(1, 300) for _ in range(ndim)), chance.randint(1, 200)
        hidden, directions = chance.randint(1, 300), chance.randint(1, 2**ndim)
        itemsize, precision = chance.choice(((2, "ieee"), (4, "tf32"), (4, "tf32x3"), (8, "ieee")))
        chip = Chip(chance.choice((1, 132)), chance.choice((99, 227)) * 1024)
        cut = plan(Shape(cell, ndim), hidden, batch, lattice, directions, itemsize, precision, chip)
        assert (cut.strips - 1) * cut.rows < lattice[0] <= cut.strips * cut.rows
        assert (cut.groups - 1) * cut.group < batch <= cut.groups * cut.group
        assert cut.programs(directions) == cut.strips * cut.groups * cut.slices * directions
        assert (cut.slices - 1) * cut.span < hidden <= cut.slices * cut.span
        for size in (cut.M, cut.BU, cut.BK, cut.BO):
            assert size >= 16
            assert size & (size - 1) == 0
        assert not cut.resident or (cut.span == cut.BU and hidden <= cut.BK)


@pytest.mark.parametrize("cell", CELLS)
def test_plans_of_wavefronts_take_every_unit_and_sample(cell: str) -> None:
    chance = random.Random(cell)
    for _ in range(300):
        ndim = chance.randint(1, 3)
        lattice, batch = tuple(chance.randint(1, 300) for _ in range(ndim)), chance.randint(1, 200)
        hidden, directions = chance.randint(1, 600), chance.randint(1, 2**ndim)
        itemsize, precision = chance.choice(((2, "ieee"), (4, "tf32"), (4, "tf32x3"), (8, "ieee")))
        chip = Chip(chance.choice((1, 108, 132)), chance.choice((99, 163, 227)) * 1024)
        for backward in (False, True):
            given = (Shape(cell, ndim), hidden, batch, lattice, directions, itemsize, precision, chip)
            cut = wide.plan_of_fronts(*given, backward, "fronts")
            assert cut is not None
            assert (cut.rows, cut.strips) == (lattice[0], 1)
            assert (cut.groups - 1) * cut.group < batch <= cut.groups * cut.group
            assert (cut.slices - 1) * cut.span < hidden <= cut.slices * cut.span
            assert cut.slices == 1 or cut.span == cut.BU
            # each crew has somebody
            assert cut.programs(directions) % (directions * cut.slices) == 0 < cut.programs(directions)
            for size in (cut.M, cut.BU, cut.BK, cut.BO):
                assert size >= 16
                assert size & (size - 1) == 0
            assert not cut.resident or (cut.span <= cut.BU and hidden <= cut.BK)


def test_wavefronts_are_chosen_where_they_pay() -> None:
    """16-bit numbers, 128 units or more, and a tile of 64 points by 32 units a multiprocessor on a mean wavefront."""
    chip = Chip(132, 227 * 1024)

    def chosen(
        batch: int, lattice: tuple[int, ...], hidden: int, itemsize: int = 2, choice: str = "auto"
    ) -> bool:
        given = (
            Shape("lstm", len(lattice)),
            hidden,
            batch,
            lattice,
            2 ** len(lattice),
            itemsize,
            "ieee",
            chip,
        )
        cuts = [wide.plan_of_fronts(*given, backward, choice) for backward in (False, True)]
        assert (cuts[0] is None) == (cuts[1] is None)
        return cuts[0] is not None

    assert chosen(64, (64, 64), 128)
    assert chosen(8, (256, 256), 128)
    assert not chosen(64, (64, 64), 64)
    assert not chosen(64, (64, 64), 128, itemsize=4)
    assert not chosen(64, (64, 64), 128, choice="strips")
    assert not chosen(1, (256, 256), 128)
    assert chosen(1, (256, 256), 64, itemsize=4, choice="fronts")
    # 132 tiles of 64 points by 32 units are 1056 tiles' worth of 8 slices: 1056 points a wavefront of two directions
    assert chosen(528, (100,), 256)
    assert not chosen(527, (100,), 256)


def test_what_no_device_has_shown_is_cut_in_strips(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unless whole wavefronts are asked for: other cells, axes, widths and dtypes."""
    pairs = [(cell, ndim) for cell in CELLS for ndim in (1, 2, 3)]
    dtypes = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
    monkeypatch.delenv(wide.CHOICE, raising=False)
    auto = [
        (*pair, hidden, dtype)
        for pair in pairs
        for hidden in (128, 160)
        for dtype in dtypes
        if wide.choice_for(Shape(*pair), hidden, dtype) != "strips"
    ]
    assert auto == [("lstm", 2, 128, torch.bfloat16)]

    def cut(name: str, gates: int) -> list[bool]:
        x = torch.empty(8, 8, 8, 3, dtype=torch.bfloat16, device="meta")
        weight = x.new_empty(4, 2, gates * 128, 128)
        return [launch._plan(Problem.of(name, x, weight, 0), x, way).crew > 0 for way in (False, True)]

    assert (cut("lstm", 5), cut("leaky", 5)) == ([True, True], [False, False])
    for choice in ("strips", "fronts"):
        monkeypatch.setenv(wide.CHOICE, choice)
        assert {wide.choice_for(Shape(*pair), 128, dtype) for pair in pairs for dtype in dtypes} == {choice}
        assert cut("lstm", 5) == cut("leaky", 5) == [choice == "fronts"] * 2
    monkeypatch.setenv(wide.CHOICE, "wavefronts")
    with pytest.raises(ValueError, match=r"NDRNN_TRITON_SWEEP must be .* got \'wavefronts\'"):
        wide.asked()


@on_gpu
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=["bf16", "fp16"])
def test_large_tiles_of_wavefronts_conform(
    recurrent: Any, dtype: torch.dtype, fronts: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As thousands of points a wavefront have them, tensor cores' large instructions and all."""
    cut = launch._plan

    def large(problem: Any, x: Tensor, backward: bool = False) -> Any:
        many = problem._replace(batch=256, lattice=(64, 64))
        chosen = cut(many, x, backward=backward)
        assert chosen.M >= 64
        small = {
            name: getattr(cut(problem, x, backward=backward), name) for name in ("group", "groups", "rows")
        }
        return replace(chosen, **small)

    monkeypatch.setattr(launch, "_plan", large)
    layer = recurrent(24, 128, 2, directions=[(1, -1), (-1, 1)], scale=0.05)
    case = Case(layer, (9, 13), 17, sizes=ragged((9, 13), 17), state=True, exits=True)
    exact, plain = case.run("wavefront"), case.run("wavefront", dtype)
    got, again = case.run("triton", dtype), case.run("triton", dtype)
    for name, expected in exact.items():
        assert torch.equal(got[name], again[name]), name
        allowed = 2 * error(plain[name], expected) + torch.finfo(dtype).eps / 4
        assert error(got[name], expected) <= allowed, name


@on_gpu
def test_a_training_step_replays_from_a_graph(make: Callable[[str], Any]) -> None:
    layer = make("lstm")(8, 32, 2).to("cuda", torch.float32)
    x = torch.randn(4, 12, 9, 8, device="cuda")

    def step() -> None:
        layer.zero_grad(set_to_none=False)
        (layer(x) ** 2).mean().backward()

    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with ndrnn.backend("triton"), torch.cuda.stream(stream):
        for _ in range(3):
            step()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with ndrnn.backend("triton"):
        with torch.cuda.graph(graph):
            step()
        for seed in range(3):
            x.copy_(torch.randn(x.shape, generator=torch.Generator().manual_seed(seed)))
            graph.replay()
            replayed = [
                parameter.grad.clone() for parameter in layer.parameters() if parameter.grad is not None
            ]
            step()
            for parameter, grad in zip(layer.parameters(), replayed, strict=True):
                assert parameter.grad is not None
                assert torch.equal(parameter.grad, grad)


@on_gpu
def test_tf32_follows_the_switch_of_torch(
    make: Callable[[str], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    case = Case(make("lstm")(32, 64, 2, scale=0.1), (16, 16), 8)
    exact = case.run("wavefront")["y"]
    errors = []
    for precision in ("ieee", "tf32"):
        monkeypatch.setattr(torch.backends.cuda.matmul, "fp32_precision", precision)
        errors.append(error(case.run("triton", torch.float32)["y"], exact))
    assert errors[0] < 1e-6 < errors[1] < 2e-3


@on_gpu
@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_random_configurations(variant: Any, seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """A kernel drawn at random on 23 problems, 1035 in all: it agrees with the wavefront backend in float64, in half
    precision at most twice as far off as that backend is there, and gives the same bits twice."""
    chance = random.Random(f"{variant.name}{seed}")
    ndim, hidden = chance.choice((1, 2, 2, 2, 3)), chance.choice((1, 7, 20, 32, 48, 64, 128))
    dtype = chance.choice((torch.float32, torch.float32, torch.float64, torch.bfloat16, torch.float16))
    rich = chance.random() < 0.5
    monkeypatch.setenv(wide.CHOICE, ("strips", "fronts")[seed % 2])
    directions = chance.sample(all_directions(ndim), chance.randint(1, 2**ndim))
    layer = variant(chance.randint(1, 40), hidden, ndim, directions=directions, scale=0.5 / hidden**0.5)
    most = {1: 200, 2: 40, 3: 9}[ndim]
    for problem in range(23):
        lattice, batch = [chance.randint(1, most) for _ in range(ndim)], chance.randint(1, 40)
        sizes = torch.tensor([[chance.randint(0, extent) for extent in lattice] for _ in range(batch)])
        case = Case(
            layer, lattice, batch, sizes=sizes if rich else None, state=rich, exits=rich, seed=problem
        )
        exact, got, again = case.run("wavefront"), case.run("triton", dtype), case.run("triton", dtype)
        plain = case.run("wavefront", dtype) if dtype.itemsize == 2 else {}
        for name, expected in exact.items():
            where = f"{name}, {dtype}, lattice {lattice}, batch {batch}"
            assert torch.equal(got[name], again[name]), f"two runs differ: {where}"
            if plain:
                allowed = 2 * error(plain[name], expected) + torch.finfo(dtype).eps / 4
            else:
                allowed = 2e-5 if dtype == torch.float32 else 1e-10
            assert error(got[name], expected) <= allowed, where
