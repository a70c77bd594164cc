"""Files of the formats that people have, small and made up, written by other means than the readers under test."""

from __future__ import annotations

import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image


def png(array: np.ndarray) -> bytes:
    """A PNG file of (H, W, C) uint8 or uint16, written by the format's description alone."""
    height, width, channels = array.shape
    bits, color = 8 * array.dtype.itemsize, {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = b"".join(b"\0" + row.astype(array.dtype.newbyteorder(">")).tobytes() for row in array)

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", width, height, bits, color, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", head)
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def zipped(folder: Path) -> Path:
    """The files of a folder in an archive beside it."""
    archive = folder.with_suffix(".zip")
    with zipfile.ZipFile(archive, "w") as out:
        for path in sorted(folder.rglob("*")):
            out.write(path, path.relative_to(folder))
    return archive


@pytest.fixture
def write_png() -> Callable[[np.ndarray], bytes]:
    return png


@pytest.fixture
def zip_folder() -> Callable[[Path], Path]:
    return zipped


@pytest.fixture
def mask_folder(tmp_path: Path) -> Path:
    """Six grey images with masks of labels 0, 1, 2, of differing sizes."""
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (tmp_path / "set" / part).mkdir(parents=True)
    for index in range(6):
        size = (5 + index, 7 + index % 2)
        Image.fromarray(generator.integers(0, 256, size, np.uint8)).save(tmp_path / f"set/images/{index}.png")
        labels = generator.integers(0, 3, size, np.uint8)
        labels[0, :3] = 0, 1, 2
        Image.fromarray(labels).save(tmp_path / f"set/masks/{index}.png")
    return tmp_path / "set"


@pytest.fixture
def line_folder(tmp_path: Path) -> Path:
    """Four lines of writing with their texts."""
    folder = tmp_path / "lines"
    folder.mkdir()
    generator = np.random.default_rng(1)
    for index, text in enumerate(("ab", "ba a", "a\u0301b", "bb")):
        Image.fromarray(generator.integers(0, 256, (8, 20 + 6 * index), np.uint8)).save(
            folder / f"{index}.png"
        )
        (folder / f"{index}.gt.txt").write_text(text + "\n", encoding="utf-8")
    return folder
