"""Training by Lightning."""

from ..data.sampler import BatchOrder, shuffled
from .callbacks.record import Mark, Record
from .callbacks.survival import BEST, LAST, DivergedError
from .options import Options
from .task import Task
from .training import evaluate, fit

__all__ = [
    "BEST",
    "LAST",
    "BatchOrder",
    "DivergedError",
    "Mark",
    "Options",
    "Record",
    "Task",
    "evaluate",
    "fit",
    "shuffled",
]
