"""A task as what a recipe names: its configuration, its module, and what kind of data it is for."""

from __future__ import annotations

from dataclasses import dataclass

from ..data.pipeline.gather import Purpose
from ..learn.task import Task
from ..registry import models, tasks


@dataclass(frozen=True)
class Use:
    """What a recipe's ``task`` stands for."""

    settings: type
    """The configuration, a frozen dataclass with the field ``training``, whose fields become keys and options."""
    task: type[Task]
    """The module, made as ``task(settings, facts)``."""
    purpose: Purpose
    """Which of the library's tasks it is, or resembles in its data, its batches and its predictions."""


def register(name: str, settings: type, task: type[Task], purpose: Purpose) -> Use:
    """Let recipes name a task of one's own, and its weights be saved and loaded.

    Args:
        name: for the key ``task`` of recipes.
        settings, task, purpose: see :class:`Use`.

    Raises:
        ValueError: the name stands for another task, or the purpose is none of the library's.
    """
    known = Purpose.__args__  # type: ignore[attr-defined]
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
        if type(task) is use.task:
            found: Use = use
            return found
    raise TypeError(f"{type(task).__name__} is not registered: call ndrnn.tasks.register")
