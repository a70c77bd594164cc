"""The network of a task as options."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from ..data.batches import Facts
    from ..nn.blocks import How
    from ..nn.hierarchy import Hierarchy
    from ..nn.networks import LineReader, ScanClassifier, ScanUNet

_HIERARCHY = ("hidden", "subsample", "peepholes", "dct", "balance")
_JOINED = ("widths", "scans", "units", "convolutions", "norm", "separable", "stochastic_depth")
_OWN = {
    "hierarchy": _HIERARCHY,
    "unet": _JOINED,
    "reader": (*_JOINED, "frame_scans", "collapse"),
    "classifier": (*_JOINED, "collapse"),
}
"""Keys that not every kind of network knows."""

_COMMON = ("layer", "directions", "dropout")
"""Keys that mean the same in all kinds of networks."""


@dataclass(frozen=True)
class Network:
    """Multi-directional recurrent layers, each level on a coarser lattice where blocks are given; alone or, other than in
    a hierarchy, with convolutions where the lattice is fine."""

    kind: Literal["hierarchy", "unet", "reader", "classifier"] = "hierarchy"
    """A hierarchy of recurrent layers serves all tasks; joined with convolutions they make a U-Net to label points, a
    reader of lines, and a classifier of whole samples, see ndrnn.nn.networks."""
    hidden: tuple[int, ...] = (25,)
    """Units of each direction, for every level from the lowest."""
    subsample: tuple[int, ...] = ()
    """Units of the feed-forward layers between the levels; none by default."""
    blocks: tuple[str, ...] = ()
    """How many points become one before each level, such as 4x3 (heights first), for every level; by default none do."""
    layer: str = "MDGRU"
    """Kind of recurrent layer: MDRNN, MDLSTM, StableMDLSTM, LeakyMDLSTM, SpatialLSTM, MDLinearRNN, the quickest, or MDGRU,
    which learned fastest where they were compared, and whose states stay bounded on images larger than those of the
    training."""
    peepholes: bool | None = None
    """Whether the gates of MDLSTM see the memories; by default they do."""
    directions: tuple[str, ...] = ()
    """Corners to scan from, a letter an axis, f for forward and b for backward, such as ff or fb; by default all. A
    network of one direction labels images of any size exactly, tile by tile."""
    dct: int | None = None
    """Describe each lowest block by so many cosine coefficients instead of its points."""
    dropout: float = 0.0
    """Share of each level's outputs that are set to zero in training; with convolutions, of what goes into and comes from
    levels that scan."""
    balance: bool = False
    """Whether the first weights are scaled so that every level hears the one below, see ndrnn.nn.init."""
    widths: tuple[int, ...] = ()
    """With convolutions: features of every level, from the finest."""
    scans: tuple[int, ...] = ()
    """With convolutions: recurrent blocks of every level, after its convolutions."""
    units: tuple[int, ...] = ()
    """With convolutions: units of each direction, for every level; by default half of its features."""
    convolutions: int | None = None
    """Of every level; 1 in a reader and else 2 by default."""
    frame_scans: int = 0
    """In a reader: recurrent blocks along the frames."""
    collapse: Literal["max", "mean", "sum", "attention"] | None = None
    """How the rows of a reader, by default max, or all points of a classifier, by default mean, become one."""
    norm: Literal["batch", "layer", "rms"] = "batch"
    """With convolutions: over the points of a batch, or over the features of each point."""
    separable: bool = False
    """With convolutions: each feature alone, then each point alone, with about a ninth of the weights."""
    stochastic_depth: float = 0.0
    """With convolutions: share of the samples that pass by a recurrent block in training."""

    def __post_init__(self) -> None:
        for size in (*self.hidden, *self.subsample):
            if size < 1:
                raise ValueError(f"hidden and subsample must be at least 1, got {size}")
        if self.convolutions is not None and self.convolutions < 1:
            raise ValueError(f"convolutions must be at least 1, got {self.convolutions}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must lie in [0, 1), got {self.dropout}")
        for direction in self.directions:
            if not direction or set(direction) - {"f", "b"}:
                raise ValueError(f"directions must look like fb, got {direction!r}")
        for block in self.blocks:
            if not all(part.isdecimal() and int(part) > 0 for part in block.split("x")):
                raise ValueError(f"blocks must look like 4x3, got {block!r}")
        if self.kind not in _OWN:
            raise ValueError(f"kind must be one of {', '.join(_OWN)}, got {self.kind!r}")
        for field in fields(self):
            foreign = field.name not in _OWN[self.kind] and any(
                field.name in names for names in _OWN.values()
            )
            if foreign and getattr(self, field.name) != field.default:
                raise ValueError(
                    f"{field.name} must be left out for kind = {self.kind!r}, got {getattr(self, field.name)!r}"
                )

    def build(
        self,
        facts: Facts,
        output_size: int,
        *,
        collapse: Sequence[int] = (),
        how: How = "sum",
        expand: bool = False,
        auxiliary: bool = False,
    ) -> Hierarchy | ScanUNet | LineReader | ScanClassifier:
        """The network for data of this kind; arguments as for :class:`ndrnn.nn.hierarchy.Hierarchy`.

        Raises:
            ValueError: the kind of network does not collapse these axes.
        """
        if self.kind != "hierarchy":
            return self._joined(facts, output_size, len(collapse))
        from ..nn.hierarchy import Hierarchy  # options alone are read without PyTorch

        return Hierarchy(
            facts.channels,
            output_size,
            hidden=self.hidden,
            subsample=self.subsample,
            blocks=self._blocks(),
            ndim=facts.ndim,
            layer=self.layer,
            peepholes=self.peepholes,
            directions=self._directions(),
            dct=self.dct,
            collapse=collapse,
            how=how,
            expand=expand and bool(self.blocks),
            dropout=self.dropout,
            auxiliary=auxiliary,
        )

    def _joined(
        self, facts: Facts, output_size: int, collapsed: int
    ) -> ScanUNet | LineReader | ScanClassifier:
        from ..nn import networks

        wanted = "unet" if not collapsed else "classifier" if collapsed == facts.ndim else "reader"
        if self.kind != wanted:
            raise ValueError(
                f"network.kind must be 'hierarchy' or {wanted!r} for this task, got {self.kind!r}"
            )
        options: dict[str, Any] = {
            name: value
            for name, value in (
                ("widths", self.widths),
                ("scans", self.scans),
                ("units", self.units),
                ("blocks", self._blocks()),
                ("convolutions", self.convolutions),
                ("frame_scans", self.frame_scans),
                ("collapse", self.collapse),
            )
            if value  # else the network's own default
        }
        cls = {
            "unet": networks.ScanUNet,
            "reader": networks.LineReader,
            "classifier": networks.ScanClassifier,
        }
        network: ScanUNet | LineReader | ScanClassifier = cls[self.kind](
            facts.channels,
            output_size,
            ndim=facts.ndim,
            layer=self.layer,
            directions=self._directions(),
            norm=self.norm,
            separable=self.separable,
            dropout=self.dropout,
            stochastic_depth=self.stochastic_depth,
            **options,
        )
        return network

    def _blocks(self) -> list[tuple[int, ...]]:
        return [tuple(map(int, block.split("x"))) for block in self.blocks]

    def _directions(self) -> Any:
        return [tuple(1 if letter == "f" else -1 for letter in way) for way in self.directions] or "all"


def of_kind(kind: str, other: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a network of one kind where those of another kind are given: what both have, and the defaults.

    Raises:
        ValueError: there is no such kind.
    """
    kept = {name: other[name] for name in _COMMON if name in other}
    return {**asdict(Network(kind=kind)), **kept}  # type: ignore[arg-type]
