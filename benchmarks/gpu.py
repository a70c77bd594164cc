"""``python -m benchmarks.gpu``: the Triton scan on a CUDA device, first compared with the reference, then timed.

Prints one table and keeps it under ``benchmarks/results/``. Beside every time stand its floor, the largest of three
(wavefronts at 1.5 microseconds each, operations at the measured rate of a large product, bytes at the measured rate
of a large copy), and how many times longer others take: the wavefront backend called plainly, replayed from a CUDA
graph and compiled, and cuDNN for n = 1.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

import ndrnn
from ndrnn.nn.layers import ScanLayer
from ndrnn.saving.atomic import replacing

from . import machine
from .limits import OutOfTime, time_limit
from .table import Table, report, to_json
from .workloads import CELLS, MAIN, Workload

Call = Callable[[], object]

RESULTS = Path(__file__).parent / "results"
SECONDS_A_WAVEFRONT = 1.5e-6
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
WORKLOADS = (
    *MAIN,
    Workload("MDLSTM", 64, (64, 64), 32, 128),
    Workload("MDLSTM", 8, (256, 256), 16, 128),
    Workload("MDLSTM", 4, (48, 48, 48), 8, 32),
    Workload("MDLSTM", 64, (1024,), 128, 128),
    Workload("MDLSTM", 64, (1024,), 128, 128, directions=1),
    *CELLS,
)


@dataclass(frozen=True)
class Rates:
    """What the device itself reaches: operations a second in a large product, bytes a second in a large copy."""

    products: float
    copies: float


@dataclass(frozen=True)
class Effort:
    repeats: int = 30
    least_repeats: int = 3
    seconds: float = 0.5  # after which no call is repeated more often than that
    compile_seconds: int = 0  # how long a peer may compile; 0: no compiled peer


def seconds(call: Call, effort: Effort) -> float:
    """The median by device events, after warming up."""
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < effort.repeats and (len(times) < effort.least_repeats or sum(times) < effort.seconds):
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end) / 1e3)
    return median(times)


def rates(dtype: torch.dtype, effort: Effort) -> Rates:
    left, right = torch.randn(2, 8192, 8192, device="cuda").to(dtype).unbind()
    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    products = 2 * 8192**3 / seconds(lambda: torch.mm(left, right), effort)
    return Rates(products, 2 * source.nbytes / seconds(lambda: target.copy_(source), effort))


def step_of(layer: nn.Module, x: Tensor, training: bool) -> Call:
    """One call: inference, or forward and backward with all gradients."""
    if not training:

        def infer() -> object:
            with torch.no_grad():
                return layer(x)

        return infer
    x = x.clone().requires_grad_()
    layer.zero_grad(set_to_none=False)
    with torch.no_grad():
        shape = _output(layer(x)).shape
    dy = torch.randn(shape, device="cuda").to(x.dtype)

    def train() -> None:
        layer.zero_grad(set_to_none=False)
        x.grad = None
        _output(layer(x)).backward(dy)

    return train


def _output(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


def graph_of(call: Call) -> Call:
    """The call captured in a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay


def floors(layer: ScanLayer, workload: Workload, x: Tensor, training: bool, rate: Rates) -> dict[str, float]:
    """Seconds that no scan stays below, by reason."""
    wavefronts = sum(workload.lattice) - len(workload.lattice) + 1
    rows = x[..., 0].numel()
    outputs = rows * len(layer.directions) * workload.hidden_size
    gates = rows * layer.weight_ih.shape[0] * layer.weight_ih.shape[1]
    weights = sum(parameter.numel() for parameter in layer.parameters())
    numbers = x.numel() + weights + outputs
    if training:
        # x and y once more, their gradients, and the gates written and read
        numbers += 2 * x.numel() + 2 * outputs + 2 * gates + 2 * weights
    passes = 2 if training else 1
    return {
        "wavefronts": passes * wavefronts * SECONDS_A_WAVEFRONT,
        "operations": (3 if training else 1) * workload.operations() / rate.products,
        "bytes": numbers * x.element_size() / rate.copies,
    }


def ratio_to(ours: float, make: Callable[[], Call], effort: Effort) -> float | str:
    """How many times longer another takes, or why there is no figure."""
    try:
        return seconds(make(), effort) / ours
    except torch.cuda.OutOfMemoryError:
        return "no memory"
    finally:
        torch.cuda.empty_cache()


