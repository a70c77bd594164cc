"""Images of lines with their texts: ``name.png`` beside ``name.gt.txt``, or named in a table."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, NamedTuple

from ...later import Later
from ..faults import BadFile, naming, printable
from ..formats.limits import largest
from ..formats.storage import Storage, open_storage, same
from ..formats.table import find, rows
from .place import locate
from .source import Raw, Reader, Source, split_called

if TYPE_CHECKING:
    import numpy as np

    from ..formats import images
else:
    np = Later("numpy")
    images = Later("ndrnn.data.formats.images")

_TEXT = ".gt.txt"


@dataclass(frozen=True)
class Lines(Reader):
    """Images of single lines and their transcripts; texts are brought to Unicode's composed form (NFC).

    Without ``table``, every ``name.png`` (or another image) beside a ``name.gt.txt``; folders called train, val or
    test tell the split.
    """

    table: str = ""
    """Table of tab-separated ``name`` (with or without ending), ``text`` and perhaps ``split``; it lies among the
    data, beside it, or is a path."""
    height: int = 0
    """Rows to which images are scaled, their widths with them; 0: as they are."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.height < 0:
            raise ValueError(f"height must be at least 0, got {self.height}")

    def prepare(self, values: np.ndarray) -> np.ndarray:
        if self.height in (0, values.shape[0]):
            return values
        width = max(1, round(values.shape[1] * self.height / values.shape[0]))
        # a file may be a row of many pixels
        if 4 * self.height * width * values.shape[2] > largest():
            raise ValueError(
                f"scaled to {self.height} rows it would be {width:,} wide, more than may be read"
            )
        return images.resized(values, self.height, width)

    def open(self) -> Source:
        return _Lines(self, open_storage(locate(self.path, self.root)))


class _Found(NamedTuple):
    """A line: its image or why there is none, what to call it, its text or the file with the text, its split."""

    image: str | BadFile
    where: str
    text: str
    split: str


class _Lines(Source):
    def __init__(self, options: Lines, storage: Storage) -> None:
        self.options = options
        self.storage = storage
        self.faults = list(storage.faults)
        self._found: list[_Found] = []
        self._beside: list[
            tuple[str, str]
        ] = []  # images that are not read, and those that are in their place
        if options.table:
            self._from_table()
        else:
            self._from_pairs()
        self.names = [found.where for found in self._found]
        self.splits = [found.split for found in self._found]

    def _from_table(self) -> None:
        data, file = find(self.options.table, self.storage, self.options.root)
        # by the whole name, by that without its ending, by the last part of it, and by that without its ending
        levels: tuple[dict[str, list[str]], ...] = ({}, {}, {}, {})
        for name in self.storage.under("", images.SUFFIXES):
            path = PurePosixPath(name)
            keys = (name, str(path.with_suffix("")), path.name, path.stem)
            for known, key in zip(levels, keys, strict=True):
                known.setdefault(same(key), []).append(name)
        table = rows(data, file, ("name", "text"))
        if not table:
            raise BadFile(file, "has no lines but the first")
        for row in table:
            key = same(row["name"])
            named = next((known[key] for known in levels if key in known), [])
            where = self.storage.where(named[0] if len(named) == 1 else row["name"])
            image = named[0] if len(named) == 1 else BadFile(where, _unclear(named))
            self._found.append(_Found(image, where, row["text"], split_called(row.get("split", ""))))

    def _from_pairs(self) -> None:
        texts = self.storage.under("", (_TEXT,))
        keys = {same(text) for text in texts}
        if not texts:
            raise BadFile(
                str(self.storage.path), f"no transcripts (*{_TEXT}) beside images, and no table was named"
            )
        exact: dict[str, list[str]] = {}
        others: dict[str, list[str]] = {}
        for name in self.storage.under("", images.SUFFIXES):
            # name.bin.png goes with name.gt.txt where there is no name.png, as other programs for text write it
            path = PurePosixPath(name)
            for known, stem in ((exact, path.stem), (others, path.stem.split(".")[0])):
                known.setdefault(same(str(path.with_name(stem + _TEXT))), []).append(name)
        for text in texts:
            named = exact.get(same(text)) or others.get(same(text), [])
            splits = [called for part in PurePosixPath(text).parent.parts if (called := split_called(part))]
            where = self.storage.where(named[0] if len(named) == 1 else text)
            image = named[0] if len(named) == 1 else BadFile(where, _unclear(named))
            self._found.append(_Found(image, where, text, splits[0] if splits else ""))
            if len(named) == 1:
                self._beside += [
                    (name, named[0])
                    for name in others.get(same(text), ())
                    if name != named[0] and same(str(PurePosixPath(name).with_suffix("")) + _TEXT) not in keys
                ]

    def read(self, index: int) -> Raw:
        image, file, text, _ = self._found[index]
        if isinstance(image, BadFile):
            raise image
        if not self.options.table:
            where = self.storage.where(text)
            with naming(where, "not UTF-8"):
                text = self.storage.read(text, text=True).decode("utf-8-sig")
        text = unicodedata.normalize("NFC", text).strip()
        if not text:
            raise BadFile(file, "its transcript is empty")
        with naming(file):
            return Raw(self.options.prepare(images.decode(self.storage.read(image), file)), text)

    def remarks(self) -> list[str]:
        if not self._beside:
            return []
        told = ", ".join(
            f"{self.storage.where(name)} (instead {self.storage.where(other)})"
            for name, other in self._beside
        )
        return [
            f"{len(self._beside):,} images are not read, as another one goes by the name of their text: {told}"
        ]


def _unclear(names: list[str]) -> str:
    if not names:
        return "the image of this line is missing"
    return f"the image of this line is not clear: {', '.join(map(printable, names))}"
