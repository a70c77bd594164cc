"""What readers of images and volumes have in common: the decoder that a file's name asks for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

from ...later import Later
from ..faults import BadFile
from .source import Reader

if TYPE_CHECKING:
    import numpy as np

    from ..formats import grid as grids
    from ..formats import images, volumes
else:
    np, grids = Later("numpy"), Later("ndrnn.data.formats.grid")
    images, volumes = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.volumes")

APART = 0.1
"""Voxels by which the places in space of what belongs together may differ: headers round."""


class Part(NamedTuple):
    """A file: its name, which decides how it is read, its bytes, and what errors call it."""

    name: str
    data: bytes
    where: str


class Picture(NamedTuple):
    """An image or a volume as a sample."""

    values: np.ndarray
    """(D1, ..., Dn, C)."""
    grid: grids.Grid | None = None
    """How the lattice of a NIfTI file became that of the values; None: it is that of the file."""


@dataclass(frozen=True)
class PictureReader(Reader):
    """Reads images and volumes, each by the ending of its name."""

    stacked: bool = False
    """Whether the pictures of a file with several (TIFF, GIF, ...) are the slices of a volume, and all images are such
    volumes; otherwise a file with several is named and left out."""
    orientation: Literal["RAS", "stored"] = "RAS"
    """Turn the axes of NIfTI volumes that say how they lie to the right, to the front and up; or keep them as they are
    stored. Predictions are written as the file lies."""
    spacing: tuple[float, ...] = ()
    """Millimetres between the points of NIfTI volumes, along all axes or along each, to which they are resampled;
    predictions are brought back to the points of the file. Without it voxels are taken as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not all(0 < step < inf for step in self.spacing):
            raise ValueError(f"spacing must be above 0, and finite, got {self.spacing}")

    def picture(self, parts: Sequence[Part]) -> Picture:
        """The sample in a file, or in several that hold its channels; raises :class:`ndrnn.data.BadFile`."""
        return picture(parts, stacked=self.stacked, orientation=self.orientation, spacing=self.spacing)

    def values(self, name: str, data: bytes, file: str) -> np.ndarray:
        """The values (D1, ..., Dn, C) in the bytes of a file; raises :class:`ndrnn.data.BadFile`."""
        return self.picture([Part(name, data, file)]).values


def is_volume(name: str) -> bool:
    """Whether a file of this name is taken for a volume."""
    return name.lower().endswith(volumes.SUFFIXES)


def picture(
    parts: Sequence[Part],
    *,
    stacked: bool = False,
    orientation: Literal["RAS", "stored"] = "RAS",
    spacing: Sequence[float] = (),
) -> Picture:
    """An image or a volume, its channels from one file or from several.

    Raises:
        BadFile: a file is damaged, or one of several lies elsewhere than the first.
    """
    found = [_single(part, stacked, orientation, spacing) for part in parts]
    first = found[0]
    if len(found) == 1:
        return first
    for part, one in zip(parts[1:], found[1:], strict=True):
        expected, got = (" x ".join(map(str, other.values.shape[:-1])) for other in (first, one))
        if expected != got or one.grid != first.grid:
            raise BadFile(part.where, f"must lie as {parts[0].where}, {expected}, got {got}")
        if one.grid is not None:
            here, there = (volumes.affine(other.data, other.where) for other in (parts[0], part))
            if not volumes.distance(here, there, one.grid.shape) <= APART:
                raise BadFile(part.where, f"its affine differs from that of {parts[0].where}")
    return Picture(np.concatenate([one.values for one in found], -1), first.grid)


def _single(
    part: Part, stacked: bool, orientation: Literal["RAS", "stored"], spacing: Sequence[float]
) -> Picture:
    name, data, where = part
    if not is_volume(name):
        if spacing:
            raise BadFile(
                where, "does not say how far its points lie apart; data.spacing is for NIfTI volumes"
            )
        return Picture(images.decode(data, where, stacked=stacked))
    values = volumes.decode(data, where)
    found = grids.grid(
        volumes.space(data, where),
        values.shape[:-1],
        where,
        orientation=orientation,
        spacing=spacing,
        channels=values.shape[-1],
    )
    return Picture(found.values(values), found)
