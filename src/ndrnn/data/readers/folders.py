"""Images in folders: a folder a class, or images alone."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage
from .place import locate
from .source import Raw, Reader, Source, split_called

if TYPE_CHECKING:
    from ..formats import images
else:
    images = Later("ndrnn.data.formats.images")


@dataclass(frozen=True)
class Classes(Reader):
    """Images in a folder a class, ``CLASS/*.png``, or, with splits, ``train/CLASS/*.png``; also in a zip archive."""

    def open(self) -> Source:
        return _Images(open_storage(locate(self.path, self.root)), by_class=True)


@dataclass(frozen=True)
class Images(Reader):
    """Images alone, for densities: all in a folder or a zip archive, with splits where folders are called so."""

    def open(self) -> Source:
        return _Images(open_storage(locate(self.path, self.root)), by_class=False)


class _Images(Source):
    def __init__(self, storage: Storage, by_class: bool) -> None:
        self.storage = storage
        self._names: list[str] = []
        self._labels: list[str] = []
        splits = []
        for name in storage.under("", images.SUFFIXES):
            folders = list(PurePosixPath(name).parent.parts)
            split = next((called for part in folders if (called := split_called(part))), "")
            # the innermost, since archives often wrap everything in one more folder
            inner = [part for part in folders if not split_called(part)]
            if by_class and not inner:
                continue
            self._names.append(name)
            self._labels.append(inner[-1] if inner else "")
            splits.append(split)
        self.splits = splits
        self.names = [storage.where(name) for name in self._names]
        if not self.names:
            what = "no images in folders that name their class" if by_class else "no images"
            raise BadFile(str(storage.path), f"{what} (*{', *'.join(images.SUFFIXES)})")
        if by_class:
            self.classes = tuple(sorted(set(self._labels)))
        self._by_class = by_class

    def read(self, index: int) -> Raw:
        file = self.names[index]
        values = images.decode(self.storage.read(self._names[index]), file)
        return Raw(values, self.classes.index(self._labels[index]) if self._by_class else None)
