"""Configurations as TOML text; reading it is the standard library's."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any


def dumps(values: Mapping[str, Any]) -> str:
    """TOML of plain values, lists of them and tables; what is None is left out, since TOML has no word for it.

    Raises:
        TypeError: a value is of another kind.
    """
    lines = [
        f"{_key(key)} = {_value(value, key)}"
        for key, value in values.items()
        if value is not None and not isinstance(value, Mapping)
    ]
    text = "\n".join(lines) + ("\n" if lines else "")
    for key, value in values.items():
        if isinstance(value, Mapping):
            if any(isinstance(inner, Mapping) for inner in value.values()):
                raise TypeError(f"{key} must not hold tables")
            text += f"\n[{_key(key)}]\n{dumps(value)}"
    return text


def _key(key: str) -> str:
    return key if re.fullmatch("[A-Za-z0-9_-]+", key) else _value(key, key)


def _value(value: Any, key: str) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")
    if isinstance(value, float):
        return repr(value)
    if isinstance(value, int):
        return str(value)
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_value(entry, key) for entry in value)}]"
    raise TypeError(f"{key} must be a string, number, truth value or list, got {type(value).__name__}")
