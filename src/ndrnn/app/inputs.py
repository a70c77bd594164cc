"""Files to use a model on: single ones, folders, archives; or the lines of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath

import numpy as np
from torch import Tensor

from ..data.faults import BadFile, Faults, naming, printable
from ..data.formats import images, volumes
from ..data.formats.intensities import Intensities, Span
from ..data.formats.storage import Folder, Storage, open_storage
from ..data.readers.pages import SUFFIX, FoundPage, Pages, Scan, find_page
from ..data.readers.pictures import PictureReader, decode, is_volume
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
    page: FoundPage | None = None
    """The page of which this is a line; ``name`` is its image then."""
    line: int = 0
    """The number of the line on its page."""

    @property
    def path(self) -> Path:
        """The file itself, or the archive that holds it."""
        return self.storage.path if self.storage.path.is_file() else self.storage.path / self.name

    @property
    def is_volume(self) -> bool:
        return is_volume(self.name)

    @property
    def described(self) -> dict[str, str | int]:
        """What a result tells of its origin, beside ``where``: of a line its page, its image, and its number there."""
        if self.page is None:
            return {}
        line = self.page.layout.lines[self.line]
        name = {} if isinstance(line, BadFile) else {"line": line.name}
        image = self.storage.where(self.name)
        return {"page": self.page.where, "image": image, **name, "number": self.line}


class Loader:
    """Reads files as the samples that a model was trained on were read."""

    def __init__(self, reader: Reader | None, channels: int, ndim: int) -> None:
        self.reader = reader
        self.ndim = ndim
        self.intensities = (
            Intensities(channels) if reader is None else Intensities(channels, reader.scale, reader.invert)
        )
        self._page: tuple[FoundPage, Scan] | None = None  # the lines of a page follow each other

    def read(self, file: Input) -> tuple[np.ndarray, bytes]:
        """The values (D1, ..., Dn, C) and the file's bytes, none for a line of a page.

        Raises:
            BadFile: the file is damaged, or of another kind than the model's data.
        """
        with naming(file.where):
            data = b""
            if file.page is not None:
                values = self._line(file.page, file.line)
            else:
                data = file.storage.read(file.name)
                stacked = isinstance(self.reader, PictureReader) and self.reader.stacked
                values = decode(file.name, data, file.where, stacked=stacked)
            if values.ndim - 1 != self.ndim:
                raise BadFile(file.where, f"has {values.ndim - 1} axes, the model is for {self.ndim}")
            return values if self.reader is None else self.reader.prepare(values), data

    def features(self, values: np.ndarray, file: Input, span: Span | None = None) -> Tensor:
        """Features (D1, ..., Dn, C) float32; of a part of a sample with the ``span`` of the whole.

        Raises:
            BadFile: the values make no features.
        """
        try:
            return self.intensities.convert(values, colour=not file.is_volume, span=span)
        except ValueError as error:
            raise BadFile(file.where, str(error)) from error

    def window(self, values: np.ndarray, file: Input) -> Callable[[tuple[slice, ...]], Tensor]:
        """Gives the features of parts, so that those of all points need not be in memory at once."""
        span = None
        if self.intensities.scale == "sample":
            with naming(file.where):
                span = self.intensities.span(values, colour=not file.is_volume)
        return lambda part: self.features(values[part], file, span)

    def _line(self, page: FoundPage, number: int) -> np.ndarray:
        if self._page is None or self._page[0] is not page:
            self._page = page, page.scan()
        return page.cut(self._page[1], number)


def find(paths: Sequence[Path], reader: Reader | None = None, faults: Faults | None = None) -> list[Input]:
    """The images and volumes that paths name: files, or all within folders and zip archives.

    For the ``reader`` of a model that learned from pages, the lines of the pages that PAGE and ALTO files describe, be
    it that a path names such a file, the image that it describes, or a folder or an archive with both.

    Args:
        paths: what is looked at.
        reader: that of the model's data.
        faults: gets what cannot be used, such as a page without a description; without it that is passed over.

    Raises:
        FileNotFoundError: there is nothing at a path.
        BadFile: a folder or an archive holds nothing to use the model on.
    """
    faults = Faults() if faults is None else faults
    found: list[Input] = []
    for path in paths:
        single = path.exists() and not path.is_dir() and path.suffix.lower() != ".zip"
        if isinstance(reader, Pages):
            found += _page_lines(_Near(path) if single else open_storage(path), faults)
            continue
        storage = _One(path) if single else open_storage(path)
        for fault in storage.faults:
            faults.add(fault)
        names = storage.names if single else storage.under("", images.SUFFIXES + volumes.SUFFIXES)
        if not names:
            raise BadFile(str(path), "holds no images and no volumes")
        found += [Input(storage, name, storage.where(name), _stem(name)) for name in names]
    return list(_placed(found))


class _One(Folder):
    """A file without its neighbours."""

    def _walk(self) -> None:
        self.names, self.path = [self.path.name], self.path.parent


class _Near(Folder):
    """An image or a description of a page, with those files that may belong to it: in its folder, the one above, and
    those below that are called so."""

    _BELOW = ("page", "alto")

    def _walk(self) -> None:
        self.chosen = self.path
        here = self.path.absolute().parent
        self.path = here.parent
        for folder in (here.parent, here, *(here / name for name in self._BELOW)):
            if folder.is_dir():
                inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
                self.names += [path.relative_to(self.path).as_posix() for path in inside if not path.is_dir()]
        self.names = sorted(set(self.names))

    @property
    def only(self) -> str:
        """The file that was named."""
        return self.chosen.absolute().relative_to(self.path).as_posix()


def _page_lines(storage: Storage, faults: Faults) -> Iterator[Input]:
    """The lines of all pages of a storage, or of the one that was chosen of it."""
    for fault in storage.faults:
        faults.add(fault)
    only = storage.only if isinstance(storage, _Near) else None
    described: set[str] = set()
    for name in storage.under("", (SUFFIX,)):
        try:
            page = find_page(storage, name)
        except BadFile as fault:
            # what was not asked for may be damaged
            if only is None or name == only or PurePosixPath(name).stem == PurePosixPath(only).stem:
                faults.add(fault)
                described.add(_stem(name))
            continue
        if page is None or only not in (None, name, page.image):
            continue
        described |= {name, page.image}
        stem = _stem(name if only is None else PurePosixPath(name).name)
        for number in range(len(page.layout.lines)):
            where = page.line_name(number)
            place = f"{stem}.{where.rpartition('#')[2].replace('/', '_')}"
            yield Input(storage, page.image, where, place, page, number)
    for name in [only] if only is not None else storage.under("", images.SUFFIXES):
        if not {name, _stem(name)} & described:
            faults.add(BadFile(storage.where(name), f"no PAGE or ALTO file (*{SUFFIX}) describes its lines"))


def _stem(name: str) -> str:
    if name.lower().endswith(".nii.gz"):
        return name[: -len(".nii.gz")]
    return str(PurePosixPath(name).with_suffix(""))


def _placed(found: Sequence[Input]) -> Iterator[Input]:
    taken: set[str] = set()
    for file in found:
        # a.png and a.jpg, or files of one name from two folders, must not write over each other, nor may the overlay
        # of a.png and the map of a.overlay.png
        named = file.place if file.page else file.name
        choices = chain((file.place, named), (f"{named}.{number}" for number in count(2)))
        place = next(choice for choice in map(printable, choices) if not taken & {choice, choice + OVERLAY})
        taken |= {place, place + OVERLAY}
        yield replace(file, place=place)
