"""From the lattice of a file to that of a sample and back: axes turned to one orientation, points resampled to one spacing."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np

from ..faults import BadFile, naming
from .limits import check_size
from .volumes import Space

Orientation = Literal["RAS", "stored"]


@dataclass(frozen=True)
class Grid:
    """How the lattice of a sample comes from that of its file."""

    shape: tuple[int, ...]
    """Points of the file along each of its axes."""
    order: tuple[int, ...]
    """For each axis of the sample that of the file."""
    flipped: tuple[bool, ...]
    """For each axis of the sample whether it runs against that of the file."""
    size: tuple[int, ...]
    """Points of the sample along each of its axes."""

    @property
    def turned_shape(self) -> tuple[int, ...]:
        """Points along the axes of the sample before they are resampled."""
        return tuple(self.shape[axis] for axis in self.order)

    def turned(self, affine: np.ndarray) -> np.ndarray:
        """The affine (4, 4) of the file for the axes of the sample, before they are resampled."""
        result = affine.copy()
        for index, (axis, flip) in enumerate(zip(self.order, self.flipped, strict=True)):
            result[:, index] = -affine[:, axis] if flip else affine[:, axis]
            if flip:
                result[:, 3] += (self.shape[axis] - 1) * affine[:, axis]
        return result

    def values(self, stored: np.ndarray) -> np.ndarray:
        """The values (\\*size, C) of the sample from those of the file (\\*shape, C), of the same type.

        They are interpolated linearly, and smoothed first where the points of the sample lie further apart.
        """
        values = self._turn(stored, (len(self.order),))
        if self.size == self.turned_shape:
            return values
        from skimage.transform import resize

        floating = np.float64 if stored.dtype.itemsize > 2 else np.float32
        result = resize(
            values.astype(floating),
            (*self.size, stored.shape[-1]),
            order=1,
            mode="edge",
            anti_aliasing=True,
            preserve_range=True,
        )
        if stored.dtype.kind == "f":
            return result.astype(stored.dtype)
        limits = np.iinfo(stored.dtype)
        return np.rint(result).clip(limits.min, limits.max).astype(stored.dtype)

    def labels(self, stored: np.ndarray) -> np.ndarray:
        """The labels (\\*size) of the sample from those of the file (\\*shape): each that of the nearest point."""
        return _nearest(self._turn(stored), self.size)

    def back(self, values: np.ndarray) -> np.ndarray:
        """Labels, or other numbers, of the sample (\\*size) at the points of the file (\\*shape), of the nearest each."""
        values = _nearest(values, self.turned_shape)
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return np.ascontiguousarray(values[steps].transpose(np.argsort(self.order)))

    def _turn(self, array: np.ndarray, others: tuple[int, ...] = ()) -> np.ndarray:
        steps = tuple(slice(None, None, -1 if flip else 1) for flip in self.flipped)
        return np.ascontiguousarray(array.transpose(*self.order, *others)[steps])


def grid(
    space: Space,
    shape: Sequence[int],
    file: str,
    *,
    orientation: Orientation = "RAS",
    spacing: Sequence[float] = (),
    channels: int = 1,
) -> Grid:
    """What brings the lattice of a volume to one orientation and one spacing.

    Args:
        space: how the volume lies. A file that does not say it stays as it is stored.
        shape: of the volume (D1, D2, D3), or of a picture (D1, D2), whose axes are turned among themselves.
        file: what errors call it.
        orientation: RAS: axes to the right, to the front and up, each as far as the file's own axes allow.
        spacing: millimetres from point to point of the sample along its axes, one number for all of them, or none: as in
            the file.
        channels: of a point, for the limit of memory.

    Raises:
        BadFile: the affine gives no directions, or the spacing none.
    """
    axes = len(shape)
    order, flipped = tuple(range(axes)), (False,) * axes
    if orientation == "RAS" and space.stated:
        order, flipped = _to_ras(space.affine, axes, file)
    found = Grid(tuple(shape), order, flipped, tuple(shape[axis] for axis in order))
    if not spacing:
        return found
    if len(spacing) not in (1, axes):
        raise BadFile(file, f"data.spacing must be one number or {axes}, got {len(spacing)}")
    own = [space.spacing[axis] for axis in order]
    if not all(0 < edge < math.inf for edge in own):
        raise BadFile(
            file,
            f"does not say how far its voxels lie apart, got {' x '.join(f'{edge:g}' for edge in own)} mm",
        )
    wanted = list(spacing) * (axes if len(spacing) == 1 else 1)
    size = tuple(
        max(1, round(extent * edge / other))
        for extent, edge, other in zip(found.size, own, wanted, strict=True)
    )
    check_size(8 * channels * math.prod(size), file)
    return replace(found, size=size)


def _to_ras(affine: np.ndarray, axes: int, file: str) -> tuple[tuple[int, ...], tuple[bool, ...]]:
    import nibabel

    # of a picture, the third column means nothing
    used = affine.copy()
    if axes == 2:
        used[:3, 2] = np.cross(affine[:3, 0], affine[:3, 1])
    with naming(file, "its affine gives its axes no directions"), np.errstate(all="ignore"):
        turns = nibabel.io_orientation(used)[:axes]
    if not np.isfinite(turns).all():
        raise BadFile(
            file, "its affine gives its axes no directions; data.orientation stored takes it as it is stored"
        )
    order = np.argsort(turns[:, 0])
    return tuple(int(axis) for axis in order), tuple(bool(turns[axis, 1] < 0) for axis in order)


def _nearest(array: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """The array at other sizes of its axes; the edges of the lattice stay where they are."""
    for axis, (had, wanted) in enumerate(zip(array.shape, size, strict=True)):
        if had != wanted:
            # the middle of each new point, in whole numbers
            array = array.take((2 * np.arange(wanted) + 1) * had // (2 * wanted), axis)
    return array
