"""What a call costs that has next to nothing to compute."""

from __future__ import annotations

from collections.abc import Callable

import ndrnn

from .measure import Effort, in_turn, inference
from .table import Table
from .workloads import Workload


def table(workload: Workload, effort: Effort, progress: Callable[[str], None]) -> Table:
    progress(workload.name)
    layer, x = workload.build(), workload.input()

    def wavefront() -> object:
        with ndrnn.backend("wavefront"):
            return layer(x)

    calls = {
        "forward, recording for backward": lambda: layer(x),
        "forward, inference mode": inference(layer, x),
        "forward and backward": lambda: layer(x).sum().backward(),
        "forward, wavefront": wavefront,
    }
    result = Table(f"A tiny call, {workload.name}", {"call": "", "µs": ".1f"})
    for name, times in in_turn(calls, effort).items():
        result.add(name, 1e6 * times.median)
    return result
