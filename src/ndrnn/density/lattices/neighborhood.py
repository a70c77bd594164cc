"""Causal neighbourhoods: which pixels a pixel may be predicted from, and the order in which pixels can be drawn."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from math import prod
from typing import Any

import torch
from torch import Tensor


def as_image_batch(images: Tensor, name: str = "images", ndim: int = 2) -> Tensor:
    """Images as (N, H, W, C), or what else lies on ``ndim`` axes; those of one channel may lack its axis.

    Raises:
        TypeError: not a floating-point tensor. Integer pixels need noise or a discrete base measure first.
        ValueError: another number of dimensions, or no pixels at all.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise TypeError(
            f"{name} must hold floating-point values, got {images.dtype}; "
            "for 8-bit pixels use ndrnn.density.dequantize(images) first"
        )
    if images.dim() not in (ndim + 1, ndim + 2):
        axes = "H, W" if ndim == 2 else ", ".join(f"D{axis + 1}" for axis in range(ndim))
        raise ValueError(f"{name} must have shape (N, {axes}) or (N, {axes}, C), got {tuple(images.shape)}")
    if images.numel() == 0:
        raise ValueError(f"{name} must hold at least one pixel, got shape {tuple(images.shape)}")
    return images if images.dim() == ndim + 2 else images.unsqueeze(-1)


Mask = Tensor | Sequence[Any]