def ratio_to_compiled(ours: float, make: Callable[[], Call], effort: Effort) -> float | str | None:
    if not effort.compile_seconds:
        return None
    try:
        with time_limit(effort.compile_seconds):
            return ratio_to(ours, make, effort)
    except OutOfTime:
        return f"> {effort.compile_seconds} s"
    finally:
        torch.compiler.reset()


def results(layer: ScanLayer, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients in float64, of the same numbers computed with in another dtype."""
    layer, x = layer.to(dtype), x.to(dtype).requires_grad_()
    y = layer(x)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.device, dtype)
    return [tensor.double() for tensor in (y, *torch.autograd.grad(y, [x, *layer.parameters()], dy))]


def disagreement(workload: Workload, dtype: torch.dtype) -> str | None:
    """Where a scan is farther from float64 than plain PyTorch in its dtype, on part of the lattice.

    Both by the wavefront backend: the reference, point by point, would take minutes at these sizes.

    Twice as far may be chance; float32 out of products of tf32, with fewer bits kept than a float32 unit has, may be
    ten times as far. With this all kernels that will be timed are compiled.
    """
    factor = 10 if dtype == torch.float32 else 2
    cropped = replace(workload, batch=min(workload.batch, 8)).with_lattice(
        *(min(d, 64) for d in workload.lattice)
    )
    layer, x = cropped.build().to("cuda", dtype), cropped.input().to("cuda", dtype)
    with ndrnn.backend("wavefront"):
        plain, exact = results(layer, x, dtype), results(layer, x, torch.float64)
    with ndrnn.backend("triton"):
        ours = results(layer, x, dtype)
        for training in (False, True):
            step_of(workload.build().to("cuda", dtype), workload.input().to("cuda", dtype), training)()
    torch.cuda.synchronize()
    names = ["y", "x", *(name for name, _ in layer.named_parameters())]
    for name, right, theirs, mine in zip(names, exact, plain, ours, strict=True):
        allowed = factor * (theirs - right).norm() + torch.finfo(dtype).eps / 4 * right.norm()
        if not (mine - right).norm() <= allowed:
            return f"{workload.name}; {dtype}: {name} is {(mine - right).norm() / right.norm():.1e} off"
    return None


def check(workloads: Sequence[Workload]) -> list[str]:
    """Compile all kernels, in as many processes as there are cores, and tell what they get wrong."""
    calls = [(workload, dtype) for workload in workloads for dtype in DTYPES.values()]
    print(f"compiling and checking {len(calls)} cases", file=sys.stderr, flush=True)
    processes = min(len(calls), os.cpu_count() or 1)
    with ProcessPoolExecutor(processes, mp_context=multiprocessing.get_context("spawn")) as pool:
        found = list(pool.map(disagreement, *zip(*calls, strict=True)))
    return [wrong for wrong in found if wrong is not None]


def measure(
    table: Table, workload: Workload, dtype: torch.dtype, training: bool, rate: Rates, effort: Effort
) -> None:
    layer, x = workload.build().to("cuda", dtype), workload.input().to("cuda", dtype)
    step = step_of(layer, x, training)
    with ndrnn.backend("triton"):
        step()
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        step()
        peak = (torch.cuda.max_memory_allocated() - before) / 2**20
        ours = seconds(step, effort)
        graphed = seconds(graph_of(step), effort)
    floor = floors(layer, workload, x, training, rate)
    reason = max(floor, key=lambda name: floor[name])
    wavefronts = sum(workload.lattice) - len(workload.lattice) + 1
    eager: float | str | None = None
    in_graph: float | str | None = None
    compiled: float | str | None = None
    if workload not in CELLS:
        with ndrnn.backend("wavefront"):
            eager = ratio_to(ours, lambda: step, effort)
            in_graph = ratio_to(ours, lambda: graph_of(step), effort)
            compiled = ratio_to_compiled(
                ours, lambda: step_of(torch.compile(layer, fullgraph=True), x, training), effort
            )
    cudnn: float | str | None = None
    if len(workload.lattice) == 1 and workload.layer == "MDLSTM" and workload.variant is None:
        lstm = nn.LSTM(
            workload.input_size,
            workload.hidden_size,
            batch_first=True,
            bidirectional=len(layer.directions) == 2,
            device="cuda",
            dtype=dtype,
        )
        cudnn = ratio_to(ours, lambda: step_of(lstm, x, training), effort)
    operations = (3 if training else 1) * workload.operations()
    table.add(
        workload.name, str(dtype).removeprefix("torch."), "training" if training else "inference",
        ours * 1e3, graphed * 1e3, ours * 1e6 / wavefronts, floor[reason] * 1e3, reason, ours / floor[reason],
        100 * operations / ours / rate.products, eager, in_graph, compiled, cudnn, peak,
    )  # fmt: skip


def ride_step(dtype: torch.dtype) -> tuple[str, Call]:
    """A training step of RIDE on a batch of patches."""
    from ndrnn.density import RIDE

    torch.manual_seed(0)
    images = torch.randn(64, 64, 64, device="cuda").to(dtype)
    model = RIDE(hidden_size=64, cell="spatial", device="cuda", dtype=dtype)
    model.fit_whitening(images)
    optimizer = torch.optim.Adam(model.parameters())

    def step() -> None:
        optimizer.zero_grad()
        (-model.log_prob(images).mean()).backward()
        optimizer.step()

    return "RIDE, 64 images of 64 x 64, 64 units, 32 components", step


def device() -> dict[str, str]:
    import triton

    found = torch.cuda.get_device_properties(0)
    return {
        "device": found.name,
        "compute capability": f"{found.major}.{found.minor}",
        "multiprocessors": str(found.multi_processor_count),
        "memory": f"{found.total_memory / 2**30:.0f} GiB",
        "CUDA": str(torch.version.cuda),
        "cuDNN": str(torch.backends.cudnn.version()),
        "triton": triton.__version__,
        "tf32": torch.backends.cuda.matmul.fp32_precision,
    }


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument("--only", metavar="TEXT", default="", help="workloads whose name contains TEXT")
    parser.add_argument("--quick", action="store_true", help="fewer repeats")
    parser.add_argument(
        "--compiled", type=int, default=0, metavar="SECONDS",
        help="also the wavefront backend compiled, where that takes no longer than so many seconds (none)",
    )  # fmt: skip
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="instead of benchmarks/results/gpu-DEVICE.json"
    )
    options = parser.parse_args(arguments)
    reason = ndrnn.available_backends()["triton"]
    if reason is not True or not torch.cuda.is_available():
        print(
            f"Nothing is measured: {reason if reason is not True else 'there is no CUDA device'}.",
            file=sys.stderr,
        )
        return 2
    chosen = [workload for workload in WORKLOADS if options.only in workload.name]
    wrong = check(chosen)
    if wrong:
        print(
            "Nothing is measured: these disagree with float64.",
            *wrong,
            sep="\n",
            file=sys.stderr,
        )
        return 1
    effort = Effort(5 if options.quick else 30, compile_seconds=options.compiled)
    table = Table(
        "The scan on a GPU",
        {
            "workload": "", "dtype": "", "": "", "ms": ".3f", "ms in a graph": ".3f", "µs a wavefront": ".2f",
            "floor, ms": ".3f", "of": "", "times the floor": ".1f", "% of the product's rate": ".1f",
            "wavefront": ".1f", "in a graph": ".1f", "compiled": ".1f", "cuDNN": ".2f", "peak, MiB": ".0f",
        },
        notes=["The columns from wavefront to cuDNN tell how many times longer these take than ours called plainly."],
    )  # fmt: skip
    described: dict[str, Any] = {**machine.describe(), **device()}
    try:
        for name, dtype in DTYPES.items():
            rate = rates(dtype, effort)
            described[f"product, {name}"] = f"{rate.products / 1e12:.0f} Tflop/s"
            described["copy"] = f"{rate.copies / 1e12:.2f} TB/s"
            for workload in chosen:
                for training in (False, True):
                    print(f"{workload.name}; {name}; training: {training}", file=sys.stderr, flush=True)
                    measure(table, workload, dtype, training, rate, effort)
        if options.only in "RIDE":
            what, step = ride_step(torch.float32)
            with ndrnn.backend("triton"):
                ours = seconds(step, effort)
            with ndrnn.backend("wavefront"):
                eager = ratio_to(ours, lambda: step, effort)
            row = [what, "float32", "training", ours * 1e3, *[None] * 6, eager, *[None] * 4]
            table.add(*row)
    except KeyboardInterrupt:
        described["interrupted"] = "yes, rows are missing"
    print(report(described, [table]), end="")
    target = options.json or RESULTS / f"gpu-{described['device'].lower().replace(' ', '-')}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as part:
        part.write_text(to_json(described, [table]))
    return 130 if "interrupted" in described else 0


if __name__ == "__main__":
    sys.exit(main())
