"""nnU-Net's raw data sets: a file for each channel of a case, a file of labels, and names in dataset.json."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any

from ...later import Later
from ..faults import BadFile, naming
from ..formats.storage import Storage, open_storage
from .labelled import Case, LabelledReader, LabelledSource
from .pairs import without_ending
from .place import locate
from .source import Source

if TYPE_CHECKING:
    from ..formats import images, volumes
else:
    images, volumes = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.volumes")

FILE = "dataset.json"
"""What tells the names of channels and labels."""

_PARTS = (("imagesTr", "labelsTr", ""), ("imagesTs", "labelsTs", "test"))


@dataclass(frozen=True)
class NnUnet(LabelledReader):
    """Data sets as nnU-Net keeps them: imagesTr with X_0000.nii.gz, X_0001.nii.gz, ..., the channels of X, labelsTr with
    X.nii.gz, and dataset.json with the names of the labels; imagesTs counts as the test where there is a labelsTs.

    Also in a zip archive, and with images in place of volumes. Files without a channel's number, as in the Medical
    Segmentation Decathlon, are read too. Where ``classes`` is empty, dataset.json names them if it is there.
    """

    def open(self) -> Source:
        return _DataSet(self, open_storage(locate(self.path, self.root)))


class _DataSet(LabelledSource):
    def __init__(self, options: NnUnet, storage: Storage) -> None:
        root = _root(storage)
        told = storage.named(f"{root}{FILE}")
        if told and not (options.classes or options.binary):
            options = replace(options, classes=(told,))
        super().__init__(options, storage)
        self.splits, self.names = [], []
        expected = _channels(storage, told) if told else 0
        for image_folder, label_folder, split in _PARTS:
            labels = {key: files[-1] for key, files in self._grouped(root + label_folder).items()}
            if split and not labels:
                continue  # a test whose answers are not known
            found = self._grouped(root + image_folder)
            for key, files in found.items():
                wrong = _wrong(files, expected)
                if wrong:
                    self.faults.append(BadFile(storage.where(next(iter(files.values()))), wrong))
                    continue
                self.cases.append(Case(tuple(files[number] for number in sorted(files)), labels.get(key)))
                self.splits.append(split)
                self.names.append(storage.where(self.cases[-1].images[0]))
            self.faults += [
                BadFile(storage.where(name), "has no image of the same name")
                for key, name in labels.items()
                if key not in found
            ]

    def _grouped(self, folder: str) -> dict[str, dict[int, str]]:
        names = self.storage.under(folder, images.SUFFIXES + volumes.SUFFIXES)
        whole = folder.endswith(("labelsTr", "labelsTs"))
        found: dict[str, dict[int, str]] = {}
        for name in names:
            key, number = (without_ending(name), -1) if whole else channel_of(name)
            files = found.setdefault(PurePosixPath(key).name, {})
            if files.setdefault(number, name) != name:
                reason = f"goes by the same name as {self.storage.where(files[number])}, which is read in its place"
                self.faults.append(BadFile(self.storage.where(name), reason))
        return found


def channel_of(name: str) -> tuple[str, int]:
    """The case that a file belongs to, and the number of its channel, -1 if its name tells none."""
    stem = without_ending(name)
    match = re.fullmatch(r"(.*)_(\d{4})", stem)
    return (match[1], int(match[2])) if match else (stem, -1)


def cases(names: Iterable[str]) -> dict[str, tuple[str, ...]]:
    """The files of each case, in the order of their channels."""
    found: dict[str, dict[int, str]] = {}
    for name in names:
        key, number = channel_of(name)
        # two of one number are two cases
        found.setdefault(key if number not in found.get(key, {}) else name, {})[number] = name
    return {key: tuple(files[number] for number in sorted(files)) for key, files in found.items()}


def _wrong(files: dict[int, str], expected: int) -> str:
    numbers = sorted(files)
    if numbers == [-1]:
        return ""  # one file, with all channels in it
    told = ", ".join(f"{number:04}" for number in numbers if number >= 0)
    if -1 in numbers:
        return f"is there without a channel's number and with {told}"
    if numbers != list(range(len(numbers))) or (expected and len(numbers) != expected):
        wanted = f"0000 to {expected - 1:04}, as {FILE} tells" if expected else "0000, 0001, ..."
        return f"its case has the channels {told}, expected {wanted}"
    return ""


def _channels(storage: Storage, name: str) -> int:
    """How many channels dataset.json names; 0 if it does not tell."""
    where = storage.where(name)
    with naming(where, "tells no names"):
        table: Any = json.loads(storage.read(name, text=True).decode("utf-8-sig"))
        if not isinstance(table, dict):
            raise ValueError(f"must hold an object, got {type(table).__name__}")
        channels = table.get("channel_names") or table.get("modality") or ()
        return len(channels)


def _root(storage: Storage) -> str:
    """The folder of the data set, with a / behind it."""
    inside = {
        "".join(f"{part}/" for part in parts[: parts.index("imagesTr")])
        for name in storage.names
        if "imagesTr" in (parts := PurePosixPath(name).parent.parts)
    }
    if not inside:
        raise BadFile(str(storage.path), "no folder imagesTr, as nnU-Net's raw data sets have one")
    if len(inside) > 1:
        raise BadFile(
            str(storage.path),
            f"holds {len(inside)} data sets; name one of them as data.path: {', '.join(sorted(inside))}",
        )
    return inside.pop()
