"""Volumes in NIfTI files, read and written by nibabel."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ...saving.atomic import replacing
from ..faults import BadFile, naming
from .labels import as_labels
from .limits import Unfolded, check_size

SUFFIXES = (".nii", ".nii.gz")
"""Endings of the files that are taken for volumes."""

_HEAD = 1024  # more than the headers of both versions
_MILLIMETRES = {1: 1000.0, 3: 0.001}  # in NIfTI's units of space: metres, micrometres


@dataclass(frozen=True)
class Space:
    """Where the voxels of a volume lie."""

    affine: np.ndarray
    """From indices to millimetres, (4, 4)."""
    stated: bool
    """Whether the file says so; otherwise the affine only follows from the sizes of the voxels."""
    spacing: tuple[float, ...] = ()
    """Millimetres from voxel to voxel along each axis; NIfTI's metres and micrometres are converted."""

    @property
    def orientation(self) -> str:
        """Where the axes point, such as RAS: to the right, to the front, up."""
        return "".join(letter or "?" for letter in _nibabel().aff2axcodes(self.affine))


def decode(data: bytes, file: str = "volume") -> np.ndarray:
    """A volume (D1, D2, D3, C), or a picture (D1, D2, C): of the file's number type where it is unscaled, else of
    floating-point numbers.

    These are float32 where that holds what the file does, as it does of scaled 16 bits around 0, and else float64.

    A fourth axis of the file is C, which is 1 without it.

    Raises:
        BadFile: the bytes are no whole NIfTI volume of real numbers, or it is larger than may be read.
        ImportError: nibabel is missing.
    """
    return _array(data, file, exact=False)


def decode_mask(data: bytes, file: str = "mask") -> np.ndarray:
    """The labels of a volume's voxels, (D1, D2, D3) or (D1, D2) int64; integers are never rounded.

    Raises:
        BadFile: the bytes are no whole NIfTI volume, it has channels, or values that are no integers.
    """
    array = _array(data, file, exact=True)
    if array.shape[-1] != 1:
        raise BadFile(file, f"labels must have two or three axes, got shape {array.shape}")
    return as_labels(array[..., 0], file)


def space(data: bytes, file: str = "volume") -> Space:
    """Where the voxels of a file lie; only its header is looked at.

    Raises:
        BadFile: it is no header of a NIfTI volume.
    """
    head, shape, _ = header(Unfolded(data, file), file)
    with naming(file, "damaged volume"):
        affine = np.asarray(head.get_best_affine(), np.float64)
        if not np.isfinite(affine).all():
            raise BadFile(file, "damaged volume (its affine is not finite)")
        edges = np.linalg.norm(affine[:3, : min(len(shape), 3)], axis=0)
        spacing = tuple(float(edge) * _MILLIMETRES.get(int(head["xyzt_units"]) & 7, 1.0) for edge in edges)
        return Space(affine, bool(head["sform_code"] > 0 or head["qform_code"] > 0), spacing)


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
    if not (len(shape) in (2, 3, 4) or (len(shape) == 5 and shape[3] == 1)) or min(shape) < 1:
        raise BadFile(
            file,
            f"must have two or three axes of space, and after three perhaps one of channels, got shape {shape}",
        )
    if stored.kind not in "iuf":
        raise BadFile(file, f"must hold real numbers, got {stored}")
    if not (found.template_dtype.itemsize <= start <= 2**31 and start == int(start)):
        raise BadFile(file, f"damaged volume (its numbers begin at byte {start})")
    return found, shape, int(start)


def distance(one: np.ndarray, other: np.ndarray, shape: Sequence[int]) -> float:
    """How far two affines (4, 4) put a corner of a lattice (D1, ..., Dn) apart at most, in edges of the first's voxels."""
    axes = len(shape)
    corners = np.array(
        [
            (*corner, *(0,) * (3 - axes), 1)
            for corner in itertools.product(*((0, extent - 1) for extent in shape))
        ],
        np.float64,
    )
    apart = np.linalg.norm(((one - other) @ corners.T)[:3], axis=0).max()
    edge = np.linalg.norm(one[:3, :axes], axis=0).min()
    return float(apart / edge) if edge else float(apart > 0) * np.inf


