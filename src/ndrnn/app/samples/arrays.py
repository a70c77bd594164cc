"""Arrays of NumPy (.npy) as samples, and back: signals, and lattices without a format of their own."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from numpy.lib import format as npy

from ...data.faults import BadFile
from ...data.formats.limits import check_size
from ...data.formats.npy import layout
from .kinds import ARRAY, Samples, signed, unsigned


def read_array(data: bytes, where: str) -> Samples:
    """The numbers of a file; a last axis of three or four that is at most 4 long is taken for channels.

    Raises:
        BadFile: the file is damaged or goes on after its numbers, or these are not integers of at most 16 bits.
    """
    found = layout(data, where)
    shape, order, kind, start = found
    if kind.kind not in "iub" or kind.itemsize > 2:
        raise BadFile(where, f"numbers must be integers of at most 16 bits, got {kind}")
    check_size(found.end, where)
    if len(data) != found.end:
        raise BadFile(where, f"must have {found.end:,} bytes by its header, got {len(data):,}")
    values, bits = unsigned(np.frombuffer(data, kind, offset=start).reshape(shape, order=order))
    axes = values.ndim - (values.ndim > 2 and values.shape[-1] <= 4)
    return Samples(values, bits, False, {ARRAY: data[:start]}, axes)


def write_array(samples: Samples) -> bytes:
    """The file; without the head of one, the samples as they are."""
    if (head := samples.chunks.get(ARRAY)) is None:
        to = io.BytesIO()
        np.save(to, samples.values, allow_pickle=False)
        return to.getvalue()
    _, order, kind, _ = layout(head)
    return head + signed(samples.values, samples.bits, kind).tobytes(order=order)


def cut_array(head: bytes, shape: Sequence[int]) -> bytes:
    """The head of an array of another shape."""
    _, order, kind, _ = layout(head)
    to = io.BytesIO()
    npy.write_array_header_1_0(
        to, {"descr": npy.dtype_to_descr(kind), "fortran_order": order == "F", "shape": tuple(shape)}
    )
    return to.getvalue()


def kind_of(head: bytes) -> np.dtype:
    """The type of the numbers of a file with this head."""
    return layout(head).kind
