"""Training by Lightning."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ..data.sampler import BatchOrder, shuffled
    from .callbacks.record import Mark, Record
    from .callbacks.survival import BEST, LAST, DivergedError
    from .options import Options
    from .standing import Standing, standing_of
    from .task import Task
    from .training import evaluate, fit
    from .transfer import Transfer, taken_over

__all__ = [
    "BEST",
    "LAST",
    "BatchOrder",
    "DivergedError",
    "Mark",
    "Options",
    "Record",
    "Standing",
    "Task",
    "Transfer",
    "evaluate",
    "fit",
    "shuffled",
    "standing_of",
    "taken_over",
]

# imported when asked for: options are read without PyTorch and Lightning
_HOMES = {
    **dict.fromkeys(("BatchOrder", "shuffled"), "..data.sampler"),
    **dict.fromkeys(("Mark", "Record"), ".callbacks.record"),
    **dict.fromkeys(("BEST", "LAST", "DivergedError"), ".callbacks.survival"),
    "Options": ".options",
    **dict.fromkeys(("Standing", "standing_of"), ".standing"),
    "Task": ".task",
    **dict.fromkeys(("Transfer", "taken_over"), ".transfer"),
    **dict.fromkeys(("evaluate", "fit"), ".training"),
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
