"""The compiled kernels' code for older processors, forced on this one."""

from __future__ import annotations

from collections.abc import Callable

import ndrnn

from .child import measure_apart
from .measure import Effort, calls_of, in_turn
from .table import Table
from .workloads import Workload

INSTRUCTION_SETS = ("avx512", "avx2", "portable")


def time_build(workload: Workload, effort: Effort) -> dict[str, float]:
    """Run in a process of its own, with the instruction set in its environment: shares of the limit."""
    if ndrnn.available_backends()["cpu"] is not True:
        raise RuntimeError(str(ndrnn.available_backends()["cpu"]))
    times, operations = in_turn(calls_of(workload), effort), workload.operations()
    return {
        "inference": times["inference"].share(operations),
        "training": times["training"].share(3 * operations),
    }


def table(workloads: tuple[Workload, ...], effort: Effort, progress: Callable[[str], None]) -> Table:
    columns = {f"{name}, {kind}": ".0%" for name in INSTRUCTION_SETS for kind in ("inference", "training")}
    result = Table("Code for other processors, share of this one's GEMM", {"workload": "", **columns})
    for workload in workloads:
        progress(workload.name)
        shares: list[float | str | None] = []
        for name in INSTRUCTION_SETS:
            answer = measure_apart(
                "build", workload, effort, timeout=600, environment={"NDRNN_CPU_ISA": name}
            )
            if isinstance(answer, str):
                result.notes.append(f"{workload.name}, {name}: {answer}")
                shares += [None, None]
            else:
                shares += [answer["inference"], answer["training"]]
        result.add(workload.name, *shares)
    return result
