"""Arrays in NumPy's archives (.npz), of which the headers are looked at before anything is taken from them."""

from __future__ import annotations

import math
import warnings
import zipfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.lib import format as npy

from ..faults import BadFile, naming, printable
from .limits import check_deflated, check_size

_HEADERS = {(1, 0): npy.read_array_header_1_0, (2, 0): npy.read_array_header_2_0}


def read(path: Path, wanted: Iterable[str]) -> tuple[dict[str, np.ndarray], list[str]]:
    """Those of the ``wanted`` arrays that are there, and the names of all.

    Raises:
        BadFile: the file is damaged, a wanted array holds anything but numbers, truth values or text, or it announces
            more than it holds or than may be read.
    """
    file = printable(str(path))
    with naming(file, "not a whole .npz file of plain arrays"), zipfile.ZipFile(path) as archive:
        members = {info.filename.removesuffix(".npy"): info for info in archive.infolist()}
        chosen = [name for name in dict.fromkeys(wanted) if name in members]
        check_size(sum(members[name].file_size for name in chosen), file)
        return {name: _array(archive, members[name], file) for name in chosen}, list(members)


def _array(archive: zipfile.ZipFile, info: zipfile.ZipInfo, file: str) -> np.ndarray:
    name = info.filename.removesuffix(".npy")
    if info.compress_type in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        check_deflated(info.file_size, info.compress_size, file)
    with archive.open(info) as stream, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of headers that an old Python wrote
        version = npy.read_magic(stream)
        if version not in _HEADERS:
            raise BadFile(file, f"not a whole .npz file of plain arrays ({name!r} is of version {version})")
        shape, fortran, kind = _HEADERS[version](stream)
        if kind.hasobject or kind.names is not None:
            raise BadFile(
                file, f"not a whole .npz file of plain arrays ({name!r} holds {kind}, which is not read)"
            )
        if any(extent < 0 for extent in shape):
            raise BadFile(file, f"{name!r} has the impossible shape {shape}")
        expected, held = math.prod(shape) * kind.itemsize, info.file_size - stream.tell()
        if expected != held:
            raise BadFile(file, f"{name!r} announces {expected:,} bytes for shape {shape}, it holds {held:,}")
        array = np.frombuffer(stream.read(), kind) if expected else np.empty(0, kind)
    return array.reshape(shape, order="F" if fortran else "C")
