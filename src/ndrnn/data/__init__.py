"""Data: readers of the formats that people have, and checked samples made of them.

A reader is a frozen dataclass that names a place and a format; :func:`ndrnn.data.pipeline.gather.gather` reads and checks all
samples; :class:`ndrnn.data.pipeline.module.DataModule` makes batches of them for training::

    reader = Masks(path="camvid", ignore=(11,))                   # ndrnn.data.readers.pairs
    gathered = gather(reader, "label")                            # gathered.faults: what cannot be used, and why
    data = DataModule(gathered, "label", batch_size=8)            # data.facts: what a task has to know

A format of your own is a :class:`Reader` and a :class:`Source`; :func:`register` gives it a name for recipes.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .digit_images import DigitImages, Split
    from .faults import BadFile
    from .readers.registry import register
    from .readers.source import Raw, Reader, Source

__all__ = ["BadFile", "DigitImages", "Raw", "Reader", "Source", "Split", "register"]

# imported when asked for: the command line reads options without PyTorch
_HOMES = {
    "BadFile": ".faults",
    "DigitImages": ".digit_images",
    "Raw": ".readers.source",
    "Reader": ".readers.source",
    "Source": ".readers.source",
    "Split": ".digit_images",
    "register": ".readers.registry",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
