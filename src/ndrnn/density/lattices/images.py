"""Transforms of images that keep densities exact: noise for 8-bit pixels, colour and Haar bases, flips, tiles."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor, nn

from ..mixture.precision import own_precision


def levels_of(images: Tensor) -> int:
    """How many values the dtype of integer images holds: 2 of bool, 256 of uint8, 65536 of uint16.

    Raises:
        ValueError: another dtype, which does not tell how many of its values are in use.
    """
    known = {torch.bool: 2, torch.uint8: 256, torch.uint16: 65536}
    if images.dtype not in known:
        raise ValueError(
            f"levels must be given for images of {images.dtype}; only bool, uint8 and uint16 tell how many"
        )
    return known[images.dtype]


def dequantize(
    images: Tensor,
    *,
    levels: int | None = None,
    generator: torch.Generator | None = None,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """Integer pixels k as floats (k + u) / levels with uniform noise u in [0, 1).

    The expected log-density of the result, minus log(levels) for every value, is at most the log-probability that the
    density gives to the pixels' bins, and equal to it for a density that is constant on each bin.

    Args:
        images: integers of any shape.
        levels: how many values a pixel may have; by default what the dtype holds, see :func:`levels_of`.
        generator: on the CPU, for the noise.
        dtype: of the result.

    Raises:
        TypeError: the pixels are floating point already.
        ValueError: a pixel lies outside [0, levels), or the dtype does not tell how many there are.
    """
    if images.is_floating_point() or images.is_complex():
        raise TypeError(f"images must hold integers, got {images.dtype}")
    levels = levels_of(images) if levels is None else levels
    if images.dtype in (torch.bool, torch.uint16):
        images = images.int()  # they know no arithmetic
    if images.numel() and not (int(images.min()) >= 0 and int(images.max()) < levels):
        raise ValueError(f"images must lie in [0, {levels}), got {int(images.min())} to {int(images.max())}")
    noise = torch.rand(images.shape, generator=generator, dtype=torch.float64).to(images.device)
    values = ((images + noise) / levels).to(dtype)
    # rounding may lift the largest noise into the next bin
    ends = ((images + torch.ones_like(noise)) / levels).to(dtype)
    return torch.minimum(values, torch.nextafter(ends, torch.zeros_like(ends)))


class LinearTransform(nn.Module):
    r"""An invertible linear map between the channels of a pixel; ``log_det`` is log\|det\| in nats per pixel.

    Raises:
        ValueError: the matrix is not square, or singular.
    """

    matrix: Tensor
    inverse_matrix: Tensor

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        if matrix.dim() != 2 or matrix.shape[0] != matrix.shape[1]:
            raise ValueError(f"matrix must be square, got shape {tuple(matrix.shape)}")
        if torch.linalg.matrix_rank(matrix.double()) < len(matrix):
            raise ValueError(f"matrix must be invertible, got rank below {len(matrix)}")
        self.register_buffer("matrix", matrix.double())
        self.register_buffer("inverse_matrix", torch.linalg.inv(matrix.double()))

    @property
    def log_det(self) -> float:
        return float(torch.linalg.slogdet(self.matrix.double()).logabsdet)

    def forward(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) in the new basis.

        Raises:
            ValueError: they have another number of channels.
        """
        if images.shape[-1] != len(self.matrix):
            raise ValueError(f"images must have {len(self.matrix)} channels, got {images.shape[-1]}")
        with own_precision(images.device):
            return images @ self.matrix.T.to(images)

    def inverse(self, images: Tensor) -> Tensor:
        """Images (N, H, W, C) in the old basis."""
        with own_precision(images.device):
            return images @ self.inverse_matrix.T.to(images)


def luma_chroma() -> LinearTransform:
    """Red, green, blue to luma and two chroma channels (the ITU-R BT.601 basis)."""
    red, green, blue = 0.299, 0.587, 0.114
    return LinearTransform(
        torch.tensor(
            [
                [red, green, blue],
                [-0.5 * red / (1 - blue), -0.5 * green / (1 - blue), 0.5],
                [0.5, -0.5 * green / (1 - red), -0.5 * blue / (1 - red)],
            ],
            dtype=torch.float64,
            device="cpu",
        )
    )


