"""Files to use a model on: single ones, folders, archives."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from ..data.faults import BadFile
from ..data.formats import images, volumes
from ..data.formats.intensities import Intensities
from ..data.formats.storage import Folder, Storage, open_storage
from ..data.readers.source import Reader

OVERLAY = ".overlay"
"""What the name of an image with its labels laid over it has before its ending."""


@dataclass(frozen=True)
class Input:
    """A file, what to call it, and where its results go: a relative path without ending, of which there is only one."""

    storage: Storage
    name: str
    where: str
    place: str

    @property
    def path(self) -> Path:
        """The file itself, or the archive that holds it."""
        return self.storage.path if self.storage.path.is_file() else self.storage.path / self.name

    @property
    def is_volume(self) -> bool:
        return self.name.lower().endswith(volumes.SUFFIXES)


class Loader:
    """Reads files as the samples that a model was trained on were read."""

    def __init__(self, reader: Reader | None, channels: int, ndim: int) -> None:
        self.reader = reader
        self.ndim = ndim
        self.intensities = (
            Intensities(channels) if reader is None else Intensities(channels, reader.scale, reader.invert)
        )

    def read(self, file: Input) -> tuple[np.ndarray, bytes]:
        """The values (D1, ..., Dn, C) and the file's bytes.

        Raises:
            BadFile: the file is damaged, or of another kind than the model's data.
        """
        data = file.storage.read(file.name)
        values = (volumes if file.is_volume else images).decode(data, file.where)
        if values.ndim - 1 != self.ndim:
            raise BadFile(file.where, f"has {values.ndim - 1} axes, the model is for {self.ndim}")
        return values if self.reader is None else self.reader.prepare(values), data

    def features(self, values: np.ndarray, file: Input) -> Tensor:
        """Features (D1, ..., Dn, C) float32."""
        try:
            return self.intensities.convert(values)
        except ValueError as error:
            raise BadFile(file.where, str(error)) from error

    def window(self, values: np.ndarray, file: Input) -> Callable[[tuple[slice, ...]], Tensor]:
        """Gives the features of parts, so that those of all points need not be in memory at once."""
        scale = self.intensities
        if scale.scale == "type":
            return lambda part: self.features(values[part], file)
        # the range is that of the whole sample, whatever its parts'
        low, high = (float(value) for value in self._range(values, file))

        def part_of(part: tuple[slice, ...]) -> Tensor:
            x = replace(scale, scale="type", invert=False).convert(values[part].astype(np.float32))
            x = (x - low) / (high - low if high > low else 1)
            return 1 - x if scale.invert else x

        return part_of

    def _range(self, values: np.ndarray, file: Input) -> tuple[float, float]:
        plain = replace(self.intensities, scale="type", invert=False)
        rows = [plain.convert(row.astype(np.float32)) for row in values]
        return min(float(row.min()) for row in rows), max(float(row.max()) for row in rows)


def find(paths: Sequence[Path]) -> list[Input]:
    """The images and volumes that paths name: files, or all within folders and zip archives.

    Raises:
        FileNotFoundError: there is nothing at a path.
        BadFile: a folder or an archive holds no image and no volume.
    """
    found: list[tuple[Storage, str]] = []
    for path in paths:
        if path.is_file() and path.suffix.lower() != ".zip":
            found.append((_One(path), path.name))
            continue
        storage = open_storage(path)
        names = storage.under("", images.SUFFIXES + volumes.SUFFIXES)
        if not names:
            raise BadFile(str(path), "holds no images and no volumes")
        found += [(storage, name) for name in names]
    return list(_placed(found))


class _One(Folder):
    """A file without its neighbours."""

    def __init__(self, path: Path) -> None:
        self.path = path.parent
        self.names = [path.name]


def _placed(found: Sequence[tuple[Storage, str]]) -> Iterator[Input]:
    taken: set[str] = set()
    for storage, name in found:
        stem = (
            name[: -len(".nii.gz")]
            if name.lower().endswith(".nii.gz")
            else str(PurePosixPath(name).with_suffix(""))
        )
        # a.png and a.jpg, or files of one name from two folders, must not write over each other, nor may the overlay
        # of a.png and the map of a.overlay.png
        choices = (stem, name, *(f"{name}.{number}" for number in range(2, 2 * len(found) + 2)))
        place = next(choice for choice in choices if not taken & {choice, choice + OVERLAY})
        taken |= {place, place + OVERLAY}
        yield Input(storage, name, storage.where(name), place)
