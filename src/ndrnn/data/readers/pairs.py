"""Images with masks, and volumes with labels: two folders whose files go by the same name, or one for both."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage, same
from ..formats.table import find, rows
from .labelled import Case, LabelledReader, LabelledSource
from .place import locate
from .source import SPLITS, Source, split_called

if TYPE_CHECKING:
    from ..formats import images, volumes
else:
    images, volumes = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.volumes")

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
_TOGETHER = (("", ""),)  # where an ending of their names tells masks from images

_USUAL = ("_mask", "_masks", "_label", "_labels", "_seg", "_segmentation", "_gt", ".labels", "-labelled")


@dataclass(frozen=True)
class Masks(LabelledReader):
    """Images with a mask each, or volumes (.nii, .nii.gz) with labels, in two folders, of the same names.

    Also in a zip archive. A mask holds labels as grey levels or palette entries, or colours that ``classes`` names.
    """

    images: str = ""
    """Folder of the images; ``{split}`` in it stands for train, val, test. Empty: the usual layouts are tried."""
    masks: str = ""
    """Folder of the masks, likewise, perhaps the same; a mask is called like its image, but for the ending."""
    image_suffix: str = ""
    """What the names of images have before their ending and those of masks have not, such as _img."""
    mask_suffix: str = ""
    """What the names of masks have before their ending and those of images have not: _mask for X_mask.png, .labels for
    X.labels.tif. Masks may lie beside the images then."""
    table: str = ""
    """Table of tab-separated ``name`` and ``split``, among the data, beside it, or a path."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if bool(self.images) != bool(self.masks):
            raise ValueError("images and masks must be given together or not at all")
        if self.image_suffix and self.image_suffix == self.mask_suffix:
            raise ValueError(f"image_suffix and mask_suffix must differ, got {self.mask_suffix!r} for both")

    def open(self) -> Source:
        return _Pairs(self, open_storage(locate(self.path, self.root)))

    def images_among(self, names: list[str]) -> list[str]:
        """The names without those of masks, which their suffix tells."""
        if not self.mask_suffix:
            return names
        return [name for name in names if not without_ending(name).endswith(self.mask_suffix)]


class _Found(NamedTuple):
    image: str
    mask: str | None
    split: str
    key: str
    """What the names of the image and the mask have in common."""


class _Pairs(LabelledSource):
    def __init__(self, options: Masks, storage: Storage) -> None:
        super().__init__(options, storage)
        together = _TOGETHER if options.mask_suffix or options.image_suffix else ()
        layouts = ((options.images, options.masks),) if options.images else (*_LAYOUTS, *together)
        # a layout in which nothing has a partner is the last to be taken
        taken: tuple[list[_Found], list[BadFile], str] | None = None
        for before, (left, right) in product(dict.fromkeys(("", _wrapping(storage))), layouts):
            left_over: list[BadFile] = []
            matched = _matched(storage, left_over, before + left, before + right, options)
            if any(one.mask for one in matched):
                taken = matched, left_over, before + right
                break
            if matched and taken is None:
                taken = matched, left_over, before + right
        if taken is None:
            tried = ", ".join(f"{left or '.'} with {right or '.'}" for left, right in layouts)
            raise BadFile(
                str(storage.path), f"no images with masks; looked for {tried}{_suffix_hint(storage, options)}"
            )
        found, unused, folder = taken
        self.faults += unused
        self._hint = _hinted(storage, found, folder, options)
        self.splits = [one.split for one in found]
        self.cases = [Case((one.image,), one.mask) for one in found]
        self.names = [storage.where(one.image) for one in found]
        if options.table:
            data, file = find(options.table, storage, options.root)
            told = {
                same(row["name"]): split_called(row["split"]) for row in rows(data, file, ("name", "split"))
            }
            self.splits = [
                next((split for name in _callings(one) if (split := told.get(name))), "") for one in found
            ]

    def hint(self, index: int) -> str:
        return self._hint


def without_ending(name: str) -> str:
    """A file's name without its ending, ``.nii.gz`` as one."""
    return re.sub(r"(\.nii\.gz|\.[^./]*)$", "", name, flags=re.IGNORECASE)


