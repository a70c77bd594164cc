"""IDX files, the format of MNIST and its relatives, plain or compressed with gzip.

A file is: two zero bytes, a byte for the type of its numbers, a byte for the number of axes, each axis' size as a
big-endian 32-bit integer, and the numbers, big-endian and row-major.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import torch

from ..digit_images import DigitImages, Split

_TYPES = {0x08: "u1", 0x09: "i1", 0x0B: ">i2", 0x0C: ">i4", 0x0D: ">f4", 0x0E: ">f8"}
_CHUNK = 1 << 20


def read(path: str | Path) -> np.ndarray:
    """The array that a file holds, in this machine's byte order.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is truncated, or not an IDX file; the message names it and what is wrong.
    """
    path = Path(path)
    with path.open("rb") as plain:
        compressed = plain.read(2) == b"\x1f\x8b"
        plain.seek(0)
        if not compressed:
            return _parse(plain, path)
        try:
            with gzip.open(plain) as stream:
                return _parse(stream, path)
        except (EOFError, zlib.error, gzip.BadGzipFile) as error:
            raise ValueError(f"{path}: damaged gzip file ({error})") from error


def load(folder: str | Path) -> Split:
    """MNIST, or data in its form: ``train-images-idx3-ubyte``, ``train-labels-idx1-ubyte``, and ``t10k-`` for the test.

    Each name may end in ``.gz``, and have a dot in place of its second dash.

    Raises:
        FileNotFoundError: the folder or one of the files is missing.
        ValueError: a file is damaged, or they do not fit each other.
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
        raise ValueError(
            f"{folder}: training images have {train[0].shape[1:]} pixels, test images {test[0].shape[1:]}"
        )
    return train, test


def _parse(stream: IO[bytes] | gzip.GzipFile, path: Path) -> np.ndarray:
    head = stream.read(4)
    if len(head) < 4 or head[:2] != b"\0\0" or head[2] not in _TYPES or head[3] == 0:
        raise ValueError(f"{path}: not an IDX file, it starts with {head.hex(' ') or 'nothing'}")
    axes = head[3]
    sizes = stream.read(4 * axes)
    if len(sizes) < 4 * axes:
        raise ValueError(f"{path}: truncated within the sizes of its {axes} axes")
    shape = struct.unpack(f">{axes}I", sizes)
    dtype = np.dtype(_TYPES[head[2]])
    expected = math.prod(shape) * dtype.itemsize
    data = bytearray()
    # piece by piece: a foreign file may announce more than any memory holds
    while len(data) <= expected and (piece := stream.read(min(_CHUNK, expected + 1 - len(data)))):
        data += piece
    if len(data) != expected:
        found = "more" if len(data) > expected else f"{len(data)}"
        raise ValueError(f"{path}: must hold {expected} bytes of numbers for the shape {shape}, got {found}")
    return np.frombuffer(data, dtype).reshape(shape).astype(dtype.newbyteorder("="), copy=False)


def _read_pair(folder: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    arrays = []
    for kind, axes in (("images", 3), ("labels", 1)):
        path = _find(folder, f"{part}-{kind}", f"idx{axes}-ubyte")
        array = read(path)
        if array.dtype != np.uint8 or array.ndim != axes or 0 in array.shape:
            raise ValueError(
                f"{path}: {kind} must be unsigned bytes on {axes} axes, none of them empty, "
                f"got {array.dtype} of shape {array.shape}"
            )
        arrays.append(array)
    images, labels = arrays
    if len(images) != len(labels):
        raise ValueError(f"{folder}: {part} has {len(images)} images but {len(labels)} labels")
    return images, labels


def _find(folder: Path, stem: str, ending: str) -> Path:
    names = [f"{stem}{dash}{ending}{suffix}" for dash in "-." for suffix in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder} has none of {', '.join(names)}")
