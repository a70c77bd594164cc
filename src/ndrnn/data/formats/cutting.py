"""Cutting lines out of the image of a page: by an outline, or by how far the writing reaches from a baseline."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw

from ..faults import BadFile
from . import baselines
from .opening import upright
from .outlines import box_of
from .pagelines import Point

_FAR = 1e7  # pixels
_REACH = 2000  # pixels; no writing is higher above its baseline

Box = tuple[int, int, int, int]


class Place(NamedTuple):
    """Where a line lies on its image, in pixels."""

    outline: Sequence[Point]
    box: Box
    """Left, top, right and bottom of what is cut out."""
    corners: np.ndarray
    """Where the corners of the upright line are: (2, 2, 2), by row, by column, x and y."""

    def turned(self, turn: int) -> Place:
        """The place of the line once it was turned, by EXIF's number."""
        return self if turn == 1 else self._replace(corners=upright(self.corners, turn))

    def part(self, start: float, end: float) -> list[Point]:
        """The corners of what lies between two shares of the upright line's width, clockwise from the upper left; within the
        box of the outline, to which the pixels on its right and lower edge belong."""
        left, top, right, bottom = box_of(self.outline)
        low = max(left, self.box[0]), max(top, self.box[1])
        high = min(right, self.box[2]), min(bottom, self.box[3])
        upper, lower = (
            [
                tuple(np.clip((1 - share) * row[0] + share * row[1], low, high).tolist())
                for share in (start, end)
            ]
            for row in self.corners
        )
        return [*upper, *lower[::-1]]


def place_of(pixels: np.ndarray, outline: Sequence[Point], turn: int, file: str) -> Place:
    """The place of a line on an image (H, W, C), which ``turn``, EXIF's number, makes upright.

    Raises:
        BadFile: the outline encloses nothing of the image.
    """
    box = bounds(pixels, outline, file)
    corners = np.stack(np.meshgrid(box[::2], box[1::2]), -1).astype(float)
    return Place(outline, box, upright(corners, turn))


def whole(shape: Sequence[int]) -> Place:
    """An image (H, W, ...) that is one line."""
    box = (0, 0, shape[1], shape[0])
    corners = np.stack(np.meshgrid(box[::2], box[1::2]), -1).astype(float)
    return Place([tuple(corner) for corner in corners[(0, 0, 1, 1), (0, 1, 1, 0)].tolist()], box, corners)


def bounds(page: np.ndarray, outline: Sequence[Point], file: str) -> Box:
    """The box (left, top, right, bottom) of an outline of (x, y), as far as it lies on the page (H, W, C).

    Raises:
        BadFile: that is nothing.
    """
    if not all(abs(value) < _FAR for point in outline for value in point):
        raise BadFile(file, "its outline lies far from any page")
    columns, rows = zip(*outline, strict=True)
    left, top = max(0, int(min(columns))), max(0, int(min(rows)))
    right, bottom = min(page.shape[1], int(max(columns)) + 1), min(page.shape[0], int(max(rows)) + 1)
    if right - left < 2 or bottom - top < 2:
        raise BadFile(
            file, f"its outline encloses nothing of the page of {page.shape[0]} x {page.shape[1]} pixels"
        )
    return left, top, right, bottom


def cut_out(page: np.ndarray, outline: Sequence[Point], file: str, box: Box | None = None) -> np.ndarray:
    """The part of a page (H, W, C) within an outline of (x, y), as far as it lies on the page.

    Raises:
        BadFile: that is nothing.
    """
    left, top, right, bottom = box or bounds(page, outline, file)
    part = page[top:bottom, left:right].copy()
    inside = Image.new("1", (right - left, bottom - top))
    ImageDraw.Draw(inside).polygon([(x - left, y - top) for x, y in outline], fill=1, outline=1)
    mask = np.asarray(inside)
    if mask.any() and not mask.all():
        part[~mask] = np.median(part[mask], axis=0).astype(part.dtype)
    return part


def ink_around(page: np.ndarray, baseline: Sequence[Point], file: str) -> tuple[float, float]:
    """How far the writing on a baseline reaches above and below it, in pixels of the page (H, W, C).

    It is what holds all but a hundredth at either end of what differs from the paper, within half the baseline's length.

    Raises:
        BadFile: there is nothing to be seen.
    """
    along, up = baselines.axes(baseline)
    height, width = page.shape[:2]
    if not all(abs(value) < _FAR for point in baseline for value in point):
        raise BadFile(file, "its baseline lies far from any page")
    points = np.array(sorted(baseline, key=lambda point: point[0] * along[0] + point[1] * along[1]))
    lengths = np.concatenate([[0], np.cumsum(np.hypot(*np.diff(points, axis=0).T))])
    steps = np.linspace(0, lengths[-1], min(int(lengths[-1]) + 2, 512))
    middle = np.stack([np.interp(steps, lengths, points[:, axis]) for axis in (0, 1)])
    reach = min(int(lengths[-1] / 2) + 1, max(height, width), _REACH)
    offsets = np.arange(-reach, reach + 1)
    columns, rows = (np.rint(middle[axis][:, None] + offsets * up[axis]).astype(int) for axis in (0, 1))
    on_page = (columns >= 0) & (columns < width) & (rows >= 0) & (rows < height)
    grey = page.mean(-1, dtype=np.float32)
    seen = np.where(on_page, grey[rows.clip(0, height - 1), columns.clip(0, width - 1)], np.nan)
    if not on_page.any():
        raise BadFile(file, "its baseline lies beside the page")
    offsets, seen = offsets[on_page.any(0)], seen[:, on_page.any(0)]
    ink = np.nanmean(np.abs(seen - np.nanmedian(seen)), axis=0)
    paper = np.quantile(ink, 0.25)
    ink = np.maximum(ink - paper - 0.05 * (ink.max() - paper), 0)
    if not ink.any():
        raise BadFile(
            file, "there is no writing on its baseline, and no other line that would tell its height"
        )
    share = np.cumsum(ink) / ink.sum()
    low, high = np.searchsorted(share, (0.01, 0.99))
    return max(2.0, offsets[high] + 1.0), max(1.0, 1.0 - offsets[low])
