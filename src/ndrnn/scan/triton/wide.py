"""When whole wavefronts are cut in tiles instead of strips, and how: many hidden units and many points at once.

The counts behind the numbers, and what a device took, are in ``docs/gpu.md``.
"""

from __future__ import annotations

import os
from functools import lru_cache
from math import prod

import torch

from .plan import MOST_SUMS, Chip, Plan, Shape, power_of_two

CHOICE = "NDRNN_TRITON_SWEEP"
"""The variable that overrides the choice, for measuring: ``strips`` or ``fronts``."""

# Where a device has shown that whole wavefronts agree and are faster; of more units weights stream, which never ran.
_SHOWN = Shape("lstm", 2)
_MOST_SHOWN_UNITS = 128
_LEAST_UNITS = 128
# Samples are walked in so many groups: while the last tiles of one are computed, others' tiles keep the device busy.
_GROUPS = 4
# Sums of a tile by four warps, beside all else; more take eight.
_SUMS_OF_FOUR_WARPS = 64 * 32 * 6
_WORKSPACE = 16 * 1024
# Of the predecessors, in registers on their way from memory to where they are multiplied with resident weights.
_MOST_UNITS_AT_ONCE = 256


MOST_INPUTS = 64
"""Of a point, up to which tiles multiply them as they go: W x + b, a number a gate, is then never written nor read."""


def asked() -> str:
    """``strips``, ``fronts``, or ``auto``, by what a device has shown and by the count.

    Raises:
        ValueError: the environment asks for something else.
    """
    choice = os.environ.get(CHOICE) or "auto"
    if choice not in ("auto", "strips", "fronts"):
        raise ValueError(f'{CHOICE} must be "auto", "strips" or "fronts", got {choice!r}')
    return choice


def choice_for(shape: Shape, hidden: int, dtype: torch.dtype) -> str:
    """What is asked; strips in place of ``auto`` where no device has shown that whole wavefronts agree and are faster.

    The other cells, axes, widths and dtypes have run under the interpreter and been compiled.
    """
    choice = asked()
    shown = shape == _SHOWN and hidden <= _MOST_SHOWN_UNITS and dtype == torch.bfloat16
    return "strips" if choice == "auto" and not shown else choice


def fronts_pay(
    hidden: int,
    batch: int,
    lattice: tuple[int, ...],
    directions: int,
    itemsize: int,
    precision: str,
    chip: Chip,
) -> bool:
    """Whether 16-bit products of a mean wavefront are enough for a tile of 64 points by 32 units a multiprocessor."""
    wavefronts = sum(lattice) - len(lattice) + 1
    rows = directions * batch * prod(lattice) / wavefronts
    return itemsize == 2 and hidden >= _LEAST_UNITS and rows * hidden >= 64 * 32 * chip.processors


@lru_cache(maxsize=4096)
def plan_of_fronts(
    shape: Shape,
    hidden: int,
    batch: int,
    lattice: tuple[int, ...],
    directions: int,
    itemsize: int,
    precision: str,
    chip: Chip,
    backward: bool,
    choice: str,
) -> Plan | None:
    """Cut whole wavefronts; None where strips are to be had.

    Forward, tiles are of 32 units, whose weights stay in shared memory if two axes' predecessors of a tile fit beside
    them. Backward, where a unit takes all gates of its successors, tiles of 64 units read these half as often.
    """
    pay = fronts_pay(hidden, batch, lattice, directions, itemsize, precision, chip)
    if choice == "strips" or not (choice == "fronts" or pay):
        return None
    whole = power_of_two(hidden)
    unit = min(whole, {2: 64 if backward else 32, 4: 32, 8: 16}[itemsize])
    most = 64 if itemsize == 2 else 32
    # bytes of the weights of a slice, and of the predecessors' outputs of a tile
    weights = shape.ndim * shape.gates * whole * unit * itemsize
    resident = (
        not backward
        and itemsize == 2
        and not shape.feeds
        and whole <= _MOST_UNITS_AT_ONCE
        and weights + shape.ndim * most * whole * itemsize + _WORKSPACE <= chip.shared_memory
    )
    resident = resident and (unit >= hidden or -(-hidden // unit) <= chip.processors)
    lanes = 1 if backward else shape.lanes
    if itemsize == 2 and not backward and not resident:
        most = 128  # what is read of the weights serves more points
    slices = -(-hidden // unit)
    if slices > chip.processors:
        slices = 1
    held = chip.processors * 2
    rows = directions * batch * prod(lattice) // (sum(lattice) - len(lattice) + 1)
    most = min(most, MOST_SUMS // (unit * lanes))
    tile = 16
    while tile < most and rows * slices >= tile * held:
        tile *= 2
    group = -(-batch // _GROUPS)
    block, stages = whole, 1
    if not resident:
        matrices = (2 if shape.feeds else 1) * shape.ndim * (1 if backward else shape.gates)
        bytes_a_unit = (matrices * unit + shape.ndim * tile) * itemsize
        if shape.feeds and not backward:
            bytes_a_unit += shape.ndim * tile * 4  # the memories
        beside = 2 * 1024 if backward else MOST_INPUTS * (tile + shape.gates * unit) * itemsize
        block, stages = _in_flight(bytes_a_unit, beside, min(whole, 128 // itemsize), chip)
    if backward:
        warps = 16 if tile * unit >= 64 * 64 else 8
    else:
        warps = 4 if tile * unit * lanes <= _SUMS_OF_FOUR_WARPS else 8
    return Plan(
        group=group,
        groups=-(-batch // group),
        rows=lattice[0],
        strips=1,
        span=unit if slices > 1 else hidden,
        slices=slices,
        M=tile,
        BU=unit,
        BK=block,
        BO=block,
        resident=resident,
        num_warps=warps,
        num_stages=stages,
        crew=max(1, held // (directions * slices)),
    )


def _in_flight(bytes_a_unit: int, beside: int, most: int, chip: Chip) -> tuple[int, int]:
    """Over how many units of the predecessors a product goes at a time, and how many such blocks are loaded ahead.

    Three if they leave room for another program beside, or fit at all, else two; ``beside`` are bytes of other things.
    """
    for stages, room in ((3, chip.shared_memory // 2), (3, chip.shared_memory), (2, chip.shared_memory)):
        for block in (most, most // 2):
            if block >= 16 and stages * block * bytes_a_unit + beside <= room:
                return block, stages
    return 16, 2
