"""Volumes in NIfTI files, read and written by nibabel."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ...saving.atomic import replacing
from ..faults import BadFile

SUFFIXES = (".nii", ".nii.gz")
"""Endings of the files that are taken for volumes."""


def decode(data: bytes, file: str = "volume") -> np.ndarray:
    """A volume (D1, D2, D3, C): of the file's number type where it is unscaled uint8 or uint16, else float32.

    A fourth axis of the file is C, which is 1 without it.

    Raises:
        BadFile: the bytes are no whole NIfTI volume.
        ImportError: nibabel is missing.
    """
    image = _image(data, file)
    with _named(file):
        slope, intercept = image.dataobj.slope, image.dataobj.inter
        if (slope, intercept) == (1, 0) and image.get_data_dtype() in (np.uint8, np.uint16):
            array = np.asarray(image.dataobj)
        else:
            array = np.asarray(image.get_fdata(dtype=np.float32))
    if array.ndim == 5 and array.shape[3] == 1:
        array = array[:, :, :, 0]  # NIfTI keeps vectors on its fifth axis
    if array.ndim not in (3, 4) or 0 in array.shape:
        raise BadFile(
            file, f"must have three axes of space and perhaps one of channels, got shape {array.shape}"
        )
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    return array if array.ndim == 4 else array[..., None]


def decode_mask(data: bytes, file: str = "mask") -> np.ndarray:
    """The labels of a volume's voxels, (D1, D2, D3) int64.

    Raises:
        BadFile: the bytes are no whole NIfTI volume, it has channels, or values that are no integers.
    """
    array = decode(data, file)
    if array.shape[-1] != 1:
        raise BadFile(file, f"labels must have three axes, got shape {array.shape}")
    labels = np.rint(array[..., 0])
    if not (labels == array[..., 0]).all():
        raise BadFile(file, "labels must be integers")
    return labels.astype(np.int64)


def affine(data: bytes, file: str = "volume") -> np.ndarray:
    """Where the voxels lie in space, (4, 4)."""
    return np.asarray(_image(data, file).affine)


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


class _named:
    """Errors of nibabel within the block become those of the file."""

    def __init__(self, file: str) -> None:
        self.file = file

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, Exception) and not isinstance(error, (BadFile, MemoryError)):
            raise BadFile(self.file, f"damaged volume ({error})") from error


def _image(data: bytes, file: str) -> Any:
    nibabel = _nibabel()
    with _named(file):
        if data[:2] == b"\x1f\x8b":
            import gzip

            data = gzip.decompress(data)
        for kind in (nibabel.Nifti1Image, nibabel.Nifti2Image):
            if kind.header_class.may_contain_header(data[:1024]):
                return kind.from_bytes(data)
        raise BadFile(file, "not a NIfTI volume")


def _nibabel() -> Any:
    try:
        import nibabel
    except ModuleNotFoundError as error:
        raise ImportError("volumes need nibabel: pip install 'ndrnn[volumes]'") from error
    return nibabel
