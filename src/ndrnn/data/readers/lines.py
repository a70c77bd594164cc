"""Images of lines with their texts: ``name.png`` beside ``name.gt.txt``, or named in a table."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile
from ..formats.storage import Storage, open_storage
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
        return images.resized(values, self.height, width)

    def open(self) -> Source:
        return _Lines(self, open_storage(locate(self.path, self.root)))


class _Lines(Source):
    def __init__(self, options: Lines, storage: Storage) -> None:
        self.options = options
        self.storage = storage
        # image (None where it is missing), what to call it, text or the file with the text, split
        self._found: list[tuple[str | None, str, str, str]] = []
        if options.table:
            self._from_table()
        else:
            self._from_pairs()
        self.names = [name for _, name, _, _ in self._found]
        self.splits = [split for _, _, _, split in self._found]

    def _from_table(self) -> None:
        data, file = find(self.options.table, self.storage, self.options.root)
        known = {}
        for name in self.storage.under("", images.SUFFIXES):
            path = PurePosixPath(name)
            # by the whole name, by the last part of it, and by that without its ending
            known.update(dict.fromkeys((name, path.name, str(path.with_suffix("")), path.stem), name))
        table = rows(data, file, ("name", "text"))
        if not table:
            raise BadFile(file, "has no lines but the first")
        for row in table:
            image = known.get(row["name"])
            where = self.storage.where(image or row["name"])
            self._found.append((image, where, row["text"], split_called(row.get("split", ""))))

    def _from_pairs(self) -> None:
        texts = set(self.storage.under("", (_TEXT,)))
        if not texts:
            raise BadFile(
                str(self.storage.path), f"no transcripts (*{_TEXT}) beside images, and no table was named"
            )
        by_text: dict[str, str] = {}
        for name in self.storage.under("", images.SUFFIXES):
            # name.bin.png goes with name.gt.txt too, as other programs for text write it
            path = PurePosixPath(name)
            for stem in (path.stem, path.stem.split(".")[0]):
                by_text.setdefault(str(path.with_name(stem + _TEXT)), name)
        for text in sorted(texts):
            image = by_text.get(text)
            splits = [called for part in PurePosixPath(text).parent.parts if (called := split_called(part))]
            where = self.storage.where(image or text)
            self._found.append((image, where, text, splits[0] if splits else ""))

    def read(self, index: int) -> Raw:
        image, file, text, _ = self._found[index]
        if image is None:
            raise BadFile(file, "the image of this line is missing")
        if not self.options.table:
            try:
                text = self.storage.read(text).decode("utf-8-sig")
            except UnicodeDecodeError as error:
                raise BadFile(self.storage.where(text), f"not UTF-8 ({error})") from error
        text = unicodedata.normalize("NFC", text).strip()
        if not text:
            raise BadFile(file, "its transcript is empty")
        return Raw(self.options.prepare(images.decode(self.storage.read(image), file)), text)
