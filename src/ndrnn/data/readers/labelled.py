"""Samples whose points have labels: an image or a volume and a mask each, wherever a layout keeps them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal, NamedTuple

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage
from ..formats.table import find
from .pictures import APART, Part, PictureReader, is_volume
from .source import Raw, Source

if TYPE_CHECKING:
    import numpy as np

    from ..formats import classmap, images, volumes
    from ..formats import grid as grids
else:
    np, classmap = Later("numpy"), Later("ndrnn.data.formats.classmap")
    images, volumes = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.volumes")
    grids = Later("ndrnn.data.formats.grid")


@dataclass(frozen=True)
class LabelledReader(PictureReader):
    """Reads images and volumes with masks, and knows what the labels mean."""

    binary: bool = False
    """Whether all labels but 0 are one, as when a mask numbers its objects."""
    ignore: tuple[int, ...] = ()
    """Labels that do not count."""
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, ...; or 255=nucleus, '#ff0000=road' ...: names of the values or colours of masks; or one
    file of such (.toml, .json, .csv, .tsv, .txt), among the data, beside it, or a path. The name ignore takes values
    out. Empty: numbers up to the highest label that is found."""
    geometry: Literal["match", "ignore"] = "match"
    """Volumes and their labels must lie in the same place in space, where both files say so; or need not."""

    def class_map(self, storage: Storage | None = None) -> classmap.ClassMap:
        """What the options say of the labels; ``storage`` is where a file of classes is looked for first."""
        return class_map(self.classes, self.binary, self.ignore, storage, self.root)


class Case(NamedTuple):
    """The files of a sample: one with its values, or one for each channel, and its mask if there is one."""

    images: tuple[str, ...]
    mask: str | None


