"""How much a file may unfold to: a few bytes can announce more than any memory holds.

Every reader asks here before it takes memory for what a header announces, and before it unfolds what is compressed.
"""

from __future__ import annotations

import gzip
import io
import os

from ..faults import BadFile

VARIABLE = "NDRNN_LARGEST"
"""The environment variable that sets, in GiB, what a single file may unfold to."""

DEFAULT = 4.0
"""GiB, where it is not set."""

_DEFLATE = 1032  # zlib's format cannot compress better than this
_TEXT = 16  # a tree of XML takes many times the memory of its text


def largest() -> int:
    """Bytes that a single file, or member of an archive, may unfold to.

    Raises:
        ValueError: the environment variable holds no positive number.
    """
    text = os.environ.get(VARIABLE, "")
    try:
        gibibytes = float(text) if text else DEFAULT
    except ValueError:
        gibibytes = 0.0
    if not 0 < gibibytes < 2**32:
        raise ValueError(f"{VARIABLE} must be a number of GiB above 0, got {text!r}")
    return int(gibibytes * 2**30)


def check_size(size: int, file: str, *, text: bool = False) -> None:
    """Refuse a file that announces more bytes than may be taken; a sixteenth of it where it is text or XML.

    Raises:
        BadFile: it does.
    """
    limit = largest() // _TEXT if text else largest()
    if size > limit:
        raise BadFile(
            file, f"announces {size:,} bytes, more than {limit:,} are not read ({VARIABLE} sets the limit)"
        )


def check_deflated(size: int, stored: int, file: str) -> None:
    """Refuse ``size`` bytes announced by ``stored`` bytes of zlib or gzip that cannot hold so many.

    Raises:
        BadFile: they cannot.
    """
    if size > _DEFLATE * stored + 1024:
        raise BadFile(
            file, f"damaged: announces {size:,} bytes, its {stored:,} compressed ones cannot hold so many"
        )


class Unfolded:
    """The content of a file from its beginning on, unfolded as far as it is asked for if it is compressed by gzip."""

    def __init__(self, data: bytes, file: str) -> None:
        self._stored = len(data)
        self._file = file
        self.compressed = data[:2] == b"\x1f\x8b"
        self._stream = gzip.GzipFile(fileobj=io.BytesIO(data)) if self.compressed else io.BytesIO(data)
        self.data = b""

    def upto(self, size: int) -> bytes:
        """The first ``size`` bytes, or all there are if they are fewer.

        Raises:
            BadFile: these are more than may be taken, or than the file can hold.
            OSError, EOFError, zlib.error: the compressed data is damaged.
        """
        check_size(size, self._file)
        if self.compressed:
            check_deflated(size, self._stored, self._file)
        if size > len(self.data):
            # one byte more: at the true end the checksum is compared
            rest = self._stream.read(size - len(self.data) + 1)
            self.data += rest
        return self.data[:size]

    def goes_on(self, size: int) -> bool:
        """Whether there was more than ``size`` bytes, as far as was asked for."""
        return len(self.data) > size
