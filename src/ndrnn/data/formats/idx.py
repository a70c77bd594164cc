"""IDX files, the format of MNIST and its relatives, plain or compressed with gzip.

A file is: two zero bytes, a byte for the type of its numbers, a byte for the number of axes, each axis' size as a
big-endian 32-bit integer, and the numbers, big-endian and row-major.
"""

from __future__ import annotations

import math
import struct
from pathlib import Path

import numpy as np
import torch

from ..digit_images import DigitImages, Split
from ..faults import BadFile, naming, printable
from .limits import Unfolded
from .storage import read_file

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_AXES = 64  # as many as NumPy has


def read(path: str | Path) -> np.ndarray:
    """The array that a file holds, in this machine's byte order.

    Raises:
        FileNotFoundError: there is no such file.
        BadFile: the file is truncated, no IDX file, or larger than may be read; the message names it and what is
            wrong.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    return decode(read_file(path), printable(str(path)))


def decode(data: bytes, file: str = "array") -> np.ndarray:
    """The array in the bytes of a file; raises as :func:`read`."""
    content = Unfolded(data, file)
    with naming(file, "damaged gzip file" if content.compressed else "not an IDX file"):
        head = content.upto(4)
        if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or head[3] == 0:
            raise BadFile(file, f"not an IDX file, it starts with {head.hex(' ') or 'nothing'}")
        axes = head[3]
        start = 4 + 4 * axes
        if len(content.upto(start)) < start:
            raise BadFile(file, f"truncated within the sizes of its {axes} axes")
        if axes > _AXES:
            raise BadFile(file, f"has {axes} axes, more than {_AXES} are not read")
        shape = struct.unpack(f">{axes}I", content.data[4:start])
        dtype = np.dtype(_TYPES[head[2]])
        expected = math.prod(shape) * dtype.itemsize
        numbers = content.upto(start + expected)[start:]
        if len(numbers) != expected or content.goes_on(start + expected):
            found = "more" if len(numbers) == expected else f"{len(numbers)}"
            raise BadFile(file, f"must hold {expected} bytes of numbers for the shape {shape}, got {found}")
        return (
            np.frombuffer(bytearray(numbers), dtype)
            .reshape(shape)
            .astype(dtype.newbyteorder("="), copy=False)
        )


def load(folder: str | Path) -> Split:
    """MNIST, or data in its form: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and ``t10k-`` for the test.

    Each name may end in ``.gz``, and have a dot in place of its second dash.

    Raises:
        FileNotFoundError: the folder or one of the files is missing.
        BadFile: a file is damaged, or they do not fit each other.
    """
    (train_images, train_labels), (test_images, test_labels) = read_splits(folder)
    num_classes = 1 + int(max(train_labels.max(), test_labels.max()))
    train, test = (
        DigitImages(
            torch.from_numpy(images).unsqueeze(-1).to(torch.float32) / 255,
            torch.from_numpy(labels).to(torch.int64),
            num_classes,
        )
        for images, labels in ((train_images, train_labels), (test_images, test_labels))
    )
    return Split(train, test, f"idx files in {Path(folder).name}, training and test set as given")


def read_splits(folder: str | Path) -> tuple[tuple[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]:
    """Images (N, H, W) uint8 and labels (N,) uint8, of the training and of the test; raises as :func:`load`."""
    folder = Path(folder)
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder} is not a folder")
    train, test = _read_pair(folder, "train"), _read_pair(folder, "t10k")
    if train[0].shape[1:] != test[0].shape[1:]:
        raise BadFile(
            printable(str(folder)),
            f"training images have {train[0].shape[1:]} pixels, test images {test[0].shape[1:]}",
        )
    return train, test


def _read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for kind, axes in (("images", 3), ("labels", 1)):
        path = _find(folder, f"{part}-{kind}", f"idx{axes}-ubyte")
        array = read(path)
        if array.dtype != np.uint8 or array.ndim != axes or 0 in array.shape:
            raise BadFile(
                printable(str(path)),
                f"{kind} must be unsigned bytes on {axes} axes, none of them empty, "
                f"got {array.dtype} of shape {array.shape}",
            )
        arrays.append(array)
    images, labels = arrays
    if len(images) != len(labels):
        raise BadFile(printable(str(folder)), f"{part} has {len(images)} images but {len(labels)} labels")
    return images, labels


def _find(folder: Path, stem: str, ending: str) -> Path:
    names = [f"{stem}{dash}{ending}{suffix}" for dash in "-." for suffix in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")
