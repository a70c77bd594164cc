"""A U-Net that scans where its lattice is coarse (Ronneberger, Fischer & Brox 2015; three axes: Çiçek et al. 2016)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Unpack

import torch
from torch import Tensor, nn

from ..blocks import Unblocks
from .encoder import LatticeNetwork, Level, Said
from .parts import Options, Style
from .ragged import cleared, spread


class ScanUNet(LatticeNetwork):
    """Labels every point: convolutions where the lattice is fine, scans where it is coarse, and back with what each level
    had said.

    Convolutions know textures, recurrence carries what is far away::

        ScanUNet(3, 11)                                            # pictures, scans at a quarter of the resolution
        ScanUNet(1, 3, ndim=3, widths=(8, 16, 32), scans=(0, 1, 1))  # volumes

    Args:
        input_size: features C of a point.
        output_size: features of the output, without activation.
        widths: features of every level, from the finest.
        scans: scan blocks of every level, after its convolutions.
        units: of each direction of the scan blocks, for every level; by default half of its width, at least 4.
        blocks: how many points become one before each level, for every level one number an axis; by default 1 before the
            first and 2 along every axis before the others. Blocks before the first are gathered, and their points
            told apart again at the output: a fourth of the work for 2 x 2.
        convolutions: of every level on the way down, and of every level on the way up.
        ndim: number n of lattice axes, 1, 2 or 3.
        **options: ``layer``, ``directions``, ``norm``, ``separable``, ``dropout``, ``stochastic_depth`` and
            ``recompute``, see :class:`ndrnn.nn.networks.Style`.

    Shapes:
        x (N, D1, ..., Dn, C) and ``sizes`` (N, n) int64, true extents, to scores (N, D1, ..., Dn, output_size), without
        meaning outside ``sizes``; unbatched all without the axis N.

    A sample in a padded batch gives what it gives alone (with ``norm="batch"`` in evaluation only). Large lattices are
    labelled tile by tile, exactly, by :func:`ndrnn.nn.tiled.tiles`.
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        widths: Sequence[int] = (16, 32, 64),
        scans: Sequence[int] = (0, 0, 1),
        units: Sequence[int] = (),
        blocks: Sequence[Sequence[int]] = (),
        convolutions: int = 2,
        ndim: int = 2,
        **options: Unpack[Options],
    ) -> None:
        own = {
            name: value for name, value in locals().items() if name not in ("self", "__class__", "options")
        }
        style = Style(**options)
        super().__init__(
            own,
            input_size,
            widths=widths,
            blocks=blocks,
            scans=scans,
            units=units,
            convolutions=convolutions,
            ndim=ndim,
            style=style,
        )
        self.up = nn.ModuleList(
            Level(below + width, width, ndim, style, convolutions=convolutions)
            for width, below in pairwise(widths)
        )
        gather = self.encoder.gather
        self.output = nn.Linear(widths[0], output_size * gather.points)
        self.expand = Unblocks(gather.block)

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """The extents of the output for inputs of the extents ``sizes`` (N, n): the same."""
        return sizes

    def answer(self, said: list[Said], lattice: Sequence[int]) -> Tensor:
        *beside, deepest = said
        return self.labels(self.climb(deepest.x, beside), lattice)

    def climb(self, x: Tensor, beside: Sequence[Said], first: int = 0) -> Tensor:
        """The way up.

        Args:
            x: what the level below ``beside`` says, (N, d1, ..., dn, F).
            beside: what the levels from ``first`` on have said on the way down, from the finest.
            first: number of the level to come to.
        """
        for index, own in reversed(list(enumerate(beside, start=first))):
            x = self.encoder.dropped(x, index + 1)
            x = cleared(spread(x, self.encoder.blocks[index + 1], own.x.shape[1:-1]), own.mask)
            x = self.up[index](torch.cat([own.x, x], -1), own.sizes, own.mask)
        return x

    def labels(self, x: Tensor, lattice: Sequence[int]) -> Tensor:
        """Scores on a lattice (D1, ..., Dn), of what the finest level says on the way up."""
        scores: Tensor = self.expand(self.output(x), lattice)
        return scores