class LabelledSource(Source):
    """Samples of a :class:`LabelledReader`; a layout fills in ``cases``, ``names`` and ``splits``."""

    faults: list[BadFile]
    names: list[str]
    splits: list[str]

    def __init__(self, options: LabelledReader, storage: Storage) -> None:
        self.options = options
        self.storage = storage
        self.faults = list(storage.faults)
        self.cases: list[Case] = []
        self.map = options.class_map(storage)
        self.classes = self.map.names
        self._orientations: dict[str, set[str]] = {}
        self._unstated: set[str] = set()
        self._steps: dict[tuple[float, ...], str] = {}

    def read(self, index: int) -> Raw:
        case, file = self.cases[index], self.names[index]
        if case.mask is None:
            raise BadFile(file, f"has no mask of the same name{self.hint(index)}")
        parts = [Part(name, self.storage.read(name), self.storage.where(name)) for name in case.images]
        mask = Part(case.mask, self.storage.read(case.mask), self.storage.where(case.mask))
        values, grid = self.options.picture(parts)
        numbers = self._numbers(mask)
        if grid is None:
            _check_shape(values.shape[:-1], numbers.shape, mask.where)
        else:
            numbers = self._brought(numbers, grid, parts[0], mask)
        return Raw(values, self._classes(numbers, mask.where), grid is None)

    def hint(self, index: int) -> str:
        """What to add where the mask of a sample is missing."""
        return ""

    def remarks(self) -> list[str]:
        found = []
        if self.options.geometry == "match" and self.options.orientation == "stored":
            found += self._told_orientations()
        elif self._unstated and self._orientations:
            count, first = len(self._unstated), min(self._unstated)
            found.append(
                f"{count:,} volume{'s do' if count > 1 else ' does'} not say how the axes lie ({first}), and "
                f"{'are' if count > 1 else 'is'} taken as stored; the others are turned to RAS"
            )
        if not self.options.spacing and len(self._steps) > 1:
            smallest, largest = (
                [pick(steps) for steps in zip(*self._steps, strict=True)] for pick in (min, max)
            )
            if any(low > 0 and high / low >= 1.25 for low, high in zip(smallest, largest, strict=True)):
                told = " to ".join(
                    " x ".join(f"{edge:.3g}" for edge in edges) for edges in (smallest, largest)
                )
                found.append(f"voxels measure {told} mm; data.spacing brings them to one size")
        return found

    def _told_orientations(self) -> list[str]:
        if len(self._orientations) < 2:
            return []
        counts = sorted(self._orientations.items(), key=lambda item: (-len(item[1]), item[0]))
        told = ", ".join(f"{len(files):,} {name}" for name, files in counts)
        rare = ", ".join(sorted(counts[-1][1])[:3])
        return [
            f"the axes of the volumes point in {len(counts)} ways ({told}; {counts[-1][0]}: {rare}); "
            "a network takes them as they are stored"
        ]

    def _numbers(self, mask: Part) -> np.ndarray:
        """What a mask holds, (D1, ..., Dn) int64: labels, or colours as numbers."""
        if not is_volume(mask.name):
            return images.decode_mask(
                mask.data, mask.where, stacked=self.options.stacked, colours=self.map.colours
            )
        if self.map.colours:
            raise BadFile(mask.where, "holds numbers, data.classes names colours")
        return volumes.decode_mask(mask.data, mask.where)

    def _classes(self, numbers: np.ndarray, where: str) -> np.ndarray:
        return relabel(numbers, self.options.binary, self.options.ignore, self.map, where)

    def _brought(self, numbers: np.ndarray, grid: grids.Grid, image: Part, mask: Part) -> np.ndarray:
        """The numbers of a mask on the lattice of a volume's sample; refuses labels that lie elsewhere."""
        lies = self._note(image, grid)
        other = volumes.space(mask.data, mask.where) if is_volume(mask.name) else None
        if other is None or not (lies.stated and other.stated) or self.options.geometry == "ignore":
            # beside the volume as they are stored
            _check_shape(grid.shape, numbers.shape, mask.where)
            return grid.labels(numbers)
        own = grids.grid(other, numbers.shape, mask.where, orientation=self.options.orientation)
        _check_shape(grid.turned_shape, own.turned_shape, mask.where)
        apart = volumes.distance(grid.turned(lies.affine), own.turned(other.affine), grid.turned_shape)
        if not apart <= APART:
            raise BadFile(
                mask.where,
                f"its affine differs from that of its image {image.where}, by up to {apart:.3g} voxels "
                f"({other.orientation} and {lies.orientation}); data.geometry ignore takes both as they are stored",
            )
        return replace(own, size=grid.size).labels(numbers)

    def _note(self, image: Part, grid: grids.Grid) -> volumes.Space:
        """How a volume lies in space, which is kept for remarks."""
        lies = volumes.space(image.data, image.where)
        if lies.stated:
            self._orientations.setdefault(lies.orientation, set()).add(image.where)
        else:
            self._unstated.add(image.where)
        self._steps.setdefault(tuple(lies.spacing[axis] for axis in grid.order), image.where)
        return lies


def class_map(
    classes: Sequence[str],
    binary: bool,
    ignore: Sequence[int],
    storage: Storage | None,
    root: str = "",
) -> classmap.ClassMap:
    """What the options of a reader say of labels.

    Raises:
        ValueError: they contradict each other, or are no words of such.
        BadFile: a file of classes is wrong.
    """

    def read(name: str) -> tuple[bytes, str]:
        return find(name, storage, root)

    found = classmap.parse(classes, read)
    if binary and found.classes is not None:
        raise ValueError("data.binary must be left out where data.classes tells what the values of masks are")
    if ignore and found.colours:
        raise ValueError(f"data.ignore is for numbers; call a colour {classmap.IGNORE_NAME} in data.classes")
    return replace(found, names=("background", "object")) if binary and not found.names else found


def relabel(
    numbers: np.ndarray, binary: bool, ignore: Sequence[int], known: classmap.ClassMap, file: str
) -> np.ndarray:
    """The classes (any shape) int64 of what a mask holds; what does not count is ``IGNORED``.

    Raises:
        BadFile: a number or a colour has no name.
    """
    found = numbers
    if binary or ignore:
        ignored = np.isin(numbers, ignore)
        found = np.where(ignored, classmap.IGNORED, numbers != 0 if binary else numbers)
    return known.apply(found, file)


def _check_shape(expected: tuple[int, ...], got: tuple[int, ...], where: str) -> None:
    if expected != got:
        first, other = (" x ".join(map(str, shape)) for shape in (expected, got))
        raise BadFile(where, f"mask must be {first} like its image, got {other}")
