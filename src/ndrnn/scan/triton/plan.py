"""What a launch has to know beforehand: the shape of a cell, and how strips, groups and tiles divide the work.

Nothing here looks at data: a plan follows from shapes alone, so that a scan never waits for the device and can be
captured in a graph, and so that the same call always sums in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from ...saturation import limit_of
from .packs import Tiles, Traits

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

    def limit(self, dtype: torch.dtype) -> float:
        """The size at which states of a type saturate; gradients do at that of what they are computed in."""
        return limit_of(dtype, self.feeds)

    def traits(self, hidden: int) -> Traits:
        """As the kernels take them."""
        weights = self.ndim * self.gates * hidden**2
        return Traits(
            self.name,
            self.ndim,
            hidden,
            self.gates,
            self.lanes,
            self.memory,
            self.states,
            self.split,
            self.feeds,
            self.peepholes,
            weights=weights,
            extras=weights if self.feeds else (self.ndim + 2 * self.peepholes) * hidden,
            shared=(self.gates - self.split) * hidden,
        )


def holds_state_apart(shape: Shape, dtype: torch.dtype) -> bool:
    """Whether the states are stored beside the outputs; those of the GRU are its outputs, if precise enough."""
    return shape.memory or (shape.states and state_dtype(dtype) != dtype)


def power_of_two(least: int) -> int:
    """At least 16, what tensor cores take."""
    return max(16, 1 << (least - 1).bit_length())


@dataclass(frozen=True)
class Chip:
    """What a plan has to know of a device."""

    processors: int
    shared_memory: int  # bytes that one program can have


@dataclass(frozen=True)
class Plan:
    """How a scan is cut: strips of ``rows``, groups of ``group`` samples, slices of ``span`` units.

    A program computes tiles of M points by BU units, over BK units of the predecessors at a time; on the way back over
    BO rows of the weights of all gates.
    """

    group: int
    groups: int
    rows: int
    strips: int
    span: int
    slices: int
    M: int
    BU: int
    BK: int
    BO: int
    resident: bool  # the recurrent weights stay in shared memory all through the sweep
    num_warps: int
    num_stages: int
    crew: int = (
        0  # programs that share a direction's slice where whole wavefronts are cut in tiles; 0 for strips
    )

    def programs(self, directions: int) -> int:
        return directions * self.slices * (self.crew or self.groups * self.strips)

    def counters(self, directions: int) -> int:
        """The draw, and who reports; of whole wavefronts also the draws of the crews."""
        if self.crew:
            return 1 + directions * (self.slices + self.groups)
        return 1 + self.programs(directions)

    def tiles(self, stacked: bool, backward: bool) -> Tiles:
        """As the kernels take them; ``stacked`` where resident weights are taken apart by their bits."""
        block = self.BO if backward else self.BK
        stacked = self.resident and stacked
        return Tiles(
            self.M, self.BU, block, self.span, self.slices, self.resident, stacked, fronts=self.crew > 0
        )


# Sums of a tile, in numbers: what the registers of eight warps hold beside all else. Found by compiling for sm_90.
MOST_SUMS = 64 * 32 * 10
# Shared memory beside the weights: operands that are not weights, and changes of layout.
_WORKSPACE = 40 * 1024
_MOST_SLICES = 16
# Of a slice. Tiles of 16 points by fewer give four warps no columns of their own; more take as many times longer.
_UNITS = 32


@lru_cache(maxsize=4096)
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

    The recurrent weights of a direction stay in shared memory where they fit there in slices of units, each with a
    program of its own. A tile takes a wavefront of a strip: rows times samples for two axes. Rows beyond the first
    leave part of it idle at both ends of the sweep, and save hand-overs to the next strip: as many as a tile has where
    all programs run at once, else as many as idle for a quarter of the sweep. The smallest tile that leaves no more
    programs than the chip holds at once makes the quickest wavefront.
    """
    reach = sum(lattice[1:]) - len(lattice) + 1
    front = min(lattice[1:]) if len(lattice) > 2 else 1  # points of a row on a wavefront, about
    whole = power_of_two(hidden)
    stacked = precision == "tf32x3"
    column = shape.ndim * shape.gates * whole * itemsize * (2 if stacked else 1)  # bytes of weights of a unit
    span = _UNITS
    if column * span + _WORKSPACE > chip.shared_memory and not stacked:
        span //= 2
    resident = (
        (itemsize == 2 or precision in ("tf32", "tf32x3"))
        and not shape.feeds
        and column * span + _WORKSPACE <= chip.shared_memory
        and -(-hidden // span) <= min(_MOST_SLICES, chip.processors)
    )
    slices = -(-hidden // span) if resident else 1
    unit = span if resident else min(whole, 256 // itemsize)
    while unit > 16 and unit * shape.lanes * 16 > MOST_SUMS:
        unit //= 2
    # as many programs as the chip holds at once, and no more
    held = min(4, chip.shared_memory // (column * span + _WORKSPACE // 2)) if resident else 2
    tile, most = 16, unit // 2 if resident or itemsize == 2 else 16
    points = directions * batch * front * (lattice[0] if len(lattice) > 1 else 1)
    most = min(most, MOST_SUMS // (unit * shape.lanes))
    while 2 * tile <= most and points * slices > tile * held * chip.processors:
        tile *= 2
    if len(lattice) == 1:
        rows, group = lattice[0], min(batch, tile)
    elif len(lattice) == 2:
        rows = min(lattice[0], tile)
        if directions * batch * -(-lattice[0] // rows) * slices > held * chip.processors:
            rows = min(rows, 1 << max(0, (reach // 4).bit_length() - 1))
        group = min(batch, max(1, tile // rows))
        rows = min(lattice[0], max(rows, tile // group))  # what the samples leave free
    else:
        # a row meets many points at once, enough for a tile or more
        group = min(batch, max(1, tile // front))
        rows = max(
            1, min(lattice[0], directions * batch * lattice[0] * slices // (group * held * chip.processors))
        )
    block = min(64, whole)
    # what a loop over blocks of weights holds in flight: two blocks of all matrices, one, or none
    flight = shape.ndim * shape.lanes * (2 if shape.feeds else 1) * block * unit * itemsize
    stages = 1 + min(2, (chip.shared_memory - _WORKSPACE) // flight)
    return Plan(
        group=group,
        groups=-(-batch // group),
        rows=rows,
        strips=-(-lattice[0] // rows),
        span=span if resident else hidden,
        slices=slices,
        M=tile,
        BU=unit,
        BK=whole if resident else block,
        BO=64 if resident else block,
        resident=resident,
        num_warps=max(4, min(8, (2 * unit if resident and stacked else unit) // 8)),
        num_stages=1 if resident else stages,
    )


def order_of_others(lattice: tuple[int, ...], device: torch.device) -> Tensor | None:
    """The points of the axes after the first, sorted by their distance from the corner, and where each distance starts.

    int32: first the starts, one more than there are distances, then the row-major indices. None where the order is
    the points' own.
    """
    if len(lattice) < MAX_NDIM:
        return None
    if device.type != "cuda":
        return _kept_order(lattice[1:], device, 0)
    if torch.cuda.is_current_stream_capturing():
        # what is computed now holds no values yet and belongs to the graph, which may outlive what is kept here
        return _order(lattice[1:], device)
    return _kept_order(lattice[1:], device, torch.cuda.current_stream(device).cuda_stream)


def _order(others: tuple[int, ...], device: torch.device) -> Tensor:
    points = torch.arange(others[0] * others[1], device=device)
    distance = points // others[1] + points % others[1]
    in_order = distance.argsort(stable=True)
    starts = torch.searchsorted(distance[in_order], torch.arange(others[0] + others[1], device=device))
    return torch.cat([starts, in_order]).to(torch.int32)


@lru_cache(maxsize=64)
def _kept_order(others: tuple[int, ...], device: torch.device, stream: int) -> Tensor:
    """Each stream has its own: it is computed, read and given back there, so that nothing has to wait for it."""
    return _order(others, device)
