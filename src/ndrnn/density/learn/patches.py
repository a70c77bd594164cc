"""Pictures of any sizes, or signals or volumes, as a source of equal patches for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from math import prod

import torch
from torch import Tensor

from ..lattices.images import dequantize, symmetries
from ..lattices.neighborhood import as_image_batch
from ..mixture.finite import check_finite
from .schedule import Augment

Pictures = Tensor | Sequence[Tensor]
Extent = tuple[int, ...]
"""Points along each axis."""


class PatchSource:
    """Pictures, with their observed channels behind their own, from which patches are cut.

    Args:
        images: (N, H, W) or (N, H, W, C), or a sequence of pictures (H, W) or (H, W, C) of any sizes.
        observed: observed channels, likewise.
        levels: pictures of integers get fresh noise in every patch and are divided by this; None if they are floats.
        dtype: of the patches.
        ndim: axes of the pictures' lattice.

    Raises:
        TypeError: integers without ``levels``, or the reverse.
        ValueError: there is nothing, or shapes differ, or a value is not finite or out of range.
    """

    def __init__(
        self,
        images: Pictures,
        observed: Pictures | None = None,
        *,
        levels: int | None = None,
        dtype: torch.dtype = torch.float32,
        name: str = "images",
        ndim: int = 2,
    ) -> None:
        self.levels, self.dtype, self.name = levels, dtype, name
        stacks = _stacks(images, name, levels, ndim)
        if observed is not None:
            seen = _stacks(observed, f"observed {name}", None, ndim)
            if [s.shape[:-1] for s in seen] != [s.shape[:-1] for s in stacks] or levels is not None:
                raise ValueError(f"observed must match {name} picture by picture, both of floating point")
            stacks = [torch.cat(pair, -1) for pair in zip(stacks, seen, strict=True)]
        for stack in stacks:
            if stack.is_floating_point():
                check_finite(stack, name)
        self.stacks = stacks

    @property
    def equal_size(self) -> Extent | None:
        """Extents if all pictures have the same, else None."""
        return tuple(self.stacks[0].shape[1:-1]) if len(self.stacks) == 1 else None

    @property
    def description(self) -> list[list[int]]:
        """Shapes of all stacks of equal pictures: what a resumed training checks."""
        return [list(stack.shape) for stack in self.stacks]

    def check_size(self, size: Extent) -> None:
        """Raise ValueError if a picture is smaller than a patch."""
        for stack in self.stacks:
            if any(extent < least for extent, least in zip(stack.shape[1:-1], size, strict=True)):
                raise ValueError(
                    f"{self.name} must be at least as large as a patch, {by(size)}, got {by(stack.shape[1:-1])}"
                )

    def random(self, count: int, size: Extent, generator: torch.Generator) -> Tensor:
        """Patches (count, *size, C) at uniformly random places."""
        places = [
            (len(s), *(extent - length + 1 for extent, length in zip(s.shape[1:-1], size, strict=True)))
            for s in self.stacks
        ]
        most = sum(map(prod, places))
        picks = (torch.rand(count, generator=generator, dtype=torch.float64) * most).long().tolist()
        cut = []
        for pick in picks:
            k = 0
            while pick >= prod(places[k]):
                pick -= prod(places[k])
                k += 1
            index, *corner = _unravelled(pick, places[k])
            cut.append(self.stacks[k][index][_box(corner, size)])
        return self._values(torch.stack(cut), generator)

    def num_tiles(self, size: Extent) -> int:
        """How many patches lie side by side in all pictures."""
        return sum(map(prod, self._side_by_side(size)))

    def tiles(self, which: Sequence[int], size: Extent, generator: torch.Generator) -> Tensor:
        """Of the patches that lie side by side, those with these numbers."""
        cut = []
        counts = self._side_by_side(size)
        for number in which:
            k = 0
            while number >= prod(counts[k]):
                number -= prod(counts[k])
                k += 1
            index, *place = _unravelled(number, counts[k])
            corner = [at * length for at, length in zip(place, size, strict=True)]
            cut.append(self.stacks[k][index][_box(corner, size)])
        return self._values(torch.stack(cut), generator)

    def _side_by_side(self, size: Extent) -> list[Extent]:
        """Of each stack its pictures, and how many patches of each lie side by side along each axis."""
        return [
            (len(s), *(extent // length for extent, length in zip(s.shape[1:-1], size, strict=True)))
            for s in self.stacks
        ]

    def whole(self, pixels: int, generator: torch.Generator) -> Iterator[Tensor]:
        """All pictures in batches of about so many pixels."""
        for stack in self.stacks:
            for part in stack.split(max(1, pixels // prod(stack.shape[1:-1]))):
                yield self._values(part, generator)

    def _values(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        if self.levels is not None:
            patches = dequantize(patches, levels=self.levels, generator=generator)
        return patches.to(self.dtype)


def _unravelled(number: int, shape: Sequence[int]) -> list[int]:
    """The indices of the element of this number, in row-major order."""
    indices: list[int] = []
    for extent in reversed(shape):
        number, index = divmod(number, extent)
        indices.insert(0, index)
    return indices


def _box(corner: Sequence[int], size: Extent) -> tuple[slice, ...]:
    return tuple(slice(begin, begin + length) for begin, length in zip(corner, size, strict=True))


def by(extents: Sequence[int]) -> str:
    """Extents as messages have them."""
    return " x ".join(map(str, extents))


def augmented(patches: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Each patch (N, H, W, C) randomly flipped, and transposed if it may be; those of signals and volumes stay."""
    if augment == "none" or patches.dim() != 4:
        return patches
    if augment == "horizontal":
        flip = torch.rand(len(patches), generator=generator) < 0.5
        return torch.where(flip.to(patches.device)[:, None, None, None], patches.flip(2), patches)
    turns = symmetries()
    which = torch.randint(len(turns), (len(patches),), generator=generator).tolist()
    return torch.stack(
        [turns[k](patch.unsqueeze(0)).squeeze(0) for k, patch in zip(which, patches, strict=True)]
    )


