"""Which classes the numbers or colours of masks stand for: as words of an option, or in a file of the user's."""

from __future__ import annotations

import csv
import io
import json
import re
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from ..faults import BadFile, naming

IGNORED = -100
"""What labels that do not count become; the value that :mod:`ndrnn.tasks` ignores."""

IGNORE_NAME = "ignore"
"""The name of values that do not count, as in nnU-Net's dataset.json."""

FILES = (".toml", ".json", ".csv", ".tsv", ".txt")
"""Endings of files that hold such a table."""

_WORD = re.compile(r"\s*(-?\d+|#[0-9a-fA-F]{6})\s*=\s*(.*\S)\s*")
_HEX, _NUMBER = re.compile(r"#[0-9a-fA-F]{6}"), re.compile(r"-?\d+")
_TRIPLE = re.compile(r"(\d+)[ ,;\t]+(\d+)[ ,;\t]+(\d+)")
_LUT = 1 << 24  # numbers up to which a table is looked up

Key = tuple[bool, int]
"""Whether it is a colour, and its number: red * 65536 + green * 256 + blue."""


@dataclass(frozen=True)
class ClassMap:
    """What the numbers of masks mean."""

    names: tuple[str, ...] = ()
    """Of the classes 0, 1, ...; empty: they are not told."""
    classes: Mapping[int, int] | None = None
    """The class of each number of a mask, ``IGNORED`` for those that do not count; None: numbers are classes."""
    colours: bool = False
    """Whether these numbers are colours."""

    def apply(self, numbers: np.ndarray, file: str) -> np.ndarray:
        """The classes (any shape) int64 of a mask's numbers; ``IGNORED`` stays.

        Raises:
            BadFile: a number or a colour has no name; it is told.
        """
        if self.classes is None:
            return numbers
        present = _present(numbers)
        unknown = [
            int(number) for number in present if int(number) != IGNORED and int(number) not in self.classes
        ]
        if unknown:
            what = "colour" if self.colours else "label"
            told = ", ".join(colour(number) if self.colours else str(number) for number in unknown[:5])
            more = f" and {len(unknown) - 5:,} more" if len(unknown) > 5 else ""
            also = f"call it {IGNORE_NAME}" if self.colours else "leave it out by data.ignore"
            raise BadFile(
                file, f"{what}{'s' if len(unknown) > 1 else ''} {told}{more}: no name in data.classes; {also}"
            )
        result = np.full(numbers.shape, IGNORED, np.int64)
        if present.size and present[0] >= 0 and present[-1] < _LUT:
            table = np.full(int(present[-1]) + 1, IGNORED, np.int64)
            for number in present:
                table[number] = self.classes[int(number)]
            return table[numbers]
        for number in present:
            if int(number) != IGNORED:
                result[numbers == number] = self.classes[int(number)]
        return result


def parse(words: Sequence[str], read: Callable[[str], tuple[bytes, str]]) -> ClassMap:
    """The classes that words tell: names of the labels 0, 1, ..., or ``VALUE=NAME`` or ``#rrggbb=NAME`` each, or one file.

    Args:
        words: those of the option.
        read: gives the bytes of a file that they name, and what to call it.

    Raises:
        ValueError: they are no such words; or BadFile, which is one, if it is the file that is wrong.
    """
    if len(words) == 1 and words[0].lower().endswith(FILES):
        data, file = read(words[0])
        with naming(file, "tells no classes"):
            return _made(_from_file(data, file))
    found = [_WORD.fullmatch(word) for word in words]
    if not any(found):
        return ClassMap(tuple(words))
    if not all(found):
        wrong = next(word for word, match in zip(words, found, strict=True) if match is None)
        raise ValueError(
            f"data.classes must be names alone, or VALUE=NAME or #rrggbb=NAME each, got {wrong!r} among such"
        )
    return _made((key, match[2]) for match in found if match and (key := _key(match[1])) is not None)


def colour(number: int) -> str:
    """A colour as it is written."""
    return f"#{number:06x}"


