"""The scan itself: compared with float64, then timed beside its peers and its floors.

A floor is the largest of three times: wavefronts at 1.5 microseconds each, operations at the measured rate of a large
product, bytes at the measured rate of a large copy.
"""

from __future__ import annotations

import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

import ndrnn
from ndrnn.nn.layers import ScanLayer

from ..limits import OutOfTime, time_limit
from ..workloads import CELLS, MAIN, TINY, Workload
from .run import Call, Run, graph_of, said

SECONDS_A_WAVEFRONT = 1.5e-6
DTYPES = {"bfloat16": torch.bfloat16, "float32": torch.float32}
# The most telling first: what there is no time for is left out at the end.
WORKLOADS = (
    *MAIN,
    Workload("MDLSTM", 64, (1024,), 128, 128),
    Workload("MDLSTM", 64, (1024,), 128, 128, directions=1),
    Workload("MDLSTM", 4, (48, 48, 48), 8, 32),
    *CELLS,
)
TINY_WORKLOADS = (replace(TINY, lattice=(2, 2)), replace(TINY, lattice=(3,), directions=1))


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
        dy = torch.randn_like(output_of(layer(x)))

    def train() -> None:
        layer.zero_grad(set_to_none=False)
        x.grad = None
        output_of(layer(x)).backward(dy)

    return train


def output_of(result: Any) -> Tensor:
    return result[0] if isinstance(result, tuple) else result


def results(layer: ScanLayer, x: Tensor, dtype: torch.dtype) -> list[Tensor]:
    """Output and gradients in float64, of the same numbers computed with in another dtype."""
    layer, x = layer.to(dtype), x.to(dtype).requires_grad_()
    y = layer(x)
    dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y.device, dtype)
    return [tensor.double() for tensor in (y, *torch.autograd.grad(y, [x, *layer.parameters()], dy))]


def disagreement(workload: Workload, dtype: torch.dtype, device: str) -> str | None:
    """Where a scan is farther from float64 than plain PyTorch in its dtype, on part of the lattice.

    Both by the wavefront backend: the reference, point by point, would take minutes at these sizes.

    Twice as far may be chance; float32 out of products of tf32, with fewer bits kept than a float32 unit has, may be
    ten times as far. With this all kernels that will be timed are compiled.
    """
    factor = 10 if dtype == torch.float32 else 2
    cropped = replace(workload, batch=min(workload.batch, 8)).with_lattice(
        *(min(d, 64) for d in workload.lattice)
    )
    layer, x = cropped.build().to(device, dtype), cropped.input().to(device, dtype)
    with ndrnn.backend("wavefront"):
        plain, exact = results(layer, x, dtype), results(layer, x, torch.float64)
    with ndrnn.backend("triton"):
        ours = results(layer, x, dtype)
        if device == "cuda":
            for training in (False, True):
                step_of(workload.build().to(device, dtype), workload.input().to(device, dtype), training)()
            torch.cuda.synchronize()
    names = ["y", "x", *(name for name, _ in layer.named_parameters())]
    for name, right, theirs, mine in zip(names, exact, plain, ours, strict=True):
        allowed = factor * (theirs - right).norm() + torch.finfo(dtype).eps / 4 * right.norm()
        if not (mine - right).norm() <= allowed:
            return f"{name} is {float((mine - right).norm() / right.norm()):.1e} off"
    return None


def agreement(run: Run) -> set[tuple[str, str]]:
    """Compile all kernels, in as many processes as there are cores; which (workload, dtype) are right."""
    chosen = TINY_WORKLOADS if run.tiny else WORKLOADS
    right = set()
    if run.tiny:
        for workload in chosen:
            wrong = disagreement(workload, torch.float32, run.device)
            run.add(workload=workload.name, dtype="float32", agrees=wrong or "yes")
            if wrong is None:
                right.add((workload.name, "float32"))
        return right
    pool = ProcessPoolExecutor(min(16, os.cpu_count() or 1), mp_context=multiprocessing.get_context("spawn"))
    pending = {
        pool.submit(disagreement, workload, dtype, run.device): (workload.name, name)
        for workload in chosen
        for name, dtype in DTYPES.items()
    }
    try:
        for done in as_completed(pending, timeout=0.6 * run.left()):
            workload_name, dtype_name = pending[done]
            error = done.exception()
            wrong = done.result() if error is None else f"{type(error).__name__}: {error}"
            run.add(workload=workload_name, dtype=dtype_name, agrees=wrong or "yes")
            if wrong is None:
                right.add((workload_name, dtype_name))
    except TimeoutError:  # what is right so far is worth its times
        run.add(left_out="not all were compared in time")
    pool.shutdown(wait=False, cancel_futures=True)
    return right


