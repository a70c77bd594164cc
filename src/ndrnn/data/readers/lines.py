"""Images of lines with their texts: ``name.png`` beside ``name.gt.txt``, or named in a table."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Literal, NamedTuple

from ...later import Later
from ..faults import BadFile, naming, printable
from ..formats import direction as directions
from ..formats.limits import largest
from ..formats.storage import Storage, open_storage, same
from ..formats.table import find, rows
from ..formats.texts import FORMS, Form, clean
from .place import locate
from .source import Raw, Reader, Source, split_called

if TYPE_CHECKING:
    import numpy as np

    from ..formats import images, opening
else:
    np = Later("numpy")
    images, opening = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.opening")

_TALL = 2
"""A line that is at least so many times as high as wide is taken for a vertical one."""


@dataclass(frozen=True)
class Lines(Reader):
    """Images of single lines and their transcripts.

    Without ``table``, every ``name.png`` (or another image) beside a ``name.gt.txt``; folders called train, val or
    test tell the split. White space of all kinds becomes single spaces.
    """

    table: str = ""
    """Table with the columns ``name`` (of the image, with or without ending), ``text`` and perhaps ``split``; it lies among
    the data, beside it, or is a path. Columns are told apart by tabs, or by commas or semicolons as in CSV files."""
    height: int = 0
    """Rows to which images are scaled, their widths with them; 0: as they are."""
    text_suffix: str = ".gt.txt"
    """How the name of a text ends that lies beside its image, such as .txt."""
    normalization: Form = "NFC"
    """Unicode form of the texts: NFC and NFD compose and decompose letters and their accents; NFKC and NFKD also make one of
    variants, such as ligatures; none leaves all as it is."""
    direction: Literal["auto", "ltr", "rtl"] = "auto"
    """Whether lines run from left to right (ltr) or from right to left (rtl); auto: as most letters of each line do. The
    network learns the order on the image; texts of files and results are in the order of reading."""
    vertical: Literal["none", "tall", "all"] = "none"
    """Which lines are written downwards and so are turned by a quarter, their top to the left: those at least twice as high
    as wide (tall), or all."""
    upwards: bool = False
    """Whether vertical lines run upwards, and are turned the other way."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.height < 0:
            raise ValueError(f"height must be at least 0, got {self.height}")
        if not self.text_suffix:
            raise ValueError("text_suffix must be an ending such as .gt.txt, got nothing")
        for name, known in (
            ("normalization", FORMS),
            ("direction", directions.DIRECTIONS),
            ("vertical", ("none", "tall", "all")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, got {getattr(self, name)!r}")

    def clean(self, text: str, file: str) -> str:
        """A line's text as it is learned; raises :class:`ndrnn.data.BadFile` where it holds control characters."""
        try:
            return clean(text, self.normalization)
        except ValueError as error:
            raise BadFile(file, str(error)) from error

    def turn(self, shape: Sequence[int]) -> int:
        """How an image (H, W, ...) is turned so that its text runs from left to right, EXIF's number."""
        turned = self.vertical == "all" or (self.vertical == "tall" and is_tall(shape))
        return (6 if self.upwards else 8) if turned else 1

    def prepare(self, values: np.ndarray) -> np.ndarray:
        if (turn := self.turn(values.shape)) > 1:
            values = opening.upright(values, turn)
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


def is_tall(shape: Sequence[int]) -> bool:
    """Whether an image (H, W, ...) has the proportions of a vertical line."""
    return shape[0] >= _TALL * shape[1]


@dataclass
class Seen:
    """What the lines that were read had in common, for remarks."""

    tall: dict[str, bool] = field(default_factory=dict)
    """Lines with the proportions of vertical ones, and whether they have several letters."""
    letters: dict[str, tuple[int, int]] = field(default_factory=dict)
    """How many of each line's letters run from left to right, and from right to left."""

    def note(self, shape: Sequence[int], text: str, name: str) -> None:
        """Look at a line as it is stored."""
        if is_tall(shape):
            self.tall[name] = len(text) > 2
        self.letters[name] = directions.letters(text)

    def remarks(self, options: Lines) -> list[str]:
        """What should be known of them."""
        found = []
        left, right = (sum(pair[side] for pair in self.letters.values()) for side in (0, 1))
        if right > left:
            found.append(
                f"{right:,} of {left + right:,} letters run from right to left, "
                + (
                    "but data.direction is ltr, so that lines are learned as if they began at the left; auto or rtl is meant"
                    if options.direction == "ltr"
                    else "so lines are learned in the order of the image; results are in the order of reading"
                )
            )
        if options.vertical == "none" and (tall := [name for name, several in self.tall.items() if several]):
            found.append(
                f"{len(tall):,} lines are at least twice as high as wide, such as {tall[0]}; if they are written vertically, "
                "data.vertical turns them"
            )
        elif options.vertical == "tall" and self.tall:
            found.append(
                f"{len(self.tall):,} of {len(self.letters):,} lines are at least twice as high as wide and were turned, "
                f"such as {next(iter(self.tall))}"
            )
        return found


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
        self.faults: list[BadFile] = list(storage.faults)
        self._found: list[_Found] = []
        self._beside: list[
            tuple[str, str]
        ] = []  # images that are not read, and those that are in their place
        self._unnamed: list[str] = []  # images that the table does not name
        self.seen = Seen()
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
        used = {found.image for found in self._found}
        self._unnamed = [name for name in self.storage.under("", images.SUFFIXES) if name not in used]

    def _from_pairs(self) -> None:
        ending = self.options.text_suffix
        texts = self.storage.under("", (ending.lower(),))
        keys = {_key(text, ending) for text in texts}
        pictures = self.storage.under("", images.SUFFIXES)
        if not texts:
            raise BadFile(
                str(self.storage.path),
                f"no transcripts (*{ending}) beside images, and no table was named{self._hint()}",
            )
        exact: dict[str, list[str]] = {}
        others: dict[str, list[str]] = {}
        for name in pictures:
            # name.bin.png goes with name.gt.txt where there is no name.png, as other programs for text write it
            path = PurePosixPath(name)
            for known, stem in ((exact, path.stem), (others, path.stem.split(".")[0])):
                known.setdefault(same(str(path.with_name(stem))), []).append(name)
        with_text: set[str] = set()
        for text in texts:
            key = _key(text, ending)
            named = exact.get(key) or others.get(key, [])
            splits = [called for part in PurePosixPath(text).parent.parts if (called := split_called(part))]
            where = self.storage.where(named[0] if len(named) == 1 else text)
            image = named[0] if len(named) == 1 else BadFile(where, _unclear(named))
            self._found.append(_Found(image, where, text, splits[0] if splits else ""))
            with_text.update(named)
            if len(named) == 1:
                beside = [
                    name
                    for name in others.get(key, ())
                    if name != named[0] and same(str(PurePosixPath(name).with_suffix(""))) not in keys
                ]
                with_text.update(beside)
                self._beside += [(name, named[0]) for name in beside]
        for name in pictures:
            if name not in with_text:
                missing = PurePosixPath(name).stem + ending
                self.faults.append(
                    BadFile(self.storage.where(name), f"has no transcript ({missing} is not beside it)")
                )

    def _hint(self) -> str:
        """What other endings texts beside images have."""
        stems = {
            same(str(PurePosixPath(name).with_suffix(""))) for name in self.storage.under("", images.SUFFIXES)
        }
        for ending in (".txt", ".text", ".gt", ".transcription.txt"):
            count = sum(_key(text, ending) in stems for text in self.storage.under("", (ending,)))
            if count:
                return (
                    f"; {count:,} images have a text that ends in {ending}: data.text_suffix tells the ending"
                )
        return ""

    def read(self, index: int) -> Raw:
        image, file, text, _ = self._found[index]
        if isinstance(image, BadFile):
            raise image
        if not self.options.table:
            where = self.storage.where(text)
            with naming(where, "not UTF-8"):
                text = self.storage.read(text, text=True).decode("utf-8-sig")
        text = self.options.clean(text, file)
        if not text:
            raise BadFile(file, "its transcript is empty")
        with naming(file):
            values = images.decode(self.storage.read(image), file)
            self.seen.note(values.shape, text, file)
            return Raw(self.options.prepare(values), text)

    def remarks(self) -> list[str]:
        found = self.seen.remarks(self.options)
        if self._unnamed:
            some = ", ".join(map(self.storage.where, self._unnamed[:3]))
            found.append(
                f"{len(self._unnamed):,} images are not named in {self.options.table}: {some}{', ...' * (len(self._unnamed) > 3)}"
            )
        if not self._beside:
            return found
        told = ", ".join(
            f"{self.storage.where(name)} (instead {self.storage.where(other)})"
            for name, other in self._beside
        )
        return [
            *found,
            f"{len(self._beside):,} images are not read, as another one goes by the name of their text: {told}",
        ]


def _key(text: str, ending: str) -> str:
    """What a text and its image have in common, with folders."""
    return same(text[: -len(ending)])


def _unclear(names: list[str]) -> str:
    if not names:
        return "the image of this line is missing"
    return f"the image of this line is not clear: {', '.join(map(printable, names))}"
