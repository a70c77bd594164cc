"""What was read on an image: a text with the confidence in its parts, and where about its words are."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from math import exp, fsum, log
from typing import NamedTuple

Outline = Sequence[tuple[float, float]]


class Word(NamedTuple):
    """A word of a line."""

    text: str
    confidence: float
    """The geometric mean of the confidences of its characters."""
    start: float
    """Where it begins, as a share of the image's width from the left; the first frame of its characters tells."""
    end: float


class ReadLine(NamedTuple):
    """A line of a page that was read."""

    text: str
    confidence: float
    words: tuple[tuple[Word, Outline], ...]
    """Its words, in the order of reading, each with the corners (x, y) of about where it is, in pixels."""
    outline: Outline = ()
    """The line's own corners."""
    name: str = ""
    """Its id in the description of the page, or a number where that has none."""
    block: int = -1
    """The number of the block of text that it belongs to; -1: none."""


class Block(NamedTuple):
    """A block of text on a page."""

    name: str = ""
    """Its id in the description of the page, if it has one."""
    outline: Outline = ()
    """Its corners (x, y), where they are told."""


def mean_confidence(confidences: Sequence[float]) -> float:
    """The geometric mean; 0 as soon as one of them is."""
    if min(confidences) <= 0:
        return 0.0
    return exp(fsum(map(log, confidences)) / len(confidences))


def words_of(
    text: str, confidences: Sequence[float], places: Sequence[tuple[float, float]]
) -> tuple[Word, ...]:
    """The words of a text, in its order.

    Args:
        text: in the order of reading.
        confidences: of each of its characters.
        places: where each of its characters was seen, begin and end as shares of the width. Words meet in the middle
            between what was seen of them, and reach to the ends of the line.
    """
    members: list[list[int]] = [[]]
    for place, character in enumerate(text):
        if character.isspace():
            members.append([])
        else:
            members[-1].append(place)
    members = [word for word in members if word]
    seen = [
        (min(places[place][0] for place in word), max(places[place][1] for place in word)) for word in members
    ]
    order = sorted(range(len(members)), key=lambda word: sum(seen[word]))
    starts, ends = [0.0] * len(members), [1.0] * len(members)
    for left, right in pairwise(order):
        middle = (seen[left][1] + seen[right][0]) / 2
        ends[left] = starts[right] = min(max(middle, 0.0), 1.0)
    return tuple(
        Word(
            "".join(text[place] for place in word),
            mean_confidence([confidences[place] for place in word]),
            start,
            max(start, end),
        )
        for word, start, end in zip(members, starts, ends, strict=True)
    )
