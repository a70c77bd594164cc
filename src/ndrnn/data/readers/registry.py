"""Readers of a user's own."""

from __future__ import annotations

from typing import TypeVar

from ...registry import readers
from .source import Reader

Class = TypeVar("Class", bound=type[Reader])


def register(cls: Class, name: str | None = None) -> Class:
    """Let recipes name a reader as their ``data.format``, by ``name`` or its class's name in lower case; returns it.

    Raises:
        TypeError: it is no class derived from :class:`ndrnn.data.Reader`.
        ValueError: another reader has this name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Reader)):
        raise TypeError(f"a format must be a class derived from ndrnn.data.Reader, got {cls!r}")
    return readers.register(cls, name or cls.__name__.lower())