def write(
    values: np.ndarray,
    path: str | Path,
    affine: np.ndarray | None = None,
    *,
    like: bytes | None = None,
    kind: Any = None,
) -> None:
    """Write values (D1, D2, D3) or (D1, D2) as NIfTI, to a name that ends in .nii or .nii.gz.

    Args:
        values: labels, or other numbers if ``kind`` says so; also (D1, D2, D3, C) where nothing is like another file.
        path: of the file.
        affine: from indices to millimetres, (4, 4), where nothing is to be taken from another file.
        like: the bytes of the volume of whose voxels they are: version, affine, codes of qform and sform, units and
            description are its own. What tells of its values (scaling, window, intent, extensions) is left out.
        kind: NumPy's type of the numbers; by default the smallest unsigned one.
    """
    nibabel = _nibabel()
    kind = np.dtype(np.min_scalar_type(int(values.max(initial=0))) if kind is None else kind)
    if like is None:
        image = nibabel.Nifti1Image(values.astype(kind), np.eye(4) if affine is None else affine)
    else:
        head = header(Unfolded(like, str(path)), str(path))[0].copy()
        head.set_data_dtype(kind)
        head.set_data_shape(values.shape)
        head.set_data_offset(0)
        for name in ("scl_slope", "scl_inter", "cal_min", "cal_max", "intent_p1", "intent_p2", "intent_p3"):
            head[name] = 0
        head["intent_code"], head["intent_name"] = 0, b""
        of_two = isinstance(head, nibabel.Nifti2Header)
        image = (nibabel.Nifti2Image if of_two else nibabel.Nifti1Image)(values.astype(kind), None, head)
    save(image.to_bytes(), path)


def save(data: bytes, path: str | Path) -> None:
    """Write the bytes of a file, packed by gzip where the name ends in .gz."""
    if str(path).lower().endswith(".gz"):
        import gzip

        data = gzip.compress(data, mtime=0)
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def replaced(data: bytes, values: np.ndarray, mask: np.ndarray, file: str = "volume") -> bytes:
    """The file, unpacked, with other voxels where a mask is True: the header, and all else up to the last voxel, is the
    same to the last bit.

    Args:
        data: the file.
        values: (D1, D2, D3, C) or (D1, D2, C), as :func:`decode` gives them; where the file scales its numbers they
            become the nearest that it can hold.
        mask: bool, (D1, D2, D3) or (D1, D2).
        file: what errors call it.

    Raises:
        BadFile: the bytes are no whole NIfTI volume of real numbers.
    """
    content, found = _opened(data, file)
    kind, shape, start, end, slope, intercept = found
    with naming(file, "damaged volume"):
        stored = content.upto(end)
        voxels = (
            np.frombuffer(stored, kind, math.prod(shape), start).reshape(shape, order="F").copy(order="F")
        )
    new = values.reshape(shape)
    if (slope, intercept) != (1, 0):
        new = (new.astype(np.float64) - intercept) / slope
    if kind.kind in "iu" and new.dtype.kind == "f":
        limits = np.iinfo(kind)
        new = np.rint(new).clip(limits.min, limits.max)
    where = mask.reshape(mask.shape + (1,) * (len(shape) - mask.ndim))
    np.copyto(voxels, new.astype(kind), where=where)
    return stored[:start] + voxels.tobytes(order="F")


def _array(data: bytes, file: str, *, exact: bool) -> np.ndarray:
    """The values (D1, D2, D3, C) or (D1, D2, C); those that are scaled or no integers are float64 if ``exact``."""
    content, found = _opened(data, file)
    kind, shape, start, end, slope, intercept = found
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


class _Numbers(NamedTuple):
    """How a file keeps its numbers."""

    kind: np.dtype
    shape: tuple[int, ...]
    start: int
    """Their first byte."""
    end: int
    """The byte after them."""
    slope: float
    """What they are multiplied with,"""
    intercept: float
    """and what is added then."""


def _opened(data: bytes, file: str) -> tuple[Unfolded, _Numbers]:
    """The content of a file, of which the head alone was looked at."""
    content = Unfolded(data, file)
    head, shape, start = header(content, file)
    kind = head.get_data_dtype()
    with naming(file, "damaged volume"):
        slope, intercept = head.get_slope_inter()
    end = start + math.prod(shape) * kind.itemsize
    slope, intercept = 1.0 if slope is None else slope, 0.0 if intercept is None else intercept
    return content, _Numbers(kind, shape, start, end, slope, intercept)


def _nibabel() -> Any:
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise ImportError("volumes need nibabel: pip install 'ndrnn[volumes]'") from error
    return nibabel
