"""Frozen dataclasses as configuration: to plain dictionaries and back, strictly."""

from __future__ import annotations

import types
from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from ..registry import nearest

Settings = TypeVar("Settings")


def to_dict(settings: Any) -> dict[str, Any]:
    """A dataclass and those that it holds as dictionaries of what JSON and TOML know."""
    return asdict(settings)


def from_dict(cls: type[Settings], values: Mapping[str, Any], where: str = "") -> Settings:
    """The dataclass ``cls`` with these values; what is not named keeps its default.

    Raises:
        ValueError: a key is unknown, a required one is missing, or a value is out of range; the message names the key
            as ``where.key``, and the nearest known one.
        TypeError: a value is of the wrong kind.
    """
    hints = get_type_hints(cls)
    known = [field.name for field in fields(cls)]  # type: ignore[arg-type]
    given = {}
    for key, value in values.items():
        name = f"{where}.{key}" if where else key
        if key not in known:
            raise ValueError(f"unknown key {name!r}{nearest(key, known)}")
        given[key] = _read(hints[key], value, name)
    try:
        return cls(**given)
    except TypeError as error:
        raise ValueError(f"{where or cls.__name__}: {error}") from error


def _read(hint: Any, value: Any, name: str) -> Any:
    origin, options = get_origin(hint), get_args(hint)
    if origin in (Union, types.UnionType):
        if value is None and type(None) in options:
            return None
        (hint,) = (option for option in options if option is not type(None))
        return _read(hint, value, name)
    if is_dataclass(hint):
        if not isinstance(value, Mapping):
            raise TypeError(f"{name} must be a table, got {type(value).__name__}")
        return from_dict(hint, value, name)  # type: ignore[arg-type]
    if origin is Literal:
        if value not in options:
            raise ValueError(f"{name} must be one of {', '.join(map(repr, options))}, got {value!r}")
        return value
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} must be a list, got {type(value).__name__}")
        return tuple(_read(options[0], entry, f"{name}[{index}]") for index, entry in enumerate(value))
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (isinstance(value, bool) and hint is not bool):
        raise TypeError(f"{name} must be of type {hint.__name__}, got {value!r}")
    return value
