"""A reader of lines: convolutions down to a few rows, scans over what is left, and a collapse of the rows to frames."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Unpack

from torch import Tensor, nn

from .block import ScanBlock
from .collapse import Together, collapse_by
from .encoder import LatticeNetwork, Said
from .parts import Options, Style


class LineReader(LatticeNetwork):
    """Reads images along their last axis: gives scores of frames, for CTC.

    Convolutions and scans alternate in the best published reader of multi-dimensional LSTMs (Voigtlaender, Doetsch & Ney
    2016); here, by default, scans come where the lattice is coarse::

        LineReader(1, 80)      # lines of 48 rows: 3 rows are left, and four columns make a frame

    Args:
        input_size: features C of a point.
        output_size: features of a frame, without activation; for CTC the characters and the blank.
        widths: features of every level, from the finest.
        scans: scan blocks of every level, after its convolutions.
        units: of each direction of the scan blocks, for every level; by default half of its width, at least 4.
        blocks: how many points become one before each level, for every level one number an axis, heights first. Along the
            last axis their product is the width of a frame.
        convolutions: of every level.
        frame_scans: scan blocks along the frames, after the collapse, with the units of the last level.
        collapse: how the rows that are left become one: ``"max"``, ``"mean"``, ``"sum"`` or ``"attention"``, a mean with
            weights that are learned.
        ndim: number n of lattice axes; all but the last are collapsed.
        **options: ``layer``, ``directions``, ``norm``, ``separable``, ``dropout``, ``stochastic_depth`` and
            ``recompute``, see :class:`ndrnn.nn.networks.Style`.

    Shapes:
        x (N, D1, ..., Dn, C) and ``sizes`` (N, n) int64, true extents, to scores (N, T, output_size), without meaning
        beyond ``output_sizes(sizes)`` frames; unbatched all without the axis N.

    A line in a padded batch gives what it gives alone (with ``norm="batch"`` in evaluation only).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        widths: Sequence[int] = (16, 32, 48, 64, 64),
        scans: Sequence[int] = (0, 0, 0, 0, 2),
        units: Sequence[int] = (),
        blocks: Sequence[Sequence[int]] = ((1, 1), (2, 2), (2, 2), (2, 1), (2, 1)),
        convolutions: int = 1,
        frame_scans: int = 0,
        collapse: Together = "max",
        ndim: int = 2,
        **options: Unpack[Options],
    ) -> None:
        own = {
            name: value for name, value in locals().items() if name not in ("self", "__class__", "options")
        }
        if ndim < 2:
            raise ValueError(f"ndim must be at least 2 for a reader of lines, got {ndim}")
        if not isinstance(frame_scans, int) or frame_scans < 0:
            raise ValueError(f"frame_scans must be an int of at least 0, got {frame_scans!r}")
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
        self.collapse = collapse_by(widths[-1], ndim, range(ndim - 1), collapse)
        last = units[-1] if units else max(4, widths[-1] // 2)
        along = style.along_one_axis()
        self.frames = nn.ModuleList(
            ScanBlock.in_style(widths[-1], last, 1, along) for _ in range(frame_scans)
        )
        self.dropout = nn.Dropout(style.dropout)
        self.output = nn.Linear(widths[-1], output_size)

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """How many frames (N, 1) samples of these extents (N, n) have."""
        return self.collapse.output_sizes(self.encoder.coarser(sizes))

    def answer(self, said: list[Said], lattice: Sequence[int]) -> Tensor:
        top = said[-1]
        frames = self.collapse(top.x, top.sizes)
        left = None if top.sizes is None else self.collapse.output_sizes(top.sizes)
        for scan in self.frames:
            frames = scan(frames, left)
        scores: Tensor = self.output(self.dropout(frames))
        return scores
