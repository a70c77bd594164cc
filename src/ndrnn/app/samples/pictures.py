"""Images as samples, palettes as palettes; and back, as PNG."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from ...data.faults import BadFile
from ...data.formats import images
from ...data.formats.opening import Pictures, as_stored, opened
from . import exif, png
from .kinds import EXIF, OPACITY, PALETTE, PNG, PROFILE, Samples

_MODES = {"1": False, "L": False, "LA": True, "P": False, "RGB": False, "RGBA": True}
"""Of 8 bits or less, and whether there is opacity."""
_SIXTEEN = ("I", "I;16", "I;16B", "I;16L", "I;16N")


def read_image(data: bytes, where: str) -> Samples:
    """The samples of an image as it is stored, not turned; what is not kept for PNG is lost.

    Raises:
        BadFile: the file is damaged, or not grey, colour or palette of at most 16 bits.
    """
    with opened(data, where) as pictures:
        if len(pictures.frames) > 1:
            raise BadFile(where, f"holds {pictures.count} pictures; files of one can be compressed")
        image = pictures.load(0)
        mode, info, kind = image.mode, dict(image.info), image.format
        raw = np.array(image) if mode in ("1", "P") else None
        palette = image.getpalette("RGB") if mode == "P" else None
        if kind == "TIFF":
            info["exif"] = exif.of_tiff(image)
        few = _few_bits(pictures)
    if mode not in _MODES and mode not in _SIXTEEN:
        raise BadFile(where, f"must be grey, colour or palette of at most 16 bits, got mode {mode}")
    chunks = {key: info[name] for key, name in ((PROFILE, "icc_profile"), (EXIF, "exif")) if info.get(name)}
    others = png.kept(data) if kind == "PNG" else png.resolution(info)
    if others:
        chunks[PNG] = others
    if raw is not None and mode == "1":
        return Samples(raw.astype(np.uint8), 1, False, chunks)
    if raw is not None:
        chunks[PALETTE] = bytes(palette or [])
        if (opacity := info.get("transparency")) is not None:
            chunks[OPACITY] = opacity if isinstance(opacity, bytes) else b"\xff" * opacity + b"\0"
        return Samples(raw, 8, False, chunks)
    if info.get("transparency") is not None:
        raise BadFile(where, "has a transparent colour, which is not kept; make it a channel of opacity")
    values, turn = images.decode_turned(data, where)
    if EXIF in chunks and kind != "TIFF":  # which would turn it once more
        values = as_stored(values, turn)
    values = values[..., 0] if values.shape[-1] == 1 else values
    if few and values.ndim == 2:
        return Samples(values // np.uint8(255 // ((1 << few) - 1)), few, False, chunks)
    return Samples(values, 8 * values.dtype.itemsize, _MODES.get(mode, False), chunks)


def _few_bits(pictures: Pictures) -> int:
    """The bits of a grey value, if they are 2 or 4, which Pillow spreads over 8; else none."""
    top, full = pictures.stretched or (0, 0)
    return top.bit_length() if full == 255 and top in (3, 15) else 0


def write_image(samples: Samples) -> bytes:
    """A PNG."""
    values, chunks = samples.values, samples.chunks
    if values.dtype == np.uint16 and values.ndim == 3:
        written = _sixteen(values, chunks)
    elif samples.bits in (2, 4) and values.ndim == 2 and PALETTE not in chunks:
        written = _packed(values, samples.bits, chunks)
    else:
        written = _by_pillow(values, samples.bits, chunks)
    return png.with_chunks(written, chunks.get(PNG, b""))


def _by_pillow(values: np.ndarray, bits: int, chunks: Mapping[str, bytes]) -> bytes:
    options: dict[str, Any] = {}
    image = Image.fromarray(values.astype(bool) if bits == 1 and values.ndim == 2 else values)
    if PALETTE in chunks:
        image = image.convert("L") if image.mode != "L" else image
        # as many colours as samples name, which may be more than there are: the depth follows from them
        image.putpalette(chunks[PALETTE].ljust(3 * (int(values.max()) + 1), b"\0"), "RGB")
        if OPACITY in chunks:
            options["transparency"] = chunks[OPACITY]
    if PROFILE in chunks:
        options["icc_profile"] = chunks[PROFILE]
    if EXIF in chunks:
        options["exif"] = chunks[EXIF]
    to = io.BytesIO()
    image.save(to, "PNG", **options)
    return to.getvalue()


def _sixteen(values: np.ndarray, chunks: Mapping[str, bytes]) -> bytes:
    """A PNG of 16 bits with several channels, which Pillow cannot write."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    # each byte less the one before it of its pixel's neighbour: filter 1
    step = 2 * channels
    differences = rows.copy()
    differences[:, step:] -= rows[:, :-step]
    lines = np.concatenate([np.ones((height, 1), np.uint8), differences], 1).tobytes()
    return _png(lines, (height, width), 16, kind, chunks)


def _packed(values: np.ndarray, bits: int, chunks: Mapping[str, bytes]) -> bytes:
    """A PNG of grey values of 2 or 4 bits, which Pillow cannot write."""
    height = len(values)
    # of each value its lowest bits, one after the other, and of each row whole bytes
    single = np.unpackbits(values.astype(np.uint8)[..., None], axis=-1)[..., -bits:]
    rows = np.packbits(single.reshape(height, -1), axis=1)
    lines = np.concatenate([np.zeros((height, 1), np.uint8), rows], 1).tobytes()
    return _png(lines, values.shape, bits, 0, chunks)


def _png(lines: bytes, shape: tuple[int, ...], depth: int, kind: int, chunks: Mapping[str, bytes]) -> bytes:
    """A PNG of filtered rows."""
    height, width = shape
    parts = [(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, kind, 0, 0, 0))]
    if PROFILE in chunks:
        parts.append((b"iCCP", b"profile\0\0" + zlib.compress(chunks[PROFILE])))
    if EXIF in chunks:
        parts.append((b"eXIf", chunks[EXIF].removeprefix(b"Exif\0\0")))
    parts += [(b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return png.SIGNATURE + b"".join(png.chunk(*part) for part in parts)