class CausalNeighborhood:
    """The pixels before a pixel in row-major order from which it is predicted (Theis et al. 2012).

    The mask's axes are those of the lattice: one of a signal, two of an image, three of a volume or a video.

    Args:
        mask: (rows, columns), or of one or three axes; True where a pixel is an input.
        output: place of the predicted pixel within the mask; the middle of the last row if not given.
        observed: mask of the same shape for further channels that are known everywhere, such as luma under chroma or
            a coarse image under its details; it need not be causal.

    Raises:
        ValueError: a mask has no or more than three axes, the masks differ in shape, the output lies outside, or an
            input does not come before the output.
    """

    def __init__(self, mask: Mask, output: Sequence[int] | None = None, observed: Mask | None = None) -> None:
        self.mask = torch.as_tensor(mask, device="cpu").bool()
        if not 1 <= self.mask.dim() <= 3 or self.mask.numel() == 0:
            raise ValueError(f"mask must have one, two or three axes, got shape {tuple(self.mask.shape)}")
        shape = tuple(self.mask.shape)
        self.ndim = len(shape)
        """Axes of the lattice."""
        middle = (*(size - 1 for size in shape[:-1]), shape[-1] // 2)
        self.output = middle if output is None else tuple(int(place) for place in output)
        if len(self.output) != self.ndim or not all(
            0 <= place < size for place, size in zip(self.output, shape, strict=True)
        ):
            raise ValueError(f"output must lie inside the mask of shape {shape}, got {self.output}")
        self.observed = (
            torch.zeros_like(self.mask)
            if observed is None
            else torch.as_tensor(observed, device="cpu").bool()
        )
        if self.observed.shape != self.mask.shape:
            raise ValueError(f"observed must have the mask's shape {shape}, got {tuple(self.observed.shape)}")
        self.offsets = self._offsets_of(self.mask)
        self.observed_offsets = self._offsets_of(self.observed)
        here = (0,) * self.ndim
        late = [offset for offset in self.offsets if offset >= here]
        if late:
            axes = " (rows, columns)" if self.ndim == 2 else ""
            raise ValueError(
                f"mask must hold only pixels before the output {self.output} in row-major order, "
                f"got offsets {late}{axes} from it"
            )
        every = [*self.offsets, *self.observed_offsets, here]
        self.margins: tuple[int, ...] = tuple(
            margin
            for axis in range(self.ndim)
            for margin in (-min(o[axis] for o in every), max(o[axis] for o in every))
        )
        """Pixels that its neighbourhood covers before and after a pixel, axis by axis: rows above and below, columns
        left and right."""
        self.strides = self._strides()
        """Pixel (i, j) can be drawn at step j + (r + 1) i, pixel (i, j, k) at step k + (r + 1) j + (r + 1)^2 i: what every
        axis counts."""
        self.slope = self.strides[-2] if self.ndim > 1 else 1
        """r + 1."""

    @classmethod
    def window(cls, width: int, *, ndim: int = 2, observed: bool = False) -> CausalNeighborhood:
        """The causal half of a square window: all rows above the output, and the pixels left of it.

        On two axes width 3, 5, 7, 9 give 4, 12, 24, 40 inputs; on one axis half as many as the width, rounded down; on
        three axes the planes before the output's, and in that plane the window of two axes. With ``observed`` further
        channels are seen in the whole window.

        Raises:
            ValueError: ``width`` is not an odd number of at least 3, or there are not one to three axes.
        """
        if width < 3 or width % 2 == 0:
            raise ValueError(f"width must be an odd number of at least 3, got {width}")
        if ndim not in (1, 2, 3):
            raise ValueError(f"ndim must be 1, 2 or 3, got {ndim}")
        half = width // 2
        first = width if observed else half + 1
        # on the CPU also where tensors are made on another device by default
        mask = torch.zeros(first, *(width,) * (ndim - 1), dtype=torch.bool, device="cpu")
        square = torch.ones_like(mask) if observed else None
        output = (half,) * ndim
        before = 0
        for place, size in zip(output, mask.shape, strict=True):
            before = before * size + place
        mask.view(-1)[:before] = True
        return cls(mask, output, square)

    @property
    def size(self) -> int:
        """How many pixels are inputs, the observed channels not counted."""
        return len(self.offsets)

    @property
    def observed_size(self) -> int:
        """How many pixels of the observed channels are inputs."""
        return len(self.observed_offsets)

    def num_inputs(self, channels: int = 1, observed_channels: int = 0) -> int:
        """Length of the input vector of a pixel."""
        return self.size * channels + self.observed_size * observed_channels

    def grid(self, *lattice: int) -> tuple[int, ...]:
        """Rows and columns (the extents) of the pixels whose whole neighbourhood lies in an image.

        Raises:
            ValueError: there is no such pixel, or the lattice has other axes.
        """
        if len(lattice) != self.ndim:
            raise ValueError(f"images must have {self.ndim} axes for this neighborhood, got {len(lattice)}")
        lost = [sum(pair) for pair in self._pairs()]
        extents = tuple(size - less for size, less in zip(lattice, lost, strict=True))
        if min(extents) < 1:
            raise ValueError(
                f"images must be at least {_by(less + 1 for less in lost)} pixels for this neighborhood, "
                f"got {_by(lattice)}"
            )
        return extents

    def windows(self, images: Tensor, observed: Tensor | None = None) -> Tensor:
        """Input vectors (N, H', W', num_inputs) of all pixels whose neighbourhood fits.

        The inputs come in row-major order of the mask, at each position all channels; then the observed channels.

        Raises:
            TypeError, ValueError: see :func:`as_image_batch`; or ``observed`` does not match the images.
        """
        images, seen = self._checked(images, observed)
        grid = self.grid(*images.shape[1:-1])
        parts = [self._gather(images, self.offsets, grid)]
        if seen is not None:
            parts.append(self._gather(seen, self.observed_offsets, grid))
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]

    def inner(self, values: Tensor) -> Tensor:
        """What of (N, H, W, ...) lies at the pixels whose neighbourhood fits, (N, H', W', ...), a view."""
        grid = self.grid(*values.shape[1 : 1 + self.ndim])
        places = zip(self.margins[::2], grid, strict=True)
        return values[(slice(None), *(slice(before, before + size) for before, size in places))]

    def targets(self, images: Tensor) -> Tensor:
        """The predicted pixels (N, H', W', C), a view of the images."""
        return self.inner(as_image_batch(images, ndim=self.ndim))

    def extract(self, images: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (P, num_inputs) and outputs (P, C) of all P pixels whose neighbourhood fits, in row-major order."""
        return self.windows(images, observed).flatten(0, -2), self.targets(images).flatten(0, -2)

    def sample(
        self,
        images: Tensor,
        count: int,
        *,
        observed: Tensor | None = None,
        generator: torch.Generator | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Inputs and outputs at ``count`` random pixels drawn without replacement; all of them if there are fewer."""
        images, seen = self._checked(images, observed)
        lattice = images.shape[1:-1]
        grid = self.grid(*lattice)
        total = images.shape[0] * prod(grid)
        if count >= total:
            return self.extract(images, observed)
        pick = torch.randperm(total, generator=generator)[:count].to(images.device)
        at, step = torch.zeros_like(pick), 1
        for size, extent, before in zip(lattice[::-1], grid[::-1], self.margins[::2][::-1], strict=True):
            at = at + (pick % extent + before) * step
            pick, step = pick // extent, step * size
        at = at + pick * step
        parts = [self._take(images, self.offsets, at)]
        if seen is not None:
            parts.append(self._take(seen, self.observed_offsets, at))
        return torch.cat(parts, -1), images.flatten(0, -2)[at]

    def wavefronts(self, *grid: int) -> Iterator[tuple[Tensor, ...]]:
        """The pixels (i, j) of a grid with equal j + (r+1) i, one step after another; none needs another of its step.

        There are at most columns + (r+1) (rows - 1) steps, and every pixel's causal neighbours lie in earlier ones.
        """
        places = torch.cartesian_prod(*(torch.arange(size) for size in grid)).view(-1, len(grid))
        step = places @ torch.tensor(self.strides)
        order = step.argsort(stable=True)
        for group in order.split(step.unique(return_counts=True)[1].tolist()):
            yield places[group].unbind(1)

    def flat_offsets(self, offsets: Sequence[tuple[int, ...]], lattice: Sequence[int]) -> Tensor:
        """Offsets as distances between the row-major numbers of the pixels of a lattice."""
        flat = []
        for offset in offsets:
            number = 0
            for step, size in zip(offset, lattice, strict=True):
                number = number * size + step
            flat.append(number)
        return torch.tensor(flat, dtype=torch.long, device="cpu")

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.mask.shape))
        seen = f", observed={self.observed_size}" if self.observed_size else ""
        return f"CausalNeighborhood({shape}, size={self.size}, output={self.output}{seen})"

    def _pairs(self) -> list[tuple[int, int]]:
        """Margins before and after, axis by axis."""
        return list(zip(self.margins[::2], self.margins[1::2], strict=True))

    def _strides(self) -> tuple[int, ...]:
        strides = [1]
        for axis in reversed(range(self.ndim - 1)):
            least = 1
            for offset in self.offsets:
                if offset[axis] < 0 and not any(offset[:axis]):
                    ahead = sum(s * o for s, o in zip(strides, offset[axis + 1 :], strict=True))
                    least = max(least, ahead // -offset[axis] + 1)
            strides.insert(0, least)
        return tuple(strides)

    def _checked(self, images: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        images = as_image_batch(images, ndim=self.ndim)
        if observed is None:
            if self.observed_size:
                raise ValueError("observed must be given: this neighborhood has inputs in observed channels")
            return images, None
        observed = as_image_batch(observed, "observed", self.ndim)
        if observed.shape[:-1] != images.shape[:-1]:
            raise ValueError(
                f"observed must have the images' shape {tuple(images.shape[:-1])}, got {tuple(observed.shape[:-1])}"
            )
        return images, observed

    def _offsets_of(self, mask: Tensor) -> list[tuple[int, ...]]:
        return [
            tuple(int(place) - output for place, output in zip(places, self.output, strict=True))
            for places in mask.nonzero().tolist()
        ]

    def _gather(self, images: Tensor, offsets: list[tuple[int, ...]], grid: tuple[int, ...]) -> Tensor:
        # (N, H', W', C, rows of the window, columns of the window), without a copy
        views = images
        for axis, pair in enumerate(self._pairs(), 1):
            views = views.unfold(axis, sum(pair) + 1, 1)
        at: tuple[Any, ...] = tuple(
            torch.tensor([o[axis] + before for o in offsets], dtype=torch.long, device=images.device)
            for axis, before in enumerate(self.margins[::2])
        )
        size = len(offsets) * images.shape[-1]
        return views[(Ellipsis, *at)].transpose(-1, -2).reshape(images.shape[0], *grid, size)

    def _take(self, images: Tensor, offsets: list[tuple[int, ...]], at: Tensor) -> Tensor:
        shift = self.flat_offsets(offsets, images.shape[1:-1]).to(at.device)
        return images.flatten(0, -2)[at[:, None] + shift].flatten(1)


def _by(sizes: Iterable[int]) -> str:
    return " x ".join(map(str, sizes))
