"""The limit itself: ``torch.mm`` beside the product of numpy, which may use wider vectors than torch's."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from .child import measure_apart
from .measure import GEMM_SIZE, Effort, in_turn
from .table import Table
from .workloads import Workload

OPERATIONS = 2 * GEMM_SIZE**3


def time_numpy(workload: Workload, effort: Effort) -> dict[str, float]:
    """Run in a process of its own, with one thread and the kernels of numpy's library in its environment."""
    left, right, out = np.random.default_rng(0).random((3, GEMM_SIZE, GEMM_SIZE), dtype=np.float32)
    times = in_turn({"numpy": lambda: np.matmul(left, right, out=out)}, effort)["numpy"]
    return {
        "rate": OPERATIONS / times.median,
        "best": OPERATIONS / min(times.seconds),
        "torch": times.median_limit,
        "share": times.share(OPERATIONS),
    }


def choices() -> dict[str, dict[str, str]]:
    """Kernels of numpy's library, by what is to be in the environment."""
    found: dict[str, dict[str, str]] = {"chosen by numpy": {}}
    if torch.backends.cpu.get_cpu_capability() == "AVX512":
        found["AVX-512 (SkylakeX)"] = {"OPENBLAS_CORETYPE": "SkylakeX"}
    return found


def measure(workload: Workload, effort: Effort, environment: dict[str, str]) -> dict[str, float] | str:
    """:func:`time_numpy` in a process of its own."""
    one = {"OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    return measure_apart("numpy", workload, effort, timeout=120, environment={**one, **environment})


def table(workloads: tuple[Workload, ...], effort: Effort, progress: Callable[[str], None]) -> Table:
    result = Table(
        f"Single-thread float32 products of {GEMM_SIZE}³",
        {"numpy's kernels": "", "numpy, GFLOP/s": ".0f", "torch.mm, GFLOP/s": ".0f", "numpy / torch": ".2f"},
        notes=["Shares in the other tables are of torch.mm."],
    )
    for name, environment in choices().items():
        progress(name)
        answer = measure(workloads[0], effort, environment)
        if isinstance(answer, str):
            result.notes.append(f"{name}: {answer}")
        else:
            result.add(name, answer["rate"] / 1e9, answer["torch"] / 1e9, answer["share"])
    return result
