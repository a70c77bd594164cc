"""Images in folders: a folder a class, or images alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage
from .pictures import PictureReader
from .place import locate
from .source import Raw, Source, split_called

if TYPE_CHECKING:
    from ..formats import images, volumes
else:
    images, volumes = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.volumes")


@dataclass(frozen=True)
class Classes(PictureReader):
    """Images in a folder a class, ``CLASS/*.png``, or, with splits, ``train/CLASS/*.png``; also in a zip archive."""

    def open(self) -> Source:
        return _Images(self, open_storage(locate(self.path, self.root)), by_class=True)


@dataclass(frozen=True)
class Images(PictureReader):
    """Images alone, for densities: all in a folder or a zip archive, with splits where folders are called so; or
    volumes, where there are no images."""

    def open(self) -> Source:
        return _Images(self, open_storage(locate(self.path, self.root)), by_class=False)


class _Images(Source):
    def __init__(self, options: PictureReader, storage: Storage, by_class: bool) -> None:
        self.options = options
        self.storage = storage
        self._names: list[str] = []
        self._labels: list[str] = []
        splits = []
        faults = list(storage.faults)
        found = list(storage.under("", images.SUFFIXES))
        if not found and not by_class:
            found = list(storage.under("", volumes.SUFFIXES))
        for name in found:
            folders = list(PurePosixPath(name).parent.parts)
            split = next((called for part in folders if (called := split_called(part))), "")
            # the innermost, since archives often wrap everything in one more folder
            inner = [part for part in folders if not split_called(part)]
            if by_class and not inner:
                faults.append(BadFile(storage.where(name), _unclassed(folders)))
                continue
            self._names.append(name)
            self._labels.append(inner[-1] if inner else "")
            splits.append(split)
        self.splits, self.faults = splits, faults
        self.names = [storage.where(name) for name in self._names]
        if not self.names:
            what = "no images in folders that name their class" if by_class else "no images or volumes"
            suffixes = images.SUFFIXES if by_class else images.SUFFIXES + volumes.SUFFIXES
            raise BadFile(str(storage.path), f"{what} (*{', *'.join(suffixes)})")
        if by_class:
            self.classes = tuple(sorted(set(self._labels)))
        self._by_class = by_class

    def read(self, index: int) -> Raw:
        file = self.names[index]
        name = self._names[index]
        values = self.options.values(name, self.storage.read(name), file)
        return Raw(values, self.classes.index(self._labels[index]) if self._by_class else None)


def _unclassed(folders: list[str]) -> str:
    if not folders:
        return "lies in no folder that names its class"
    return (
        f"its folder {folders[-1]!r} is taken for a part of the data, not for a class, and no other names its class; "
        "call it otherwise, or put all classes into a folder train or test"
    )
