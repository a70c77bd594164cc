"""The linear recurrence beside gated layers and a row-then-column scan in plain PyTorch, and beside its limits."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from .measure import Call, Effort, calls_of, in_turn, inference, threads, training_step
from .table import Table
from .workloads import Workload


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
        times = in_turn(calls, effort)
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
    """What a layer cannot do without, each part as PyTorch does it alone, and the share of their sum that it reaches.

    The product of inputs and weights, in a training step thrice, as for the gradients of both; the functions, an
    exponential for each of the n + 1 shares, the candidate and the output gate of every unit; and the bytes, a copy of y
    for reading x and writing y, in a training step thrice, for the memories and what comes back, too.
    """
    progress("the limit")
    layer, x = workload.build(), workload.input()
    points, rows = x.shape[:-1].numel(), layer.weight_ih.detach().flatten(0, 1).T.contiguous()
    flat, out = x.flatten(0, -2), torch.empty(points, rows.shape[1])
    functions = torch.randn(points, len(layer.directions) * layer.hidden_size)
    y, count = torch.empty_like(functions), layer.ndim + 3
    parts: dict[str, tuple[Call, int, int]] = {
        "product": (lambda: torch.mm(flat, rows, out=out), 1, 3),
        f"{count} exponentials of every unit": (lambda: torch.exp(functions, out=y), count, count),
        "copies of y": (lambda: y.copy_(functions), 1, 3),
    }
    with threads(1):
        times = in_turn(calls_of(workload) | {name: call for name, (call, *_) in parts.items()}, effort)
    least = {name: 1e3 * min(measured.seconds) for name, measured in times.items()}
    result = Table(
        f"The limit: {workload.name}",
        {"part": "", "once, ms": ".3g", "inference, ms": ".3g", "training step, ms": ".3g"},
    )
    sums = [0.0, 0.0]
    for name, (_, there, back) in parts.items():
        each = [there * least[name], back * least[name]]
        sums = [total + more for total, more in zip(sums, each, strict=True)]
        result.add(name, least[name], *each)
    taken = least["inference"], least["training"]
    result.add("their sum, the limit", None, *sums)
    result.add("the layer", None, *taken)
    result.add(
        "share of the limit", None, *(f"{total / ms:.0%}" for total, ms in zip(sums, taken, strict=True))
    )
    return result


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
