"""Files to use a model on: single ones, folders, archives; or the lines of pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
from torch import Tensor

from ..data.batches import Facts
from ..data.faults import BadFile, Faults, naming, printable
from ..data.formats import images, npy, volumes
from ..data.formats.cutting import Place, whole
from ..data.formats.grid import Grid
from ..data.formats.intensities import Intensities, Span
from ..data.formats.storage import Folder, Storage, open_storage
from ..data.readers.lines import Lines
from ..data.readers.nnunet import NnUnet, cases
from ..data.readers.pages import BELOW, SUFFIX, FoundPage, Pages, Scan, find_pages
from ..data.readers.pairs import Masks
from ..data.readers.pictures import Part, PictureReader, is_volume, picture
from ..data.readers.source import Reader
from .once import Once, identity

OVERLAY, INSTANCES, CONFIDENCE = ".overlay", ".instances", ".confidence"
"""What the names of these results have before their ending: an image with its labels laid over it, a map of objects, and
the probabilities of the labels."""


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
    channels: tuple[str, ...] = ()
    """Files that hold its further channels, where there are several."""
    sheet: str = ""
    """Of a line, where the results of its page go, as ``place``."""

    @property
    def path(self) -> Path:
        """The file itself, or the archive that holds it."""
        return self.paths[0]

    @property
    def paths(self) -> tuple[Path, ...]:
        """The files that it is read from, itself first: those of its further channels, a line's page; or the archive that
        holds them."""
        if self.storage.path.is_file():
            return (self.storage.path,)
        page = () if self.page is None else (self.page.name,)
        return tuple(self.storage.path / name for name in (self.name, *self.channels, *page))

    @property
    def identity(self) -> tuple[str, str]:
        """The file, or of a line the one that describes its page, by whatever path it is reached; and of a member of an
        archive its name."""
        name = self.name if self.page is None else self.page.name
        if self.storage.path.is_file():
            return identity(self.storage.path), name
        return identity(self.storage.path / name), ""

    @property
    def is_volume(self) -> bool:
        return is_volume(self.name)

    @property
    def is_array(self) -> bool:
        return self.name.lower().endswith(npy.SUFFIX)

    @property
    def in_colour(self) -> bool:
        """Whether channels are grey, opacity and colour, which can be converted; what else they are is not known."""
        return not (self.is_volume or self.is_array)

    @property
    def described(self) -> dict[str, str | int]:
        """What a result tells of its origin, beside ``where``: of a line its page, its image, and its number there."""
        if self.page is None:
            return {}
        line = self.page.layout.lines[self.line]
        name = {} if isinstance(line, BadFile) else {"line": line.name}
        image = self.storage.where(self.name)
        return {"page": self.page.where, "image": image, **name, "number": self.line}


class Loaded(NamedTuple):
    """A file as a sample."""

    values: np.ndarray
    """(D1, ..., Dn, C)."""
    data: bytes = b""
    """Of the file; none for a line of a page."""
    grid: Grid | None = None
    """How the lattice of a volume's file became that of the values."""


