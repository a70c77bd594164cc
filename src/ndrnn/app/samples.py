"""Files of images and volumes as the integers that are coded, and back, with what belongs to them."""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from ..data.faults import BadFile
from ..data.formats import images, volumes

PROFILE, EXIF, PALETTE, OPACITY, VOLUME, NEGATIVE = "ICCP", "EXIF", "PLTE", "TRNS", "NIFT", "NEGA"
_MODES = {
    "1": (1, False),
    "L": (8, False),
    "LA": (8, True),
    "P": (8, False),
    "RGB": (8, False),
    "RGBA": (8, True),
}
_SIXTEEN = ("I", "I;16", "I;16B", "I;16L", "I;16N")
_SIGN = {"i1": 1 << 7, "i2": 1 << 15}


@dataclass(frozen=True)
class Samples:
    """What a file holds."""

    values: np.ndarray
    """uint8 or uint16, (\\*lattice) or (\\*lattice, C)."""
    bits: int
    alpha: bool = False
    chunks: Mapping[str, bytes] = field(default_factory=dict)

    @property
    def suffix(self) -> str:
        """The ending of the file that :func:`write` makes."""
        return ".nii" if VOLUME in self.chunks else ".png"


def read(data: bytes, name: str, where: str) -> Samples:
    """The samples of a file; palettes stay palettes.

    Raises:
        BadFile: the file is damaged, or its samples are not integers of at most 16 bits.
    """
    return _read_volume(data, where) if name.lower().endswith(volumes.SUFFIXES) else _read_image(data, where)


def negative(samples: Samples) -> Samples:
    """The negative, which says so itself: what a model that learned from negatives codes."""
    values = samples.values.dtype.type((1 << samples.bits) - 1) - samples.values
    return replace(samples, values=values, chunks={**samples.chunks, NEGATIVE: b""})


def write(samples: Samples) -> bytes:
    """A PNG, or a NIfTI volume, byte by byte the one that was read, unpacked."""
    if NEGATIVE in samples.chunks:
        samples = negative(samples)
    if VOLUME in samples.chunks:
        return _write_volume(samples)
    return _write_image(samples)


def _read_image(data: bytes, where: str) -> Samples:
    try:
        with Image.open(io.BytesIO(data)) as image:
            if (pictures := getattr(image, "n_frames", 1)) > 1:
                raise BadFile(where, f"holds {pictures} pictures; files of one can be compressed")
            mode, info = image.mode, dict(image.info)
            raw = np.array(image) if mode in ("1", "P") else None
            palette = image.getpalette("RGB") if mode == "P" else None
    except BadFile:
        raise
    except UnidentifiedImageError as error:
        raise BadFile(where, "not an image, or one of an unknown format") from error
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise BadFile(where, f"damaged image ({error})") from error
    if mode not in _MODES and mode not in _SIXTEEN:
        raise BadFile(where, f"must be grey, colour or palette of at most 16 bits, got mode {mode}")
    chunks = {key: info[name] for key, name in ((PROFILE, "icc_profile"), (EXIF, "exif")) if info.get(name)}
    if raw is not None and mode == "1":
        return Samples(raw.astype(np.uint8), 1, False, chunks)
    if raw is not None:
        chunks[PALETTE] = bytes(palette or [])
        if (opacity := info.get("transparency")) is not None:
            chunks[OPACITY] = opacity if isinstance(opacity, bytes) else b"\xff" * opacity + b"\0"
        return Samples(raw, 8, False, chunks)
    if info.get("transparency") is not None:
        raise BadFile(where, "has a transparent colour, which is not kept; make it a channel of opacity")
    values = images.decode(data, where)
    alpha = mode in _MODES and _MODES[mode][1]
    return Samples(
        values[..., 0] if values.shape[-1] == 1 else values, 8 * values.dtype.itemsize, alpha, chunks
    )


