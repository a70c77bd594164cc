"""Files of all kinds, by the ending of their names or by what belongs to the samples."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

from ...data.formats import volumes
from ...data.formats.npy import SUFFIX
from .arrays import cut_array, read_array, write_array
from .arrays import kind_of as kind_of_array
from .kinds import ARRAY, NEGATIVE, VOLUME, Samples, is_moved, negative
from .pictures import read_image, write_image
from .volumes import cut_head, parts_of, read_volume, write_volume
from .volumes import kind_of as kind_of_volume


def read(data: bytes, name: str, where: str) -> Samples:
    """The samples of a file; palettes stay palettes.

    Raises:
        BadFile: the file is damaged, or its samples are not integers of at most 16 bits.
    """
    if name.lower().endswith(volumes.SUFFIXES):
        return read_volume(data, where)
    return read_array(data, where) if name.lower().endswith(SUFFIX) else read_image(data, where)


def write(samples: Samples) -> bytes:
    """A PNG, or a NIfTI volume or an array (.npy), byte by byte the one that was read, unpacked."""
    if NEGATIVE in samples.chunks:
        samples = negative(samples)
    return {".nii": write_volume, ".npy": write_array, ".png": write_image}[samples.suffix](samples)


def parts(chunks: Mapping[str, bytes]) -> int:
    """How many volumes lie one after the other along the first axis of the samples to which these chunks belong."""
    return parts_of(chunks[VOLUME]) if VOLUME in chunks else 1


def moved(chunks: Mapping[str, bytes], bits: int) -> bool:
    """Whether samples stand for integers of a signed type, and were moved up by half of its range."""
    kinds = [
        of(chunks[key]) for key, of in ((VOLUME, kind_of_volume), (ARRAY, kind_of_array)) if key in chunks
    ]
    return any(is_moved(kind, bits) for kind in kinds)


def cut(samples: Samples, region: Sequence[tuple[int, int]]) -> Samples:
    """Samples of a part of a file, ``region``, with what belongs to the whole, as those of a file of their own."""
    chunks = dict(samples.chunks)
    if VOLUME in chunks:
        chunks[VOLUME] = cut_head(chunks[VOLUME], region)
    if ARRAY in chunks:
        chunks[ARRAY] = cut_array(chunks[ARRAY], samples.values.shape)
    return replace(samples, chunks=chunks)
