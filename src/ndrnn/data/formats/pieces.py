"""Large arrays piece by piece: numbers of another type for all their points would take many times their memory."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

MOST = 2**18
"""Values of a piece, unless a single row has more."""


def pieces(array: np.ndarray) -> Iterator[slice]:
    """The parts of its first axis that are looked at one after the other."""
    rows = max(1, MOST // max(1, array[:1].size))
    for first in range(0, len(array), rows):
        yield slice(first, first + rows)
