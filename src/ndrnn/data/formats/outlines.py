"""Outlines as files of pages hold them: in steps of a pixel or of a hundredth, and within what they are part of."""

from __future__ import annotations

from collections.abc import Iterable
from math import ceil, floor

from ..reading import Outline
from .pagelines import rectangle

_NEAR = 1e-6  # steps; what is no nearer to the next one than this, rounding has moved


def box_of(outline: Outline) -> tuple[float, float, float, float]:
    """Left, top, right and bottom."""
    across, down = zip(*outline, strict=True)
    return min(across), min(down), max(across), max(down)


def around(outlines: Iterable[Outline]) -> Outline:
    """The corners of the box around outlines."""
    return rectangle(*box_of([corner for outline in outlines for corner in outline]))


def fitted(outline: Outline, bounds: Outline, steps: int = 1) -> Outline:
    """An outline in steps of a pixel, or as many of them in one, as far as it lies within the box around ``bounds``.

    The box is made smaller to full steps, so that the numbers that are written lie within those that stand there. Without
    ``bounds``, as those of a damaged page may be, the outline is rounded alone.
    """
    if not bounds:
        return [(round(x * steps) / steps, round(y * steps) / steps) for x, y in outline]
    left, top, right, bottom = (value * steps for value in box_of(bounds))
    low = ceil(left - _NEAR), ceil(top - _NEAR)
    high = max(low[0], floor(right + _NEAR)), max(low[1], floor(bottom + _NEAR))
    found = []
    for corner in outline:
        x, y = (min(max(round(corner[axis] * steps), low[axis]), high[axis]) for axis in (0, 1))
        found.append((x / steps, y / steps))
    return found


def page_points(outline: Outline) -> str:
    """Corners as PAGE writes them: whole numbers that are not negative."""
    return " ".join(f"{max(round(x), 0)},{max(round(y), 0)}" for x, y in outline)


def alto_box(outline: Outline) -> dict[str, str]:
    """The attributes of ALTO for the box around an outline."""
    left, top, right, bottom = box_of(outline)
    values = {"HPOS": left, "VPOS": top, "WIDTH": right - left, "HEIGHT": bottom - top}
    return {name: f"{max(value, 0):.2f}".rstrip("0").rstrip(".") for name, value in values.items()}