class Loader:
    """Reads files as the samples that a model was trained on were read.

    Args:
        reader: that of the model's data.
        facts: of the model.
        places: whether :meth:`place` will be asked for.
        arrays: whether arrays (.npy) are taken too.
    """

    def __init__(
        self,
        reader: Reader | None,
        facts: Facts,
        *,
        places: bool = False,
        arrays: bool = False,
    ) -> None:
        self.reader = reader
        self.arrays = arrays
        self.ndim = facts.ndim
        self.intensities = replace(
            Intensities() if reader is None else reader.intensities,
            channels=facts.channels,
            learned=facts.reach,
        )
        self._page: tuple[FoundPage, Scan] | None = None  # the lines of a page follow each other
        self.places = places and facts.ndim == 2
        self._places: dict[str, tuple[Place, tuple[float, float], tuple[int, int]]] = {}

    def read(self, file: Input) -> Loaded:
        """The file as a sample.

        Raises:
            BadFile: the file is damaged, or of another kind than the model's data.
        """
        with naming(file.where):
            data, grid, place, scales = b"", None, None, (1.0, 1.0)
            if file.page is not None:
                scan = self._scan(file.page)
                values, place = file.page.cut(scan, file.line)
                scales, size = file.page.scales(scan), (scan.pixels.shape[1], scan.pixels.shape[0])
            else:
                names = (file.name, *file.channels)
                parts = [Part(name, file.storage.read(name), file.storage.where(name)) for name in names]
                data = parts[0].data
                if self.arrays and file.is_array:
                    values = npy.decode(data, file.where, self.ndim)
                elif isinstance(self.reader, PictureReader):
                    values, grid = self.reader.picture(parts)
                else:
                    # how arrays lay in space is not known
                    values, grid = picture(parts, orientation="RAS" if self.reader is None else "stored")
            if values.ndim - 1 != self.ndim:
                raise BadFile(file.where, f"has {values.ndim - 1} axes, the model is for {self.ndim}")
            if self.places:
                if place is None:
                    place, size = whole(values.shape), (values.shape[1], values.shape[0])
                turn = self.reader.turn(values.shape) if isinstance(self.reader, Lines) else 1
                self._places[file.place] = place.turned(turn), scales, size
            return Loaded(values if self.reader is None else self.reader.prepare(values), data, grid)

    def place(self, file: Input) -> tuple[Place, tuple[float, float], tuple[int, int]]:
        """Of a file of two axes that was read, once: where it lies on its image, pixels of a unit of the page's
        description in x and y, and the image's size, width first."""
        return self._places.pop(file.place)

    def features(self, values: np.ndarray, file: Input, span: Span | None = None) -> Tensor:
        """Features (D1, ..., Dn, C) float32; of a part of a sample with the ``span`` of the whole.

        Raises:
            BadFile: the values make no features.
        """
        try:
            return self.intensities.convert(values, colour=file.in_colour, span=span)
        except ValueError as error:
            raise BadFile(file.where, str(error)) from error

    def span(self, values: np.ndarray, file: Input) -> Span | None:
        """The range of a sample's values, where features depend on it."""
        if self.intensities.scale == "type":
            return None
        with naming(file.where):
            return self.intensities.span(values, colour=file.in_colour)

    def window(self, values: np.ndarray, file: Input) -> Callable[[tuple[slice, ...]], Tensor]:
        """Gives the features of parts, so that those of all points need not be in memory at once."""
        span = self.span(values, file)
        return lambda part: self.features(values[part], file, span)

    def _scan(self, page: FoundPage) -> Scan:
        if self._page is None or self._page[0] is not page:
            self._page = page, page.scan()
        return self._page[1]


def find(
    paths: Sequence[Path],
    reader: Reader | None = None,
    faults: Faults | None = None,
    kind: str = "",
    tell: Callable[[str], None] = lambda text: None,
    *,
    arrays: bool = False,
) -> list[Input]:
    """The images and volumes that paths name: files, or all within folders and zip archives.

    For the ``reader`` of a model that learned from pages, the lines of the pages that PAGE and ALTO files describe, be
    it that a path names such a file, the image that it describes, or a folder or an archive with both.

    Args:
        paths: what is looked at.
        reader: that of the model's data.
        faults: gets what cannot be used, such as a page without a description; without it that is passed over.
        kind: of the descriptions that count where a page has several, ``"page"`` or ``"alto"``; by default as the reader
            says.
        tell: gets a sentence for each path of which something was named before; it is found once.
        arrays: whether arrays (.npy) within folders and archives are looked for too.

    Raises:
        FileNotFoundError: there is nothing at a path.
        BadFile: a folder or an archive holds nothing to use the model on.
    """
    faults = Faults() if faults is None else faults
    found: list[Input] = []
    once, told = Once(tell), Once(lambda text: None)
    for path in paths:
        own = Faults()
        items = list(_of_path(path, reader, own, kind, arrays))
        if len(paths) > 1:  # to ask where each file lies takes its time
            what = "pages" if isinstance(reader, Pages) else "files"
            items = once.new(path, items, lambda file: file.identity, what)
        found += items
        for fault in told.new(path, own.found, lambda fault: (identity(Path(fault.file)), fault.reason)):
            faults.add(fault)
    return list(_placed(found))


