"""Peak memory of a call, as the system sees it: pages touched beyond those that were there before."""

from __future__ import annotations

import gc
import resource
import sys
from collections.abc import Callable
from pathlib import Path

import torch

from .child import measure_apart
from .measure import Effort, inference, training_step
from .table import Table
from .workloads import Workload

MEBI = 2**20


def peaks(workload: Workload, effort: Effort) -> dict[str, float]:
    """Run in a process of its own: bytes that one call takes at its peak beside the layer and its input."""
    layer, x = workload.build(), workload.input()
    small = workload.with_lattice(*(2 for _ in workload.lattice)).input()
    for tiny in (inference(layer, small), training_step(layer, small)):
        tiny()  # brings in code and thread pools
    results = {"output": float(x.shape[0] * workload.points * layer.output_size * x.element_size())}
    x_grad = x.clone().requires_grad_()

    def train() -> None:
        layer.zero_grad(set_to_none=True)
        y = layer(x_grad)
        y.backward(torch.ones_like(y))

    results["inference"] = _peak(inference(layer, x))
    results["training"] = _peak(train)
    return results


def _peak(call: Callable[[], object]) -> float:
    gc.collect()
    reset, before = _reset_peak(), _resident()
    result = call()
    peak = _resident("VmHWM") if reset else resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _rss_unit()
    del result
    return max(0.0, peak - before)


def _rss_unit() -> int:
    return 1 if sys.platform == "darwin" else 1024


def _resident(field: str = "VmRSS") -> float:
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * _rss_unit()
    return next(float(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _reset_peak() -> bool:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return False
    return True


def table(workloads: tuple[Workload, ...], effort: Effort, progress: Callable[[str], None]) -> Table:
    """Against the wavefront scan, and against the output that the caller asked for."""
    result = Table(
        "Peak memory beside the layer and its input, MiB",
        {
            "workload": "",
            "output": ".1f",
            "inference": ".1f",
            "wavefront's": ".1f",
            "of it, inference": ".0%",
            "training": ".1f",
            "wavefront's ": ".1f",
            "of it, training": ".0%",
        },
        notes=["Training: forward and backward of one step, the gradient of the output included."],
    )
    for workload in workloads:
        progress(workload.name)
        ours = measure_apart("memory", workload, effort, timeout=600)
        theirs = measure_apart(
            "memory", workload, effort, timeout=600, environment={"NDRNN_BACKEND": "wavefront"}
        )
        if isinstance(ours, str) or isinstance(theirs, str):
            result.notes.append(f"{workload.name}: {ours if isinstance(ours, str) else theirs}")
            continue
        row: list[float] = [ours["output"] / MEBI]
        for kind in ("inference", "training"):
            row += [ours[kind] / MEBI, theirs[kind] / MEBI, ours[kind] / max(theirs[kind], 1.0)]
        result.add(workload.name, *row)
    return result
