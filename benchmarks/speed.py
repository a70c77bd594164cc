"""Times as shares of the machine's matrix rate, and what others take for the same work."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .measure import Effort, Limit, calls_of, in_turn, threads
from .peers import Peer
from .table import Table, Value
from .workloads import Workload


def share_table(
    title: str, workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]
) -> Table:
    result = Table(
        title,
        {
            "workload": "",
            "GEMM, GFLOP/s": ".0f",
            "inference, ms": ".3g",
            "share": ".0%",
            "training step, ms": ".3g",
            "share ": ".0%",
        },
    )
    for workload in workloads:
        progress(workload.name)
        with threads(workload.threads):
            result.add(workload.name, *_shares(workload, effort))
    return result


def peer_table(
    title: str,
    peers: Sequence[Peer],
    workloads: Sequence[Workload],
    effort: Effort,
    progress: Callable[[str], None],
) -> Table:
    result = Table(
        f"{title}: how many times longer others take, inference / training",
        {"workload": "", **dict.fromkeys((peer.name for peer in peers), ".3g")},
    )
    effort = Effort.quick(effort.clock)  # peers are slow, and a ratio of several needs no third digit
    for workload in workloads:
        row: list[Value] = []
        for peer in peers:
            progress(f"{workload.name}: {peer.name}")
            with threads(workload.threads):
                row.append(peer.ratios(workload, effort))
        result.add(workload.name, *row)
    return result


def _shares(workload: Workload, effort: Effort) -> list[Value]:
    times, operations = in_turn(calls_of(workload), effort), workload.operations()
    inference, training = times["inference"], times["training"]
    return [
        inference.median_limit / 1e9,
        1e3 * inference.median,
        inference.share(operations),
        1e3 * training.median,
        training.share(3 * operations),
    ]


def thread_table(workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]) -> Table:
    """One thread against two, taken in turn, and what the second gives a matrix product meanwhile: the machine's own."""
    result = Table(
        "Two threads",
        {
            "workload": "",
            "inference, ms": ".3g",
            "two threads": ".3g",
            "times faster": ".2f",
            "training step, ms": ".3g",
            "two threads ": ".3g",
            "times faster ": ".2f",
            "torch.mm": ".2f",
        },
    )
    limit = Limit(effort.clock)
    for workload in workloads:
        progress(workload.name)
        calls, counts = {}, {}
        for count in (1, 2):
            for kind, call in {**calls_of(workload), "product": limit.product}.items():
                calls[f"{kind} {count}"], counts[f"{kind} {count}"] = call, count
        times = in_turn(calls, effort, thread_counts=counts)
        row: list[Value] = []
        for kind in ("inference", "training"):
            one, two = times[f"{kind} 1"], times[f"{kind} 2"]
            row += [1e3 * one.median, 1e3 * two.median, two.ratio(one)]
        row.append(times["product 2"].ratio(times["product 1"]))
        result.add(workload.name, *row)
    return result