def _write_image(samples: Samples) -> bytes:
    values, chunks = samples.values, samples.chunks
    if values.dtype == np.uint16 and values.ndim == 3:
        return _png(values, chunks)
    options: dict[str, Any] = {}
    image = Image.fromarray(values.astype(bool) if samples.bits == 1 else values)
    if PALETTE in chunks:
        image = image.convert("L") if image.mode != "L" else image
        image.putpalette(chunks[PALETTE], "RGB")
        if OPACITY in chunks:
            options["transparency"] = chunks[OPACITY]
    if PROFILE in chunks:
        options["icc_profile"] = chunks[PROFILE]
    if EXIF in chunks:
        options["exif"] = chunks[EXIF]
    to = io.BytesIO()
    image.save(to, "PNG", **options)
    return to.getvalue()


def _png(values: np.ndarray, chunks: Mapping[str, bytes]) -> bytes:
    """A PNG of 16 bits with several channels, which Pillow cannot write."""
    height, width, channels = values.shape
    kind = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    rows = values.astype(">u2").reshape(height, -1).view(np.uint8)
    # each byte less the one before it of its pixel's neighbour: filter 1
    step = 2 * channels
    differences = rows.copy()
    differences[:, step:] -= rows[:, :-step]
    lines = np.concatenate([np.ones((height, 1), np.uint8), differences], 1).tobytes()
    parts = [("IHDR", struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0))]
    if PROFILE in chunks:
        parts.append(("iCCP", b"profile\0\0" + zlib.compress(chunks[PROFILE])))
    if EXIF in chunks:
        parts.append(("eXIf", chunks[EXIF].removeprefix(b"Exif\0\0")))
    parts += [("IDAT", zlib.compress(lines)), ("IEND", b"")]

    def chunk(key: str, content: bytes) -> bytes:
        body = key.encode() + content
        return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))

    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def _read_volume(data: bytes, where: str) -> Samples:
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise BadFile(where, f"damaged volume ({error})") from error
    kind, shape, offset = _layout(data, where)
    if kind.kind not in "iu" or kind.itemsize > 2:
        raise BadFile(where, f"voxels must be integers of at most 16 bits, got {kind}")
    while len(shape) > 3 and shape[-1] == 1:
        shape = shape[:-1]
    if len(shape) != 3:
        raise BadFile(where, f"must have three axes, got shape {shape}")
    count = int(np.prod(shape)) * kind.itemsize
    if len(data) != offset + count:
        raise BadFile(where, f"must have {offset + count} bytes by its header, got {len(data)}")
    stored = np.frombuffer(data, kind, offset=offset).reshape(shape, order="F")
    return Samples(_unsigned(stored), 8 * kind.itemsize, False, {VOLUME: data[:offset]})


def _write_volume(samples: Samples) -> bytes:
    head = samples.chunks[VOLUME]
    kind, _, _ = _layout(head, "volume")
    values = samples.values.astype(np.int64) ^ _SIGN.get(kind.str[1:], 0)
    unsigned = values.astype(f"u{kind.itemsize}")
    return head + unsigned.view(f"{kind.kind}{kind.itemsize}").astype(kind).tobytes(order="F")


def _unsigned(stored: np.ndarray) -> np.ndarray:
    kind = stored.dtype
    native = stored.astype(kind.newbyteorder("="))
    unsigned = np.ascontiguousarray(native).view(f"u{kind.itemsize}")
    return unsigned ^ unsigned.dtype.type(_SIGN.get(kind.str[1:], 0))


def _layout(data: bytes, where: str) -> tuple[np.dtype[Any], tuple[int, ...], int]:
    """Type, shape and place of the voxels."""
    import nibabel

    for make in (nibabel.Nifti1Image, nibabel.Nifti2Image):
        if make.header_class.may_contain_header(data[:1024]):
            try:
                header = make.header_class.from_fileobj(io.BytesIO(data), check=False)
                return header.get_data_dtype(), tuple(header.get_data_shape()), header.get_data_offset()
            except Exception as error:  # whatever nibabel makes of damaged heads
                raise BadFile(where, f"damaged volume ({error})") from error
    raise BadFile(where, "not a NIfTI volume")