def _callings(one: _Found) -> Iterator[str]:
    """How a table may call an image."""
    yield same(PurePosixPath(without_ending(one.image)).name)
    yield same(PurePosixPath(one.image).name)
    yield PurePosixPath(one.key).name


def _matched(storage: Storage, unused: list[BadFile], left: str, right: str, options: Masks) -> list[_Found]:
    """Images with their masks, if there are any, and their splits; ``unused`` gets masks without an image, and files of
    a name that is taken."""
    spellings = [""]
    if "{split}" in left:
        parts = {part for name in storage.names for part in PurePosixPath(name).parent.parts}
        spellings = sorted(part for part in parts if split_called(part))
    found: list[_Found] = []
    for spelling in spellings:
        image_folder, mask_folder = (folder.replace("{split}", spelling) for folder in (left, right))
        masks = _by_key(storage, mask_folder, options.mask_suffix, unused)
        if not masks:
            continue
        # where both lie in one folder
        taken = set(masks.values()) if options.mask_suffix else set()
        pictures = _by_key(storage, image_folder, options.image_suffix, unused, taken)
        for key, name in pictures.items():
            folders = [spelling] if spelling else PurePosixPath(name).parent.parts
            split = next((called for part in folders if (called := split_called(part))), "")
            found.append(_Found(name, masks.get(key), split, key))
        unused += [
            BadFile(storage.where(name), "has no image of the same name")
            for key, name in masks.items()
            if key not in pictures
        ]
    order = {split: index for index, split in enumerate((*SPLITS, ""))}
    return sorted(found, key=lambda one: order[one.split])


def _by_key(
    storage: Storage, folder: str, suffix: str, unused: list[BadFile], taken: set[str] | None = None
) -> dict[str, str]:
    """Files below a folder by what an image and its mask have in common: their name there without suffix and ending."""
    found: dict[str, str] = {}
    start = len(same(folder).strip("/")) + 1 if folder.strip("/.") else 0
    for name in storage.under(folder, images.SUFFIXES + volumes.SUFFIXES):
        stem = without_ending(same(name)[start:])
        if not stem.endswith(suffix) or (taken and name in taken):
            continue
        first = found.setdefault(stem.removesuffix(suffix), name)
        if first != name:
            reason = f"goes by the same name as {storage.where(first)}, which is read in its place"
            unused.append(BadFile(storage.where(name), reason))
    return found


def _wrapping(storage: Storage) -> str:
    """The folder that all files lie in, such as one that a file manager puts around the content of an archive."""
    folders = [PurePosixPath(name).parent.parts for name in storage.names]
    if not folders:
        return ""
    low, high = min(folders), max(folders)
    common = [one for index, one in enumerate(low) if low[: index + 1] == high[: index + 1]]
    return "".join(f"{part}/" for part in common)


def _hinted(storage: Storage, found: list[_Found], folder: str, options: Masks) -> str:
    """Why images have no masks, where the names of the masks tell it by the first of them."""
    missing = next((one for one in found if one.mask is None), None)
    if missing is None:
        return ""
    folder = folder.replace("{split}", missing.split)
    masks = _by_key(storage, folder, "", [])
    channel = re.fullmatch(r"(.+)_\d{4}", missing.key)
    if channel and channel[1] in masks:
        return "; it is named like a channel of nnU-Net, which data.format nnunet reads"
    for key in masks:
        rest = key.removeprefix(missing.key)
        if key.startswith(missing.key) and re.fullmatch(r"[._ -]\D*", rest) and rest != options.mask_suffix:
            return f"; there is {storage.where(masks[key])}, which data.mask-suffix={rest} would be for"
    return ""


def _suffix_hint(storage: Storage, options: Masks) -> str:
    stems = {without_ending(name) for name in storage.under("", images.SUFFIXES + volumes.SUFFIXES)}
    for suffix in _USUAL if not options.mask_suffix else ():
        if any(stem + suffix in stems for stem in stems):
            return f"; names end in {suffix}: data.mask-suffix={suffix} takes those for masks"
    return "; data.images and data.masks name other folders"