def _made(pairs: Iterable[tuple[Key, str]]) -> ClassMap:
    names: dict[int, str] = {}
    kinds: set[bool] = set()
    for (is_colour, number), name in pairs:
        told = colour(number) if is_colour else str(number)
        if names.setdefault(number, name) != name:
            raise ValueError(
                f"{told} is called both {names[number]!r} and {name!r}; regions that overlap cannot be learned"
            )
        kinds.add(is_colour)
    if len(kinds) > 1:
        raise ValueError("data.classes must hold numbers or colours, got both")
    if not names:
        raise ValueError("data.classes holds no number and no colour with its name")
    colours = True in kinds
    # numbers in their order, so that 0, 1, ... stay what they are; colours as they were written
    ordered = list(names) if colours else sorted(names)
    classes = tuple(dict.fromkeys(names[number] for number in ordered if names[number] != IGNORE_NAME))
    if not classes:
        raise ValueError(f"data.classes names nothing but {IGNORE_NAME}")
    place = {**{name: index for index, name in enumerate(classes)}, IGNORE_NAME: IGNORED}
    return ClassMap(classes, {number: place[names[number]] for number in ordered}, colours)


def _from_file(data: bytes, file: str) -> Iterator[tuple[Key, str]]:
    text = data.decode("utf-8-sig")
    ending = file.lower()[file.rfind(".") :]
    if ending in (".toml", ".json"):
        table = tomllib.loads(text) if ending == ".toml" else json.loads(text)
        inner = table.get("classes", table.get("labels", table)) if isinstance(table, Mapping) else table
        if not isinstance(inner, Mapping):
            raise ValueError(f"must be a table of names and numbers or colours, got {type(inner).__name__}")
        yield from _from_mapping(inner)
    elif ending == ".txt":
        yield from _from_lines(text)
    else:
        yield from _from_rows(text)


def _from_mapping(table: Mapping[str, object]) -> Iterator[tuple[Key, str]]:
    """Number or colour to name, or the other way round; a name may have a list of them."""
    for left, right in table.items():
        if isinstance(right, str) and (key := _key(left)) is not None and not _HEX.fullmatch(right.strip()):
            yield key, right
            continue
        for value in right if isinstance(right, list) else [right]:
            key = _key(value)
            if key is None:
                raise ValueError(f"{left} = {value!r} is no number and no colour #rrggbb with a name")
            yield key, left


def _from_rows(text: str) -> Iterator[tuple[Key, str]]:
    head = text.partition("\n")[0]
    delimiter = max("\t;,", key=head.count)
    rows = csv.DictReader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    columns = {str(column).strip().lower(): column for column in rows.fieldnames or ()}
    name = next((columns[word] for word in ("name", "class") if word in columns), None)
    value = next(
        (columns[word] for word in ("value", "label", "id", "colour", "color") if word in columns), None
    )
    triple = [columns[word] for word in "rgb"] if set("rgb") <= columns.keys() else []
    if name is None or not (value or triple):
        raise ValueError(
            f"must have the columns name and value, colour, or r, g, b, got {', '.join(columns) or 'none'}"
        )
    for number, row in enumerate(rows, start=2):
        told = " ".join(str(row[column]) for column in triple) if triple else row[value or ""]
        key = _key(told)
        if key is None or not (row[name] or "").strip():
            raise ValueError(f"line {number} tells no number or colour with its name")
        yield key, row[name].strip()


def _from_lines(text: str) -> Iterator[tuple[Key, str]]:
    """``VALUE = NAME`` a line, or CVAT's ``NAME:R,G,B:parts:actions``, or ``R G B NAME``."""
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("# "):
            continue
        if word := _WORD.fullmatch(line):
            told, name = word[1], word[2]
        elif ":" in line:
            name, told = line.split(":")[:2]
        elif of_camvid := re.fullmatch(r"(\d+\s+\d+\s+\d+)\s+(.+)", line):
            told, name = of_camvid[1], of_camvid[2]
        else:
            told = name = ""
        key = _key(told)
        if key is None or not name.strip():
            raise ValueError(f"line {number} is not VALUE = NAME, NAME:R,G,B or R G B NAME")
        yield key, name.strip()


def _key(value: object) -> Key | None:
    if isinstance(value, int) and not isinstance(value, bool):
        return False, value
    text = str(value).strip() if isinstance(value, str) else ""
    if _HEX.fullmatch(text):
        return True, int(text[1:], 16)
    if _NUMBER.fullmatch(text):
        return False, int(text)
    if (triple := _TRIPLE.fullmatch(text)) and max(parts := [int(part) for part in triple.groups()]) < 256:
        return True, parts[0] << 16 | parts[1] << 8 | parts[2]
    return None


def _present(numbers: np.ndarray) -> np.ndarray:
    """The numbers that occur, in their order."""
    if numbers.size and int(numbers.min()) >= 0 and int(numbers.max()) < _LUT:
        # counting is faster than sorting
        return np.flatnonzero(np.bincount(numbers.reshape(-1)))
    return np.unique(numbers)
