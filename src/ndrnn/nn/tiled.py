"""Networks on lattices of any size, in bounded memory: tile by tile.

A network that scans in one direction hands the states at the edges of a tile to the next one, so that the result is
that of the whole lattice. One that scans in several would have to know the end before the start: its tiles overlap, and
of each only the middle is kept. A U-Net that scans on coarse lattices alone takes those whole: its result is exact too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod
from typing import Any

from torch import Tensor, nn

from .hierarchy import Hierarchy
from .layers import ScanLayer, State
from .networks import ScanUNet
from .networks.tiling import Slices, Window, edges_of, slices, unet_tiles


def tiles(
    model: nn.Module,
    lattice: Sequence[int],
    window: Window,
    points: int,
    *,
    overlap: int = 64,
) -> Iterator[tuple[Slices, Tensor]]:
    """The scores of a network that labels points, tile by tile.

    Args:
        model: maps (x, None) to scores at every point of x; a :class:`ndrnn.nn.hierarchy.Hierarchy` without ``collapse``,
            or a network of one's own.
        lattice: sizes (D1, ..., Dn) of the whole.
        window: gives the features of a part.
        points: about how many points a tile may have.
        overlap: points by which tiles reach over their edges, where states cannot be handed on.

    Yields:
        The place of a tile, and its scores (1, d1, ..., dn, L). Together the tiles cover the lattice once.
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    if overlap < 0:
        raise ValueError(f"overlap must not be negative, got {overlap}")
    if isinstance(model, ScanUNet):
        yield from unet_tiles(model, lattice, window, points)
        return
    direction = one_direction(model)
    grain = whole_block(model, len(lattice))
    edges = edges_of(lattice, grain, points)
    if direction is not None and isinstance(model, Hierarchy):
        yield from _handed_on(model, direction, lattice, window, edges)
        return
    reach = [-(-overlap // size) * size for size in grain]
    for place in product(*(range(0, size, edge) for size, edge in zip(lattice, edges, strict=True))):
        inner = slices(place, edges, lattice)
        outer = tuple(
            slice(max(0, part.start - more), min(size, part.stop + more))
            for part, more, size in zip(inner, reach, lattice, strict=True)
        )
        scores = model(window(outer), None)
        kept = tuple(
            slice(part.start - around.start, part.stop - around.start)
            for part, around in zip(inner, outer, strict=True)
        )
        yield inner, scores[(slice(None), *kept)]


def one_direction(model: nn.Module) -> tuple[int, ...] | None:
    """The direction in which all layers of a hierarchy scan, if there is only one and no axis is collapsed."""
    if not isinstance(model, Hierarchy) or model.collapse is not None:
        return None
    directions = set()
    for layer in model.layers:
        if not isinstance(layer, ScanLayer) or len(layer.directions) != 1:
            return None
        directions.add(layer.directions[0])
    return directions.pop() if len(directions) == 1 else None


def whole_block(model: nn.Module, ndim: int) -> tuple[int, ...]:
    """How many points an edge of a tile must be a multiple of: what becomes one at the highest level."""
    if not isinstance(model, Hierarchy):
        return (1,) * ndim
    blocks = model.config()["blocks"]
    return tuple(prod(int(block[axis]) for block in blocks) for axis in range(ndim))


def _handed_on(
    model: Hierarchy, direction: Sequence[int], lattice: Sequence[int], window: Window, edges: Sequence[int]
) -> Iterator[tuple[Slices, Tensor]]:
    axes = range(len(lattice))
    # what left the last tile through each axis, by layer, axis and the tile's place on the other axes
    left: dict[tuple[int, int, tuple[int, ...]], tuple[Tensor, ...]] = {}
    starts = [list(range(0, lattice[axis], edges[axis]))[:: direction[axis]] for axis in axes]
    for place in product(*starts):
        inner = slices(place, edges, lattice)
        x = window(inner)
        spread = x.shape[1:-1]
        x = (x - model.mean) / model.std
        for number, (reduce, layer) in enumerate(zip(model.windows, model.layers, strict=True)):
            assert isinstance(layer, ScanLayer)  # one_direction has seen to it
            x = reduce(x, None)
            keys = [(number, axis, (*place[:axis], *place[axis + 1 :])) for axis in axes]
            x, state = layer(
                x, initial_state=_entry(layer, x, [left.get(key) for key in keys]), return_state=True
            )
            for axis, key in enumerate(keys):
                left[key] = _exit(layer, state, axis)
        scores = model.output(x)
        yield inner, scores if model.expand is None else model.expand(scores, spread)


def _entry(layer: ScanLayer, x: Tensor, found: Sequence[tuple[Tensor, ...] | None]) -> State:
    """The boundary state of a tile, zero where it begins the lattice."""
    kinds = []
    for kind in range(2 if layer.cell.memory else 1):
        faces = []
        for axis, given in enumerate(found):
            shape = [size for index, size in enumerate(x.shape[1:-1]) if index != axis]
            zero: Any = None if given is not None else x.new_zeros((1, len(x), *shape, layer.hidden_size))
            faces.append(zero if given is None else given[kind])
        kinds.append(tuple(faces))
    return (kinds[0], kinds[1]) if layer.cell.memory else kinds[0]


def _exit(layer: ScanLayer, state: Any, axis: int) -> tuple[Tensor, ...]:
    return tuple(faces[axis] for faces in (state if layer.cell.memory else (state,)))
