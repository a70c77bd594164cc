"""The Triton kernels compiled for GPUs that need not be there: they fit, and order memory as the walk supposes."""

from __future__ import annotations

import os
import re
import subprocess
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import torch

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402
from triton.runtime import driver  # noqa: E402

from ndrnn.scan.triton import launch, pairs, wide  # noqa: E402
from ndrnn.scan.triton.backward import backward_fronts_kernel, backward_kernel  # noqa: E402
from ndrnn.scan.triton.forward import GEOMETRY, forward_fronts_kernel, forward_kernel  # noqa: E402
from ndrnn.scan.triton.plan import Chip, Plan, Shape, plan  # noqa: E402
from ndrnn.scan.triton.problem import Inputs, Problem  # noqa: E402
from ndrnn.scan.triton.wide import plan_of_fronts  # noqa: E402

INPUTS = 32
HOPPER = Chip(processors=132, shared_memory=227 * 1024)
AMPERE = Chip(processors=108, shared_memory=163 * 1024)
KERNELS = {"forward": forward_kernel, "backward": backward_kernel}
OF_FRONTS = {"forward": forward_fronts_kernel, "backward": backward_fronts_kernel}
TYPES = {
    torch.bfloat16: "bf16",
    torch.float16: "fp16",
    torch.float32: "fp32",
    torch.float64: "fp64",
    torch.int32: "i32",
    torch.int64: "i64",
}


class Compiled(NamedTuple):
    ptx: str
    ttgir: str
    shared: int
    registers: int
    spilled: int  # bytes stored
    plan: Plan


class Launch:
    """Stands in for a kernel, and keeps what it was launched with."""

    def __init__(self) -> None:
        self.arguments: dict[str, Any] = {}

    def __getitem__(self, grid: object) -> Any:
        return self.arguments.update


Compile = Callable[..., Compiled]


