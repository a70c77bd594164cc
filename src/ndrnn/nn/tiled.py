"""Layers and networks on lattices of any size, in bounded memory: tile by tile.

What scans in one direction hands the states at the edges of a tile to the next one, so that the result is that of the
whole lattice. What scans in several would have to know the end before the start: its tiles overlap, and of each only
the middle is kept. A U-Net that scans on coarse lattices alone takes those whole: its result is exact too.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import product
from math import prod

from torch import Tensor, nn

from ..lattice import face_lattice
from .hierarchy import Hierarchy
from .networks import ScanUNet
from .networks.tiling import Slices, Window, edges_of, slices, unet_tiles
from .scan_layer import ScanLayer
from .stack import Stack
from .state import Faces, State


def tiles(
    model: nn.Module,
    lattice: Sequence[int],
    window: Window,
    points: int,
    *,
    overlap: int = 64,
) -> Iterator[tuple[Slices, Tensor]]:
    """What a layer or network says at every point of a lattice, tile by tile.

    Exact, to rounding, for layers, stacks and hierarchies that scan in one direction, whatever the size of the tiles;
    for others as near as ``overlap`` reaches.

    Args:
        model: maps (x, None) to values at every point of x: a layer, a :class:`ndrnn.Stack`, a :class:`ndrnn.Hierarchy`
            on single points or with ``expand``, or a module of one's own. Put it into evaluation mode first.
        lattice: sizes (D1, ..., Dn) of the whole.
        window: gives the features (1, d1, ..., dn, C) of a part, which is named by slices; it is all that is asked
            for, so that the whole need not be in memory.
        points: about how many points a tile may have.
        overlap: points by which tiles reach over their edges, where states cannot be handed on.

    Yields:
        The place of a tile as slices, and its values (1, d1, ..., dn, F). Together the tiles cover the lattice once.

    Raises:
        ValueError: a number is out of range, the lattice has another number of axes than the model, or a hierarchy
            gives no values at every point.

    Example:
        >>> layer, image = ndrnn.SpatialLSTM(3, 4), torch.randn(1, 100, 100, 3)
        >>> whole = torch.empty(1, 100, 100, 4)
        >>> with torch.no_grad():
        ...     for place, y in ndrnn.nn.tiled.tiles(layer, (100, 100), lambda part: image[:, *part], 1000):
        ...         whole[:, *place] = y
        >>> torch.allclose(whole, layer(image), atol=1e-6)
        True
    """
    if points < 1:
        raise ValueError(f"points must be at least 1, got {points}")
    if overlap < 0:
        raise ValueError(f"overlap must not be negative, got {overlap}")
    if getattr(model, "ndim", len(lattice)) != len(lattice):
        raise ValueError(f"lattice must have {model.ndim} axes as the model, got {tuple(lattice)}")
    if isinstance(model, ScanUNet):
        yield from unet_tiles(model, lattice, window, points)
        return
    direction = one_direction(model)
    grain = whole_block(model, len(lattice))
    if isinstance(model, Hierarchy) and (
        model.collapse is not None or (model.expand is None and max(grain) > 1)
    ):
        raise ValueError(
            "model must give values at every point: a Hierarchy without collapse, with expand for blocks"
        )
    edges = edges_of(lattice, grain, points)
    if direction is not None:
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
    """The direction in which all layers of a model scan, if there is only one and no axis is collapsed."""
    if isinstance(model, Hierarchy) and model.collapse is not None:
        return None
    directions = set()
    for layer in _layers(model):
        if not isinstance(layer, ScanLayer) or len(layer.directions) != 1:
            return None
        directions.add(layer.directions[0])
    return directions.pop() if len(directions) == 1 else None


def _layers(model: nn.Module) -> list[nn.Module]:
    if isinstance(model, ScanLayer):
        return [model]
    return list(model.layers) if isinstance(model, (Hierarchy, Stack)) else []


def whole_block(model: nn.Module, ndim: int) -> tuple[int, ...]:
    """How many points an edge of a tile must be a multiple of: what becomes one at the highest level."""
    if not isinstance(model, Hierarchy):
        return (1,) * ndim
    blocks = model.config()["blocks"]
    return tuple(prod(int(block[axis]) for block in blocks) for axis in range(ndim))


def _handed_on(
    model: nn.Module, direction: Sequence[int], lattice: Sequence[int], window: Window, edges: Sequence[int]
) -> Iterator[tuple[Slices, Tensor]]:
    axes = range(len(lattice))
    # what left the last tile through each axis, by layer, axis and the tile's place on the other axes
    left: dict[tuple[int, int, tuple[int, ...]], State] = {}
    starts = [list(range(0, lattice[axis], edges[axis]))[:: direction[axis]] for axis in axes]
    for place in product(*starts):
        inner = slices(place, edges, lattice)
        x = window(inner)
        spread = x.shape[1:-1]
        if isinstance(model, Hierarchy):
            x = (x - model.mean) / model.std
        for number, layer in enumerate(_layers(model)):
            assert isinstance(layer, ScanLayer)  # one_direction has seen to it
            if isinstance(model, Hierarchy):
                x = model.windows[number](x, None)
            keys = [(number, axis, (*place[:axis], *place[axis + 1 :])) for axis in axes]
            x, state = layer(
                x, initial_state=_entry(layer, x, [left.get(key) for key in keys]), return_state=True
            )
            for axis, key in enumerate(keys):
                left[key] = _only(state, axis)
        if isinstance(model, Hierarchy):
            x = model.output(x)
            x = x if model.expand is None else model.expand(x, spread)
        yield inner, x


def _entry(layer: ScanLayer, x: Tensor, found: Sequence[State | None]) -> State:
    """The boundary state of a tile: what left its neighbours, by axis, or zero where the lattice begins."""

    def zeros(axis: int) -> Tensor:
        return x.new_zeros((1, x.shape[0], *face_lattice(x.shape[1:-1], axis), layer.hidden_size))

    h = tuple(zeros(axis) if left is None else left.h[axis] for axis, left in enumerate(found))
    if not layer.cell.memory:
        return State(h)
    c = tuple(
        zeros(axis) if left is None or left.c is None else left.c[axis] for axis, left in enumerate(found)
    )
    return State(h, c)


def _only(state: State, axis: int) -> State:
    """The state with the face of one axis alone, so that the others are freed."""

    def kept(faces: Faces) -> Faces:
        return tuple(face if k == axis else face.new_empty(0) for k, face in enumerate(faces))

    return State(kept(state.h), None if state.c is None else kept(state.c))
