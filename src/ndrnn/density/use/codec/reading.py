"""Bytes read from the front, never beyond their end."""

from __future__ import annotations

import struct
from typing import Any


class Reader:
    """What is left of some bytes.

    Args:
        what: what errors call the bytes.
    """

    def __init__(self, data: bytes, what: str) -> None:
        self.data, self.at, self.what = data, 0, what

    def take(self, count: int) -> bytes:
        """The next bytes.

        Raises:
            ValueError: there are not so many.
        """
        if count > len(self.data) - self.at:
            raise ValueError(
                f"{self.what}: truncated, {count} bytes are missing or fewer at byte {self.at} of {len(self.data)}"
            )
        self.at += count
        return self.data[self.at - count : self.at]

    def unpack(self, form: str) -> tuple[Any, ...]:
        """The next values of a :mod:`struct` format."""
        return struct.unpack(form, self.take(struct.calcsize(form)))

    @property
    def left(self) -> int:
        return len(self.data) - self.at
