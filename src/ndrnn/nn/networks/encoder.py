"""The way down that all networks here have in common: levels of convolutions and scans, each on a coarser lattice."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...lattice import check_sizes
from ..batching import add_batch
from ..blocks import Blocks
from .block import ScanBlock
from .parts import Convolution, Standardize, Style
from .ragged import Mask, cleared, coarser, largest, mask_of


class Said(NamedTuple):
    """What a level says."""

    x: Tensor
    """(N, d1, ..., dn, F), 0 outside the samples."""
    sizes: Tensor | None
    """The extents (N, n) of the samples on its lattice."""
    mask: Mask


class Level(nn.Module):
    """Convolutions, then scan blocks, on one lattice."""

    def __init__(
        self,
        before: int,
        width: int,
        ndim: int,
        style: Style,
        *,
        convolutions: int = 2,
        scans: int = 0,
        units: int = 1,
    ) -> None:
        super().__init__()
        befores = [before, *[width] * (convolutions - 1)]
        self.convolutions = nn.ModuleList(Convolution(count, width, ndim, style) for count in befores)
        self.scans = nn.ModuleList(ScanBlock.in_style(width, units, ndim, style) for _ in range(scans))

    def forward(self, x: Tensor, sizes: Tensor | None, mask: Mask) -> Tensor:
        for convolution in self.convolutions:
            x = convolution(x, mask)
        for scan in self.scans:
            x = scan(x, sizes)
        return x


class Encoder(nn.Module):
    """Levels from the finest down.

    Args:
        input_size: features C of a point.
        widths: features of every level.
        blocks: how many points become one before each level, for every level one number an axis. Before the first the
            points of a block are gathered with all their features, before the others the largest of each feature is
            taken.
        scans: scan blocks of every level.
        units: of each direction of the scan blocks, for every level.
        convolutions: of every level.
        ndim: number n of axes.
        style: how the parts are built.
    """

    def __init__(
        self,
        input_size: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[Sequence[int]],
        scans: Sequence[int],
        units: Sequence[int],
        convolutions: int,
        ndim: int,
        style: Style,
    ) -> None:
        super().__init__()
        self.ndim, self.input_size = ndim, input_size
        self.blocks = [tuple(block) for block in blocks]
        self.gather = Blocks(self.blocks[0])
        befores = [input_size * self.gather.points, *widths]
        self.levels = nn.ModuleList(
            Level(before, width, ndim, style, convolutions=convolutions, scans=count, units=hidden)
            for before, width, count, hidden in zip(befores, widths, scans, units, strict=False)
        )
        self.dropout = nn.Dropout(style.dropout)

    def extra_repr(self) -> str:
        return f"blocks={self.blocks}"

    def dropped(self, x: Tensor, level: int) -> Tensor:
        """What goes into that level or comes from it; features are dropped where it scans.

        Few and fine features, which only convolutions see, are told from noise too badly: readers of lines with dropout
        between all levels learned at half the pace.
        """
        scanned: Tensor = self.dropout(x) if len(self.levels[level].scans) else x  # type: ignore[arg-type]
        return scanned

    def coarser(self, sizes: Tensor) -> Tensor:
        """The extents (N, n) on the coarsest lattice."""
        for block in self.blocks:
            sizes = coarser(sizes, block)
        return sizes

    def forward(self, x: Tensor, sizes: Tensor | None) -> list[Said]:
        """What every level says, from the finest."""
        x = self.gather(cleared(x, mask_of(sizes, x.shape[1:-1])))
        return self.walk(x, None if sizes is None else coarser(sizes, self.blocks[0]), 0, len(self.levels))

    def walk(self, x: Tensor, sizes: Tensor | None, first: int, last: int) -> list[Said]:
        """What the levels from ``first`` to before ``last`` say, of the features x that ``first`` gets on its lattice."""
        mask: Mask = None
        said: list[Said] = []
        for index in range(first, last):
            if index > first:
                # what convolutions say is nowhere below the zeros outside, so that nothing need be masked for it
                rectified = not len(self.levels[index - 1].scans)  # type: ignore[arg-type]
                x = largest(x, self.blocks[index], None if rectified else mask)
                sizes = None if sizes is None else coarser(sizes, self.blocks[index])
                mask = mask_of(sizes, x.shape[1:-1])
                x = self.dropped(x if rectified else cleared(x, mask), index)
            else:
                mask = mask_of(sizes, x.shape[1:-1])
            x = self.levels[index](x, sizes, mask)
            said.append(Said(x, sizes, mask))
        return said


class LatticeNetwork(nn.Module):
    """The base of the networks here: what the input is scaled by, the way down, and the arguments for saving."""

    def __init__(
        self,
        config: Mapping[str, Any],
        input_size: int,
        *,
        widths: Sequence[int],
        blocks: Sequence[Sequence[int]],
        scans: Sequence[int],
        units: Sequence[int],
        convolutions: int,
        ndim: int,
        style: Style,
    ) -> None:
        super().__init__()
        _check(widths, blocks, scans, units, convolutions, ndim)
        self.ndim, self.style = ndim, style
        self._config = {**config, **vars(style)}
        self.input = Standardize(input_size)
        self.encoder = Encoder(
            input_size,
            widths=widths,
            blocks=blocks or [(1,) * ndim, *[(2,) * ndim] * (len(widths) - 1)],
            scans=scans,
            units=units or [max(4, width // 2) for width in widths],
            convolutions=convolutions,
            ndim=ndim,
            style=style,
        )

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, for :mod:`ndrnn.saving.models`."""
        return dict(self._config)

    @property
    def input_size(self) -> int:
        """Features C of a point of the input."""
        return self.encoder.input_size

    def standardize(self, mean: Tensor, std: Tensor) -> None:
        """Set the centre and scale (C,) of each feature; a feature that never varies keeps its scale."""
        self.input.set(mean, std)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """What the network says of x (N, D1, ..., Dn, C) or, of one sample, (D1, ..., Dn, C).

        Args:
            x: the features.
            sizes: true extent (N, n) of each sample, int64, or (n,) unbatched.
        """
        form = f"{', '.join(f'D{axis + 1}' for axis in range(self.ndim))}, {self.input_size})"
        if x.dim() not in (self.ndim + 1, self.ndim + 2) or x.shape[-1] != self.input_size:
            raise ValueError(f"x must have shape (N, {form}, or ({form} unbatched, got {tuple(x.shape)}")
        x, sizes, unbatched = add_batch(x, sizes, self.ndim)
        if sizes is not None:
            sizes = check_sizes(sizes, x.shape[0], x.shape[1:-1])
        y = self.answer(self.encoder(self.input(x), sizes), x.shape[1:-1])
        return y.squeeze(0) if unbatched else y

    def answer(self, said: list[Said], lattice: Sequence[int]) -> Tensor:
        """The output of a batch on a lattice, of what every level of the way down says, from the finest."""
        raise NotImplementedError


