"""What the kernels are compiled for, in four packs instead of two dozen parameters.

Each is a named tuple of plain values: what a kernel is compiled for is all in its fields, so that Triton's cache, which
tells kernels apart by them, cannot take one for another.
"""

from __future__ import annotations

from typing import Any, NamedTuple


class Traits(NamedTuple):
    """CELL: what it computes."""

    name: str
    ndim: int
    hidden: int
    gates: int
    lanes: int
    memory: bool  # whether the state is a memory beside the output
    states: bool  # whether the predecessors' states enter elementwise
    split: bool  # whether the last gate's products stay apart, by axis
    feeds: bool  # whether the memories enter the products
    peepholes: bool
    weights: int  # numbers in the recurrent weights of a direction
    extras: int  # and in its extra parameters
    shared: int  # rows of the weights of an axis whose products all axes share


class Given(NamedTuple):
    """GIVEN: what comes with a call, and what it leaves."""

    entry: bool  # states enter the lattice
    exit: bool  # states leave it; on the way back, their gradients enter
    ragged: bool
    biased: bool = False  # a bias for the parts of the candidate, the GRU's
    apart: bool = False  # states are stored beside the outputs
    keep: bool = False  # what the way back wants is stored
    inputs: int = 0  # so many of a point are multiplied as part of the scan; 0: W x + b is there already


class Tiles(NamedTuple):
    """CUT: the tiles, M points by BU units over BK units or rows of weights; a slice has ``span`` units."""

    M: int
    BU: int
    BK: int
    span: int
    slices: int
    resident: bool  # weights stay in shared memory
    stacked: bool  # the high bits of operands beside their low ones, see products.py
    fronts: bool = False  # of whole wavefronts, see fronts.py


class Numbers(NamedTuple):
    """MATH: how numbers are multiplied and summed, and where they end."""

    precision: str  # of products: of tl.dot, or "widened"
    acc: Any  # the type of sums and states
    largest_state: float
    largest_gradient: float
    approximate: bool = False  # whether activations may be as far off as bfloat16 rounds
