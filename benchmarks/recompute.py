"""What the ``recompute`` option saves and costs in training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import ndrnn

from .child import measure_apart
from .measure import Effort, calls_of, in_turn
from .memory import MEBI
from .table import Table
from .workloads import Workload


def table(workloads: tuple[Workload, ...], effort: Effort, progress: Callable[[str], None]) -> Table:
    result = Table(
        "Training with recomputation by strips, beside the plain layer",
        {
            "workload": "",
            "plain step, ms": ".3g",
            "in strips": ".3g",
            "times longer": ".2f",
            "kept for the backward pass, MiB": ".1f",
            "in strips ": ".1f",
            "times less": ".1f",
            "peak, MiB": ".1f",
            "in strips  ": ".1f",
            "times less ": ".1f",
        },
        notes=["The peak includes the output and its gradient, which no recomputation saves."],
    )
    for workload in workloads:
        progress(workload.name)
        saving = replace(workload, variant="recompute")
        times = in_turn(
            {"plain": calls_of(workload)["training"], "strips": calls_of(saving)["training"]}, effort
        )
        shape = workload.input().shape
        kept = [ndrnn.estimate(one.build(), shape).kept_bytes / MEBI for one in (workload, saving)]
        peaks = []
        for one in (workload, saving):
            answer = measure_apart("memory", one, effort, timeout=600)
            if isinstance(answer, str):
                raise RuntimeError(f"peak memory of {one.name}: {answer}")
            peaks.append(answer["training"] / MEBI)
        plain, strips = times["plain"], times["strips"]
        result.add(
            workload.name,
            1e3 * plain.median,
            1e3 * strips.median,
            plain.ratio(strips),
            *kept,
            kept[0] / kept[1],
            *peaks,
            peaks[0] / peaks[1],
        )
    return result
