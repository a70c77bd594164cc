"""Lines of which only the baseline is known: how high a band along it holds the writing.

Up is to the left of the direction of reading: the baseline's own where it runs up or down the page, and from left to
right for every other, in whichever direction its points are told.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import median

Point = tuple[float, float]

ABOVE, BELOW = 0.75, 0.3
"""What of the distance between two baselines belongs to a line above its own, and below; they overlap a little, as
writing does."""

_NEAR = 2.0  # units; baselines that are nearer than that are one line told twice


def axes(baseline: Sequence[Point]) -> tuple[Point, Point]:
    """The unit vectors (x, y) along a baseline and up from it.

    Raises:
        ValueError: it has no length.
    """
    (left, top), (right, bottom) = baseline[0], baseline[-1]
    across, down = right - left, bottom - top
    length = math.hypot(across, down)
    if not length:
        raise ValueError("has a baseline without length")
    across, down = across / length, down / length
    if across < 0 and abs(across) >= abs(down):
        across, down = -across, -down
    return (across, down), (down, -across)


def distance(baselines: Sequence[Sequence[Point]]) -> float | None:
    """The distance between the lines of a page: the median over all baselines of that to the next one, above or below;
    None where no baseline lies above another."""
    lines = []
    for baseline in baselines:
        try:
            along, up = axes(baseline)
        except ValueError:
            continue
        ends = baseline[0], baseline[-1]
        middle = tuple(sum(end[axis] for end in ends) / 2 for axis in (0, 1))
        lines.append((middle, along, up, math.dist(*ends)))
    found = []
    for middle, along, up, length in lines:
        nearest = math.inf
        for other, _, _, width in lines:
            across, down = other[0] - middle[0], other[1] - middle[1]
            beside = abs(across * along[0] + down * along[1])
            apart = abs(across * up[0] + down * up[1])
            if apart > _NEAR and beside < (length + width) / 2:
                nearest = min(nearest, apart)
        if math.isfinite(nearest):
            found.append(nearest)
    return median(found) if found else None


def band(baseline: Sequence[Point], above: float, below: float) -> list[Point]:
    """The outline of what lies at most so far above and below a baseline."""
    _, (across, down) = axes(baseline)
    high = [(x + above * across, y + above * down) for x, y in baseline]
    low = [(x - below * across, y - below * down) for x, y in baseline]
    return high + low[::-1]