def whole(sizes: Tensor | None, x: Tensor) -> Tensor:
    """The extents (N, n) of samples that may fill their lattice."""
    if sizes is not None:
        return sizes
    return torch.tensor([x.shape[1:-1]], device=x.device).expand(x.shape[0], -1)


def _check(
    widths: Sequence[int],
    blocks: Sequence[Sequence[int]],
    scans: Sequence[int],
    units: Sequence[int],
    convolutions: int,
    ndim: int,
) -> None:
    levels = len(widths)
    if not levels:
        raise ValueError("widths must name at least one level, got none")
    if len(scans) != levels:
        raise ValueError(f"scans must have one number for each of the {levels} widths, got {tuple(scans)}")
    if len(units) not in (0, levels):
        raise ValueError(f"units must have one number for each of the {levels} widths, got {tuple(units)}")
    if blocks and (len(blocks) != levels or any(len(block) != ndim for block in blocks)):
        raise ValueError(
            f"blocks must have {ndim} numbers for each of the {levels} widths, or be empty, got {blocks}"
        )
    for name, values, least in (
        ("widths", widths, 1),
        ("units", units, 1),
        ("scans", scans, 0),
        ("convolutions", [convolutions], 1),
        ("blocks", [step for block in blocks for step in block], 1),
    ):
        for value in values:
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(f"{name} must be ints of at least {least}, got {value!r}")
