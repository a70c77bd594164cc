"""What networks can be trained for by name: the tasks of the library, and those of plugins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import tasks
from ..data.pipeline.gather import Purpose
from ..learn.training import Task
from ..saving.config import nearest
from ..saving.models import register as register_model
from ..tasks import Facts


@dataclass(frozen=True)
class Use:
    """A task's configuration, its class, and which task's data, batches and predictions it shares."""

    settings: type
    task: type[Task]
    purpose: Purpose


_registered: dict[str, Use] = {}


def register_task(name: str, settings: type, task: type[Task], purpose: Purpose) -> None:
    """Let recipes name a task of one's own, and its weights be saved and loaded.

    Args:
        name: for the key ``task`` of recipes.
        settings: its configuration, a frozen dataclass with the field ``training``, whose fields become keys and
            options.
        task: made as ``task(settings, facts)``.
        purpose: the task of the library that it resembles in its data, its batches and its predictions.

    Raises:
        ValueError: the name stands for another task, or ``purpose`` is none of the library's.
    """
    if purpose not in tasks.TASKS:
        raise ValueError(f"purpose must be one of {', '.join(tasks.TASKS)}, got {purpose!r}")
    taken = _registered.get(name)
    if name in tasks.TASKS or (taken is not None and taken.task.__qualname__ != task.__qualname__):
        raise ValueError(f"task {name!r} already stands for another one")
    register_model(task)
    _registered[name] = Use(settings, task, purpose)


def names() -> list[str]:
    """The names of all tasks."""
    return [*tasks.TASKS, *_registered]


def use(name: str) -> Use:
    """The task of this name.

    Raises:
        ValueError: there is none.
    """
    if name in _registered:
        return _registered[name]
    if name not in tasks.TASKS:
        raise ValueError(f"task {name!r} is not known{nearest(name, names())}")
    settings, task = tasks.TASKS[name]
    return Use(getattr(tasks, settings), getattr(tasks, task), name)  # type: ignore[arg-type]


def build(name: str, settings: Any, facts: Facts) -> Task:
    """A task with fresh weights."""
    return use(name).task(settings, facts)


def purpose_of(task: Task) -> Purpose:
    """Which of the library's tasks a trained one is, or resembles.

    Raises:
        TypeError: it is neither of the library nor registered.
    """
    for name in names():
        found = use(name)
        if type(task) is found.task:
            return found.purpose
    raise TypeError(f"{type(task).__name__} is not registered: call ndrnn.app.uses.register_task")