class Haar(nn.Module):
    """Orthonormal 2x2 Haar transform: (N, H, W, 1) to (N, H/2, W/2, 4), first the coarse image, then three details."""

    log_det = 0.0

    def forward(self, images: Tensor) -> Tensor:
        """The four coefficients of every 2x2 block.

        Raises:
            ValueError: the images have odd sides or more than one channel.
        """
        n, height, width, channels = images.shape
        if height % 2 or width % 2 or channels != 1:
            raise ValueError(
                f"images must have even sides and one channel for the Haar transform, got {tuple(images.shape)}"
            )
        blocks = images.reshape(n, height // 2, 2, width // 2, 2).permute(0, 1, 3, 2, 4).flatten(-2)
        with own_precision(images.device):
            return blocks @ self._basis(images).T

    def inverse(self, coefficients: Tensor) -> Tensor:
        """The images (N, H, W, 1) again."""
        n, rows, columns, _ = coefficients.shape
        with own_precision(coefficients.device):
            blocks = (coefficients @ self._basis(coefficients)).view(n, rows, columns, 2, 2)
        return blocks.permute(0, 1, 3, 2, 4).reshape(n, 2 * rows, 2 * columns, 1)

    @staticmethod
    def _basis(like: Tensor) -> Tensor:
        signs = [[1, 1, 1, 1], [1, -1, 1, -1], [1, 1, -1, -1], [1, -1, -1, 1]]
        return 0.5 * torch.tensor(signs, dtype=like.dtype, device=like.device)


def symmetries() -> tuple[Callable[[Tensor], Tensor], ...]:
    """The eight flips and transposes of images (N, H, W, ...), the identity first."""

    def make(transpose: bool, vertical: bool, horizontal: bool) -> Callable[[Tensor], Tensor]:
        def apply(images: Tensor) -> Tensor:
            images = images.transpose(1, 2) if transpose else images
            axes = [axis for axis, flip in ((1, vertical), (2, horizontal)) if flip]
            return images.flip(axes) if axes else images

        return apply

    return tuple(make(t, v, h) for t in (False, True) for v in (False, True) for h in (False, True))


def tiles(image: Tensor, size: int) -> Tensor:
    """Non-overlapping tiles (T, size, size, C) of an image (H, W) or (H, W, C); remainders are left out.

    Raises:
        ValueError: the image is smaller than a tile.
    """
    image = image if image.dim() == 3 else image.unsqueeze(-1)
    rows, columns = image.shape[0] // size, image.shape[1] // size
    if rows < 1 or columns < 1:
        raise ValueError(f"image must be at least {size} x {size}, got {image.shape[0]} x {image.shape[1]}")
    image = image[: rows * size, : columns * size]
    return (
        image.unfold(0, size, size)
        .unfold(1, size, size)
        .permute(0, 1, 3, 4, 2)
        .reshape(-1, size, size, image.shape[-1])
    )


def dead_leaves(
    height: int,
    width: int,
    *,
    r_min: float = 1.0,
    r_max: float | None = None,
    generator: torch.Generator | None = None,
) -> Tensor:
    """An image (height, width) of occluding disks (Lee, Mumford & Huang 2001), values in [0, 1).

    Disks are laid front to back until all is covered. The density of radii falls as r^-3 between ``r_min`` and
    ``r_max`` (half the longer side if not given), centres are uniform on the image grown by ``r_max``, greys uniform.
    The leaves are constant, so that a density exists only after noise has been added.

    Raises:
        ValueError: the radii are not 0 < r_min < r_max, or there are no pixels.
    """
    r_max = max(height, width) / 2 if r_max is None else r_max
    if not 0 < r_min < r_max:
        raise ValueError(f"r_min and r_max must be 0 < r_min < r_max, got {r_min} and {r_max}")
    if height < 1 or width < 1:
        raise ValueError(f"height and width must be at least 1, got {height} and {width}")
    image, bare = np.zeros((height, width), np.float32), np.ones((height, width), bool)
    i, j = np.arange(height)[:, None], np.arange(width)
    while bare.any():
        draws = torch.rand(4, 4096, generator=generator, dtype=torch.float64).numpy()
        radius = (r_min**-2 - draws[0] * (r_min**-2 - r_max**-2)) ** -0.5
        y, x = draws[1] * (height + 2 * r_max) - r_max, draws[2] * (width + 2 * r_max) - r_max
        top, bottom = (np.ceil(v).clip(0, height).astype(int) for v in (y - radius, y + radius + 1))
        left, right = (np.ceil(v).clip(0, width).astype(int) for v in (x - radius, x + radius + 1))
        # most late disks fall on covered ground: sums over their boxes tell
        total = np.zeros((height + 1, width + 1), int)
        total[1:, 1:] = bare.cumsum(0).cumsum(1)
        free = total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]
        for k in np.flatnonzero(free > 0):
            box = np.s_[top[k] : bottom[k], left[k] : right[k]]
            distance = (i[box[0]] - y[k]) ** 2 + (j[box[1]] - x[k]) ** 2
            seen = bare[box] & (distance <= radius[k] ** 2)
            image[box][seen] = draws[3, k]
            bare[box] &= ~seen
    return torch.from_numpy(image)


def batches(count: int, size: int) -> Iterator[slice]:
    """Slices of at most ``size`` that cover ``count``."""
    for start in range(0, count, size):
        yield slice(start, min(start + size, count))
