"""What the makers of data sets share: random streams, and archives that are the same bytes whenever they are made."""

from __future__ import annotations

import io
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ndrnn.saving.atomic import replacing

Array = NDArray[Any]


def stream(seed: int, *place: int) -> np.random.Generator:
    """The random numbers of one sample: they depend on nothing but the seed and where the sample stands."""
    return np.random.default_rng([seed, *place])


def part(count: int, share: float, least: int = 1) -> int:
    """So many of ``count``, at least ``least``."""
    return max(least, round(count * share))


def picture(values: Array, kind: str = "PNG") -> bytes:
    """An image (H, W) or (H, W, 3) of values from 0 to 255 as a file."""
    buffer = io.BytesIO()
    rounded = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    options = {"quality": 92, "subsampling": 0} if kind == "JPEG" else {}
    Image.fromarray(rounded).save(buffer, kind, **options)
    return buffer.getvalue()


def write_zip(path: Path, entries: Iterable[tuple[str, bytes]]) -> None:
    """An archive without times of day."""
    with replacing(path) as part, ZipFile(part, "w") as archive:
        for name, content in entries:
            entry = ZipInfo(name)
            entry.create_system = 3  # whatever the system
            archive.writestr(entry, content, ZIP_DEFLATED)


def write_npz(path: Path, arrays: dict[str, Array]) -> None:
    """As :func:`numpy.savez_compressed`, without times of day."""

    def content(array: Array) -> bytes:
        buffer = io.BytesIO()
        np.lib.format.write_array(buffer, array, allow_pickle=False)
        return buffer.getvalue()

    write_zip(path, ((f"{name}.npy", content(array)) for name, array in arrays.items()))


def write_table(path: Path, rows: Iterable[Iterable[object]]) -> None:
    """Columns told apart by tabs, the first row their names."""
    with replacing(path) as part:
        text = "".join("\t".join(map(str, row)) + "\n" for row in rows)
        part.write_bytes(text.encode())
