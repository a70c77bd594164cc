"""What a launch has to know beforehand: the shape of a cell, and how strips, groups and tiles divide the work.

Nothing here looks at data: a plan follows from shapes alone, so that a scan never waits for the device and can be
captured in a graph, and so that the same call always sums in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from math import prod

import torch
from torch import Tensor

from ...lattice import face_points

MAX_NDIM = 3


@dataclass(frozen=True)
class Shape:
    """The shape of a cell: its gates, the lanes they are computed in, and what a point takes from its predecessors."""

    name: str
    ndim: int

    @property
    def memory(self) -> bool:
        """Whether a point has a memory beside its output."""
        return self.name not in ("rnn_tanh", "rnn_relu", "gru")

    @property
    def states(self) -> bool:
        """Whether the predecessors' states also enter elementwise: the memories, the outputs of the GRU."""
        return self.memory or self.name == "gru"

    @property
    def split(self) -> bool:
        """Whether the products of the last gate stay apart, by axis."""
        return self.name == "gru"

    @property
    def feeds(self) -> bool:
        """Whether the memories enter the products."""
        return self.name == "spatial_extended"

    @property
    def peepholes(self) -> bool:
        return self.name == "lstm_peephole"

    @property
    def gates(self) -> int:
        return {"rnn_tanh": 1, "rnn_relu": 1, "gru": 2 * self.ndim + 1}.get(self.name, self.ndim + 3)

    @property
    def lanes(self) -> int:
        return self.gates + self.ndim if self.split else self.gates

    @property
    def keeps_gates(self) -> bool:
        """Whether the backward pass wants the activations of the gates."""
        return self.states

    def constants(self) -> dict[str, object]:
        """As the kernels take them."""
        return {
            "CELL": self.name,
            "NDIM": self.ndim,
            "GATES": self.gates,
            "LANES": self.lanes,
            "MEMORY": self.memory,
            "STATES": self.states,
            "SPLIT": self.split,
            "FEEDS": self.feeds,
            "PEEPHOLES": self.peepholes,
        }


def _power_of_two(least: int) -> int:
    return 1 << max(0, least - 1).bit_length()


@dataclass(frozen=True)
class Plan:
    """How a scan is cut: strips of ``rows``, groups of ``group`` samples, tiles of M points by BU units by BK."""

    group: int
    groups: int
    rows: int
    strips: int
    M: int
    BU: int
    BK: int
    resident: bool
    num_warps: int


@cache
def plan(
    shape: Shape, hidden: int, batch: int, lattice: tuple[int, ...], directions: int, bytes_each: int, tensor_cores: bool, processors: int
) -> Plan:
    """Cut a scan. ``processors`` are the multiprocessors of the device.

    A tile takes a wavefront of a strip: rows times samples for two axes. Rows beyond the first cost idle wavefronts
    at the strip's corners, and save hand-overs to the next strip: up to an eighth of the sweep they are worth it.
    The smallest tile that leaves no more programs than fit on the chip twice has the shortest wavefront.
    """
    others, reach = prod(lattice[1:]), sum(lattice[1:]) - len(lattice) + 1
    unit = min(32, max(16, _power_of_two(hidden)))
    block = min(64, max(16, _power_of_two(hidden)))
    front = 1 if len(lattice) < 3 else min(lattice[1:])  # points of a row on a wavefront
    wanted = directions * batch * lattice[0] * front
    tile = 16
    while tile < (64 if tensor_cores else 32) and wanted > 2 * tile * processors:
        tile *= 2
    if len(lattice) == 1:
        rows = lattice[0]
        group = min(batch, tile)
    else:
        rows = min(lattice[0], tile, max(1, _power_of_two((reach + 1) // 8 + 1) // 2))
        group = min(batch, max(1, tile // (rows * front)))
        if group == batch:  # what the samples leave free
            rows = min(lattice[0], max(rows, tile // (group * front)))
    weights = shape.ndim * shape.gates * hidden * hidden * bytes_each
    # tiles that stay in registers all through the sweep; without tensor cores operands are copied for every thread
    resident = tensor_cores and hidden <= unit and weights <= 64 * 1024
    return Plan(
        group=group,
        groups=-(-batch // group),
        rows=rows,
        strips=-(-lattice[0] // rows),
        M=tile,
        BU=unit,
        BK=unit if resident else block,
        resident=resident,
        num_warps=8 if tile * unit * shape.lanes > 64 * 32 * 5 // 2 else 4,
    )


def is_empty(batch: int, lattice: Sequence[int]) -> bool:
    return batch == 0 or prod(lattice) == 0


_orders: dict[tuple[tuple[int, ...], torch.device], Tensor] = {}


def order_of_others(lattice: tuple[int, ...], device: torch.device) -> Tensor | None:
    """The points of the axes after the first, sorted by their distance from the corner, and where each distance starts.

    int32: first the starts, one more than there are distances, then the row-major indices. None where the order is
    the points' own.
    """
    if len(lattice) < MAX_NDIM:
        return None
    key = lattice[1:], device
    if key in _orders:
        return _orders[key]
    points = torch.arange(lattice[1] * lattice[2], device=device)
    distance = points // lattice[2] + points % lattice[2]
    in_order = distance.argsort(stable=True)
    starts = torch.searchsorted(distance[in_order], torch.arange(lattice[1] + lattice[2], device=device))
    order = torch.cat([starts, in_order]).to(torch.int32)
    # what is computed while a graph is captured holds no values yet, and belongs to the graph
    if device.type != "cuda" or not torch.cuda.is_current_stream_capturing():
        _orders[key] = order
    return order


def count_face_points(lattice: Sequence[int]) -> int:
    return sum(face_points(lattice))
