"""Pictures of any sizes as a source of equal patches for training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from ..lattices.images import dequantize, symmetries
from ..lattices.neighborhood import as_image_batch
from ..mixture.finite import check_finite
from .schedule import Augment

Pictures = Tensor | Sequence[Tensor]


class PatchSource:
    """Pictures, with their observed channels behind their own, from which patches are cut.

    Args:
        images: (N, H, W) or (N, H, W, C), or a sequence of pictures (H, W) or (H, W, C) of any sizes.
        observed: observed channels, likewise.
        levels: pictures of integers get fresh noise in every patch and are divided by this; None if they are floats.
        dtype: of the patches.

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
    ) -> None:
        self.levels, self.dtype, self.name = levels, dtype, name
        stacks = _stacks(images, name, levels)
        if observed is not None:
            seen = _stacks(observed, f"observed {name}", None)
            if [s.shape[:3] for s in seen] != [s.shape[:3] for s in stacks] or levels is not None:
                raise ValueError(f"observed must match {name} picture by picture, both of floating point")
            stacks = [torch.cat(pair, -1) for pair in zip(stacks, seen, strict=True)]
        for stack in stacks:
            if stack.is_floating_point():
                check_finite(stack, name)
        self.stacks = stacks

    @property
    def equal_size(self) -> tuple[int, int] | None:
        """Height and width if all pictures have the same, else None."""
        return (self.stacks[0].shape[1], self.stacks[0].shape[2]) if len(self.stacks) == 1 else None

    @property
    def description(self) -> list[list[int]]:
        """Shapes of all stacks of equal pictures: what a resumed training checks."""
        return [list(stack.shape) for stack in self.stacks]

    def check_size(self, height: int, width: int) -> None:
        """Raise ValueError if a picture is smaller than a patch."""
        for stack in self.stacks:
            if stack.shape[1] < height or stack.shape[2] < width:
                raise ValueError(
                    f"{self.name} must be at least as large as a patch, {height} x {width}, "
                    f"got {stack.shape[1]} x {stack.shape[2]}"
                )

    def random(self, count: int, height: int, width: int, generator: torch.Generator) -> Tensor:
        """Patches (count, height, width, C) at uniformly random places."""
        places = [len(s) * (s.shape[1] - height + 1) * (s.shape[2] - width + 1) for s in self.stacks]
        picks = (torch.rand(count, generator=generator, dtype=torch.float64) * sum(places)).long().tolist()
        cut = []
        for pick in picks:
            k = 0
            while pick >= places[k]:
                pick -= places[k]
                k += 1
            stack = self.stacks[k]
            columns = stack.shape[2] - width + 1
            index, place = divmod(pick, (stack.shape[1] - height + 1) * columns)
            i, j = divmod(place, columns)
            cut.append(stack[index, i : i + height, j : j + width])
        return self._values(torch.stack(cut), generator)

    def num_tiles(self, height: int, width: int) -> int:
        """How many patches lie side by side in all pictures."""
        return sum(len(s) * (s.shape[1] // height) * (s.shape[2] // width) for s in self.stacks)

    def tiles(self, which: Sequence[int], height: int, width: int, generator: torch.Generator) -> Tensor:
        """Of the patches that lie side by side, those with these numbers."""
        cut = []
        for number in which:
            for stack in self.stacks:
                rows, columns = stack.shape[1] // height, stack.shape[2] // width
                if number < len(stack) * rows * columns:
                    break
                number -= len(stack) * rows * columns
            index, place = divmod(number, rows * columns)
            i, j = place // columns * height, place % columns * width
            cut.append(stack[index, i : i + height, j : j + width])
        return self._values(torch.stack(cut), generator)

    def whole(self, pixels: int, generator: torch.Generator) -> Iterator[Tensor]:
        """All pictures in batches of about so many pixels."""
        for stack in self.stacks:
            for part in stack.split(max(1, pixels // (stack.shape[1] * stack.shape[2]))):
                yield self._values(part, generator)

    def _values(self, patches: Tensor, generator: torch.Generator) -> Tensor:
        if self.levels is not None:
            patches = dequantize(patches, levels=self.levels, generator=generator)
        return patches.to(self.dtype)


def augmented(patches: Tensor, augment: Augment, generator: torch.Generator) -> Tensor:
    """Each patch (N, H, W, C) randomly flipped, and transposed if it may be."""
    if augment == "none":
        return patches
    if augment == "horizontal":
        flip = torch.rand(len(patches), generator=generator) < 0.5
        return torch.where(flip.to(patches.device)[:, None, None, None], patches.flip(2), patches)
    turns = symmetries()
    which = torch.randint(len(turns), (len(patches),), generator=generator).tolist()
    return torch.stack(
        [turns[k](patch.unsqueeze(0)).squeeze(0) for k, patch in zip(which, patches, strict=True)]
    )


def _stacks(images: Pictures, name: str, levels: int | None) -> list[Tensor]:
    """Pictures of equal size as one tensor (N, H, W, C) each."""
    if isinstance(images, Tensor):
        return [_checked(images, name, levels)]
    if not len(images):
        raise ValueError(f"{name} must hold at least one picture")
    by_shape: dict[tuple[int, ...], list[Tensor]] = {}
    for picture in images:
        if not isinstance(picture, Tensor):
            raise TypeError(f"{name} must hold tensors, got {type(picture).__name__}")
        by_shape.setdefault(tuple(picture.shape), []).append(picture)
    stacks = [_checked(torch.stack(group), name, levels) for group in by_shape.values()]
    if len({stack.shape[-1] for stack in stacks}) > 1:
        raise ValueError(f"{name} must all have the same channels")
    return stacks


def _checked(images: Tensor, name: str, levels: int | None) -> Tensor:
    if levels is None:
        return as_image_batch(images, name)
    if images.is_floating_point():
        raise TypeError(f"{name} must hold integers when levels={levels} is given, got {images.dtype}")
    if images.dtype in (torch.bool, torch.uint16):
        images = images.int()  # they know no arithmetic
    if images.dim() not in (3, 4) or not images.numel():
        raise ValueError(f"{name} must have shape (N, H, W) or (N, H, W, C), got {tuple(images.shape)}")
    if not (int(images.min()) >= 0 and int(images.max()) < levels):
        raise ValueError(f"{name} must lie in [0, {levels}), got {int(images.min())} to {int(images.max())}")
    return images if images.dim() == 4 else images.unsqueeze(-1)
