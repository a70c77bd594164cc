"""Lines of text put together anew from the words of others (after StackMix, Shonenkov et al. 2021).

A network that learns from few lines learns their words by heart in the order in which they stand. So the lines of a
batch are cut where the network itself sees their spaces, and their words are dealt out again. No line is cut where it
is not sure, so that a network that cannot read yet has its lines as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from .decoding import Labelling, aligned

SURE = 0.5
"""Probability of a space from which on a line is cut there."""


class Piece(NamedTuple):
    """A part of a line between two spaces."""

    start: int
    """Its first point of the last axis."""
    end: int
    """Its last point + 1."""
    labels: Labelling
    """Without the spaces around it."""


def cut(log_probs: Tensor, labels: Labelling, space: int, width: int, frame: int) -> list[Piece]:
    """The parts of a line; it is cut in the middle of the frames of each space that the network is sure of.

    Args:
        log_probs: (T, L) of the line.
        labels: of its text, for which there must be frames enough.
        space: the label of the space.
        width: of the line in points.
        frame: width of a frame in points; the last may stretch beyond the line.
    """
    spans = aligned(log_probs, labels)
    sure = log_probs[:, space].exp() >= SURE
    spaces = [
        place
        for place, label in enumerate(labels)
        if label == space and bool(sure[slice(*spans[place])].any())
    ]
    at = [min(round(sum(spans[place]) / 2 * frame), width) for place in spaces]
    places, points = [-1, *spaces, len(labels)], [0, *at, width]
    pieces = [
        Piece(start, end, labels[first + 1 : last])
        for (first, last), (start, end) in zip(pairwise(places), pairwise(points), strict=True)
    ]
    return [piece for piece in pieces if piece.labels and piece.end > piece.start]


def dealt(
    x: Tensor, sizes: Tensor, lines: Sequence[Sequence[Piece]], space: int
) -> tuple[Tensor, Tensor, list[Labelling]]:
    """The parts of lines in a random order, in as many new lines of about equal width, or fewer; lines of a single part
    stay whole, and come last: beside others there may be no space.

    Random numbers come from torch's global generator.

    Args:
        x: (N, D1, ..., Dn, C), text along the last of the axes.
        sizes: (N, n).
        lines: of each sample its parts, at least one; what is not in one of them is left out.
        space: the label that comes between two parts.

    Returns:
        The new lines (M, D1, ..., Dn', C), 0 beyond their extents, these (M, n), and the labels of each.
    """
    whole = [[(line, pieces[0])] for line, pieces in enumerate(lines) if len(pieces) == 1]
    parts = [(line, piece) for line, pieces in enumerate(lines) if len(pieces) > 1 for piece in pieces]
    order = [parts[place] for place in torch.randperm(len(parts)).tolist()]
    rows: list[list[tuple[int, Piece]]] = [[] for _ in range(len(lines) - len(whole))]
    share = sum(piece.end - piece.start for _, piece in parts) / max(1, len(rows))
    before = 0
    for line, piece in order:
        width = piece.end - piece.start
        rows[min(int((before + width / 2) / share), len(rows) - 1)].append((line, piece))
        before += width
    rows = [row for row in (*rows, *whole) if row]
    made = [torch.cat([x[line, ..., piece.start : piece.end, :] for line, piece in row], -2) for row in rows]
    new = x.new_zeros(len(rows), *x.shape[1:-2], max(line.shape[-2] for line in made), x.shape[-1])
    extents = sizes.new_empty(len(rows), sizes.shape[1])
    labels = []
    for number, (row, line) in enumerate(zip(rows, made, strict=True)):
        new[number, ..., : line.shape[-2], :] = line
        extents[number] = sizes[[place for place, _ in row]].amax(0)
        extents[number, -1] = line.shape[-2]
        labels.append(_joined([piece.labels for _, piece in row], space))
    return new, extents, labels


def _joined(parts: Sequence[Labelling], space: int) -> Labelling:
    labels = list(parts[0])
    for part in parts[1:]:
        labels += [space, *part]
    return tuple(labels)
