"""Images with masks, and volumes with labels: two folders whose files go by the same name."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage, same
from ..formats.table import find, rows
from .pictures import PictureReader, is_volume
from .place import locate
from .source import SPLITS, Raw, Source, split_called

if TYPE_CHECKING:
    import numpy as np

    from ..formats import images, volumes
else:
    np = Later("numpy")
    images = Later("ndrnn.data.formats.images")
    volumes = Later("ndrnn.data.formats.volumes")

IGNORED = -100
"""What labels that do not count become; the value that :mod:`ndrnn.tasks` ignores."""

_APART = 0.1  # voxels: headers round

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
class Masks(PictureReader):
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
    geometry: Literal["match", "ignore"] = "match"
    """Volumes and their labels must lie in the same place in space, where both files say so; or need not."""

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
        self._orientations: dict[str, set[str]] = {}
        self.faults = list(storage.faults)
        splits = []
        layouts = ((options.images, options.masks),) if options.images else _LAYOUTS
        for layout in layouts:
            unused: list[BadFile] = []
            for image, mask, split in _matched(storage, unused, *layout):
                self._files.append((image, mask))
                splits.append(split)
            if self._files:
                self.faults += unused
                break
        if not self._files:
            tried = ", ".join(f"{left} with {right}" for left, right in layouts)
            raise BadFile(str(storage.path), f"no images with masks; looked for {tried}")
        self.splits = splits
        self.names = [storage.where(image) for image, _ in self._files]
        if options.table:
            data, file = find(options.table, storage, options.root)
            told = {
                same(row["name"]): split_called(row["split"]) for row in rows(data, file, ("name", "split"))
            }
            self.splits = [
                told.get(same(PurePosixPath(_without_ending(image)).name))
                or told.get(same(PurePosixPath(image).name))
                or ""
                for image, _ in self._files
            ]

    def read(self, index: int) -> Raw:
        image, mask = self._files[index]
        file = self.names[index]
        if mask is None:
            raise BadFile(file, "has no mask of the same name")
        where = self.storage.where(mask)
        image_data, mask_data = self.storage.read(image), self.storage.read(mask)
        values = self.options.values(image, image_data, file)
        target = self.options.labels(mask, mask_data, where)
        if target.shape != values.shape[:-1]:
            expected, got = (" x ".join(map(str, shape)) for shape in (values.shape[:-1], target.shape))
            raise BadFile(where, f"mask must be {expected} like its image, got {got}")
        if is_volume(image):
            self._check_space(
                values.shape[:-1], image_data, file, mask_data if is_volume(mask) else None, where
            )
        return Raw(values, relabel(target, self.options.binary, self.options.ignore), not is_volume(image))

    def remarks(self) -> list[str]:
        if len(self._orientations) < 2 or self.options.geometry == "ignore":
            return []
        counts = sorted(self._orientations.items(), key=lambda item: (-len(item[1]), item[0]))
        told = ", ".join(f"{len(files):,} {name}" for name, files in counts)
        rare = ", ".join(sorted(counts[-1][1])[:3])
        return [
            f"the axes of the volumes point in {len(counts)} ways ({told}; {counts[-1][0]}: {rare}); "
            "a network takes them as they are stored"
        ]

    def _check_space(
        self, shape: tuple[int, ...], image: bytes, file: str, mask: bytes | None, where: str
    ) -> None:
        """Note how a volume lies in space, and refuse labels that lie elsewhere."""
        lies = volumes.space(image, file)
        if lies.stated:
            self._orientations.setdefault(lies.orientation, set()).add(file)
        if mask is None or self.options.geometry == "ignore":
            return
        other = volumes.space(mask, where)
        if not (lies.stated and other.stated):
            return
        apart = volumes.distance(lies.affine, other.affine, shape)
        if not apart <= _APART:
            raise BadFile(
                where,
                f"its affine differs from that of its image {file}, by up to {apart:.3g} voxels "
                f"({other.orientation} and {lies.orientation}); data.geometry ignore takes both as they are stored",
            )


def relabel(labels: np.ndarray, binary: bool, ignore: tuple[int, ...]) -> np.ndarray:
    """Labels with those of ``ignore`` as ``IGNORED`` and, if ``binary``, all others but 0 as 1."""
    ignored = np.isin(labels, ignore)
    return np.where(ignored, IGNORED, labels != 0 if binary else labels)


def _without_ending(name: str) -> str:
    return re.sub(r"(\.nii\.gz|\.[^./]*)$", "", name, flags=re.IGNORECASE)


def _matched(
    storage: Storage, unused: list[BadFile], left: str, right: str
) -> Iterator[tuple[str, str | None, str]]:
    """Images, their masks if there are any, and their splits; ``unused`` gets masks without an image, and files of a
    name that is taken."""
    spellings = [""]
    if "{split}" in left:
        parts = {part for name in storage.names for part in PurePosixPath(name).parent.parts}
        spellings = sorted(part for part in parts if split_called(part))
    found: list[tuple[str, str | None, str]] = []
    for spelling in spellings:
        image_folder, mask_folder = (folder.replace("{split}", spelling) for folder in (left, right))
        masks = _by_key(storage, mask_folder, unused)
        if not masks:
            continue
        pictures = _by_key(storage, image_folder, unused)
        for key, name in pictures.items():
            folders = [spelling] if spelling else PurePosixPath(name).parent.parts
            split = next((called for part in folders if (called := split_called(part))), "")
            found.append((name, masks.get(key), split))
        unused += [
            BadFile(storage.where(name), "has no image of the same name")
            for key, name in masks.items()
            if key not in pictures
        ]
    order = {split: index for index, split in enumerate((*SPLITS, ""))}
    yield from sorted(found, key=lambda item: order[item[2]])


def _by_key(storage: Storage, folder: str, unused: list[BadFile]) -> dict[str, str]:
    """Files below a folder by what an image and its mask have in common: their name there without its ending."""
    found: dict[str, str] = {}
    for name in storage.under(folder, images.SUFFIXES + volumes.SUFFIXES):
        first = found.setdefault(_without_ending(same(name)[len(same(folder).strip("/")) + 1 :]), name)
        if first != name:
            reason = f"goes by the same name as {storage.where(first)}, which is read in its place"
            unused.append(BadFile(storage.where(name), reason))
    return found
