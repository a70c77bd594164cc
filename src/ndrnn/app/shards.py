"""Shares of a folder's files for commands that run at the same time, and the names of what each of them writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path, PurePath
from typing import TypeVar

Item = TypeVar("Item")

LINES = "predictions.jsonl"
"""The table of all predictions, a JSON object a line, in the order of the files."""
OBJECTS = "instances.csv"
"""The table of all objects that were counted, in the order of the files."""
FIGURES = "evaluation.json"
"""The figures of an evaluation."""


@dataclass(frozen=True)
class Shard:
    """Every ``count``-th thing, from the one with this number on; the first has the number 0."""

    number: int = 0
    count: int = 1

    @classmethod
    def of(cls, text: str) -> Shard:
        """The share that a text like 3/16 names; all of it without one.

        Raises:
            ValueError: it names none.
        """
        if not text:
            return cls()
        number, _, count = text.partition("/")
        if not re.fullmatch(r"\d{1,9}/\d{1,9}", text) or int(number) >= int(count):
            raise ValueError(
                f"shard must be like 3/16, the first of 16 being 0/16 and the last 15/16, got {text!r}"
            )
        return cls(int(number), int(count))

    def share(self, items: Sequence[Item], unit: Callable[[Item], str] | None = None) -> list[Item]:
        """What belongs to it, in order; items of the same ``unit`` stay together."""
        if unit is None:
            return list(items[self.number :: self.count])
        own = set(list(dict.fromkeys(map(unit, items)))[self.number :: self.count])
        return [item for item in items if unit(item) in own]

    def name(self, file: str) -> str:
        """What its part of a file is called."""
        path = PurePath(file)
        return file if self.count == 1 else f"{path.stem}.{self.number}-of-{self.count}{path.suffix}"

    def __str__(self) -> str:
        return f"{self.number}/{self.count}"


def parts(folder: Path, file: str) -> list[Path]:
    """All parts of a file in a folder, in their order; none if there are none.

    Raises:
        ValueError: some are missing, or they are of several sets.
    """
    path = PurePath(file)
    pattern = re.compile(rf"{re.escape(path.stem)}\.(\d+)-of-(\d+){re.escape(path.suffix)}")
    found: dict[int, dict[int, Path]] = {}
    for place in folder.iterdir():
        if named := pattern.fullmatch(place.name):
            found.setdefault(int(named[2]), {})[int(named[1])] = place
    if len(found) > 1:
        sets = " and ".join(str(count) for count in sorted(found))
        raise ValueError(f"{folder}: holds parts of {file} of {sets} shards; remove those of one set")
    for count, own in found.items():
        check_whole(folder, file, [number for number in range(count) if number not in own], count)
        return [own[number] for number in range(count)]
    return []


def check_whole(folder: Path, file: str, missing: Sequence[int], count: int) -> None:
    """See that no part is missing.

    Raises:
        ValueError: one is.
    """
    if missing:
        shown = ", ".join(f"{number}/{count}" for number in missing[:20])
        more = ", ..." if len(missing) > 20 else ""
        raise ValueError(
            f"{folder}: the parts of {file} are not whole, these shards have not ended: {shown}{more}"
        )


def digest(file: Path) -> str:
    """What tells a file of weights from others."""
    with file.open("rb") as content:
        hashed = sha256()
        while chunk := content.read(1 << 20):
            hashed.update(chunk)
    return hashed.hexdigest()
