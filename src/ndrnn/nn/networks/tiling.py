"""A U-Net with scans on a lattice of any size: what is fine tile by tile, what is coarse as a whole.

Convolutions see only a margin, scans the whole lattice. So the levels above the first that scans are walked down tile by
tile, with a margin; that level and those below are taken whole, on a lattice that is smaller by the blocks between; then
the tiles are walked again, down and up. The result is that of the whole lattice, whatever the directions of the scans.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import product
from math import prod

from torch import Tensor

from .encoder import Said
from .ragged import largest
from .unet import ScanUNet

Slices = tuple[slice, ...]
Window = Callable[[Slices], Tensor]
"""Features (1, d1, ..., dn, C) of a part of the lattice."""


def edges_of(lattice: Sequence[int], grain: Sequence[int], points: int) -> list[int]:
    """The edges of tiles of about so many points, multiples of ``grain``; a lattice that is thin on one axis may have
    longer ones on the others."""
    edges, left, room = list(lattice), len(lattice), float(points)
    for axis in sorted(range(len(lattice)), key=lambda axis: lattice[axis]):
        edge = min(lattice[axis], max(1, int(room ** (1 / left))))
        edges[axis] = max(grain[axis], edge // grain[axis] * grain[axis])
        room, left = room / edges[axis], left - 1
    return edges


def slices(place: Sequence[int], edges: Sequence[int], lattice: Sequence[int]) -> Slices:
    """The tile that begins at ``place``, cut off at the end of the lattice."""
    return tuple(
        slice(start, min(size, start + edge)) for start, edge, size in zip(place, edges, lattice, strict=True)
    )


def first_scan(model: ScanUNet) -> int:
    """The finest level that scans, or the coarsest where none does."""
    levels = model.encoder.levels
    return next((index for index, level in enumerate(levels) if len(level.scans)), len(levels) - 1)  # type: ignore[arg-type]


def margin(model: ScanUNet) -> tuple[int, ...]:
    """How many points of the input, along each axis, the levels above the first scan look beyond a block of that level."""
    reach, scale = [0] * model.ndim, [1] * model.ndim
    for level in range(first_scan(model)):
        steps = model.encoder.blocks[level]
        scale = [size * step for size, step in zip(scale, steps, strict=True)]
        count = len(model.encoder.levels[level].convolutions)  # type: ignore[arg-type]
        reach = [points + count * size for points, size in zip(reach, scale, strict=True)]
    return tuple(reach)


def unet_tiles(
    model: ScanUNet, lattice: Sequence[int], window: Window, points: int
) -> Iterator[tuple[Slices, Tensor]]:
    """Place and scores of every tile, as :func:`ndrnn.nn.tiled.tiles` says; ``window`` is asked twice for each."""
    encoder, first = model.encoder, first_scan(model)
    grain = [prod(steps) for steps in zip(*encoder.blocks[: first + 1], strict=True)]
    edges = edges_of(lattice, grain, points)
    places = list(product(*(range(0, size, edge) for size, edge in zip(lattice, edges, strict=True))))
    near = margin(model)

    def above(part: Slices) -> tuple[Tensor, list[Said]]:
        """The features of a part, gathered, and what the levels above the first scan say of them."""
        x = encoder.gather(model.input(window(part)))
        return x, encoder.walk(x, None, 0, first)

    whole: Tensor | None = None
    for place in places:
        inner = slices(place, edges, lattice)
        outer = _around(inner, near, grain, lattice)
        x, said = above(outer)
        x = largest(said[-1].x, encoder.blocks[first], None) if said else x
        if whole is None:
            whole = x.new_zeros(
                (1, *(-(-size // step) for size, step in zip(lattice, grain, strict=True)), x.shape[-1])
            )
        whole[(slice(None), *_blocks(inner, grain))] = x[(slice(None), *_within(inner, outer, grain))]
    assert whole is not None
    *beside, deepest = encoder.walk(whole, None, first, len(encoder.levels))
    top = model.climb(deepest.x, beside, first)
    # on the way up convolutions look as far again, from points that their block may extend by nearly its size
    far = [2 * reach + size for reach, size in zip(near, grain, strict=True)]
    for place in places:
        inner = slices(place, edges, lattice)
        outer = _around(inner, far, grain, lattice)
        x = top[(slice(None), *_blocks(outer, grain))]
        _, said = above(outer)
        scores = model.labels(model.climb(x, said), [part.stop - part.start for part in outer])
        yield inner, scores[(slice(None), *_within(inner, outer, [1] * len(lattice)))]


def _around(inner: Slices, reach: Sequence[int], grain: Sequence[int], lattice: Sequence[int]) -> Slices:
    """A tile and so many points around it, in whole blocks, within the lattice."""
    more = [-(-points // size) * size for points, size in zip(reach, grain, strict=True)]
    return tuple(
        slice(max(0, part.start - extra), min(size, part.stop + extra))
        for part, extra, size in zip(inner, more, lattice, strict=True)
    )


def _blocks(part: Slices, grain: Sequence[int]) -> Slices:
    """The blocks that a part of the lattice is made of."""
    return tuple(
        slice(own.start // size, -(-own.stop // size)) for own, size in zip(part, grain, strict=True)
    )


def _within(inner: Slices, outer: Slices, grain: Sequence[int]) -> Slices:
    """The place of a tile within what is around it, in blocks."""
    return tuple(
        slice((own.start - around.start) // size, -(-(own.stop - around.start) // size))
        for own, around, size in zip(inner, outer, grain, strict=True)
    )
