"""Arrays of NumPy (.npy) as samples, and back: signals, and lattices without a format of their own."""

from __future__ import annotations

import io
from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np
from numpy.lib import format as npy

from ...data.faults import BadFile, naming
from ...data.formats.limits import check_size
from .kinds import ARRAY, Samples, signed, unsigned

SUFFIX = ".npy"


def read_array(data: bytes, where: str) -> Samples:
    """The numbers of a file; a last axis of three or four that is at most 4 long is taken for channels.

    Raises:
        BadFile: the file is damaged or goes on after its numbers, or these are not integers of at most 16 bits.
    """
    shape, order, kind, start = _layout(data, where)
    if kind.kind not in "iub" or kind.itemsize > 2:
        raise BadFile(where, f"numbers must be integers of at most 16 bits, got {kind}")
    end = start + prod(shape) * kind.itemsize
    check_size(end, where)
    if len(data) != end:
        raise BadFile(where, f"must have {end:,} bytes by its header, got {len(data):,}")
    values, bits = unsigned(np.frombuffer(data, kind, offset=start).reshape(shape, order=order))
    axes = values.ndim - (values.ndim > 2 and values.shape[-1] <= 4)
    return Samples(values, bits, False, {ARRAY: data[:start]}, axes)


def write_array(samples: Samples) -> bytes:
    """The file; without the head of one, the samples as they are."""
    if (head := samples.chunks.get(ARRAY)) is None:
        to = io.BytesIO()
        np.save(to, samples.values, allow_pickle=False)
        return to.getvalue()
    _, order, kind, _ = _layout(head, "array")
    return head + signed(samples.values, samples.bits, kind).tobytes(order=order)


def cut_array(head: bytes, shape: Sequence[int]) -> bytes:
    """The head of an array of another shape."""
    _, order, kind, _ = _layout(head, "array")
    to = io.BytesIO()
    npy.write_array_header_1_0(
        to, {"descr": npy.dtype_to_descr(kind), "fortran_order": order == "F", "shape": tuple(shape)}
    )
    return to.getvalue()


def kind_of(head: bytes) -> np.dtype:
    """The type of the numbers of a file with this head."""
    return _layout(head, "array")[2]


def _layout(data: bytes, where: str) -> tuple[tuple[int, ...], Any, np.dtype[Any], int]:
    """Shape, order and type of the numbers, and where they begin."""
    stream = io.BytesIO(data)
    with naming(where, "damaged array"):
        version = npy.read_magic(stream)
        read = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}.get(version)
        if read is None:
            raise BadFile(where, f"must be an .npy file of version 1 or 2, got {version}")
        shape, fortran, kind = read(stream)
    return shape, "F" if fortran else "C", kind, stream.tell()
