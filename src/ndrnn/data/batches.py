"""What a task consumes: batches of samples, and the facts that hold for all of them.

In all batches ``x`` is (N, D1, ..., Dn, C) float32 and 0 beyond ``sizes`` (N, n) int64; ``sizes`` is None where every
sample fills the lattice. ``names`` tells where each sample comes from, or is empty.
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from torch import Tensor

Purpose = Literal["label", "classify", "transcribe", "density"]
"""The library's tasks, which decide what a batch is."""

IGNORE = -100
"""The label of points that neither a loss nor an error counts."""


@dataclass(frozen=True)
class Facts:
    """What a task has to know of its data before it sees any; saved with the model."""

    ndim: int = 2
    """Axes of the lattice."""
    channels: int = 1
    """Features of a point."""
    classes: tuple[str, ...] = ()
    """Names of the labels or classes, in the order of their numbers; empty for other tasks."""
    alphabet: str = ""
    """The characters of all transcripts as they stand on the images, each once; empty for other tasks."""
    levels: int = 256
    """Values that a feature can have, for densities: 256 of 8 bits, 65536 of 16; 0: it is continuous."""
    direction: Literal["", "auto", "ltr", "rtl"] = ""
    """From where to where lines of text run: auto, as most letters of each do; empty: texts are taken as they stand."""
    reach: float = 0.0
    """How far from 0 features lay whose scale is that of their type: 1 of integers, more of floating-point values; 0: it is
    not known, or is that of each sample."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "classes", tuple(self.classes))  # JSON has only lists
        for name in ("ndim", "channels"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be an int of at least 1, got {value!r}")
        if not isinstance(self.levels, int) or self.levels < 0 or self.levels == 1:
            raise ValueError(f"levels must be 0 or an int of at least 2, got {self.levels!r}")
        if len(set(self.alphabet)) != len(self.alphabet):
            raise ValueError(f"alphabet must name each character once, got {self.alphabet!r}")
        if not 0 <= self.reach < inf:
            raise ValueError(f"reach must not be negative, and finite, got {self.reach!r}")
        if self.direction not in ("", "auto", "ltr", "rtl"):
            raise ValueError(f"direction must be auto, ltr, rtl or nothing, got {self.direction!r}")
        if len(set(self.classes)) != len(self.classes):
            raise ValueError(f"classes must have different names, got {self.classes!r}")


class LabelBatch(NamedTuple):
    """Samples and what each of their points should be called: ``target`` (N, D1, ..., Dn) int64, a label or IGNORE."""

    x: Tensor
    target: Tensor
    sizes: Tensor | None = None
    names: tuple[str, ...] = ()


class ClassifyBatch(NamedTuple):
    """Samples and the class of each: ``target`` (N,) int64."""

    x: Tensor
    target: Tensor
    sizes: Tensor | None = None
    names: tuple[str, ...] = ()


class TranscribeBatch(NamedTuple):
    """Samples and the text of each, read along the last axis."""

    x: Tensor
    target: tuple[str, ...]
    sizes: Tensor | None = None
    names: tuple[str, ...] = ()


class DensityBatch(NamedTuple):
    """Images (N, H, W, C) alone, or signals or volumes."""

    x: Tensor
    sizes: Tensor | None = None
    names: tuple[str, ...] = ()
