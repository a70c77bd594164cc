"""Samples as differences along axes and zlib: what repeats or rises evenly, of which no model of neighbours learns."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from math import prod

import numpy as np

from .planes import Samples
from .reading import Reader


def deflated(samples: Samples, bits: int, room: int) -> bytes | None:
    """The bytes of samples (\\*lattice, C): of every channel the axes along which its values are less their
    predecessors, and all differences by zlib; None if there is no prospect of fewer than ``room``.

    A fast try of each set of axes decides which is taken, and whether it is worth a thorough one.
    """
    axes, channels, kind = samples.ndim - 1, samples.shape[-1], _kind(bits)
    chosen, parts, quick = bytearray(), [], 0
    for channel in np.moveaxis(samples, -1, 0):
        tries = [
            _differences(channel, chosen_axes, bits).astype(kind).tobytes()
            for chosen_axes in range(1 << axes)
        ]
        lengths = [len(zlib.compress(each, 1)) for each in tries]
        best = int(np.argmin(lengths))
        chosen.append(best)
        parts.append(tries[best])
        quick += min(lengths)
        if quick * channels > _WORTH * room * len(parts):  # the other channels are taken to be alike
            return None
    result = bytes(chosen) + zlib.compress(b"".join(parts), 9)
    return result if len(result) < room else None


def inflated(reader: Reader, shape: Sequence[int], bits: int) -> Samples:
    """The samples (\\*lattice, C) of a reader's whole content.

    Raises:
        ValueError: the bytes are damaged, or more or fewer than the samples have.
    """
    *lattice, channels = shape
    axes, kind = len(lattice), _kind(bits)
    chosen = reader.take(channels)
    if any(one >> axes for one in chosen):
        raise ValueError(f"{reader.what}: differences along axes that are not there")
    size = prod(shape) * kind.itemsize
    unpacker = zlib.decompressobj()
    try:
        data = unpacker.decompress(reader.take(reader.left), size + 1)
    except zlib.error as error:
        raise ValueError(f"{reader.what}: damaged ({error})") from error
    if len(data) != size or not unpacker.eof or unpacker.unused_data:
        raise ValueError(f"{reader.what}: must unpack to {size} bytes, got {len(data)} or more")
    planes = np.frombuffer(data, kind).reshape(channels, *lattice)
    return np.stack([_sums(plane, one, bits) for plane, one in zip(planes, chosen, strict=True)], -1)


_WORTH = 1.5  # a thorough try is seldom shorter than a fast one by more


def _kind(bits: int) -> np.dtype[np.unsignedinteger]:
    return np.dtype(np.uint8 if bits <= 8 else "<u2")


def _differences(values: Samples, chosen: int, bits: int) -> Samples:
    """Values less those before them along all axes of a set, whose bit k is axis k, modulo 2^bits."""
    for axis in range(values.ndim):
        if chosen >> axis & 1:
            values = np.diff(values, axis=axis, prepend=values.dtype.type(0)) & values.dtype.type(
                (1 << bits) - 1
            )
    return values


def _sums(differences: Samples, chosen: int, bits: int) -> Samples:
    """What :func:`_differences` was made of."""
    values = differences.astype(np.uint16)
    for axis in range(values.ndim):
        if chosen >> axis & 1:
            values = np.cumsum(values, axis=axis, dtype=np.uint16) & np.uint16((1 << bits) - 1)
    return values
