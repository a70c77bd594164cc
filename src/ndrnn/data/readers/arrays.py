"""Samples in NumPy's archives (.npz): stacked in one array, or of any sizes in one flat array."""

from __future__ import annotations

import zipfile
from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import BadFile
from .pairs import relabel
from .place import locate
from .source import Raw, Reader, Source

if TYPE_CHECKING:
    import numpy as np
else:
    np = Later("numpy")


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
    """Names of the labels or classes 0, 1, ...; empty: numbers."""

    def open(self) -> Source:
        return _Arrays(self)


class _Arrays(Source):
    def __init__(self, options: Arrays) -> None:
        self.options = options
        path = locate(options.path, options.root)
        wanted = [options.values, options.targets, options.shapes, options.test]
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in wanted if name in archive}
                present = list(archive)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile, AttributeError) as error:
            raise BadFile(str(path), f"not a whole .npz file of plain arrays ({error})") from error
        if options.values not in arrays:
            raise BadFile(str(path), f"must hold an array {options.values!r}, got {', '.join(present)}")
        self._values = arrays[options.values]
        self._targets = arrays.get(options.targets)
        if self._values.dtype.kind not in "uif":
            raise BadFile(str(path), f"{options.values!r} must hold numbers, got {self._values.dtype}")
        shapes = arrays.get(options.shapes)
        flat = self._values.ndim == 1
        if flat and (shapes is None or shapes.ndim != 2 or shapes.dtype.kind not in "iu"):
            raise BadFile(str(path), f"flat values need their sizes (N, n) in {options.shapes!r}")
        self._shapes = shapes.astype(np.int64) if flat and shapes is not None else None
        count = len(self._values) if self._shapes is None else len(self._shapes)
        if count == 0:
            raise BadFile(str(path), "holds no samples")
        if self._shapes is not None:
            sizes = self._shapes.prod(1)
            self._starts = np.concatenate([[0], np.cumsum(sizes)])
            if (self._shapes < 1).any() or self._starts[-1] != len(self._values):
                raise BadFile(
                    str(path), f"its sizes ask for {self._starts[-1]} values, {len(self._values)} are there"
                )
        points = self._values.shape[:-1] if options.channels_last and not flat else self._values.shape
        if self._targets is not None and self._targets.shape not in ((count,), points):
            raise BadFile(
                str(path),
                f"{options.targets!r} must have shape {points} or ({count},), got {self._targets.shape}",
            )
        self._dense = self._targets is not None and self._targets.shape == points
        test = arrays.get(options.test)
        if test is not None and test.shape != (count,):
            raise BadFile(str(path), f"{options.test!r} must have shape ({count},), got {test.shape}")
        self.splits = ["test" if test is not None and test[index] else "" for index in range(count)]
        self.names = [f"{path}[{index}]" for index in range(count)]
        self.classes = options.classes

    def read(self, index: int) -> Raw:
        values = self._take(self._values, index)
        if not (self.options.channels_last and self._shapes is None):
            values = values[..., None]
        if self._targets is None:
            return Raw(values)
        if not self._dense:
            return Raw(values, int(self._targets[index]))
        labels = self._take(self._targets, index).astype(np.int64)
        return Raw(values, relabel(labels, self.options.binary, self.options.ignore))

    def _take(self, array: np.ndarray, index: int) -> np.ndarray:
        if self._shapes is None:
            return array[index]
        return array[self._starts[index] : self._starts[index + 1]].reshape(self._shapes[index])
