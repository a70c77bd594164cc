"""A network that names whole samples."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from .collapse import Together, collapse_by
from .encoder import LatticeNetwork, Said
from .parts import Options, Style


class ScanClassifier(LatticeNetwork):
    """Names samples of any extents: convolutions where the lattice is fine, scans where it is coarse, all points taken
    together, one output.

    Args:
        input_size: features C of a point.
        output_size: classes, without activation.
        widths: features of every level, from the finest.
        scans: scan blocks of every level, after its convolutions.
        units: of each direction of the scan blocks, for every level; by default half of its width, at least 4.
        blocks: how many points become one before each level, for every level one number an axis; by default 1 before the
            first and 2 along every axis before the others.
        convolutions: of every level.
        collapse: how the points of the last level become one: ``"mean"``, ``"max"``, ``"sum"`` or ``"attention"``.
        ndim: number n of lattice axes, 1, 2 or 3.
        **options: ``layer``, ``directions``, ``norm``, ``separable``, ``dropout``, ``stochastic_depth`` and
            ``recompute``, see :class:`ndrnn.nn.networks.Style`.

    Shapes:
        x (N, D1, ..., Dn, C) and ``sizes`` (N, n) int64, true extents, to scores (N, output_size); unbatched all without
        the axis N.

    A sample in a padded batch gives what it gives alone (with ``norm="batch"`` in evaluation only).
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
        collapse: Together = "mean",
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
        self.collapse = collapse_by(widths[-1], ndim, range(ndim), collapse)
        self.dropout = nn.Dropout(style.dropout)
        self.output = nn.Linear(widths[-1], output_size)

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """The extents of the output, (N, 0): a sample has one."""
        return self.collapse.output_sizes(self.encoder.coarser(sizes))

    def answer(self, said: list[Said], lattice: Sequence[int]) -> Tensor:
        top = said[-1]
        scores: Tensor = self.output(self.dropout(self.collapse(top.x, top.sizes)))
        return scores
