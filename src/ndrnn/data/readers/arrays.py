"""Samples in NumPy's archives (.npz): stacked in one array, or of any sizes in one flat array."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile, printable
from .labelled import class_map, relabel
from .place import locate
from .source import Raw, Reader, Source

if TYPE_CHECKING:
    import numpy as np

    from ..formats import labels as labelling
    from ..formats import npz
else:
    labelling, npz = Later("ndrnn.data.formats.labels"), Later("ndrnn.data.formats.npz")


@dataclass(frozen=True)
class Arrays(Reader):
    """Samples in an .npz file: ``values`` stacked as (N, D1, ..., Dn), or flat, one after the other, with ``shapes``.

    ``targets`` of the same form are labels of points, of the form (N,) classes of samples; where the file has no such
    array the samples have no targets.
    """

    values: str = "image"
    """Array of the features."""
    targets: str = "label"
    """Array of the labels or classes."""
    shapes: str = "shape"
    """Array (N, n) with the sizes of the samples, where ``values`` is flat."""
    test: str = "test"
    """Array (N,) that is true for the samples of the test."""
    channels_last: bool = False
    """Whether the last axis of stacked values is that of the channels."""
    binary: bool = False
    """Whether all labels but 0 are one."""
    ignore: tuple[int, ...] = ()
    """Labels that do not count."""
    classes: tuple[str, ...] = ()
    """Names of the labels or classes 0, 1, ...; or 255=nucleus ...: names of the values; or a file of such; empty:
    numbers."""

    def open(self) -> Source:
        return _Arrays(self)


class _Arrays(Source):
    def __init__(self, options: Arrays) -> None:
        self.options = options
        path = locate(options.path, options.root)
        file = self._file = printable(str(path))
        wanted = (options.values, options.targets, options.shapes, options.test)
        arrays, present = npz.read(path, wanted)
        if options.values not in arrays:
            raise BadFile(
                file,
                f"must hold an array {options.values!r}, got {', '.join(map(printable, present))}; "
                f"data.values and data.targets name others",
            )
        self._values = arrays[options.values]
        self._targets = arrays.get(options.targets)
        if self._values.dtype.kind not in "uif" or self._values.ndim == 0:
            raise BadFile(file, f"{options.values!r} must hold numbers, got {_form(self._values)}")
        flat = self._values.ndim == 1
        self._shapes = self._sizes(arrays.get(options.shapes)) if flat else None
        count = len(self._values) if self._shapes is None else len(self._shapes)
        if count == 0:
            raise BadFile(file, "holds no samples")
        self._check_targets(count, flat)
        test = arrays.get(options.test)
        if test is not None and (test.shape != (count,) or test.dtype.kind not in "biu"):
            raise BadFile(
                file, f"{options.test!r} must be truth values of shape ({count},), got {_form(test)}"
            )
        self.splits = ["test" if test is not None and test[index] else "" for index in range(count)]
        self.names = [f"{file}[{index}]" for index in range(count)]
        self._map = class_map(options.classes, options.binary, options.ignore, None, options.root)
        self.classes = self._map.names

    def read(self, index: int) -> Raw:
        values = self._take(self._values, index)
        if not (self.options.channels_last and self._shapes is None):
            values = values[..., None]
        # what the channels are is not known
        if self._targets is None:
            return Raw(values, colour=False)
        name = self.names[index]
        if not self._dense:
            number = labelling.as_labels(self._targets[index : index + 1], name)
            return Raw(values, int(self._map.apply(number, name)[0]), colour=False)
        labels = labelling.as_labels(self._take(self._targets, index), name)
        found = relabel(labels, self.options.binary, self.options.ignore, self._map, name)
        return Raw(values, found, colour=False)

    def _sizes(self, shapes: np.ndarray | None) -> list[tuple[int, ...]]:
        """The sizes of the samples that follow each other in flat values; fills ``_starts``."""
        if shapes is None or shapes.ndim != 2 or shapes.dtype.kind not in "iu" or not shapes.shape[1]:
            raise BadFile(self._file, f"flat values need their sizes (N, n) in {self.options.shapes!r}")
        sizes = [tuple(row) for row in shapes.tolist()]
        # with Python's integers, which do not overflow
        self._starts = [0, *itertools.accumulate(map(math.prod, sizes))]
        there = len(self._values)
        if self._starts[-1] != there or any(extent < 1 for row in sizes for extent in row):
            raise BadFile(self._file, f"its sizes ask for {self._starts[-1]} values, {there} are there")
        return sizes

    def _check_targets(self, count: int, flat: bool) -> None:
        points = self._values.shape[:-1] if self.options.channels_last and not flat else self._values.shape
        self._dense = self._targets is not None and self._targets.shape == points
        if self._targets is None:
            return
        if self._targets.shape not in ((count,), points) or self._targets.dtype.kind not in "biuf":
            raise BadFile(
                self._file,
                f"{self.options.targets!r} must have shape {points} or ({count},) and hold numbers, "
                f"got {_form(self._targets)}",
            )

    def _take(self, array: np.ndarray, index: int) -> np.ndarray:
        if self._shapes is None:
            return array[index]
        return array[self._starts[index] : self._starts[index + 1]].reshape(self._shapes[index])


def _form(array: np.ndarray) -> str:
    return f"{array.dtype} of shape {array.shape}"