def _of_path(path: Path, reader: Reader | None, faults: Faults, kind: str, arrays: bool) -> Iterator[Input]:
    """What one path names."""
    single = path.exists() and not path.is_dir() and path.suffix.lower() != ".zip"
    if isinstance(reader, Pages):
        yield from _page_lines(
            _Near(path) if single else open_storage(path), faults, kind or reader.description
        )
        return
    if isinstance(reader, NnUnet):
        yield from _cases(_Siblings(path) if single else open_storage(path), path, faults)
        return
    storage = _One(path) if single else open_storage(path)
    for fault in storage.faults:
        faults.add(fault)
    several = storage.under("", (".npz",)) if arrays else []
    for name in several:
        faults.add(
            BadFile(storage.where(name), "may hold several samples: save each as an array of its own (.npy)")
        )
    if single and several:
        return
    suffixes = images.SUFFIXES + volumes.SUFFIXES + ((npy.SUFFIX,) if arrays else ())
    names = storage.names if single else storage.under("", suffixes)
    if isinstance(reader, Masks) and not single:
        names = reader.images_among(names)
    if not names and not several:
        raise BadFile(str(path), f"holds no images and no {'volumes or arrays' if arrays else 'volumes'}")
    for name in names:
        yield Input(storage, name, storage.where(name), _stem(name))


class _One(Folder):
    """A file without its neighbours."""

    def _walk(self) -> None:
        self.names, self.path = [self.path.name], self.path.parent


class _Siblings(Folder):
    """A file with those beside it that hold other channels of its case."""

    def _walk(self) -> None:
        chosen, self.path = self.path, self.path.parent
        if not chosen.exists():
            raise FileNotFoundError(f"{chosen}: no such file")
        names = [path.name for path in self.path.iterdir() if path.is_file()]
        self.names = sorted(next(files for files in cases(names).values() if chosen.name in files))


class _Near(Folder):
    """An image or a description of a page, with those files that may belong to it: in its folder, the one above, and
    those below that are called so."""

    def _walk(self) -> None:
        self.chosen = self.path
        here = self.path.absolute().parent
        self.path = here.parent
        for folder in (here.parent, here, *(here / name for name in BELOW)):
            if folder.is_dir():
                inside = [path for path in folder.iterdir() if not path.name.startswith(".")]
                self.names += [path.relative_to(self.path).as_posix() for path in inside if not path.is_dir()]
        self.names = sorted(set(self.names))

    @property
    def only(self) -> str:
        """The file that was named."""
        return self.chosen.absolute().relative_to(self.path).as_posix()


def _cases(storage: Storage, path: Path, faults: Faults) -> Iterator[Input]:
    """The cases of a folder of nnU-Net's, with the channels of each together."""
    for fault in storage.faults:
        faults.add(fault)
    names = storage.under("", images.SUFFIXES + volumes.SUFFIXES)
    if not names:
        raise BadFile(str(path), "holds no images and no volumes")
    for key, (first, *others) in cases(names).items():
        yield Input(storage, first, storage.where(first), key, channels=tuple(others))


def _page_lines(storage: Storage, faults: Faults, kind: str) -> Iterator[Input]:
    """The lines of all pages of a storage, or of the one that was chosen of it."""
    for fault in storage.faults:
        faults.add(fault)
    only = storage.only if isinstance(storage, _Near) else None
    described: set[str] = set()
    for name, page in find_pages(storage, kind, only or ""):
        if isinstance(page, BadFile):
            # what was not asked for may be damaged
            if only is None or name == only or PurePosixPath(name).stem == PurePosixPath(only).stem:
                faults.add(page)
                described.add(_stem(name))
            continue
        if only not in (None, name, page.image):
            continue
        described |= {name, page.image}
        stem = _stem(name if only is None else PurePosixPath(name).name)
        for number in range(len(page.layout.lines)):
            where = page.line_name(number)
            place = f"{stem}.{where.rpartition('#')[2].replace('/', '_')}"
            yield Input(storage, page.image, where, place, page, number, sheet=stem)
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
        place = next(choice for choice in map(printable, choices) if not taken & _results(choice))
        taken |= _results(place)
        yield replace(file, place=place)


def _results(place: str) -> set[str]:
    return {place, *(place + what for what in (OVERLAY, INSTANCES, CONFIDENCE))}
