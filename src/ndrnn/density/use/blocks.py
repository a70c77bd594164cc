"""Which blocks of an image inpainting draws anew, each within a patch, and which of them at the same time."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

from torch import Tensor

Range = tuple[int, int]


class Block(NamedTuple):
    """Where a patch begins, and the half-open ranges in it that are drawn anew, axis by axis."""

    corner: tuple[int, ...]
    drawn: tuple[Range, ...]

    @property
    def inner(self) -> tuple[slice, ...]:
        """What is drawn anew, within the patch."""
        return tuple(slice(*ends) for ends in self.drawn)

    def patch(self, size: tuple[int, ...]) -> tuple[slice, ...]:
        """The patch within the image."""
        return tuple(slice(begin, begin + length) for begin, length in zip(self.corner, size, strict=True))


class Plan(NamedTuple):
    """Patches of one size, in groups of which no patch sees what another of its group draws anew."""

    size: tuple[int, ...]
    groups: list[list[Block]]


def plan(mask: Tensor, patch: int | None, inner: int, stride: int) -> Plan:
    """Patches whose inner blocks cover the unknown pixels of a mask (H, W), or of one or three axes.

    Args:
        patch: side of the patches; None for the whole image.
        inner, stride: side of the blocks, and their distance.
    """
    lattice = tuple(mask.shape)
    size = lattice if patch is None else tuple(min(patch, extent) for extent in lattice)
    around = 0 if patch is None else (patch - inner) // 2
    ranges = []
    for axis in range(mask.dim()):
        found = mask.movedim(axis, 0).reshape(lattice[axis], -1).any(1).nonzero().flatten().tolist()
        ranges.append(starts(found[0], found[-1] + 1, inner, stride))
    blocks = []
    for place in product(*ranges):
        if not bool(mask[tuple(slice(begin, begin + inner) for begin in place)].any()):
            continue
        # at the border of the image a patch is moved inwards, not cut
        corner = tuple(
            min(max(begin - around, 0), extent - length)
            for begin, extent, length in zip(place, lattice, size, strict=True)
        )
        drawn = tuple((begin - c, begin - c + inner) for begin, c in zip(place, corner, strict=True))
        blocks.append(Block(corner, drawn))
    groups: list[list[Block]] = []
    for block in blocks:
        for group in groups:
            if all(_apart(block, other, size) and _apart(other, block, size) for other in group):
                group.append(block)
                break
        else:
            groups.append([block])
    return Plan(size, groups)


def starts(first: int, end: int, length: int, stride: int) -> list[int]:
    """Where blocks begin that cover [first, end), the last one flush with its end."""
    last = max(first, end - length)
    return sorted({*range(first, last, stride), last})


def _apart(block: Block, other: Block, size: tuple[int, ...]) -> bool:
    """Whether nothing that ``other`` draws anew lies in the patch of ``block``."""
    for own, its, (begin, end), length in zip(block.corner, other.corner, other.drawn, size, strict=True):
        if its - own + end <= 0 or its - own + begin >= length:
            return True
    return False
