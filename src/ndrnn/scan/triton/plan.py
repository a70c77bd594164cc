"""What a launch has to know beforehand: the shape of a cell, and how strips, groups and tiles divide the work.

Nothing here looks at data: a plan follows from shapes alone, so that a scan never waits for the device and can be
captured in a graph, and so that the same call always sums in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

MAX_NDIM = 3

CELLS = (
    "rnn_tanh",
    "rnn_relu",
    "lstm",
    "lstm_peephole",
    "stable",
    "leaky",
    "spatial",
    "spatial_extended",
    "gru",
)


def state_dtype(dtype: torch.dtype) -> torch.dtype:
    """The precision of states and of all sums, given that of the inputs and weights."""
    return dtype if dtype == torch.float64 else torch.float32


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


def holds_state_apart(shape: Shape, dtype: torch.dtype) -> bool:
    """Whether the states are stored beside the outputs; those of the GRU are its outputs, if precise enough."""
    return shape.memory or (shape.states and state_dtype(dtype) != dtype)


def _power_of_two(least: int) -> int:
    """At least 16, what tensor cores take."""
    return max(16, 1 << (least - 1).bit_length())


@dataclass(frozen=True)
class Chip:
    """What a plan has to know of a device."""

    processors: int
    shared_memory: int  # bytes that one program can have


@dataclass(frozen=True)
class Plan:
    """How a scan is cut: strips of ``rows``, groups of ``group`` samples, tiles of M points by BU units by BK."""

    group: int
    groups: int
    rows: int
    strips: int
    programs: int
    M: int
    BU: int
    BK: int
    resident: bool  # the recurrent weights stay in shared memory all through the sweep
    num_warps: int


# Sums of a tile, in numbers: what the registers of eight warps hold beside all else. Found by compiling for sm_90.
_MOST_SUMS = 64 * 32 * 10
# Shared memory beside the weights: operands that are not weights, and changes of layout.
_WORKSPACE = 40 * 1024


@cache
def plan(
    shape: Shape,
    hidden: int,
    batch: int,
    lattice: tuple[int, ...],
    directions: int,
    itemsize: int,
    precision: str,
    chip: Chip,
) -> Plan:
    """Cut a scan.

    A tile takes a wavefront of a strip: rows times samples for two axes. Rows beyond the first leave part of it idle
    at both ends of the sweep, and save hand-overs to the next strip: worth it up to an eighth of the sweep. The
    smallest tile that leaves no more programs than two a multiprocessor makes the quickest wavefront.
    """
    reach = sum(lattice[1:]) - len(lattice) + 1
    front = min(lattice[1:]) if len(lattice) > 2 else 1  # points of a row on a wavefront, about
    points = directions * batch * lattice[0] * front
    # operands that are made of several products, or take no tensor cores of 16 bits, would live in registers
    halves = itemsize == 2
    weights = shape.ndim * shape.gates * hidden * hidden * itemsize * (2 if shape.feeds else 1)
    whole = _power_of_two(hidden)
    resident = (
        (halves or precision == "tf32")
        and whole * shape.lanes * 16 <= _MOST_SUMS
        and weights * whole * whole // (hidden * hidden) + _WORKSPACE <= chip.shared_memory
    )
    unit = whole if resident else min(whole, 64 if halves and shape.lanes * 64 * 16 <= _MOST_SUMS else 32)
    tile, most = 16, 64 if halves else 32
    while tile < most and 2 * tile * unit * shape.lanes <= _MOST_SUMS and points > 2 * tile * chip.processors:
        tile *= 2
    if len(lattice) == 1:
        rows, group = lattice[0], min(batch, tile)
    else:
        rows = min(lattice[0], tile, 1 << max(0, (reach // 8).bit_length() - 1))
        group = min(batch, max(1, tile // (rows * front)))
        rows = min(lattice[0], max(rows, tile // (group * front)))  # what the samples leave free
    groups, strips = -(-batch // group), -(-lattice[0] // rows)
    return Plan(
        group=group,
        groups=groups,
        rows=rows,
        strips=strips,
        programs=directions * groups * strips,
        M=tile,
        BU=unit,
        BK=unit if resident else min(64, whole),
        resident=resident,
        num_warps=8 if tile * unit * shape.lanes > _MOST_SUMS // 4 else 4,
    )


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
