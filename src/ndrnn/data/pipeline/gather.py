"""From files to checked samples: what cannot be used is found, named and counted before any training starts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from operator import itemgetter
from typing import Literal, NamedTuple, TypeVar

import numpy as np
import torch

from ..batches import IGNORE, Facts, Purpose
from ..faults import BadFile, Faults, naming
from ..formats.direction import Direction, visual
from ..formats.intensities import FAR, Intensities
from ..readers.source import SPLITS, Raw, Reader
from .samples import Samples, convert, together

Item = TypeVar("Item")
Progress = Callable[[Iterable[Item], str, int], Iterable[Item]]

_HIGHEST = 65535  # of labels: results are written with 16 bits


class Occurrence(NamedTuple):
    """How often a label occurs."""

    points: int
    samples: int


@dataclass(frozen=True)
class Gathered:
    """Checked samples by split, and the facts that hold for all of them."""

    facts: Facts
    splits: dict[str, Samples]
    faults: Faults
    remarks: tuple[str, ...] = ()
    """What should be known of the samples, though all of them can be used."""
    labels: Mapping[int, Occurrence] = field(default_factory=dict)
    """Where samples have a label a point: those that occur, by number; labels that do not count are not among them."""
    characters: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    """Of transcripts: how often each character occurs, and the first sample with it."""

    def samples(self, split: str) -> Samples:
        """The samples of a split, or ``"all"`` of them.

        Raises:
            ValueError: there are none.
        """
        if split == "all" and split not in self.splits:
            return together(list(self.splits.values()))
        if split not in self.splits:
            raise ValueError(f"split must be one of {', '.join(self.splits)} or all, got {split!r}")
        return self.splits[split]


def silent(items: Iterable[Item], what: str, count: int) -> Iterable[Item]:
    """Shows no progress."""
    return items


def gather(
    reader: Reader,
    purpose: Purpose,
    *,
    strict: bool = False,
    seed: int = 0,
    facts: Facts | None = None,
    accept: Callable[[Raw], str | None] | None = None,
    progress: Progress[int] = silent,
) -> Gathered:
    """Find, read and check all samples.

    Args:
        reader: format and place of the data.
        purpose: what the samples are for, which decides what is checked.
        strict: whether the first fault ends the reading.
        seed: of the choice of held-out samples, where the data names none.
        facts: those of a trained model that the samples have to fit; without it they are taken from the data.
        accept: a check of one's own, which says why a sample cannot be used, or None.
        progress: wraps the numbers of the samples as they are read; gets them, a word and their count.

    Raises:
        BadFile: nothing can be used, or with ``strict`` the first file that cannot.
        FileNotFoundError: there is no data.
    """
    source = reader.open()
    faults = Faults(strict)
    for fault in source.faults:
        faults.add(fault)
    checker = _Checker(purpose, reader.intensities, source.classes, facts, getattr(reader, "direction", ""))
    room = int(reader.memory * 2**30)
    kept: dict[int, Raw] = {}
    extents: dict[int, tuple[int, ...]] = {}
    contents: dict[int, frozenset[int | str]] = {}
    for index in progress(range(len(source)), "reading", len(source)):
        try:
            with naming(source.names[index]):
                raw = source.read(index)
                checker.check(raw, source.names[index])
                if accept is not None and (reason := accept(raw)):
                    raise BadFile(source.names[index], reason)
                contents[index] = checker.keep(raw, source.names[index])
        except BadFile as fault:
            faults.add(fault)
            continue
        extents[index] = raw.values.shape[:-1]
        room -= _bytes(raw)
        if room >= 0:
            kept[index] = raw
    if not extents:
        first = f"; the first: {faults.found[0]}" if faults.found else ""
        raise BadFile(reader.path, f"none of {len(source)} samples can be used{first}")
    found = {split: [index for index in extents if source.splits[index] == split] for split in (*SPLITS, "")}
    found["train"] += found.pop("")
    if found["train"] and not found["validation"]:
        found["train"], found["validation"] = _held_out(found["train"], reader.held_out, seed)
    splits = {
        split: Samples(
            source, found[split], [extents[index] for index in found[split]], checker.intensities, kept
        )
        for split in SPLITS
        if found[split]
    }
    trained = frozenset[int | str]().union(*(contents[index] for index in found["train"]))
    remarks = (*source.remarks(), *checker.remarks(trained if found["train"] else None))
    return Gathered(facts or checker.facts(), splits, faults, remarks, checker.labels(), checker.characters())


class _Checker:
    """What all samples must have in common; the first good one sets the number of axes and of channels."""

    def __init__(
        self,
        purpose: Purpose,
        intensities: Intensities,
        classes: tuple[str, ...],
        facts: Facts | None,
        direction: Direction | Literal[""] = "",
    ) -> None:
        self.purpose = purpose
        self.intensities = intensities
        self.classes = facts.classes if facts else classes
        self.known = facts is not None
        self.ndim = facts.ndim if facts else 0
        if facts:
            self.intensities = replace(intensities, channels=facts.channels, learned=facts.reach)
        self.highest = -1
        self.levels: dict[int, str] = {}
        self.reaches: dict[bool, tuple[float, str]] = {}
        self.points: Counter[int] = Counter()
        self.samples: Counter[int] = Counter()
        self.direction = facts.direction if facts else direction
        self._counts: Counter[str] = Counter()
        self._firsts: dict[str, str] = {}
        self._occurring: set[int | str] = set()

    def check(self, raw: Raw, file: str) -> None:
        shape = raw.values.shape
        if len(shape) < 2 or 0 in shape:
            raise BadFile(file, f"a sample must have points and channels, got shape {shape}")
        if self.ndim and len(shape) - 1 != self.ndim:
            raise BadFile(file, f"must have {self.ndim} axes like the first sample, got {len(shape) - 1}")
        intensities = self.intensities
        if not intensities.channels:
            intensities = replace(intensities, channels=shape[-1])
        convert(raw._replace(target=None), file, intensities)
        getattr(self, f"_check_{self.purpose}")(raw, file)
        kind, reach = raw.values.dtype.kind == "f", intensities.reach(raw.values)
        self.reaches[kind] = max(self.reaches.get(kind, (0.0, "")), (reach, file), key=itemgetter(0))
        self.ndim, self.intensities = len(shape) - 1, intensities

    def keep(self, raw: Raw, file: str) -> frozenset[int | str]:
        """Count what a sample has that is used; returns the labels or characters in it."""
        found: frozenset[int | str] = frozenset()
        if self.purpose == "label":
            each = np.bincount(raw.target[raw.target != IGNORE].astype(np.int64, copy=False))
            labels = np.flatnonzero(each).tolist()
            self.points.update(dict(zip(labels, each[labels].tolist(), strict=True)))
            self.samples.update(labels)
            found = frozenset(labels)
        elif self.purpose == "transcribe":
            seen = visual(raw.target, self.direction) if self.direction else raw.target
            self._counts.update(seen)
            for character in seen:
                self._firsts.setdefault(character, file)
            found = frozenset(seen)
        elif self.purpose == "classify":
            found = frozenset((raw.target,))
        self._occurring |= found
        return found

    def facts(self) -> Facts:
        classes = self.classes
        if self.purpose in ("label", "classify") and not classes:
            classes = tuple(str(number) for number in range(self.highest + 1))
        alphabet = "".join(sorted(self._counts))
        # what has more levels, or none, can be told in fewer; the other way round most levels would never occur
        levels = min((count for count in self.levels if count), default=0) if self.levels else Facts.levels
        direction = self.direction if self.purpose == "transcribe" else Facts.direction
        reach = 0.0 if self._differ() else max((reach for reach, _ in self.reaches.values()), default=0.0)
        return Facts(self.ndim, self.intensities.channels, classes, alphabet, levels, direction, reach)

    def _differ(self) -> bool:
        """Whether some samples have the scale of their integers, and others one of their own."""
        return len(self.reaches) > 1 and self.reaches[True][0] > FAR

    def characters(self) -> dict[str, tuple[int, str]]:
        """How often each character of the transcripts occurs, and in which sample first."""
        return {character: (count, self._firsts[character]) for character, count in self._counts.items()}

    def labels(self) -> dict[int, Occurrence]:
        """The labels of points that occur, in their order."""
        return {
            label: Occurrence(points, self.samples[label]) for label, points in sorted(self.points.items())
        }

    def remarks(self, trained: frozenset[int | str] | None) -> tuple[str, ...]:
        """What should be known of all samples together.

        Args:
            trained: labels or characters of those that are learned from; None if there are none.
        """
        if self.known:
            return ()
        told = []
        if self.points and not self.classes and len(self.points) <= self.highest:
            told.append(self._told_gaps())
        if trained is not None and (missing := self._meant() - trained):
            told.append(self._told_unlearned(missing))
        if self._differ():
            (most, floating), (_, whole) = self.reaches[True], self.reaches[False]
            told.append(
                f"samples differ in their scale: integers become 1 at most ({whole}), floating-point values stay as they "
                f"are, up to {most:g} ({floating}); data.scale sample scales each to its range"
            )
        if len(self.levels) > 1:
            found = ", ".join(
                f"{count:,} ({file})" if count else f"a continuum ({file})"
                for count, file in sorted(self.levels.items())
            )
            told.append(
                f"samples differ in their levels, of each kind the first: {found}; all are taken to the fewest"
            )
        return tuple(told)

    def _meant(self) -> set[int | str]:
        """The labels or characters that are to be learned."""
        if self.purpose == "density":
            return set()  # classes that its images are of are nothing to it
        # numbers up to the highest are classes, whether they occur or not; of masks a remark says so already
        unnamed = self.highest + 1 if self.purpose == "classify" else 0
        return {*self._occurring, *range(max(len(self.classes), unnamed))}

    def _told_unlearned(self, missing: set[int | str]) -> str:
        """What is named, or occurs, but not where it could be learned from."""
        if self.purpose == "transcribe":
            one, many = "character", "characters"
            names = [f"{character!r} ({self._firsts[character]})" for character in sorted(map(str, missing))]
        else:
            one, many = "class", "classes"
            names = [
                self.classes[label] if self.classes else str(label) for label in sorted(map(int, missing))
            ]
        what, whom = (one, "it") if len(names) == 1 else (many, "them")
        return (
            f"{len(names):,} {what} cannot be learned, as no training sample has {whom}: {', '.join(names[:8])}"
            f"{', ...' if len(names) > 8 else ''}"
        )

    def _told_gaps(self) -> str:
        """What to type where not all numbers up to the highest label occur."""
        found = sorted(self.points)
        told = ", ".join(map(str, found[:8])) + (", ..." if len(found) > 8 else "")
        words = " ".join(f"{number}=NAME" for number in found[:4]) + (" ..." if len(found) > 4 else "")
        return (
            f"{len(found)} label{'s occur' if len(found) > 1 else ' occurs'} ({told}), and every number up to "
            f"{self.highest} becomes a class, {self.highest + 1} of them; data.classes {words} makes classes of those that "
            "occur, data.binary one of all but 0, and data.ignore leaves labels out"
        )

    def _check_label(self, raw: Raw, file: str) -> None:
        if not isinstance(raw.target, np.ndarray):
            raise BadFile(file, "has no mask; a format with masks is needed for labelling")
        if raw.target.shape != raw.values.shape[:-1]:
            raise BadFile(
                file, f"mask must be {raw.values.shape[:-1]} like its image, got {raw.target.shape}"
            )
        counted = raw.target[raw.target != IGNORE]
        if counted.size:
            self._check_range(int(counted.min()), int(counted.max()), file)

    def _check_classify(self, raw: Raw, file: str) -> None:
        if not isinstance(raw.target, int):
            raise BadFile(file, "has no class; a format with classes is needed for classifying")
        self._check_range(raw.target, raw.target, file)

    def _check_transcribe(self, raw: Raw, file: str) -> None:
        if not isinstance(raw.target, str):
            raise BadFile(file, "has no text; a format with texts is needed for transcribing")

    def _check_density(self, raw: Raw, file: str) -> None:
        self.levels.setdefault(self.intensities.levels(raw.values), file)

    def _check_range(self, low: int, high: int, file: str) -> None:
        count = len(self.classes)
        if low < 0 or (count and high >= count):
            wrong = low if low < 0 else high
            limit = f"[0, {count})" if count else "at or above 0"
            more = f"; data.classes {wrong}=NAME ... names other values" if self.purpose == "label" else ""
            raise BadFile(
                file,
                f"label {wrong} is out of range, it must be {limit}, or be named in data.ignore{more}",
            )
        if high > _HIGHEST:
            raise BadFile(
                file,
                f"label {high} is beyond {_HIGHEST}, and every label up to it would be a class; "
                "data.binary takes numbered objects for one, data.ignore leaves labels out",
            )
        self.highest = max(self.highest, high)


def _bytes(raw: Raw) -> int:
    return raw.values.nbytes + (raw.target.nbytes if isinstance(raw.target, np.ndarray) else 64)


def _held_out(indices: list[int], share: float, seed: int) -> tuple[list[int], list[int]]:
    if len(indices) < 2:
        return indices, []
    count = min(len(indices) - 1, max(1, round(share * len(indices))))
    order = torch.randperm(len(indices), generator=torch.Generator().manual_seed(seed)).tolist()
    chosen = set(order[:count])
    left = [value for position, value in enumerate(indices) if position not in chosen]
    return left, [value for position, value in enumerate(indices) if position in chosen]