@pytest.fixture
def compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Compile:
    """Compiles a kernel with what the library launches it with, but for a plan as a large problem has it."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))

    def compile_for(
        which: str, cell: str, ndim: int, hidden: int, dtype: torch.dtype, precision: str, *,
        extent: int = 64, rich: bool = False, capability: int = 90, fronts: bool = False,
    ) -> Compiled:  # fmt: skip
        shape, directions = Shape(cell, ndim), 2**ndim
        given = (shape, hidden, 64, (extent,) * ndim, directions, dtype.itemsize, precision, HOPPER)
        choice = "fronts" if fronts else "strips"
        if fronts and capability == 80:
            given = (*given[:-1], AMPERE)
        cut = plan_of_fronts(*given, which == "backward", choice) or plan(*given)
        monkeypatch.setattr(launch, "_plan", lambda *problem, **way: cut)
        monkeypatch.setattr(launch, "_precision", lambda *given: precision)
        launches = {name: Launch() for name in KERNELS}
        for name, recorder in launches.items():
            monkeypatch.setattr(launch, f"{name}_fronts_kernel" if fronts else f"{name}_kernel", recorder)
        monkeypatch.setattr(launch, "gradients", lambda *given: None)
        arguments = launches[which].arguments
        _run(shape, hidden, directions, dtype, rich)
        return _compile((OF_FRONTS if fronts else KERNELS)[which], arguments, cut, capability, tmp_path)

    return compile_for


def _run(shape: Shape, hidden: int, directions: int, dtype: torch.dtype, rich: bool) -> None:
    """Both passes on a tiny problem; ``rich``: ragged, with states in and out."""
    ndim, gates = shape.ndim, shape.gates * hidden
    extras = {
        "lstm_peephole": (ndim + 2, hidden),
        "spatial_extended": (ndim, gates, hidden),
        "gru": (ndim, hidden),
    }
    lattice = (2,) * ndim

    def new(*size: int) -> torch.Tensor:
        return torch.zeros(size, dtype=dtype)

    faces = (directions, 1, ndim * 2 ** (ndim - 1), hidden)
    inputs = Inputs(
        x=new(1, *lattice, INPUTS),
        weight_ih=new(directions, gates, INPUTS),
        weight_hh=new(directions, ndim, gates, hidden),
        bias=new(directions, gates),
        extra=new(directions, *extras[shape.name]) if shape.name in extras else None,
        sizes=torch.ones(1, ndim, dtype=torch.int64) if rich else None,
        h0=new(*faces) if rich else None,
        c0=new(*faces) if rich and shape.memory else None,
    )
    problem = Problem.of(shape.name, inputs.x, inputs.weight_hh, 0)
    scanned = launch.forward(problem, inputs, keep=True, exits=rich)
    launch.backward(problem, inputs, scanned, new(*scanned.y.shape), inputs.h0, inputs.c0, [True] * 7)


def _compile(kernel: Any, arguments: dict[str, Any], cut: Plan, capability: int, folder: Path) -> Compiled:
    options = {name: arguments.pop(name) for name in ("num_warps", "num_stages")}
    # the interpreter would pass over a name too many
    assert set(arguments) == set(kernel.arg_names)
    signature, constants, aligned = {}, {}, {}
    for index, name in enumerate(kernel.arg_names):
        value = arguments[name]
        if isinstance(value, torch.Tensor):
            signature[name] = "*" + TYPES[value.dtype]
            aligned[(index,)] = [["tt.divisibility", 16]]
        elif name in GEOMETRY:
            signature[name] = "i32"
        else:
            signature[name], constants[name] = "constexpr", value
    made = triton.compile(
        ASTSource(kernel, signature=signature, constexprs=constants, attrs=aligned),
        target=GPUTarget("cuda", capability, 32),
        options=options,
    )
    text = folder / "kernel.ptx"
    text.write_text(made.asm["ptx"])
    assembler = Path(triton.__file__).parent / "backends/nvidia/bin/ptxas"
    architecture = f"sm_{capability}" + "a" * (capability == 90)
    usage = subprocess.run(
        [assembler, "-v", f"-arch={architecture}", text, "-o", folder / "kernel.cubin"],
        capture_output=True,
        text=True,
        check=True,
    ).stderr
    registers, spilled = (
        re.search(r"Used (\d+) registers", usage),
        re.search(r"(\d+) bytes spill stores", usage),
    )
    assert registers is not None
    assert spilled is not None
    return Compiled(
        made.asm["ptx"], made.asm["ttgir"], made.metadata.shared, int(registers[1]), int(spilled[1]), cut
    )


@pytest.mark.parametrize("fronts", [False, True], ids=["strips", "fronts"])
@pytest.mark.parametrize("which", KERNELS)
def test_memory_is_ordered_between_programs(which: str, fronts: bool, compiled: Compile) -> None:
    made = compiled(which, "lstm", 2, 32, torch.bfloat16, "ieee", rich=True, fronts=fronts)
    instructions = [line.strip() for line in made.ptx.splitlines()]

    def lines(pattern: str) -> list[int]:
        return [number for number, line in enumerate(instructions) if re.search(pattern, line)]

    # progress is read with acquire and raised with release, both at the scope of the GPU
    (acquire,) = lines(r"ld\.acquire\.gpu\.global")
    (release,) = lines(r"red\.release\.gpu\.global\.add")
    stores, barriers = lines(r"st\.global"), lines(r"bar\.sync|barrier\.sync")
    assert stores
    # all threads have stored before the one that releases does: a barrier, and no store, right before it
    last_barrier = max(barrier for barrier in barriers if barrier < release)
    assert not [store for store in stores if last_barrier < store < release]
    # every thread acquires by itself: neither it nor the branch on what it read hangs on a thread's number
    assert "@" not in instructions[acquire]
    # one draw of a ticket, of crews three in the code, and no atomics on floating-point numbers
    assert len(lines(r"atom\..*\.u32")) == len(lines(r"atom\.")) == (3 if fronts else 1)
    assert lines(r"\bred\.") == [release]


@pytest.mark.parametrize("fronts", [False, True], ids=["strips", "fronts"])
def test_tiles_are_read_once_and_where_they_may_be(
    fronts: bool, compiled: Compile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Loads that the compiler may copy and move: there are no more than tiles, on the right side of the wait."""
    monkeypatch.setattr(wide, "MOST_INPUTS", 0)  # else there are no gates to read
    made = compiled("forward", "lstm", 2, 32, torch.bfloat16, "ieee", fronts=fronts)
    before, after = made.ttgir.split("ld.acquire")
    loads = r"elementwise_inline_asm \"[^\"]*ld\.global.*"
    # five gates before; two states after, and those through the layout of the arithmetic
    assert len(re.findall(loads, before)) == 5
    assert len(re.findall(loads, after)) == 2
    assert all("#mma>" in load for load in re.findall(loads, made.ttgir))
    # by the machine code's own blocks: gates, then the loop that waits, then states, and none of these elsewhere
    names, blocks = (
        re.findall(r"^\$L__BB0_\d+", made.ptx, re.MULTILINE),
        re.split(r"^\$L__BB0_\d+:", made.ptx, flags=re.MULTILINE)[1:],
    )
    of_gates = r"mad\.wide\.s32 a, %r\d+, 2, [^}]*ld\.global" if fronts else r"ld\.global\.b16 a, \["
    (gates,), (waiting,), (states,) = (
        [name for name, block in zip(names, blocks, strict=True) if re.search(kind, block)]
        for kind in (of_gates, r"ld\.acquire", r"ld\.global\.v2\.b32 \{%")
    )
    assert len({gates, waiting, states}) == 3
    by_name = dict(zip(names, blocks, strict=True))
    assert re.search(rf"bra\s+{re.escape(states)};", by_name[gates])
    assert re.search(rf"bra\.uni\s+{re.escape(states)};", by_name[waiting])


