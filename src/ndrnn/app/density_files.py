"""Files of what densities draw and fill in: pictures, stacks of them, volumes, arrays."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ..data.faults import BadFile
from ..data.formats import images, npy, volumes
from ..data.formats.labelmaps import write_stack
from ..data.formats.labels import as_labels
from ..data.readers.pictures import APART, PictureReader
from ..data.readers.source import Reader
from ..saving.atomic import replacing
from .density_model import SIGNED
from .inputs import Input, Loaded
from .options import KINDS
from .samples import Samples, write

FORMATS: dict[int, tuple[str, ...]] = {1: ("npy",), 2: ("png", "npy"), 3: ("nii.gz", "nii", "npy")}
"""What samples of so many axes are written as, the usual one first."""

_KINDS = {0: np.float32, 2: np.bool_, **SIGNED}
"""Types of files by their levels, if they are neither 8 nor 16 bits without a sign."""


def format_of(wanted: str | None, axes: int, channels: int, levels: int) -> str:
    """What samples are written as.

    Raises:
        ValueError: what is wanted cannot hold them.
    """
    fitting = FORMATS[axes]
    if axes == 2 and channels > 4:
        fitting = ("npy",)
    elif axes == 2 and not levels:
        fitting = ("npy", "png")  # a PNG has nothing below 0 and above 1
    if wanted is not None and wanted not in fitting:
        raise ValueError(
            f"--format must be {' or '.join(fitting)} for {KINDS[axes]} of {channels} "
            f"{'channels' if channels > 1 else 'channel'}, got {wanted}"
        )
    return wanted or fitting[0]


def kind_of(levels: int, form: str) -> np.dtype:
    """The type of the files that had so many levels, as far as a format can hold it."""
    unsigned = np.dtype(np.uint8 if levels <= 256 else np.uint16)
    if form == "png" or (levels == 2 and form != "npy"):
        return unsigned
    return np.dtype(_KINDS.get(levels, unsigned))


def write_sample(values: np.ndarray, path: Path, reader: Reader | None) -> None:
    """Write what was drawn (D1, ..., Dn, C) as the ending of ``path`` has it; the voxels of a volume lie as far apart as
    those that the model has learned from, where that is known."""
    if path.name.lower().endswith(volumes.SUFFIXES):
        steps = list(reader.spacing) if isinstance(reader, PictureReader) and reader.spacing else [1.0]
        affine = np.diag([*(steps * 3 if len(steps) == 1 else steps), 1.0])
        single = values[..., 0] if values.shape[-1] == 1 else values
        volumes.write(single, path, affine, kind=values.dtype)
        return
    with replacing(path) as temporary:
        temporary.write_bytes(npy.encode(values) if path.suffix == npy.SUFFIX else _png(values))


def endings_of(file: Input, loaded: Loaded) -> tuple[str, ...]:
    """What the name of a filled copy of a file may end in, the usual one first."""
    if file.is_volume:
        return tuple(reversed(volumes.SUFFIXES))
    if file.is_array:
        return (npy.SUFFIX,)
    if loaded.values.ndim == 4 or loaded.values.dtype.kind == "f":
        return (".tif", ".tiff")
    return (".png",)


def write_filled(filled: np.ndarray, path: Path, file: Input, loaded: Loaded, mask: np.ndarray) -> None:
    """Write a copy of a file in which other values stand where a mask is True.

    Args:
        filled: (D1, ..., Dn, C), all values of the sample.
        path: of the copy.
        file: what was filled,
        loaded: and its sample.
        mask: bool (D1, ..., Dn), on the lattice of the file.
    """
    if file.is_volume:
        if loaded.grid is not None:
            channels = range(filled.shape[-1])
            filled = np.stack([loaded.grid.back(filled[..., channel]) for channel in channels], -1)
        volumes.save(volumes.replaced(loaded.data, filled, mask, file.where), path)
    elif path.suffix.lower() in (".tif", ".tiff"):
        slices = filled[..., 0] if filled.shape[-1] == 1 else filled
        write_stack(slices if filled.ndim == 4 else slices[None], path, filled.dtype)
    else:
        data = npy.replaced(loaded.data, filled, file.where) if file.is_array else _png(filled)
        with replacing(path) as temporary:
            temporary.write_bytes(data)


def read_mask(hidden: Input, file: Input, loaded: Loaded, reader: Reader | None) -> np.ndarray:
    """What is to be filled in of a file, bool (D1, ..., Dn) on the lattice of the file.

    Raises:
        BadFile: the mask is damaged, is of another shape or lies elsewhere in space, or hides nothing.
    """
    shape = loaded.values.shape[:-1] if loaded.grid is None else loaded.grid.shape
    data = hidden.storage.read(hidden.name)
    if hidden.is_volume:
        labels = volumes.decode_mask(data, hidden.where)
    elif hidden.is_array:
        labels = as_labels(npy.decode(data, hidden.where, len(shape)), hidden.where)
        labels = labels[..., 0] if labels.shape[-1] == 1 else labels
    else:
        stacked = isinstance(reader, PictureReader) and reader.stacked
        labels = images.decode_mask(data, hidden.where, stacked=stacked)
    if labels.shape != shape:
        expected, got = (" x ".join(map(str, one)) for one in (shape, labels.shape))
        raise BadFile(hidden.where, f"mask must be {expected} like its image, got {got}")
    if hidden.is_volume and file.is_volume:
        own, other = volumes.space(loaded.data, file.where), volumes.space(data, hidden.where)
        apart = volumes.distance(own.affine, other.affine, shape) if own.stated and other.stated else 0.0
        if not apart <= APART:
            raise BadFile(
                hidden.where,
                f"its affine differs from that of its image {file.where}, by up to {apart:.3g} voxels",
            )
    mask: np.ndarray = labels != 0
    if not mask.any():
        raise BadFile(hidden.where, "is 0 everywhere: there is nothing to fill in")
    return mask


def _png(values: np.ndarray) -> bytes:
    """Of values (H, W, C) of 8 or 16 bits."""
    channels = values.shape[-1]
    single = values[..., 0] if channels == 1 else values
    return write(Samples(single, 8 * values.dtype.itemsize, channels in (2, 4)))
