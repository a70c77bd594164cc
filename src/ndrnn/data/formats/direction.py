"""Right-to-left scripts: the order in which letters stand on an image, and that in which they are read.

A network sees a line from left to right, while the text of a file is in the order of reading. The order on the image
follows from the classes of the letters by the Unicode Bidirectional Algorithm (UAX #9, its implicit rules W1 to L4); a line
holds no marks of direction. Marks such as vowel points stay behind their letter, and brackets are those that are seen.
The way back is the same algorithm on what is seen. Where several texts look alike (a number between words of both
directions), it gives one of them.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from functools import cache
from typing import Literal

Direction = Literal["auto", "ltr", "rtl"]
DIRECTIONS = ("auto", "ltr", "rtl")

_STRONG = ("L", "R", "AL")
_NEUTRAL = ("B", "S", "WS", "ON")


def letters(text: str) -> tuple[int, int]:
    """How many letters of a text run from left to right, and from right to left."""
    classes = [unicodedata.bidirectional(character) for character in text]
    return classes.count("L"), classes.count("R") + classes.count("AL")


def base_level(text: str, direction: Direction) -> int:
    """0 where a line as a whole runs from left to right, else 1: as ``direction`` says, or for ``auto`` as most of its
    letters do, which does not depend on their order."""
    if direction != "auto":
        return int(direction == "rtl")
    left, right = letters(text)
    return int(right > left)


def visual(text: str, direction: Direction = "auto") -> str:
    """A text as it stands on the image, from left to right."""
    return _reordered(text, base_level(text, direction))[0]


def logical(seen: str, direction: Direction = "auto") -> tuple[str, tuple[int, ...]]:
    """The text that stands on an image so, and for each of its characters its place in ``seen``."""
    return _reordered(seen, base_level(seen, direction))


def _reordered(text: str, base: int) -> tuple[str, tuple[int, ...]]:
    if not base and not letters(text)[1] and "AN" not in map(unicodedata.bidirectional, text):
        return text, tuple(range(len(text)))
    found = levels(text, base)
    # a letter and its marks keep their order: they are moved as one
    clusters: list[list[int]] = []
    for place, character in enumerate(text):
        if clusters and unicodedata.bidirectional(character) == "NSM":
            clusters[-1].append(place)
        else:
            clusters.append([place])
    height = [found[cluster[0]] for cluster in clusters]
    lowest = min((level for level in height if level % 2), default=0)
    for level in range(max(height, default=0), max(lowest, 1) - 1, -1):
        start = 0
        while start < len(clusters):
            end = start
            while end < len(clusters) and height[end] >= level:
                end += 1
            clusters[start:end] = clusters[start:end][::-1]
            height[start:end] = height[start:end][::-1]
            start = end + 1
    order = tuple(place for cluster in clusters for place in cluster)
    letter = (mirrored(text[place]) if found[place] % 2 else text[place] for place in order)
    return "".join(letter), order


def levels(text: str, base: int) -> list[int]:
    """The embedding level of each character (rules W1 to W7, N0 to N2, I1, I2 and L1), on a line of the level ``base``."""
    given = [unicodedata.bidirectional(character) or "L" for character in text]
    outer = "R" if base else "L"
    kinds = _weak(given, outer)
    _brackets(text, given, kinds, outer)
    _neutral(kinds, outer)
    found = [base + _raised(kind, base) for kind in kinds]
    at_end = True
    for place in range(len(text) - 1, -1, -1):  # L1
        if given[place] in ("B", "S"):
            at_end = True
        elif given[place] not in ("WS", "BN"):
            at_end = False
        if at_end:
            found[place] = base
    return found


def _raised(kind: str, base: int) -> int:
    if base:
        return int(kind != "R")
    return {"L": 0, "R": 1}.get(kind, 2)


def _weak(given: Sequence[str], outer: str) -> list[str]:
    kinds = list(given)
    previous, strong = outer, outer
    for place, kind in enumerate(kinds):
        if kind == "NSM":  # W1
            kinds[place] = kind = previous
        previous = kind
        if kind in _STRONG:
            strong = kind
        elif kind == "EN" and strong == "AL":  # W2
            kinds[place] = "AN"
    kinds = ["R" if kind == "AL" else kind for kind in kinds]  # W3
    for place in range(1, len(kinds) - 1):  # W4
        before, after = kinds[place - 1], kinds[place + 1]
        if before == after and (
            (kinds[place] in ("ES", "CS") and before == "EN") or (kinds[place] == "CS" and before == "AN")
        ):
            kinds[place] = before
    for start, end in _runs(kinds, ("ET", "BN")):  # W5
        around = kinds[max(start - 1, 0) : start] + kinds[end : end + 1]
        if "EN" in around and "ET" in kinds[start:end]:
            kinds[start:end] = ["EN"] * (end - start)
    strong = outer
    for place, kind in enumerate(kinds):
        if kind in ("ES", "CS", "ET", "BN"):  # W6
            kinds[place] = "ON"
        elif kind in ("L", "R"):
            strong = kind
        elif kind == "EN" and strong == "L":  # W7
            kinds[place] = "L"
    return kinds


def _brackets(text: str, given: Sequence[str], kinds: list[str], outer: str) -> None:
    """N0: both brackets of a pair take one direction."""
    open_ones: list[tuple[str, int]] = []
    pairs = []
    for place, character in enumerate(text):
        if kinds[place] != "ON" or not _is_bracket(character):
            continue
        if unicodedata.category(character) == "Ps":
            open_ones.append((mirrored(character), place))
            continue
        for depth in range(len(open_ones) - 1, -1, -1):
            if open_ones[depth][0] == character:
                pairs.append((open_ones[depth][1], place))
                del open_ones[depth:]
                break
    for start, end in sorted(pairs):
        inside = {_as_strong(kind) for kind in kinds[start + 1 : end]} - {""}
        if outer in inside:
            chosen = outer
        elif inside:
            before = next((strong for kind in reversed(kinds[:start]) if (strong := _as_strong(kind))), outer)
            chosen = before if before in inside else outer
        else:
            continue
        for place in (start, end):
            kinds[place] = chosen
            for mark in range(place + 1, len(text)):
                if given[mark] != "NSM":
                    break
                kinds[mark] = chosen


def _neutral(kinds: list[str], outer: str) -> None:
    """N1 and N2: what has no direction takes that around it."""
    for start, end in _runs(kinds, _NEUTRAL):
        before = _as_strong(kinds[start - 1]) if start else outer
        after = _as_strong(kinds[end]) if end < len(kinds) else outer
        kinds[start:end] = [before if before == after else outer] * (end - start)


def _as_strong(kind: str) -> str:
    return {"L": "L", "R": "R", "EN": "R", "AN": "R"}.get(kind, "")


def _runs(kinds: Sequence[str], wanted: Sequence[str]) -> list[tuple[int, int]]:
    runs = []
    start = 0
    while start < len(kinds):
        end = start
        while end < len(kinds) and kinds[end] in wanted:
            end += 1
        if end > start:
            runs.append((start, end))
        start = end + 1
    return runs


def _is_bracket(character: str) -> bool:
    return unicodedata.category(character) in ("Ps", "Pe") and mirrored(character) != character


@cache
def mirrored(character: str) -> str:
    """The character that looks like this one in a mirror, for those that are turned in right-to-left text."""
    if not unicodedata.mirrored(character):
        return character
    name = unicodedata.name(character, "")
    for one, other in (("LEFT", "RIGHT"), ("LESS-THAN", "GREATER-THAN")):
        for old, new in ((one, other), (other, one)):
            if old in name:
                try:
                    return unicodedata.lookup(name.replace(old, new))
                except KeyError:
                    return character
    return character