def rates(run: Run, dtype: torch.dtype) -> dict[str, float]:
    """What the device itself reaches: operations a second in a large product, bytes a second in a large copy."""
    side, size = (64, 1 << 12) if run.tiny else (8192, 1 << 28)
    left, right = torch.randn(2, side, side, device=run.device).to(dtype).unbind()
    source = torch.randn(size, device=run.device)
    target = torch.empty_like(source)
    return {
        "products": 2 * side**3 / run.seconds(lambda: torch.mm(left, right)),
        "copies": 2 * source.nbytes / run.seconds(lambda: target.copy_(source)),
    }


def floors(
    layer: ScanLayer, workload: Workload, x: Tensor, training: bool, rate: dict[str, float]
) -> dict[str, float]:
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
    return {
        "wavefronts": (2 if training else 1) * wavefronts * SECONDS_A_WAVEFRONT,
        "operations": (3 if training else 1) * workload.operations() / rate["products"],
        "bytes": numbers * x.element_size() / rate["copies"],
    }


def linear_layer(workload: Workload) -> nn.Module | None:
    """A linear scan of the same shape, where the library has one."""
    made = getattr(ndrnn, "MDLinearRNN", None)
    return None if made is None else made(workload.input_size, workload.hidden_size, len(workload.lattice))


def cudnn_layer(workload: Workload, directions: int) -> nn.Module | None:
    """cuDNN's LSTM, for sequences."""
    if len(workload.lattice) > 1 or workload.layer != "MDLSTM" or workload.variant is not None:
        return None
    return nn.LSTM(workload.input_size, workload.hidden_size, batch_first=True, bidirectional=directions == 2)


def measure(
    run: Run, workload: Workload, dtype: torch.dtype, training: bool, rate: dict[str, float]
) -> dict[str, Any]:
    """Seconds of a call and of its peers, by name; where there is no figure, why."""
    layer, x = workload.build().to(run.device, dtype), workload.input().to(run.device, dtype)
    step = step_of(layer, x, training)
    found: dict[str, Any] = {}
    with ndrnn.backend("triton"):
        found["ours"] = run.attempt(lambda: step)
        if not run.tiny:
            torch.cuda.reset_peak_memory_stats()
            before = torch.cuda.memory_allocated()
            step()
            found["peak MiB"] = (torch.cuda.max_memory_allocated() - before) / 2**20
            found["ours in a graph"] = run.attempt(lambda: graph_of(step))
    found["floors"] = floors(layer, workload, x, training, rate)
    if workload not in CELLS:
        with ndrnn.backend("wavefront"):
            found["wavefront"] = run.attempt(lambda: step)
            if not run.tiny:
                found["wavefront in a graph"] = run.attempt(lambda: graph_of(step))
    peers = {"cudnn": cudnn_layer(workload, len(layer.directions))}
    if workload not in CELLS:
        peers["linear scan"] = linear_layer(workload)
    for name, peer in peers.items():
        if peer is not None:
            moved = peer.to(run.device, dtype)
            found[name] = run.attempt(lambda moved=moved: step_of(moved, x, training))  # type: ignore[misc]
    return found


def scans(run: Run) -> None:
    """First what agrees with float64, then the times of that."""
    right = agreement(run)
    chosen = TINY_WORKLOADS if run.tiny else WORKLOADS
    dtypes = {"float32": torch.float32} if run.tiny else DTYPES
    rate = {name: rates(run, dtype) for name, dtype in dtypes.items()}
    for name in rate:
        run.add(dtype=name, **{f"{what} a second": value for what, value in rate[name].items()})
    for workload in chosen:
        for name, dtype in dtypes.items():
            for training in (False, True):
                row = {"workload": workload.name, "dtype": name, "training": training}
                if (workload.name, name) not in right:
                    run.add(**row, left_out="it does not agree, or was not compared")
                elif run.left() < 5:
                    run.add(**row, left_out="no time")
                else:
                    run.add(**row, **measure(run, workload, dtype, training, rate[name]))


def compiled(run: Run) -> None:
    """The wavefront backend compiled, which has as many operators as wavefronts times a dozen: how far it gets."""
    for workload in TINY_WORKLOADS[1:] if run.tiny else MAIN[:1]:
        for training in (False, True):
            layer, x = workload.build().to(run.device), workload.input().to(run.device)
            row = {"workload": workload.name, "dtype": "float32", "training": training}
            started = time.monotonic()
            try:
                with ndrnn.backend("wavefront"), time_limit(max(1, int(run.left() / (2 - training)))):
                    backend = "aot_eager" if run.tiny else "inductor"
                    call = step_of(torch.compile(layer, fullgraph=True, backend=backend), x, training)
                    call()
                    run.add(**row, compiling=time.monotonic() - started, wavefront_compiled=run.seconds(call))
            except OutOfTime:
                run.add(**row, left_out=f"not compiled after {time.monotonic() - started:.0f} s")
            except Exception as error:  # the other way may compile
                run.add(**row, failed=said(error))
            finally:
                torch.compiler.reset()
