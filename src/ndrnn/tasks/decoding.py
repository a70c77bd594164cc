"""From frame-wise label probabilities to texts: connectionist temporal classification (Graves et al. 2006).

A path names a label or the blank, 0, for each frame; its labelling is what is left when repeats are merged and blanks
removed. Probabilities are natural logarithms.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from torch import Tensor

BLANK = 0

Labelling = tuple[int, ...]
Scorer = Callable[[Labelling], Sequence[float] | np.ndarray]
"""A language model: from a prefix to log-weights (L,) of every label as its next, and, at 0, of its being the end."""


class Decoded(NamedTuple):
    """A labelling without blanks, and its log-probability summed over paths, or of one path for greedy decoding."""

    labels: Labelling
    log_prob: float


def greedy(log_probs: Tensor) -> Decoded:
    """The labelling of the most probable path.

    Args:
        log_probs: (T, L).
    """
    best, path = log_probs.max(-1)
    return Decoded(collapsed(path.tolist()), float(best.sum()))


def beam_search(
    log_probs: Tensor, width: int = 16, *, scorer: Scorer | None = None, count: int = 1
) -> list[Decoded]:
    """The most probable labellings found by a prefix beam search, best first.

    With a beam that holds all prefixes the result is exact; with a narrower one the probabilities are lower bounds.

    Args:
        log_probs: (T, L).
        width: prefixes kept after each frame.
        scorer: log-weights that are added to the log-probability of a labelling, for ranking as well as in the result.
        count: how many labellings to return, at most ``width``.

    Raises:
        ValueError: ``width`` or ``count`` is out of range, or ``log_probs`` is no (T, L) with L > 1.
    """
    if log_probs.dim() != 2 or log_probs.shape[1] < 2:
        raise ValueError(f"log_probs must have shape (T, L) with L > 1, got {tuple(log_probs.shape)}")
    if not 1 <= count <= width:
        raise ValueError(f"count must lie in [1, width] = [1, {width}], got {count}")
    frames = log_probs.detach().cpu().double().numpy()
    weights = _Weights(scorer, frames.shape[1])
    prefixes: list[Labelling] = [()]
    # of all paths that give a prefix: those that end in a blank, and those that end in its last label
    blank, label = np.zeros(1), np.full(1, -np.inf)
    bonus = np.zeros(1)
    for frame in frames:
        total = np.logaddexp(blank, label)
        last = np.array([prefix[-1] if prefix else BLANK for prefix in prefixes])
        rows = np.arange(len(prefixes))
        longer = total[:, None] + frame
        # a repeated label makes a longer labelling only after a blank
        repeats = last != BLANK
        longer[rows[repeats], last[repeats]] = (blank + frame[last])[repeats]
        longer[:, BLANK] = -np.inf
        stay_blank = total + frame[BLANK]
        stay_label = np.where(repeats, label + frame[last], -np.inf)
        # what grows into a prefix that is in the beam already adds to that
        place = {prefix: row for row, prefix in enumerate(prefixes)}
        for row, prefix in enumerate(prefixes):
            parent = place.get(prefix[:-1]) if prefix else None
            if parent is not None:
                stay_label[row] = np.logaddexp(stay_label[row], longer[parent, prefix[-1]])
                longer[parent, prefix[-1]] = -np.inf
        added = bonus[:, None] + weights.table(prefixes)
        ranks = np.concatenate([np.logaddexp(stay_blank, stay_label) + bonus, (longer + added).ravel()])
        chosen = _largest(ranks, width)
        stays, grows = chosen[chosen < len(prefixes)], chosen[chosen >= len(prefixes)] - len(prefixes)
        parents, grown = np.divmod(grows, frames.shape[1])
        new = [(*prefixes[parent], int(last)) for parent, last in zip(parents, grown, strict=True)]
        prefixes = [prefixes[stay] for stay in stays] + new
        blank = np.concatenate([stay_blank[stays], np.full(len(grows), -np.inf)])
        label = np.concatenate([stay_label[stays], longer[parents, grown]])
        bonus = np.concatenate([bonus[stays], added[parents, grown]])
    total = np.logaddexp(blank, label) + bonus + weights.table(prefixes)[:, BLANK]
    return [Decoded(prefixes[index], float(total[index])) for index in _largest(total, count)]


def aligned(log_probs: Tensor, labels: Labelling) -> list[tuple[int, int]]:
    """The frames, first and last + 1, in which each label stands on the most probable path that gives the labelling.

    Args:
        log_probs: (T, L).

    Raises:
        ValueError: no path of T frames gives the labelling.
    """
    frames = log_probs.detach().cpu().double().numpy()
    if not labels:
        return []
    if frames_needed(labels) > len(frames):
        raise ValueError(f"{len(labels)} labels need {frames_needed(labels)} frames, got {len(frames)}")
    states = np.zeros(2 * len(labels) + 1, dtype=int)  # blanks around the labels
    states[1::2] = labels
    # from the label before the last blank a path may leap to the next label, unless both are equal
    leaps = np.zeros(len(states), dtype=bool)
    leaps[3::2] = states[3::2] != states[1:-2:2]
    score = np.full(len(states), -np.inf)
    score[:2] = frames[0, states[:2]]
    came = np.zeros((len(frames), len(states)), dtype=np.int8)
    for time in range(1, len(frames)):
        choices = np.full((3, len(states)), -np.inf)
        choices[0] = score
        choices[1, 1:] = score[:-1]
        choices[2, leaps] = score[np.flatnonzero(leaps) - 2]
        came[time] = choices.argmax(0)
        score = choices.max(0) + frames[time, states]
    state = len(states) - (1 if score[-1] >= score[-2] else 2)
    spans = [(0, 0)] * len(labels)
    for time in range(len(frames) - 1, -1, -1):
        if state % 2:
            spans[state // 2] = time, spans[state // 2][1] or time + 1
        state -= int(came[time, state])
    return spans


def collapsed(path: Sequence[int]) -> Labelling:
    """The labelling of a path: repeats merged, then blanks removed."""
    return tuple(
        label
        for index, label in enumerate(path)
        if label != BLANK and (index == 0 or path[index - 1] != label)
    )


def hits(said: str, true: str) -> list[bool]:
    """Which characters of a text stand in the true one: those that are kept when it is mended by the fewest insertions,
    deletions and replacements of characters."""
    # edits[i][j]: from the first i characters of the one to the first j of the other
    edits = [list(range(len(true) + 1))]
    for row, character in enumerate(said, start=1):
        above, here = edits[-1], [row]
        for column, other in enumerate(true):
            here.append(min(above[column] + (character != other), above[column + 1] + 1, here[-1] + 1))
        edits.append(here)
    found, column = [False] * len(said), len(true)
    for row in range(len(said), 0, -1):
        character, above = said[row - 1], edits[row - 1]
        while column and edits[row][column] == edits[row][column - 1] + 1:
            column -= 1  # of the true text, and missing
        if column and edits[row][column] == above[column - 1] + (character != true[column - 1]):
            found[row - 1] = character == true[column - 1]
            column -= 1
    return found


def frames_needed(labels: Sequence[int] | str) -> int:
    """How many frames a labelling needs at least: one a label, and one blank between equal neighbours."""
    return len(labels) + sum(left == right for left, right in pairwise(labels))


class _Weights:
    """The scorer's weights, asked for once a prefix."""

    def __init__(self, scorer: Scorer | None, count: int) -> None:
        self.scorer = scorer
        self.count = count
        self.known: dict[Labelling, np.ndarray] = {}

    def table(self, prefixes: Sequence[Labelling]) -> np.ndarray:
        """(prefixes, L)."""
        if self.scorer is None:
            return np.zeros((len(prefixes), self.count))
        for prefix in prefixes:
            if prefix not in self.known:
                weights = np.asarray(self.scorer(prefix), dtype=float)
                if weights.shape != (self.count,):
                    raise ValueError(
                        f"scorer must give {self.count} log-weights, got an array of shape {weights.shape}"
                    )
                self.known[prefix] = weights
        return np.stack([self.known[prefix] for prefix in prefixes])


def _largest(values: np.ndarray, count: int) -> np.ndarray:
    """Indices of the largest values that are possible at all, in falling order."""
    order = np.argsort(-values, kind="stable")[:count]
    possible = order[values[order] > -np.inf]
    return possible if len(possible) else order[:1]
