"""Volumes in NIfTI files, read and written by nibabel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ...saving.atomic import replacing
from ..faults import BadFile, naming
from .labels import as_labels
from .limits import Unfolded, check_size

SUFFIXES = (".nii", ".nii.gz")
"""Endings of the files that are taken for volumes."""

_HEAD = 1024  # more than the headers of both versions


@dataclass(frozen=True)
class Space:
    """Where the voxels of a volume lie."""

    affine: np.ndarray
    """From indices to millimetres, (4, 4)."""
    stated: bool
    """Whether the file says so; otherwise the affine only follows from the sizes of the voxels."""

    @property
    def orientation(self) -> str:
        """Where the axes point, such as RAS: to the right, to the front, up."""
        return "".join(letter or "?" for letter in _nibabel().aff2axcodes(self.affine))


def decode(data: bytes, file: str = "volume") -> np.ndarray:
    """A volume (D1, D2, D3, C): of the file's number type where it is unscaled, else of floating-point numbers.

    These are float32 where that holds what the file does, as it does of scaled 16 bits around 0, and else float64.

    A fourth axis of the file is C, which is 1 without it.

    Raises:
        BadFile: the bytes are no whole NIfTI volume of real numbers, or it is larger than may be read.
        ImportError: nibabel is missing.
    """
    return _array(data, file, exact=False)


def decode_mask(data: bytes, file: str = "mask") -> np.ndarray:
    """The labels of a volume's voxels, (D1, D2, D3) int64; integers are never rounded.

    Raises:
        BadFile: the bytes are no whole NIfTI volume, it has channels, or values that are no integers.
    """
    array = _array(data, file, exact=True)
    if array.shape[-1] != 1:
        raise BadFile(file, f"labels must have three axes, got shape {array.shape}")
    return as_labels(array[..., 0], file)


def space(data: bytes, file: str = "volume") -> Space:
    """Where the voxels of a file lie; only its header is looked at.

    Raises:
        BadFile: it is no header of a NIfTI volume.
    """
    head, _, _ = header(Unfolded(data, file), file)
    with naming(file, "damaged volume"):
        affine = np.asarray(head.get_best_affine(), np.float64)
        if not np.isfinite(affine).all():
            raise BadFile(file, "damaged volume (its affine is not finite)")
        return Space(affine, bool(head["sform_code"] > 0 or head["qform_code"] > 0))


def affine(data: bytes, file: str = "volume") -> np.ndarray:
    """Where the voxels lie in space, (4, 4)."""
    return space(data, file).affine


def header(content: Unfolded, file: str = "volume") -> tuple[Any, tuple[int, ...], int]:
    """The header as nibabel's object, the sizes of the axes, and where the numbers begin.

    Raises:
        BadFile: it is no header of a NIfTI volume of real numbers.
    """
    nibabel = _nibabel()
    with naming(file, "damaged volume"):
        beginning = content.upto(_HEAD)
        for kind, magic in ((nibabel.Nifti1Header, b"n+1"), (nibabel.Nifti2Header, b"n+2")):
            if not kind.may_contain_header(beginning):
                continue
            found = kind(beginning[: kind.template_dtype.itemsize], check=False)
            if not bytes(found["magic"]).startswith(magic):
                raise BadFile(file, "holds a header alone; volumes of one file are read, .nii or .nii.gz")
            break
        else:
            raise BadFile(file, "not a NIfTI volume")
        shape = tuple(int(extent) for extent in found.get_data_shape())
        stored = found.get_data_dtype()
        start = float(found["vox_offset"])
    if not (len(shape) in (3, 4) or (len(shape) == 5 and shape[3] == 1)) or min(shape) < 1:
        raise BadFile(file, f"must have three axes of space and perhaps one of channels, got shape {shape}")
    if stored.kind not in "iuf":
        raise BadFile(file, f"must hold real numbers, got {stored}")
    if not (found.template_dtype.itemsize <= start <= 2**31 and start == int(start)):
        raise BadFile(file, f"damaged volume (its numbers begin at byte {start})")
    return found, shape, int(start)


def distance(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """How far two affines (4, 4) put a corner of a lattice (D1, D2, D3) apart at most, in edges of the first's voxels."""
    corners = np.array(
        [(*corner, 1) for corner in itertools.product(*((0, extent - 1) for extent in shape))], np.float64
    )
    apart = np.linalg.norm(((one - other) @ corners.T)[:3], axis=0).max()
    edge = np.linalg.norm(one[:3, :3], axis=0).min()
    return float(apart / edge) if edge else float(apart > 0) * np.inf


def write(labels: np.ndarray, path: str | Path, affine: np.ndarray | None = None) -> None:
    """Write labels (D1, D2, D3) as NIfTI of the smallest unsigned type, to a name that ends in .nii or .nii.gz."""
    nibabel = _nibabel()
    kind = np.min_scalar_type(int(labels.max(initial=0)))
    image = nibabel.Nifti1Image(labels.astype(kind), np.eye(4) if affine is None else affine)
    with replacing(path) as temporary:
        # nibabel goes by the ending, which the temporary name hides
        data = image.to_bytes()
        if str(path).endswith(".gz"):
            import gzip

            data = gzip.compress(data, mtime=0)
        temporary.write_bytes(data)


def _array(data: bytes, file: str, *, exact: bool) -> np.ndarray:
    """The values (D1, D2, D3, C); those that are scaled or no integers are float64 if ``exact``."""
    content = Unfolded(data, file)
    head, shape, start = header(content, file)
    kind = head.get_data_dtype()
    end = start + math.prod(shape) * kind.itemsize
    with naming(file, "damaged volume"):
        slope, intercept = head.get_slope_inter()
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    scaled = (slope, intercept) != (1, 0)
    # 16 bits that are moved by no more than their own range keep all their steps in the 24 of float32
    single = kind.itemsize <= 2 and abs(intercept) <= abs(slope) * 2**16 if scaled else kind.itemsize <= 4
    floating = np.dtype(np.float32 if single and not exact else np.float64)
    # what is no integer is converted, perhaps to a larger type
    check_size(max(end, math.prod(shape) * floating.itemsize if scaled or kind.kind == "f" else 0), file)
    with naming(file, "damaged volume"):
        stored = content.upto(end)
        if len(stored) < end:
            raise BadFile(file, f"damaged volume (truncated, {len(stored):,} of {end:,} bytes are there)")
        array = np.frombuffer(stored, kind, math.prod(shape), start).reshape(shape, order="F")
        if scaled:
            with np.errstate(over="ignore", invalid="ignore"):
                array = (array.astype(np.float64) * slope + intercept).astype(floating)
        elif kind.kind == "f":
            with np.errstate(over="ignore"):
                array = array.astype(floating)
    if array.ndim == 5:
        array = array[:, :, :, 0]  # NIfTI keeps vectors on its fifth axis
    array = array.astype(array.dtype.newbyteorder("="), order="C")
    return array if array.ndim == 4 else array[..., None]


def _nibabel() -> Any:
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise ImportError("volumes need nibabel: pip install 'ndrnn[volumes]'") from error
    return nibabel
