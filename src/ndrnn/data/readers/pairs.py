"""Images with masks, and volumes with labels: two folders whose files go by the same name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from types import ModuleType
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage
from ..formats.table import find, rows
from .place import locate
from .source import SPLITS, Raw, Reader, Source, split_called

if TYPE_CHECKING:
    import numpy as np

    from ..formats import images, volumes
else:
    np = Later("numpy")
    images = Later("ndrnn.data.formats.images")
    volumes = Later("ndrnn.data.formats.volumes")

IGNORED = -100
"""What labels that do not count become; the value that :mod:`ndrnn.tasks` ignores."""

_LAYOUTS = (
    ("images", "masks"),
    ("image", "mask"),
    ("images", "labels"),
    ("image", "label"),
    ("image", "instance"),
    ("imagesTr", "labelsTr"),
    ("{split}/images", "{split}/masks"),
    ("{split}/images", "{split}/labels"),
    ("{split}/image", "{split}/mask"),
    ("images/{split}", "masks/{split}"),
    ("images/{split}", "labels/{split}"),
    ("{split}", "{split}annot"),
)


@dataclass(frozen=True)
class Masks(Reader):
    """Images with a mask each, or volumes (.nii, .nii.gz) with labels, in two folders, of the same names.

    Also in a zip archive. A mask holds labels as grey levels or palette entries.
    """

    images: str = ""
    """Folder of the images; ``{split}`` in it stands for train, val, test. Empty: the usual layouts are tried."""
    masks: str = ""
    """Folder of the masks, likewise; a mask is called like its image, but for the ending."""
    table: str = ""
    """Table of tab-separated ``name`` and ``split``, among the data, beside it, or a path."""
    binary: bool = False
    """Whether all labels but 0 are one, as when a mask numbers its objects."""
    ignore: tuple[int, ...] = ()
    """Labels that do not count."""
    classes: tuple[str, ...] = ()
    """Names of the labels 0, 1, ...; empty: numbers up to the highest label that is found."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.images) != bool(self.masks):
            raise ValueError("images and masks must be given together or not at all")

    def open(self) -> Source:
        return _Pairs(self, open_storage(locate(self.path, self.root)))


class _Pairs(Source):
    def __init__(self, options: Masks, storage: Storage) -> None:
        self.options = options
        self.storage = storage
        self.classes = options.classes or (("background", "object") if options.binary else ())
        self._files: list[tuple[str, str | None]] = []
        splits = []
        layouts = ((options.images, options.masks),) if options.images else _LAYOUTS
        for layout in layouts:
            for image, mask, split in _matched(storage, *layout):
                self._files.append((image, mask))
                splits.append(split)
            if self._files:
                break
        if not self._files:
            tried = ", ".join(f"{left} with {right}" for left, right in layouts)
            raise BadFile(str(storage.path), f"no images with masks; looked for {tried}")
        self.splits = splits
        self.names = [storage.where(image) for image, _ in self._files]
        if options.table:
            data, file = find(options.table, storage, options.root)
            told = {row["name"]: split_called(row["split"]) for row in rows(data, file, ("name", "split"))}
            self.splits = [
                told.get(PurePosixPath(_without_ending(image)).name)
                or told.get(PurePosixPath(image).name)
                or ""
                for image, _ in self._files
            ]

    def read(self, index: int) -> Raw:
        image, mask = self._files[index]
        file = self.names[index]
        if mask is None:
            raise BadFile(file, "has no mask of the same name")
        values = _kind(image).decode(self.storage.read(image), file)
        where = self.storage.where(mask)
        target = _kind(mask).decode_mask(self.storage.read(mask), where)
        if target.shape != values.shape[:-1]:
            expected, got = (" x ".join(map(str, shape)) for shape in (values.shape[:-1], target.shape))
            raise BadFile(where, f"mask must be {expected} like its image, got {got}")
        return Raw(values, relabel(target, self.options.binary, self.options.ignore))


def relabel(labels: np.ndarray, binary: bool, ignore: tuple[int, ...]) -> np.ndarray:
    """Labels with those of ``ignore`` as ``IGNORED`` and, if ``binary``, all others but 0 as 1."""
    ignored = np.isin(labels, ignore)
    return np.where(ignored, IGNORED, labels != 0 if binary else labels)


def _kind(name: str) -> ModuleType:
    return volumes if name.lower().endswith(volumes.SUFFIXES) else images


def _without_ending(name: str) -> str:
    return re.sub(r"(\.nii\.gz|\.[^./]*)$", "", name, flags=re.IGNORECASE)


def _matched(storage: Storage, left: str, right: str) -> Iterator[tuple[str, str | None, str]]:
    """Images, their masks if there are any, and their splits."""
    spellings = [""]
    if "{split}" in left:
        parts = {part for name in storage.names for part in PurePosixPath(name).parent.parts}
        spellings = sorted(part for part in parts if split_called(part))
    found: list[tuple[str, str | None, str]] = []
    for spelling in spellings:
        image_folder, mask_folder = (folder.replace("{split}", spelling) for folder in (left, right))
        masks = _by_key(storage, mask_folder)
        if masks:
            for key, name in _by_key(storage, image_folder).items():
                folders = [spelling] if spelling else PurePosixPath(name).parent.parts
                split = next((called for part in folders if (called := split_called(part))), "")
                found.append((name, masks.get(key), split))
    order = {split: index for index, split in enumerate((*SPLITS, ""))}
    yield from sorted(found, key=lambda item: order[item[2]])


def _by_key(storage: Storage, folder: str) -> dict[str, str]:
    """Files below a folder by what an image and its mask have in common: their name there without its ending."""
    names = storage.under(folder, images.SUFFIXES + volumes.SUFFIXES)
    return {_without_ending(name[len(folder.strip("/")) + 1 :]): name for name in names}
