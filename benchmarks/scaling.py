"""Time and memory against the number of points and of directions, with the exponents of the power laws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import log

from .child import measure_apart
from .measure import Effort, calls_of, in_turn
from .memory import MEBI
from .table import Table
from .workloads import Workload

BY_POINTS = tuple(
    Workload("MDLSTM", 1, (extent, extent), 1, 16, directions=1)
    for extent in (32, 64, 128, 256, 512, 1024, 2048)
)
BY_DIRECTIONS = tuple(Workload("MDLSTM", 1, (256, 256), 1, 16, directions=count) for count in (1, 2, 4))
BY_DIRECTIONS_3 = tuple(
    Workload("MDLSTM", 1, (40, 40, 40), 1, 16, directions=count) for count in (1, 2, 4, 8)
)
WORKLOADS = tuple(dict.fromkeys(BY_POINTS + BY_DIRECTIONS + BY_DIRECTIONS_3))
QUANTITIES = ("inference", "training")


def exponent(sizes: Sequence[float], values: Sequence[float]) -> float:
    """The slope of the least-squares line through the logarithms."""
    xs, ys = [log(size) for size in sizes], [log(value) for value in values]
    x_mean, y_mean = sum(xs) / len(xs), sum(ys) / len(ys)
    covariance = sum((x - x_mean) * (y - y_mean) for x, y in zip(xs, ys, strict=True))
    return covariance / sum((x - x_mean) ** 2 for x in xs)


def tables(workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]) -> list[Table]:
    series = {
        "Growth with the lattice": BY_POINTS,
        "Growth with the directions, n = 2": BY_DIRECTIONS,
        "Growth with the directions, n = 3": BY_DIRECTIONS_3,
    }
    chosen = {title: [one for one in members if one in workloads] for title, members in series.items()}
    return [_table(title, members, effort, progress) for title, members in chosen.items() if members]


def _table(
    title: str, workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]
) -> Table:
    result = Table(
        title,
        {
            "workload": "",
            "inference, ms": ".3g",
            "training step, ms": ".3g",
            "inference, peak MiB": ".4g",
            "training, peak MiB": ".4g",
        },
    )
    sizes: list[float] = []
    columns: list[list[float]] = [[], [], [], []]
    for workload in workloads:
        progress(workload.name)
        times = in_turn(calls_of(workload), effort)
        peaks = measure_apart("memory", workload, effort, timeout=600)
        if isinstance(peaks, str):
            raise RuntimeError(f"peak memory of {workload.name}: {peaks}")
        row = [1e3 * times[kind].median for kind in QUANTITIES] + [peaks[kind] / MEBI for kind in QUANTITIES]
        result.add(workload.name, *row)
        sizes.append(workload.points * len(workload.build().directions))
        for column, value in zip(columns, row, strict=True):
            column.append(value)
    if len(sizes) > 1:
        # a few pages more or less are all there is to see in the memory of the smallest
        result.add(
            "exponent",
            *(f"{exponent(sizes, column):.2f}" for column in columns[:2]),
            *(f"{exponent(sizes[-4:], column[-4:]):.2f}" for column in columns[2:]),
        )
        result.notes.append("Exponents of time are fitted to all rows, those of memory to the last four.")
    return result