def _stacks(images: Pictures, name: str, levels: int | None, ndim: int) -> list[Tensor]:
    """Pictures of equal size as one tensor (N, H, W, C) each."""
    if isinstance(images, Tensor):
        return [_checked(images, name, levels, ndim)]
    if not len(images):
        raise ValueError(f"{name} must hold at least one picture")
    by_shape: dict[tuple[int, ...], list[Tensor]] = {}
    for picture in images:
        if not isinstance(picture, Tensor):
            raise TypeError(f"{name} must hold tensors, got {type(picture).__name__}")
        by_shape.setdefault(tuple(picture.shape), []).append(picture)
    stacks = [_checked(torch.stack(group), name, levels, ndim) for group in by_shape.values()]
    if len({stack.shape[-1] for stack in stacks}) > 1:
        raise ValueError(f"{name} must all have the same channels")
    return stacks


def _checked(images: Tensor, name: str, levels: int | None, ndim: int) -> Tensor:
    if levels is None:
        return as_image_batch(images, name, ndim)
    if images.is_floating_point():
        raise TypeError(f"{name} must hold integers when levels={levels} is given, got {images.dtype}")
    if images.dtype in (torch.bool, torch.uint16):
        images = images.int()  # they know no arithmetic
    if images.dim() not in (ndim + 1, ndim + 2) or not images.numel():
        lattice = ", ".join(("H", "W") if ndim == 2 else (f"D{axis}" for axis in range(1, ndim + 1)))
        raise ValueError(
            f"{name} must have shape (N, {lattice}) or (N, {lattice}, C), got {tuple(images.shape)}"
        )
    if not (int(images.min()) >= 0 and int(images.max()) < levels):
        raise ValueError(f"{name} must lie in [0, {levels}), got {int(images.min())} to {int(images.max())}")
    return images if images.dim() == ndim + 2 else images.unsqueeze(-1)