@pytest.mark.parametrize("which", KERNELS)
@pytest.mark.parametrize(
    ("dtype", "precision"), [(torch.bfloat16, "ieee"), (torch.float32, "tf32x3")], ids=["bf16", "fp32"]
)
def test_weights_stay_on_chip(which: str, dtype: torch.dtype, precision: str, compiled: Compile) -> None:
    made = compiled(which, "lstm", 2, 32, dtype, precision)
    assert made.plan.resident
    before_the_sweep, sweep = made.ttgir.split("scf.while", 1)
    tiles = 2 * 5 if which == "forward" else 2 * -(-5 * 32 // made.plan.BO)  # of all axes
    assert before_the_sweep.count("ttg.local_alloc") == tiles
    if dtype == torch.bfloat16:  # there, and not in registers, which have room for few
        assert "ttg.local_load" not in before_the_sweep
        assert sweep.count("ttg.local_load") >= tiles
    assert made.spilled < 64


@pytest.mark.parametrize("which", KERNELS)
def test_changes_of_layout_are_few(which: str, compiled: Compile) -> None:
    """Two barriers for every operand from memory, and no more: the other loads take the layout of the arithmetic."""
    made = compiled(which, "lstm", 2, 32, torch.bfloat16, "ieee")
    assert made.ptx.count("bar.sync") <= 12


class Hopper:
    """Stands in for a driver, for all that Triton does before it launches."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", 90, 32)


def test_sizes_share_a_kernel_and_packs_do_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Called as on a device: other extents compile nothing, any other field of a pack does."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr(type(driver), "active", property(lambda self: Hopper()))
    monkeypatch.setattr(forward_kernel, "device_caches", defaultdict(forward_kernel.create_binder))
    recorder = Launch()
    monkeypatch.setattr(launch, "forward_kernel", recorder)
    monkeypatch.setattr(launch, "backward_kernel", Launch())
    monkeypatch.setattr(launch, "gradients", lambda *given: None)
    _run(Shape("rnn_tanh", 2), 32, 4, torch.float32, rich=False)
    kernels = forward_kernel.device_caches[0][0]

    def compile_with(**changed: Any) -> int:
        forward_kernel.warmup(grid=(1,), **{**recorder.arguments, **changed})
        return len(kernels)

    assert compile_with() == 1
    assert compile_with(extent0=1, extent1=16, group=1, rows=32, directions=1) == 1
    given, math = recorder.arguments["GIVEN"], recorder.arguments["MATH"]
    assert compile_with(GIVEN=given._replace(keep=not given.keep)) == 2
    assert compile_with(MATH=math._replace(largest_state=1.0)) == 3


def assert_fit_for_wavefronts(made: Compiled, capability: int) -> None:
    """They fit, multiply on tensor cores, find neighbours side by side, and spill little."""
    assert made.shared <= (HOPPER if capability == 90 else AMPERE).shared_memory
    assert not pairs.unexpected(made.ttgir)
    assert ("wgmma.mma_async" if capability == 90 else "mma.sync") in made.ptx
    assert made.spilled <= 2048
    # registers: as many as eight warps can have, or sixteen
    assert made.registers <= (128 if made.plan.num_warps == 16 else 255)


@pytest.mark.parametrize("which", KERNELS)
def test_tiles_of_wavefronts_fit(which: str, compiled: Compile) -> None:
    """As (64, 64, 64, 32 -> 128) has them."""
    made = compiled(which, "lstm", 2, 128, torch.bfloat16, "ieee", fronts=True)
    assert_fit_for_wavefronts(made, 90)
    assert made.plan.M == 64
    if which == "forward":
        # two programs on a multiprocessor, each with the weights of its slice
        assert made.plan.resident
        assert 2 * (made.shared + 1024) <= 228 * 1024
        # of two axes, and of the inputs
        assert made.ptx.count("wgmma.mma_async") == (2 * 128 + INPUTS) // 16 * 5
        assert "tanh.approx.f32" in made.ptx
    else:
        assert made.spilled <= 128


@pytest.mark.slow
@pytest.mark.parametrize("which", KERNELS)
@pytest.mark.parametrize(
    ("cell", "ndim", "hidden", "dtype", "capability"),
    [
        ("lstm", 1, 256, torch.bfloat16, 90),
        ("lstm", 2, 128, torch.float16, 90),
        ("lstm", 2, 130, torch.bfloat16, 90),
        ("lstm", 2, 256, torch.bfloat16, 90),
        ("lstm_peephole", 2, 128, torch.bfloat16, 90),
        ("lstm_peephole", 2, 128, torch.bfloat16, 80),
        ("stable", 2, 128, torch.bfloat16, 90),
        ("leaky", 2, 256, torch.bfloat16, 80),
        ("spatial_extended", 2, 128, torch.bfloat16, 90),
        ("gru", 2, 128, torch.bfloat16, 90),
        ("gru", 3, 128, torch.float16, 90),
        ("rnn_tanh", 2, 320, torch.bfloat16, 90),
        ("rnn_relu", 3, 128, torch.bfloat16, 90),
    ],
    ids=str,
)
def test_tiles_of_wavefronts_fit_for_every_cell(
    which: str, cell: str, ndim: int, hidden: int, dtype: torch.dtype, capability: int, compiled: Compile
) -> None:
    extent = {1: 1024, 2: 64, 3: 24}[ndim]
    made = compiled(
        which, cell, ndim, hidden, dtype, "ieee", extent=extent, capability=capability, rich=True, fronts=True
    )
    if made.plan.M >= 64:
        assert_fit_for_wavefronts(made, capability)
    assert not pairs.unexpected(made.ttgir)


def test_layouts_without_pairs_are_refused() -> None:
    code = """
#blocked = #ttg.blocked<{sizePerThread = [2, 2], threadsPerWarp = [1, 32], warpsPerCTA = [4, 1], order = [1, 0]}>
#blocked1 = #ttg.blocked<{sizePerThread = [1, 1], threadsPerWarp = [1, 32], warpsPerCTA = [4, 1], order = [1, 0]}>
#blocked2 = #ttg.blocked<{sizePerThread = [2, 2], threadsPerWarp = [1, 32], warpsPerCTA = [4, 1], order = [0, 1]}>
#mma = #ttg.nvidia_mma<{versionMajor = 3, versionMinor = 0, warpsPerCTA = [4, 1], instrShape = [16, 32, 16]}>
  %1 = tt.elementwise_inline_asm "ld" {packed_element = 2 : i32, pure = true} %0 : tensor<64x32xi32, #mma> -> tensor<64x32xi32, LAYOUT> loc(#loc1)
"""

    class Made:
        hash = "a kernel"

    for layout, fine in (
        ("#mma", True),
        ("#blocked", True),
        ("#blocked1", False),
        ("#blocked2", False),
        ("#else", False),
    ):
        given = Made()
        given.asm = {"ttgir": code.replace("LAYOUT", layout)}  # type: ignore[attr-defined]
        given.hash = layout
        if fine:
            pairs.check(given)
        else:
            with pytest.raises(RuntimeError, match="NDRNN_TRITON_SWEEP=strips"):
                pairs.check(given)
    pairs.check(None)


@pytest.mark.slow
@pytest.mark.parametrize("which", KERNELS)
@pytest.mark.parametrize(
    ("cell", "ndim", "hidden", "dtype", "precision", "capability"),
    [
        ("lstm", 2, 128, torch.bfloat16, "ieee", 90),
        ("lstm", 2, 64, torch.bfloat16, "ieee", 90),
        ("lstm", 2, 32, torch.float32, "tf32x3", 90),
        ("lstm", 2, 128, torch.float32, "tf32x3", 90),
        ("lstm", 2, 64, torch.float32, "tf32", 90),
        ("lstm", 2, 20, torch.float64, "ieee", 90),
        ("lstm", 1, 128, torch.float16, "ieee", 90),
        ("lstm_peephole", 2, 25, torch.float32, "tf32x3", 80),
        ("gru", 3, 32, torch.bfloat16, "ieee", 90),
        ("gru", 3, 32, torch.float32, "tf32x3", 90),
        ("spatial_extended", 2, 64, torch.float32, "tf32x3", 90),
        ("stable", 2, 64, torch.bfloat16, "ieee", 80),
        ("leaky", 3, 32, torch.float32, "tf32", 80),
        ("rnn_tanh", 2, 320, torch.bfloat16, "ieee", 90),
    ],
    ids=str,
)
def test_kernels_fit(
    which: str,
    cell: str,
    ndim: int,
    hidden: int,
    dtype: torch.dtype,
    precision: str,
    capability: int,
    compiled: Compile,
) -> None:
    extent = {1: 1024, 2: 64, 3: 48}[ndim]
    made = compiled(
        which, cell, ndim, hidden, dtype, precision, extent=extent, capability=capability, rich=True
    )
    assert made.shared <= HOPPER.shared_memory
    # products emulated in float32 and those of float64 want more registers than there are; no device has told the price
    assert made.spilled <= (4096 if dtype == torch.float64 or precision == "tf32x3" else 1024)
