"""Measurements that need a process of their own: peak memory, builds chosen at start, compilers, other frameworks."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from .measure import Effort
from .workloads import Workload


def measure_apart(
    task: str,
    workload: Workload,
    effort: Effort,
    *,
    timeout: float,
    environment: Mapping[str, str] | None = None,
) -> dict[str, float] | str:
    """Run a task on a workload in a new process; its figures, or why there are none."""
    order = {"task": task, "workload": asdict(workload), "effort": asdict(effort)}
    try:
        process = subprocess.run(
            [sys.executable, "-m", "benchmarks.child"],
            input=json.dumps(order),
            capture_output=True,
            text=True,
            timeout=timeout,
            env={**os.environ, **(environment or {})},
        )
    except subprocess.TimeoutExpired:
        return f"over {timeout:.0f} s"
    if process.returncode != 0:
        lines = process.stderr.strip().splitlines() or [f"exit status {process.returncode}"]
        return f"failed: {lines[-1][:80]}"
    answer: dict[str, float] = json.loads(process.stdout.splitlines()[-1])
    return answer


def _run(order: dict[str, Any]) -> dict[str, float]:
    import torch

    from . import builds, memory, peers, products

    tasks = {
        "compiled": peers.time_compiled,
        "keras": peers.time_keras,
        "memory": memory.peaks,
        "build": builds.time_build,
        "numpy": products.time_numpy,
    }
    fields = order["workload"]
    workload = Workload(**{**fields, "lattice": tuple(fields["lattice"])})
    torch.set_num_threads(workload.threads)
    return tasks[order["task"]](workload, Effort(**order["effort"]))


if __name__ == "__main__":
    print(json.dumps(_run(json.load(sys.stdin))))
