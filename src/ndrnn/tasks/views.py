"""Lines looked at in several ways, of which the reading counts that the network is surest of (test-time augmentation).

Hands differ in how wide, how slanted and how high they write, and a network that learned from few of them reads others
best when they look like those. Which way of looking makes them so is not known beforehand, but the network tells it: it
is surer of what it reads there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeVar

import torch
from torch import Tensor

from . import warping

Reading = TypeVar("Reading")


class View(NamedTuple):
    """A way of looking at a line; by default as it is."""

    width: float = 1.0
    """By what it grows along its last axis."""
    slant: float = 0.0
    """Points by which each row moves against the one below it."""
    height: float = 1.0
    """By what its writing grows within its height, which stays."""


STAGES: tuple[tuple[str, tuple[float, ...]], ...] = (
    ("width", (0.8, 0.9, 1.1, 1.2, 1.3, 1.45)),
    ("slant", (-0.15, 0.15)),
    ("height", (0.88, 1.12)),
)
"""What is tried one after the other, each from the best way so far: ten readings beside that of the line as it is."""


def check_views(wanted: bool, ndim: int) -> None:
    """See that samples of so many axes can be looked at in several ways, if they are to be.

    Raises:
        ValueError: they cannot.
    """
    if wanted and ndim != 2:
        raise ValueError(f"views must be false for samples of {ndim} axes: images alone are slanted")


def seen(x: Tensor, view: View) -> Tensor:
    """A line (H, W, C) looked at in a way (H, W', C); points that come from outside it are 0, as in training."""
    if view == View():
        return x
    height, width = x.shape[:2]
    points = warping.positions((height, max(1, round(view.width * width))), x)
    middle = (height - 1) / 2
    below = points[..., 0] - middle
    # the edges of the first and the last column stay where they are
    along = (points[..., 1] + 0.5) * (width / points.shape[1]) - 0.5 + view.slant * below
    source = torch.stack([below / view.height + middle, along], -1)
    return warping.resample(x[None], source[None])[0]


def surest(
    first: Sequence[Reading],
    read: Callable[[Sequence[View]], Sequence[Reading]],
    sureness: Callable[[Reading], float],
) -> list[tuple[View, Reading]]:
    """Of each line the reading that the network is surest of, and the way of looking that gave it.

    Args:
        first: the readings of the lines as they are.
        read: reads all lines, each in the way given.
        sureness: of a reading; one that is NaN is not taken.
    """
    best = [(sureness(reading), View(), reading) for reading in first]
    for name, values in STAGES:
        bases = [view for _, view, _ in best]
        for value in values:
            views = [base._replace(**{name: value}) for base in bases]
            for line, reading in enumerate(read(views)):
                sure = sureness(reading)
                if sure > best[line][0]:
                    best[line] = sure, views[line], reading
    return [(view, reading) for _, view, reading in best]
