"""The network of a task as options."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..data.batches import Facts
    from ..nn.blocks import How
    from ..nn.hierarchy import Hierarchy


@dataclass(frozen=True)
class Network:
    """Multi-directional recurrent layers, each level on a coarser lattice where blocks are given."""

    hidden: tuple[int, ...] = (25,)
    """Units of each direction, for every level from the lowest."""
    subsample: tuple[int, ...] = ()
    """Units of the feed-forward layers between the levels; none by default."""
    blocks: tuple[str, ...] = ()
    """How many points become one before each level, such as 4x3 (heights first), for every level; by default none do."""
    layer: str = "MDGRU"
    """Kind of recurrent layer: MDRNN, MDLSTM, StableMDLSTM, LeakyMDLSTM, SpatialLSTM or MDGRU, which learned fastest where
    they were compared, and whose states stay bounded on images larger than those of the training."""
    peepholes: bool | None = None
    """Whether the gates of MDLSTM see the memories; by default they do."""
    directions: tuple[str, ...] = ()
    """Corners to scan from, a letter an axis, f for forward and b for backward, such as ff or fb; by default all. A
    network of one direction labels images of any size exactly, tile by tile."""
    dct: int | None = None
    """Describe each lowest block by so many cosine coefficients instead of its points."""
    dropout: float = 0.0
    """Share of each level's outputs that are set to zero in training."""
    balance: bool = False
    """Whether the first weights are scaled so that every level hears the one below, see :mod:`ndrnn.nn.init`."""

    def __post_init__(self) -> None:
        for size in (*self.hidden, *self.subsample):
            if size < 1:
                raise ValueError(f"hidden and subsample must be at least 1, got {size}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        for direction in self.directions:
            if not direction or set(direction) - {"f", "b"}:
                raise ValueError(f"directions must look like fb, got {direction!r}")
        for block in self.blocks:
            if not all(part.isdecimal() and int(part) > 0 for part in block.split("x")):
                raise ValueError(f"blocks must look like 4x3, got {block!r}")

    def build(
        self,
        facts: Facts,
        output_size: int,
        *,
        collapse: Sequence[int] = (),
        how: How = "sum",
        expand: bool = False,
        auxiliary: bool = False,
    ) -> Hierarchy:
        """The network for data of this kind, see :class:`ndrnn.nn.hierarchy.Hierarchy`."""
        from ..nn.hierarchy import Hierarchy  # options alone are read without PyTorch

        return Hierarchy(
            facts.channels,
            output_size,
            hidden=self.hidden,
            subsample=self.subsample,
            blocks=[tuple(map(int, block.split("x"))) for block in self.blocks],
            ndim=facts.ndim,
            layer=self.layer,
            peepholes=self.peepholes,
            directions=[tuple(1 if letter == "f" else -1 for letter in way) for way in self.directions]
            or "all",
            dct=self.dct,
            collapse=collapse,
            how=how,
            expand=expand and bool(self.blocks),
            dropout=self.dropout,
            auxiliary=auxiliary,
        )
