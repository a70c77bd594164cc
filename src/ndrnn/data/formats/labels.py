"""Labels from stored numbers, exactly or not at all."""

from __future__ import annotations

import numpy as np

from ..faults import BadFile

_NEAR = 1e-3  # labels that a file scales come out beside the integers


def as_labels(array: np.ndarray, file: str) -> np.ndarray:
    """Labels (any shape) int64 from integers, or from floating-point values that are integers but for rounding.

    Raises:
        BadFile: a value is no integer, or one beyond 64 bits; it is named. Or they are no real numbers.
    """
    if array.dtype.kind in "bi":
        return array.astype(np.int64)
    if array.dtype.kind == "u":
        if array.size and int(array.max()) > np.iinfo(np.int64).max:
            raise BadFile(file, f"label {int(array.max())} is too large")
        return array.astype(np.int64)
    if array.dtype.kind != "f":
        raise BadFile(file, f"labels must be integers, got {array.dtype}")
    with np.errstate(invalid="ignore"):
        nearest = np.rint(array)
        # a floating-point number beyond these stands for many integers
        wrong = ~(
            (np.abs(array - nearest) <= _NEAR) & (np.abs(array) <= 2 ** (np.finfo(array.dtype).nmant + 1))
        )
    if wrong.any():
        raise BadFile(file, f"labels must be integers, got {float(array[wrong].flat[0])!r}")
    return nearest.astype(np.int64)
