"""Causal neighbourhoods: which pixels a pixel may be predicted from, and the order in which pixels can be drawn."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor


def as_image_batch(images: Tensor, name: str = "images") -> Tensor:
    """Images as (N, H, W, C); grey ones (N, H, W) get a channel axis.

    Raises:
        TypeError: not a floating-point tensor. Integer pixels need noise or a discrete base measure first.
        ValueError: neither three nor four dimensions, or no pixels at all.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"{name} must be a torch.Tensor, got {type(images).__name__}")
    if not images.is_floating_point():
        raise TypeError(
            f"{name} must hold floating-point values, got {images.dtype}; "
            "for 8-bit pixels use ndrnn.density.dequantize(images) first"
        )
    if images.dim() not in (3, 4):
        raise ValueError(f"{name} must have shape (N, H, W) or (N, H, W, C), got {tuple(images.shape)}")
    if images.numel() == 0:
        raise ValueError(f"{name} must hold at least one pixel, got shape {tuple(images.shape)}")
    return images if images.dim() == 4 else images.unsqueeze(-1)


class CausalNeighborhood:
    """The pixels before a pixel in row-major order from which it is predicted (Theis et al. 2012).

    Args:
        mask: (rows, columns), True where a pixel is an input.
        output: row and column of the predicted pixel within the mask; the middle of the last row if not given.
        observed: mask of the same shape for further channels that are known everywhere, such as luma under chroma or
            a coarse image under its details; it need not be causal.

    Raises:
        ValueError: a mask is no matrix, the masks differ in shape, the output lies outside, or an input does not
            come before the output.
    """

    def __init__(
        self,
        mask: Tensor | Sequence[Sequence[bool | int]],
        output: tuple[int, int] | None = None,
        observed: Tensor | Sequence[Sequence[bool | int]] | None = None,
    ) -> None:
        self.mask = torch.as_tensor(mask, device="cpu").bool()
        if self.mask.dim() != 2 or self.mask.numel() == 0:
            raise ValueError(f"mask must be a matrix (rows, columns), got shape {tuple(self.mask.shape)}")
        rows, columns = self.mask.shape
        self.output = (rows - 1, columns // 2) if output is None else (int(output[0]), int(output[1]))
        if not (0 <= self.output[0] < rows and 0 <= self.output[1] < columns):
            raise ValueError(f"output must lie inside the mask of shape {(rows, columns)}, got {self.output}")
        self.observed = (
            torch.zeros_like(self.mask)
            if observed is None
            else torch.as_tensor(observed, device="cpu").bool()
        )
        if self.observed.shape != self.mask.shape:
            raise ValueError(
                f"observed must have the mask's shape {(rows, columns)}, got {tuple(self.observed.shape)}"
            )
        self.offsets = self._offsets_of(self.mask)
        self.observed_offsets = self._offsets_of(self.observed)
        late = [offset for offset in self.offsets if offset >= (0, 0)]
        if late:
            raise ValueError(
                f"mask must hold only pixels before the output {self.output} in row-major order, "
                f"got offsets {late} (rows, columns) from it"
            )
        every = [*self.offsets, *self.observed_offsets, (0, 0)]
        self.margins: tuple[int, int, int, int] = (
            -min(i for i, _ in every),
            max(i for i, _ in every),
            -min(j for _, j in every),
            max(j for _, j in every),
        )
        """Rows above and below, columns left and right of a pixel that its neighbourhood covers."""
        self.slope = max([1, *(j // -i + 1 for i, j in self.offsets if i < 0)])
        """r + 1: pixel (i, j) can be drawn at step j + (r + 1) i."""

    @classmethod
    def window(cls, width: int, *, observed: bool = False) -> CausalNeighborhood:
        """The causal half of a square window: all rows above the output, and the pixels left of it.

        Width 3, 5, 7, 9 give 4, 12, 24, 40 inputs. With ``observed`` further channels are seen in the whole square.

        Raises:
            ValueError: ``width`` is not an odd number of at least 3.
        """
        if width < 3 or width % 2 == 0:
            raise ValueError(f"width must be an odd number of at least 3, got {width}")
        half = width // 2
        # on the CPU also where tensors are made on another device by default
        mask = torch.ones(width if observed else half + 1, width, dtype=torch.bool, device="cpu")
        square = torch.ones_like(mask) if observed else None
        mask[half, half:] = False
        mask[half + 1 :] = False
        return cls(mask, (half, half), square)

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

    def grid(self, height: int, width: int) -> tuple[int, int]:
        """Rows and columns of the pixels whose whole neighbourhood lies in an image.

        Raises:
            ValueError: there is no such pixel.
        """
        top, bottom, left, right = self.margins
        rows, columns = height - top - bottom, width - left - right
        if rows < 1 or columns < 1:
            raise ValueError(
                f"images must be at least {top + bottom + 1} x {left + right + 1} pixels for this neighborhood, "
                f"got {height} x {width}"
            )
        return rows, columns

    def windows(self, images: Tensor, observed: Tensor | None = None) -> Tensor:
        """Input vectors (N, H', W', num_inputs) of all pixels whose neighbourhood fits.

        The inputs come in row-major order of the mask, at each position all channels; then the observed channels.

        Raises:
            TypeError, ValueError: see :func:`as_image_batch`; or ``observed`` does not match the images.
        """
        images, seen = self._checked(images, observed)
        rows, columns = self.grid(images.shape[1], images.shape[2])
        parts = [self._gather(images, self.offsets, rows, columns)]
        if seen is not None:
            parts.append(self._gather(seen, self.observed_offsets, rows, columns))
        return torch.cat(parts, -1) if len(parts) > 1 else parts[0]

    def targets(self, images: Tensor) -> Tensor:
        """The predicted pixels (N, H', W', C), a view of the images."""
        images = as_image_batch(images)
        rows, columns = self.grid(images.shape[1], images.shape[2])
        top, _, left, _ = self.margins
        return images[:, top : top + rows, left : left + columns]

    def extract(self, images: Tensor, observed: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Inputs (P, num_inputs) and outputs (P, C) of all P pixels whose neighbourhood fits, in row-major order."""
        return self.windows(images, observed).flatten(0, 2), self.targets(images).flatten(0, 2)

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
        rows, columns = self.grid(images.shape[1], images.shape[2])
        total = images.shape[0] * rows * columns
        if count >= total:
            return self.extract(images, observed)
        pick = torch.randperm(total, generator=generator)[:count].to(images.device)
        top, _, left, _ = self.margins
        height, width = images.shape[1:3]
        at = pick // (rows * columns) * (height * width)
        at = at + (pick // columns % rows + top) * width + pick % columns + left
        parts = [self._take(images, self.offsets, at)]
        if seen is not None:
            parts.append(self._take(seen, self.observed_offsets, at))
        return torch.cat(parts, -1), images.flatten(0, 2)[at]

    def wavefronts(self, rows: int, columns: int) -> Iterator[tuple[Tensor, Tensor]]:
        """The pixels (i, j) of a grid with equal j + (r+1) i, one step after another; none needs another of its step.

        There are at most columns + (r+1) (rows - 1) steps, and every pixel's causal neighbours lie in earlier ones.
        """
        for step in range(columns + self.slope * (rows - 1)):
            first = max(0, -((columns - 1 - step) // self.slope))
            last = min(rows - 1, step // self.slope)
            if first <= last:
                i = torch.arange(first, last + 1)
                yield i, step - self.slope * i

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.mask.shape))
        seen = f", observed={self.observed_size}" if self.observed_size else ""
        return f"CausalNeighborhood({shape}, size={self.size}, output={self.output}{seen})"

    def _checked(self, images: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
        images = as_image_batch(images)
        if observed is None:
            if self.observed_size:
                raise ValueError("observed must be given: this neighborhood has inputs in observed channels")
            return images, None
        observed = as_image_batch(observed, "observed")
        if observed.shape[:3] != images.shape[:3]:
            raise ValueError(
                f"observed must have the images' shape {tuple(images.shape[:3])}, got {tuple(observed.shape[:3])}"
            )
        return images, observed

    def _offsets_of(self, mask: Tensor) -> list[tuple[int, int]]:
        return [(int(i) - self.output[0], int(j) - self.output[1]) for i, j in mask.nonzero().tolist()]

    def _gather(self, images: Tensor, offsets: list[tuple[int, int]], rows: int, columns: int) -> Tensor:
        top, bottom, left, right = self.margins
        # (N, H', W', C, rows of the window, columns of the window), without a copy
        views = images.unfold(1, top + bottom + 1, 1).unfold(2, left + right + 1, 1)
        i = torch.tensor([di + top for di, _ in offsets], dtype=torch.long, device=images.device)
        j = torch.tensor([dj + left for _, dj in offsets], dtype=torch.long, device=images.device)
        size = len(offsets) * images.shape[-1]
        return views[..., i, j].transpose(-1, -2).reshape(images.shape[0], rows, columns, size)

    @staticmethod
    def _take(images: Tensor, offsets: list[tuple[int, int]], at: Tensor) -> Tensor:
        width = images.shape[2]
        shift = torch.tensor([i * width + j for i, j in offsets], dtype=torch.long, device=at.device)
        return images.flatten(0, 2)[at[:, None] + shift].flatten(1)
