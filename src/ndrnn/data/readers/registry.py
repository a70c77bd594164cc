"""The formats of data by name; those of a user's own join them by :func:`register`."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module
from typing import TypeVar

from .source import Reader

Class = TypeVar("Class", bound=type[Reader])

# imported when they are asked for: one needs Pillow, another nibabel
_own = {
    "arrays": "arrays.Arrays",
    "classes": "folders.Classes",
    "idx": "digit_files.Idx",
    "images": "folders.Images",
    "lines": "lines.Lines",
    "masks": "pairs.Masks",
    "pages": "pages.Pages",
}
_registered: dict[str, type[Reader]] = {}


def register(cls: Class, name: str | None = None) -> Class:
    """Let recipes name a reader as their ``data.format``, by ``name`` or its class's name in lower case; returns it.

    Raises:
        TypeError: it is no class derived from :class:`ndrnn.data.Reader`.
        ValueError: another reader has this name.
    """
    if not (isinstance(cls, type) and issubclass(cls, Reader)):
        raise TypeError(f"a format must be a class derived from ndrnn.data.Reader, got {cls!r}")
    name = name or cls.__name__.lower()
    taken = _registered.get(name)
    same = taken is not None and (taken.__module__, taken.__qualname__) == (cls.__module__, cls.__qualname__)
    if name in _own or (taken is not None and not same):
        raise ValueError(f"format {name!r} already stands for another reader")
    _registered[name] = cls
    return cls


def formats() -> list[str]:
    """The names of all formats."""
    return sorted({*_own, *_registered})


def reader_class(name: str) -> type[Reader]:
    """The reader of a format.

    Raises:
        ValueError: there is none of this name.
    """
    if name in _registered:
        return _registered[name]
    if name not in _own:
        near = get_close_matches(name, formats(), n=1, cutoff=0.5)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ValueError(f"data.format must be one of {', '.join(formats())}, got {name!r}{hint}")
    module, _, cls = _own[name].partition(".")
    return getattr(import_module(f".{module}", __package__), cls)


def name_of(reader: Reader) -> str:
    """The name of a reader's format."""
    for name in formats():
        if type(reader) is reader_class(name):
            return name
    raise ValueError(f"{type(reader).__name__} is not registered: call ndrnn.data.register on it")
