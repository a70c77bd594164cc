# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
"""How programs walk a lattice whose wavefronts are large: tile by tile, each wavefront a whole.

A **crew** of programs serves one direction and one slice of the hidden units. The tiles of its wavefronts, one after the
other, are numbered; a program draws the next number from the crew's counter, computes that tile, and reports it. A tile
of wavefront t waits until all tiles of the wavefront before were reported, by the crews of all slices, for its group of
samples: groups do not wait for each other, so that the last tiles of one are computed beside the first of the next.

A tile waits for tiles that were drawn before it, or are by the other slices' crews. Programs join crews in order, slices
of a direction one after the other, and leave when nothing is left to draw: whatever the size of the grid and the order
in which the device takes it, somebody can go on, as long as it runs as many programs at once as there are slices. Under
the interpreter, where programs run one after the other, there is one slice, the first of a crew computes all, and
nothing ever waits.

Memory order is that of ``walk.py``.
"""

from typing import NamedTuple

import triton
import triton.language as tl

from . import walk
from .walk import COUNTER_STRIDE


class Crew(NamedTuple):
    """The programs of a direction and a slice."""

    i_direction: int
    first_unit: int
    p_tickets: object  # the counter that they draw tiles from
    p_progress: (
        object  # how many tiles of group 0 were reported, in all slices; those of the other groups follow
    )


class Front(NamedTuple):
    """A wavefront, cut in tiles."""

    tickets: int  # of all groups
    whole: int  # of a whole group
    last: int  # of the last group, of what samples are left


class Done(NamedTuple):
    """The wavefronts so far."""

    wavefronts: int
    tickets: int  # of all groups
    whole: int  # of a whole group
    last: int  # of the last group


@triton.jit
def join(p_counters, directions, groups, CUT: tl.constexpr):
    """The crew of a program; all have equally many."""
    crews = directions * CUT.slices
    number = tl.atomic_add(p_counters, 1, sem="relaxed", scope="gpu") % crews
    i_direction = number // CUT.slices
    return Crew(
        i_direction,
        number % CUT.slices * CUT.span,
        p_counters + (1 + number) * COUNTER_STRIDE,
        p_counters + (1 + crews + i_direction * groups) * COUNTER_STRIDE,
    )


@triton.jit
def draw(crew):
    """The tile that a program does next."""
    return tl.atomic_add(crew.p_tickets, 1, sem="relaxed", scope="gpu")


@triton.jit
def whole(crew, extents, backward_axes, directions, batch, CELL: tl.constexpr):
    """The lattice as one strip, of all rows and samples."""
    return walk.Strip(
        extents,
        extents[1] + extents[2] - 2,
        directions,
        batch,
        crew.i_direction,
        backward_axes >> (crew.i_direction * CELL.ndim),
        0,
        extents[0],
        0,
        extents[0],
        0,
        batch,
        crew.first_unit,
        crew.p_progress,
        crew.p_progress,
    )


@triton.jit
def begun():
    """No wavefront yet."""
    zero = tl.full((), 0, tl.int32)
    return Done(zero, zero, zero, zero)


@triton.jit
def front_of(points, batch, group, groups, CUT: tl.constexpr):
    """A wavefront of so many points."""
    M: tl.constexpr = CUT.M
    tiles = (points * group + M - 1) // M
    last = (points * (batch - (groups - 1) * group) + M - 1) // M
    return Front((groups - 1) * tiles + last, tiles, last)


@triton.jit
def after(done, front):
    return Done(
        done.wavefronts + 1, done.tickets + front.tickets, done.whole + front.whole, done.last + front.last
    )


@triton.jit
def part_of(number, strip, crew, front, done, group, groups, CUT: tl.constexpr):
    """A tile of a wavefront by its number: its samples as a strip, its first point, and the reports it waits for."""
    i_group = tl.minimum(number // front.whole, groups - 1)
    first_sample = i_group * group
    p_progress = crew.p_progress + i_group * COUNTER_STRIDE
    part = walk.Strip(
        strip.extents,
        strip.reach,
        strip.directions,
        strip.batch,
        strip.i_direction,
        strip.backward_axes,
        0,
        strip.rows,
        0,
        strip.height,
        first_sample,
        tl.minimum(group, strip.batch - first_sample),
        strip.first_unit,
        p_progress,
        p_progress,
    )
    reported = tl.where(i_group == groups - 1, done.last, done.whole)
    return part, (number - i_group * front.whole) * CUT.M, reported * CUT.slices
