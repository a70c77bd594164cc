"""NIfTI volumes as samples, and back, byte by byte."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import numpy as np

from ...data.faults import BadFile, naming
from ...data.formats import volumes
from ...data.formats.limits import Unfolded
from .kinds import VOLUME, Samples, signed, unsigned

_MOST_CHANNELS = 16  # that the format of compressed files has


def read_volume(data: bytes, where: str) -> Samples:
    """The voxels of a file: up to 16 volumes as channels, more of them one after the other along the first axis.

    Raises:
        BadFile: the file is damaged or goes on after its voxels, or these are not integers of at most 16 bits.
    """
    content = Unfolded(data, where)
    header, shape, start = volumes.header(content, where)
    kind = header.get_data_dtype()
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise BadFile(where, f"voxels must be integers of at most 16 bits, got {kind}")
    end = start + prod(shape) * kind.itemsize
    with naming(where, "damaged volume"):
        stored = content.upto(end)
    if len(stored) < end or content.goes_on(end):
        raise BadFile(
            where,
            f"must have {end:,} bytes by its header, got {'more' if len(stored) == end else len(stored)}",
        )
    voxels = np.frombuffer(stored, kind, offset=start).reshape(*shape[:3], -1, order="F")
    values, bits = unsigned(voxels)
    parts, chunks = _parts(shape), {VOLUME: stored[:start]}
    values = np.moveaxis(values, 3, 0).reshape(-1, *shape[1:3]) if parts > 1 else values
    values = values[..., 0] if values.ndim == 4 and values.shape[-1] == 1 else values
    return Samples(np.ascontiguousarray(values), bits, False, chunks, 3)


def parts_of(head: bytes) -> int:
    """How many volumes lie one after the other in the samples of a file with this head."""
    return _parts(volumes.header(Unfolded(head, "volume"), "volume")[1])


def kind_of(head: bytes) -> np.dtype:
    """The type of the voxels of a file with this head."""
    kind: np.dtype = volumes.header(Unfolded(head, "volume"), "volume")[0].get_data_dtype()
    return kind


def write_volume(samples: Samples) -> bytes:
    """The file, unpacked."""
    head = samples.chunks[VOLUME]
    header, shape, _ = volumes.header(Unfolded(head, "volume"), "volume")
    values = samples.values
    if (parts := _parts(shape)) > 1:
        values = np.moveaxis(values.reshape(parts, -1, *values.shape[1:]), 0, 3)
    return head + signed(values, samples.bits, header.get_data_dtype()).tobytes(order="F")


def cut_head(head: bytes, region: Sequence[tuple[int, int]]) -> bytes:
    """The head of a part of a volume: smaller, and with the place in space of its own first voxel."""
    header, shape, _ = volumes.header(Unfolded(head, "volume"), "volume")
    header.set_data_shape((*(last - first for first, last in region), *shape[3:]))
    first = np.array([[*(first for first, _ in region), 1.0]]).T
    for name, affine in (("sform", header.get_sform()), ("qform", header.get_qform())):
        if header[f"{name}_code"] > 0:
            place = (affine @ first)[:3, 0]
            fields = (
                ("qoffset_x", "qoffset_y", "qoffset_z") if name == "qform" else ("srow_x", "srow_y", "srow_z")
            )
            for field, value in zip(fields, place, strict=True):
                if name == "qform":
                    header[field] = value
                else:
                    header[field][3] = value
    for field in ("slice_start", "slice_end", "slice_code"):
        header[field] = 0  # when slices were taken; they are others now
    block: bytes = header.binaryblock
    return block + head[len(block) :]


def _parts(shape: Sequence[int]) -> int:
    count = prod(shape[3:])
    return count if count > _MOST_CHANNELS else 1
