"""Points of a block into one point and back, see :mod:`ndrnn.nn.rearranging`."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from .nodes import Nodes, Value, size_of


def blocks(g: Nodes, x: Value, block: Sequence[int], fill: np.ndarray) -> Value:
    """(N, D1, ..., Dn, C) to (N, ceil(D1/b1), ..., ceil(Dn/bn), b1*...*bn*C), with ``fill`` beyond the ends."""
    n, features, step = len(block), size_of(x, -1), np.array(block)
    batch, lattice = g("Shape", x, start=0, end=1), g("Shape", x, start=1, end=n + 1)
    counts = g("Div", g("Add", lattice, step - 1), step)
    missing = g("Sub", g("Mul", counts, step), lattice)
    x = g("Pad", x, g.joined(g.value(np.zeros(n + 3, np.int64)), missing, 0), fill)
    pairs = g("Reshape", g("Transpose", _rows(g, counts, g.value(step)), perm=[1, 0]), -1)
    x = g("Reshape", x, g.joined(batch, pairs, features))
    outer, inner = range(1, 2 * n, 2), range(2, 2 * n + 1, 2)
    x = g("Transpose", x, perm=[0, *outer, *inner, 2 * n + 1])
    return g("Reshape", x, g.joined(batch, counts, prod(block) * features))


def unblocks(g: Nodes, x: Value, block: Sequence[int], lattice: Sequence[Value | int]) -> Value:
    """(N, d1, ..., dn, b1*...*bn*C) to (N, D1, ..., Dn, C)."""
    n, features = len(block), size_of(x, -1) // prod(block)
    batch, counts = g("Shape", x, start=0, end=1), g("Shape", x, start=1, end=n + 1)
    x = g("Reshape", x, g.joined(batch, counts, g.value(list(block)), features))
    pairs = [axis for k in range(n) for axis in (1 + k, 1 + n + k)]
    x = g("Transpose", x, perm=[0, *pairs, 2 * n + 1])
    x = g("Reshape", x, g.joined(batch, g("Mul", counts, list(block)), features))
    ends = g.joined(*(size if isinstance(size, int) else g("Reshape", size, [1]) for size in lattice))
    return g("Slice", x, [0] * n, ends, list(range(1, n + 1)))


def _rows(g: Nodes, *vectors: Value) -> Value:
    return g.joined(*(g("Unsqueeze", vector, 0) for vector in vectors))
