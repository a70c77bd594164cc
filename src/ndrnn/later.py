"""Modules that are imported when something of them is first asked for.

The options of a format stand beside what reads it; who wants the options alone should not wait for NumPy and Pillow.
Type checkers see the true import::

    if TYPE_CHECKING:
        import numpy as np
    else:
        np = Later("numpy")
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


class Later(ModuleType):
    """Stands for the module of this name."""

    def __getattr__(self, name: str) -> Any:
        value = getattr(import_module(self.__name__), name)
        setattr(self, name, value)
        return value
