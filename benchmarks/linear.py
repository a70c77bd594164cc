"""The linear recurrence beside gated layers and a row-then-column scan in plain PyTorch, and beside its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from . import products
from .measure import Call, Effort, Times, calls_of, in_turn, inference, threads, training_step
from .table import Table
from .workloads import Workload

CACHED = 1 << 16
"""Numbers that stay in a processor's cache."""


class RowsThenColumns(nn.Module):
    """What is usual where two axes have no scan: along the rows both ways, then along the columns, in plain PyTorch.

    Each step is one batched operation over all lines; the weights are those of a layer of four directions.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.gates = nn.ModuleList(
            nn.Linear(size, 2 * 4 * hidden_size) for size in (input_size, 2 * hidden_size)
        )

    def forward(self, x: Tensor) -> Tensor:
        for gates in self.gates:
            x = _both_ways(gates(x)).transpose(1, 2)
        return x


def _both_ways(a: Tensor) -> Tensor:
    """Gated sums (N, D1, D2, 2 H) along the last axis of the lattice, forwards and backwards."""
    outputs = []
    for half, back in zip(a.chunk(2, -1), (False, True), strict=True):
        i, f, g, o = half.chunk(4, -1)
        share = torch.sigmoid(f - i)
        z, c, states = (1 - share) * torch.tanh(g), torch.zeros_like(g[:, :, 0]), []
        steps = range(a.shape[2] - 1, -1, -1) if back else range(a.shape[2])
        for t in steps:
            c = z[:, :, t] + share[:, :, t] * c
            states.append(c)
        outputs.append(torch.sigmoid(o) * torch.stack(states[::-1] if back else states, 2))
    return torch.cat(outputs, -1)


def tables(workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]) -> Iterator[Table]:
    yield _layers(workloads, effort, progress)
    for workload in workloads:
        if workload.layer == "MDLinearRNN":
            yield limit(workload, effort, progress)
            yield _growth(workload, effort, progress)


def _layers(workloads: Sequence[Workload], effort: Effort, progress: Callable[[str], None]) -> Table:
    result = Table(
        "The linear recurrence beside gated layers, one thread",
        {
            "layer": "",
            "weights": ".0f",
            "inference, ms": ".3g",
            "share of the product's limit": ".0%",
            "training step, ms": ".3g",
            "share": ".0%",
        },
    )
    calls: dict[str, Call] = {}
    for workload in workloads:
        calls |= {f"{kind}: {workload.name}": call for kind, call in calls_of(workload).items()}
    progress("layers, in turn")
    with threads(1):
        times = in_turn(calls, effort, warm=True)
    for workload in workloads:
        there, back = (times[f"{kind}: {workload.name}"] for kind in ("inference", "training"))
        weights = sum(parameter.numel() for parameter in workload.build().parameters())
        operations = workload.operations()
        result.add(
            workload.name,
            weights,
            1e3 * min(there.seconds),
            there.share(operations),
            1e3 * min(back.seconds),
            back.share(3 * operations),
        )
    if workloads:
        first = workloads[0]
        progress("rows, then columns, in plain PyTorch")
        x = first.input()
        module = RowsThenColumns(first.input_size, first.hidden_size)
        with threads(1):
            plain = {"inference": inference(module, x), "training": training_step(module, x)}
            times = in_turn(plain, Effort.quick(effort.clock))
        result.add(
            "rows, then columns, in plain PyTorch",
            sum(parameter.numel() for parameter in module.parameters()),
            1e3 * min(times["inference"].seconds),
            None,
            1e3 * min(times["training"].seconds),
            None,
        )
    result.notes.append("Times are the least of all rounds.")
    return result


def limit(workload: Workload, effort: Effort, progress: Callable[[str], None]) -> Table:
    """What a layer cannot do without, each part at the rate that libraries reach here, and the share of their sum.

    The product of inputs and weights, in a training step thrice, as for the gradients of both; the functions, an
    exponential for each of the n + 1 shares, the candidate and the output gate of every unit; and the bytes, a copy of y
    for reading x and writing y, in a training step thrice, for the memories and what comes back, too.
    """
    progress("the limit")
    layer = workload.build()
    points, units = workload.batch * workload.points, len(layer.directions) * layer.hidden_size
    few, found = torch.randn(2, CACHED).unbind()
    y, copy = torch.randn(2, points, units).unbind()
    calls = {"exp": lambda: torch.exp(few, out=found), "copy": lambda: copy.copy_(y)}
    with threads(1):
        times = in_turn({**calls_of(workload), **calls}, effort, warm=True)
    least = {name: 1e3 * min(measured.seconds) for name, measured in times.items()}
    name, rate = _product_rate(workload, effort, times["exp"])
    count = layer.ndim + 3
    parts = {
        f"product, at the rate of {name}": (1e3 * workload.operations() / rate, 1, 3),
        f"{count} exponentials of every unit, by PyTorch in the cache": (
            least["exp"] * points * units / CACHED,
            count,
            count,
        ),
        "copies of y, by PyTorch": (least["copy"], 1, 3),
    }
    result = Table(
        f"The limit: {workload.name}",
        {"part": "", "once, ms": ".3g", "inference, ms": ".3g", "training step, ms": ".3g"},
    )
    sums = [0.0, 0.0]
    for part, (once, there, back) in parts.items():
        sums = [sums[0] + there * once, sums[1] + back * once]
        result.add(part, once, there * once, back * once)
    taken = least["inference"], least["training"]
    result.add("their sum, the limit", None, *sums)
    result.add("the layer", None, *taken)
    result.add(
        "share of the limit", None, *(f"{total / ms:.0%}" for total, ms in zip(sums, taken, strict=True))
    )
    result.notes.append("Above 100 % where the layer's own exponentials are quicker than PyTorch's.")
    return result


def _product_rate(workload: Workload, effort: Effort, measured: Times) -> tuple[str, float]:
    """The best rate of a product of 1024^3, in operations a second: PyTorch's library does not use all of every processor."""
    rates = {"torch.mm": max(measured.limit)}
    for name, environment in products.choices().items():
        answer = products.measure(workload, effort, environment)
        if not isinstance(answer, str):
            rates[f"numpy's kernels {name}"] = answer["best"]
    best = max(rates, key=lambda name: rates[name])
    return best, rates[best]


def _growth(workload: Workload, effort: Effort, progress: Callable[[str], None]) -> Table:
    """Time by points: the same for every point if it is linear in them."""
    result = Table("Nanoseconds a point", {"lattice": "", "inference": ".4g", "training step": ".4g"})
    for extent in (64, 128, 256, 512):
        smaller = replace(workload, lattice=(extent, extent))
        progress(f"{extent} x {extent}")
        with threads(1):
            times = in_turn(calls_of(smaller), Effort.quick(effort.clock))
        each = [1e9 * min(times[kind].seconds) / smaller.points for kind in ("inference", "training")]
        result.add(f"{extent} x {extent}", *each)
    return result
