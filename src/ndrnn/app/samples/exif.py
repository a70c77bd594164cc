"""EXIF data of TIFF files, which lie among what tells how the pixels are stored."""

from __future__ import annotations

from typing import Any

from PIL import Image

_PARTS = (0x8769, 0x8825)
"""Of a camera, and of a place."""
_TEXTS = (269, 270, 271, 272, 285, 305, 306, 315, 316, 33432)
"""Name, description, camera, page, program, time, artist, computer, copyright."""


def of_tiff(image: Image.Image) -> bytes:
    """The EXIF data of an open TIFF file as other formats have them; broken ones say nothing. The turn is none of them: the
    pixels are turned as they are read."""
    try:
        found, made = image.getexif(), Image.Exif()
        for tag in _TEXTS:
            if tag in found:
                made[tag] = _as_bytes(found[tag])
        for tag in _PARTS:
            if part := found.get_ifd(tag):
                made[tag] = dict(part)
        return made.tobytes() if len(made) else b""
    except Exception:  # whatever stands in such a file
        return b""


def _as_bytes(text: Any) -> Any:
    """Pillow reads letters as Latin-1, and would write those beyond ASCII as question marks."""
    return text.encode("latin-1") if isinstance(text, str) else text
