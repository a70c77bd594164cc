"""Which values occur in a plane of a block. What does not occur takes no share of the probability."""

from __future__ import annotations

import struct
import zlib

import numpy as np
from numpy.typing import NDArray

from .reading import Reader

Values = NDArray[np.uint16]

_RANGE, _STEPS, _LIST = range(3)


def describe(values: Values, bits: int) -> tuple[Values, int, bytes]:
    """The alphabet to code values with, the way in which it is described, and the description."""
    used = np.unique(values)
    first, last = int(used[0]), int(used[-1])
    step = int(np.gcd.reduce(used.astype(np.int64) - first)) or 1
    if len(used) < (last - first) // step + 1:
        listed = _listed(used, bits)
        if 8 * len(listed) < 0.9 * _gain(values, used, step):
            return used, _LIST, struct.pack("<H", len(listed)) + listed
    letters = np.arange(first, last + 1, step).astype(np.uint16)
    if step == 1:
        return letters, _RANGE, struct.pack("<HH", first, last)
    return letters, _STEPS, struct.pack("<HHH", first, step, len(letters) - 1)


def parse(way: int, reader: Reader, bits: int) -> Values:
    """The alphabet from its description.

    Raises:
        ValueError: there is none, or it has values of more bits.
    """
    if way == _RANGE:
        first, last = reader.unpack("<HH")
        values = np.arange(first, last + 1)
    elif way == _STEPS:
        first, step, count = reader.unpack("<HHH")
        values = first + step * np.arange(count + 1) if step else np.array([], np.int64)
    elif way == _LIST:
        (length,) = reader.unpack("<H")
        listed = reader.take(length)
        unpacker, size = zlib.decompressobj(), (1 << bits) + 7 >> 3
        try:
            packed = unpacker.decompress(listed, size + 1)
        except zlib.error as error:
            raise ValueError(f"{reader.what}: the list of values is damaged ({error})") from error
        if len(packed) != size:
            raise ValueError(f"{reader.what}: the list of values must have {size} bytes")
        values = np.flatnonzero(np.unpackbits(np.frombuffer(packed, np.uint8))[: 1 << bits])
    else:
        raise ValueError(f"{reader.what}: an unknown way {way} of listing values")
    if not len(values) or values[-1] >= 1 << bits:
        raise ValueError(f"{reader.what}: the values must lie in [0, {1 << bits})")
    return values.astype(np.uint16)


def _listed(used: Values, bits: int) -> bytes:
    present = np.zeros(1 << bits, np.uint8)
    present[used] = 1
    return zlib.compress(np.packbits(present).tobytes(), 9)


def _gain(values: Values, used: Values, step: int) -> float:
    """Bits that a list saves, roughly: how much wider the bins of the values become."""
    edges = np.concatenate([[0.0], (np.diff(used.astype(float)) - step) / 2, [0.0]])
    width = 1 + (edges[1:] + edges[:-1]) / step
    return float(np.log2(width)[np.searchsorted(used, values.reshape(-1))].sum())
