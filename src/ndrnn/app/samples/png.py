"""Chunks of PNG files that tell of a picture without being part of its pixels, kept as they are."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Mapping
from fractions import Fraction
from typing import Any

SIGNATURE = b"\x89PNG\r\n\x1a\n"
_KEPT = {b"gAMA", b"cHRM", b"sRGB", b"cICP", b"pHYs", b"tIME", b"tEXt", b"zTXt", b"iTXt"}
"""Colours, size of the pixels, time, texts; they may all stand before the pixels."""
_AFTER_HEAD = len(SIGNATURE) + 25  # IHDR is the first chunk
_INCH = 0.0254  # metres


def chunk(kind: bytes, content: bytes) -> bytes:
    """With its length and its checksum."""
    body = kind + content
    return struct.pack(">I", len(content)) + body + struct.pack(">I", zlib.crc32(body))


def kept(file: bytes) -> bytes:
    """Those chunks of a file that are kept, one after the other."""
    return b"".join(whole for kind, whole in _chunks(file[len(SIGNATURE) :]) if kind in _KEPT)


def resolution(info: Mapping[Any, Any]) -> bytes:
    """The chunk that tells how many pixels an inch has along both axes, or where no unit is known how their sizes compare;
    none where nothing is known.

    Args:
        info: what Pillow knows of a file. A TIFF without a resolution has one of 1 x 1 there.
    """
    dots, bare = info.get("dpi"), info.get("resolution")
    try:
        if dots is not None and not (bare is not None and tuple(map(float, bare)) == (1, 1)):
            parts, unit = [round(float(each) / _INCH) for each in dots], 1
        elif bare is not None and float(bare[0]) != float(bare[1]):
            ratio = (Fraction(bare[0]) / Fraction(bare[1])).limit_denominator(1 << 15)
            parts, unit = [ratio.numerator, ratio.denominator], 0
        else:
            return b""
    except (TypeError, ValueError, OverflowError, ZeroDivisionError, IndexError):
        return b""
    if len(parts) != 2 or not all(0 < each < 1 << 31 for each in parts):
        return b""
    return chunk(b"pHYs", struct.pack(">IIB", *parts, unit))


def with_chunks(file: bytes, others: bytes) -> bytes:
    """A file with such chunks.

    Raises:
        ValueError: they are damaged, or of a kind that is not kept.
    """
    checked = b"".join(whole for kind, whole in _chunks(others) if kind in _KEPT)
    if checked != others:
        raise ValueError("the chunks of PNG that belong to the image are damaged")
    return file[:_AFTER_HEAD] + others + file[_AFTER_HEAD:]


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    """Kind and all bytes of those that are whole."""
    at = 0
    while at + 12 <= len(data):
        (length,) = struct.unpack_from(">I", data, at)
        whole = data[at : at + 12 + length]
        kind = whole[4:8]
        if len(whole) != 12 + length or whole != chunk(kind, whole[8:-4]):
            return
        yield kind, whole
        at += len(whole)
