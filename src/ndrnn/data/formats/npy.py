"""Arrays in NumPy's files of one (.npy): signals, and lattices without a format of their own."""

from __future__ import annotations

import io
from math import prod
from typing import Literal, NamedTuple

import numpy as np
from numpy.lib import format as npy

from ..faults import BadFile, naming
from .limits import check_size

SUFFIX = ".npy"
"""The ending of the files that are taken for arrays."""

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


class Layout(NamedTuple):
    """What the head of a file says."""

    shape: tuple[int, ...]
    order: Literal["C", "F"]
    kind: np.dtype
    start: int
    """The byte at which the numbers begin."""

    @property
    def end(self) -> int:
        """The byte after the numbers."""
        return self.start + prod(self.shape) * self.kind.itemsize


def layout(data: bytes, file: str = "array") -> Layout:
    """What the head of a file says; nothing else is looked at.

    Raises:
        BadFile: there is no head of an array.
    """
    stream = io.BytesIO(data)
    with naming(file, "damaged array"):
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise BadFile(file, f"must be an .npy file of version 1 or 2, got {version}")
        shape, fortran, kind = _HEADERS[version](stream)
        if any(extent < 0 for extent in shape):
            raise BadFile(file, f"damaged array (its shape is {shape})")
    return Layout(shape, "F" if fortran else "C", kind, stream.tell())


def decode(data: bytes, file: str, axes: int) -> np.ndarray:
    """The values of a lattice of so many axes, (D1, ..., Dn, C), of the file's number type; C is 1 without a last axis.

    Raises:
        BadFile: the file is damaged, or holds no real numbers or truth values on such a lattice.
    """
    found = layout(data, file)
    if found.kind.kind not in "biuf":
        raise BadFile(file, f"must hold real numbers or truth values, got {found.kind}")
    if len(found.shape) not in (axes, axes + 1) or not prod(found.shape):
        raise BadFile(
            file,
            f"must have {axes} {'axes' if axes > 1 else 'axis'}, or one of channels more, got shape {found.shape}",
        )
    check_size(found.end, file)
    if len(data) != found.end:
        raise BadFile(file, f"damaged array (it announces {found.end:,} bytes and has {len(data):,})")
    array = np.frombuffer(data, found.kind, offset=found.start).reshape(found.shape, order=found.order)
    array = array.astype(found.kind.newbyteorder("="), order="C")
    return array if array.ndim > axes else array[..., None]


def replaced(data: bytes, values: np.ndarray, file: str = "array") -> bytes:
    """The file with other values (D1, ..., Dn, C) of its type, head and order of the bytes as they are."""
    found = layout(data, file)
    return data[: found.start] + values.reshape(found.shape).astype(found.kind).tobytes(order=found.order)


def encode(values: np.ndarray) -> bytes:
    """A file of values (D1, ..., Dn, C), in which a single channel has no axis."""
    to = io.BytesIO()
    np.save(to, values[..., 0] if values.shape[-1] == 1 else values, allow_pickle=False)
    return to.getvalue()
