"""The Triton kernels compiled for GPUs that need not be there: they fit, and order memory as the walk supposes."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

import pytest

triton = pytest.importorskip("triton")
if os.environ.get("TRITON_INTERPRET") == "1":
    pytest.skip("the interpreter compiles nothing", allow_module_level=True)

from triton.backends.compiler import GPUTarget  # noqa: E402
from triton.compiler import ASTSource  # noqa: E402

from ndrnn.scan.triton.backward import backward_kernel  # noqa: E402
from ndrnn.scan.triton.forward import forward_kernel  # noqa: E402
from ndrnn.scan.triton.plan import Chip, Plan, Shape, plan  # noqa: E402

HOPPER = Chip(processors=132, shared_memory=227 * 1024)
KERNELS = {"forward": forward_kernel, "backward": backward_kernel}
TYPES = {"bf16": 2, "fp16": 2, "fp32": 4, "fp64": 8}


class Compiled(NamedTuple):
    ptx: str
    ttgir: str
    shared: int
    registers: int
    spilled: int  # bytes stored
    plan: Plan


def compiled(
    which: str,
    cell: str,
    ndim: int,
    hidden: int,
    dtype: str,
    precision: str,
    folder: Path,
    *,
    batch: int = 64,
    extent: int = 64,
    rich: bool = False,
    capability: int = 90,
) -> Compiled:
    """A kernel compiled as a launch on a large problem would have it; ``rich``: ragged, with states in and out."""
    shape = Shape(cell, ndim)
    cut = plan(shape, hidden, batch, (extent,) * ndim, 2**ndim, TYPES[dtype], precision, HOPPER)
    accumulator = "fp64" if dtype == "fp64" else "fp32"
    constants: dict[str, Any] = {
        **shape.constants(),
        "HIDDEN": hidden,
        "ENTRY": rich,
        "EXIT": rich,
        "RAGGED": rich,
        "RESIDENT": cut.resident,
        "PRECISION": precision,
        "ACC": getattr(triton.language, "float64" if dtype == "fp64" else "float32"),
        "M": cut.M,
        "BU": cut.BU,
        "BK": cut.BK,
        "BIASED": shape.split,
        "APART": shape.memory or (shape.split and TYPES[dtype] == 2),
        "KEEP": shape.states,
    }
    absent = {
        "p_order": ndim < 3,
        "p_sizes": not rich,
        "p_parts": not shape.split,
        "p_dparts": not shape.split,
        "p_extra": not (shape.feeds or shape.peepholes or shape.split),
        "p_carry": not shape.states,
        **dict.fromkeys(("p_h0", "p_s0", "p_hn", "p_dhn"), not rich),
        **dict.fromkeys(("p_sn", "p_dsn"), not (rich and shape.memory)),
    }
    kernel = KERNELS[which]
    exact = {
        "p_state": accumulator,
        "p_carry": accumulator,
        "p_order": "i32",
        "p_counters": "i32",
        "p_sizes": "i64",
    }
    signature = {}
    for name in kernel.arg_names:
        if absent.get(name):
            constants[name] = None
        if name in constants:
            signature[name] = "constexpr"
        else:
            signature[name] = "*" + exact.get(name, dtype) if name.startswith("p_") else "i32"
    aligned = {
        (index,): [["tt.divisibility", 16]]
        for index, name in enumerate(kernel.arg_names)
        if signature[name].startswith("*")
    }
    source = ASTSource(
        kernel,
        signature=signature,
        constexprs={name: value for name, value in constants.items() if name in signature},
        attrs=aligned,
    )
    made = triton.compile(
        source,
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": cut.num_warps, "num_stages": 1},
    )
    text = folder / "kernel.ptx"
    text.write_text(made.asm["ptx"])
    tools = Path(triton.__file__).parent / "backends/nvidia/bin"
    architecture = f"sm_{capability}" + "a" * (capability == 90)
    usage = subprocess.run(
        [tools / "ptxas", "-v", f"-arch={architecture}", text, "-o", folder / "kernel.cubin"],
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


@pytest.fixture(autouse=True)
def no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path / "cache"))


@pytest.mark.parametrize("which", KERNELS)
def test_memory_is_ordered_between_programs(which: str, tmp_path: Path) -> None:
    made = compiled(which, "lstm", 2, 32, "bf16", "ieee", tmp_path, rich=True)
    instructions = [line.strip() for line in made.ptx.splitlines()]

    def lines(pattern: str) -> list[int]:
        return [number for number, line in enumerate(instructions) if re.search(pattern, line)]

    # progress is read with acquire and written with release, both at the scope of the GPU
    (acquire,) = lines(r"(ld|atom)\.global\.gpu\.acquire|ld\.acquire\.gpu\.global|atom\.acquire\.gpu")
    (release,) = lines(r"atom\.global\.gpu\.release|atom\.release\.gpu")
    stores, barriers = lines(r"st\.global"), lines(r"bar\.sync|barrier\.sync")
    assert stores
    # all threads have stored before the one that releases does: a barrier, and no store, right before it
    last_barrier = max(barrier for barrier in barriers if barrier < release)
    assert not [store for store in stores if last_barrier < store < release]
    # what was acquired reaches the other threads through a barrier, before any branch is taken on it
    next_barrier = min(barrier for barrier in barriers if barrier > acquire)
    assert not [
        n for n in lines(r"^(@%p\d+ )?bra|ld\.global(?!\.gpu\.acquire)") if acquire < n < next_barrier
    ]
    # one draw of a ticket, and no atomics on floating-point numbers
    assert len(lines(r"atom\.")) == 2 + ("atom" in instructions[acquire])
    assert not lines(r"^(@!?%p\d+ )?red\.")


@pytest.mark.parametrize("which", KERNELS)
def test_weights_stay_on_chip(which: str, tmp_path: Path) -> None:
    made = compiled(which, "lstm", 2, 32, "bf16", "ieee", tmp_path)
    assert made.plan.resident
    before_the_sweep = made.ttgir.split("scf.while")[0]
    assert before_the_sweep.count("ttg.local_alloc") == 2 * 5  # a tile an axis and gate
    assert made.spilled < 64


@pytest.mark.slow
@pytest.mark.parametrize("which", KERNELS)
@pytest.mark.parametrize(
    ("cell", "ndim", "hidden", "dtype", "precision", "capability"),
    [
        ("lstm", 2, 128, "bf16", "ieee", 90),
        ("lstm", 2, 64, "bf16", "ieee", 90),
        ("lstm", 2, 32, "fp32", "tf32x3", 90),
        ("lstm", 2, 128, "fp32", "tf32x3", 90),
        ("lstm", 2, 64, "fp32", "tf32", 90),
        ("lstm", 2, 20, "fp64", "ieee", 90),
        ("lstm", 1, 128, "fp16", "ieee", 90),
        ("lstm_peephole", 2, 25, "fp32", "tf32x3", 80),
        ("gru", 3, 32, "bf16", "ieee", 90),
        ("gru", 3, 32, "fp32", "tf32x3", 90),
        ("spatial_extended", 2, 64, "fp32", "tf32x3", 90),
        ("stable", 2, 64, "bf16", "ieee", 80),
        ("leaky", 3, 32, "fp32", "tf32", 80),
        ("rnn_tanh", 2, 320, "bf16", "ieee", 90),
    ],
    ids=str,
)
def test_kernels_fit(
    which: str, cell: str, ndim: int, hidden: int, dtype: str, precision: str, capability: int, tmp_path: Path
) -> None:
    extent = {1: 1024, 2: 64, 3: 48}[ndim]
    made = compiled(
        which, cell, ndim, hidden, dtype, precision, tmp_path, extent=extent, capability=capability, rich=True
    )
    print(which, cell, ndim, hidden, dtype, precision, made.plan, made.registers, made.spilled, made.shared)
    assert made.shared <= HOPPER.shared_memory
    assert made.spilled <= 2048
