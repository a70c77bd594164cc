"""A task as what a recipe names: its configuration, its module, and what kind of data it is for."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from typing import TYPE_CHECKING, get_args

from ..data.batches import Purpose
from ..registry import models, tasks
from .configuration import Classify, Density, Label, Transcribe

if TYPE_CHECKING:
    from ..learn.task import Task


@dataclass(frozen=True)
class Use:
    """What a recipe's ``task`` stands for."""

    settings: type
    """The configuration, a frozen dataclass with the field ``training``, whose fields become keys and options."""
    module: type[Task] | str
    """The task's class, or its place, ``"package.module:attribute"``: options are read without PyTorch."""
    purpose: Purpose
    """Which of the library's tasks it is, or resembles in its data, its batches and its predictions."""

    @property
    def task(self) -> type[Task]:
        """The module, made as ``task(settings, facts)``."""
        if isinstance(self.module, str):
            home, _, name = self.module.partition(":")
            found: type[Task] = getattr(import_module(home), name)
            return found
        return self.module

    def serves(self, task: object) -> bool:
        """Whether this is what ``task`` is made by."""
        if isinstance(self.module, str):  # compared without importing what it is not
            return f"{type(task).__module__}:{type(task).__qualname__}" == self.module
        return type(task) is self.module


LABEL = Use(Label, "ndrnn.tasks.label:LabelTask", "label")
CLASSIFY = Use(Classify, "ndrnn.tasks.classify:ClassifyTask", "classify")
TRANSCRIBE = Use(Transcribe, "ndrnn.tasks.transcribe:TranscribeTask", "transcribe")
DENSITY = Use(Density, "ndrnn.tasks.density:DensityTask", "density")


def register(name: str, settings: type, task: type[Task], purpose: Purpose) -> Use:
    """Let recipes name a task of one's own, and its weights be saved and loaded.

    Args:
        name: for the key ``task`` of recipes.
        settings, task, purpose: see :class:`Use`.

    Raises:
        ValueError: the name stands for another task, or the purpose is none of the library's.
    """
    known = get_args(Purpose)
    if purpose not in known:
        raise ValueError(f"purpose must be one of {', '.join(known)}, got {purpose!r}")
    use = tasks.register(Use(settings, task, purpose), name)
    if models.name_of(task) is None:
        models.register(task)
    return use


def use_of(task: Task) -> Use:
    """What a task is trained for.

    Raises:
        TypeError: it is neither of the library nor registered.
    """
    for use in tasks.values():
        if use.serves(task):
            found: Use = use
            return found
    raise TypeError(f"{type(task).__name__} is not registered: call ndrnn.tasks.register")
