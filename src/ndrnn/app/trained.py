"""Trained models by the path of their weights or of the run's folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import nn

from ..data.readers.source import Reader
from ..registry import nearest
from ..saving import models, shipped
from ..tasks.views import check_views
from .recipe import FILE, read


def weights_of(path: Path) -> Path:
    """The weights that ``path`` means, as :func:`ndrnn.load` has it.

    Raises:
        FileNotFoundError: there are none.
    """
    file = models.file_of(path)
    if not file.exists():
        hint = "" if path.suffix else nearest(str(path), shipped.names())
        raise FileNotFoundError(f"{file}: no such model{hint}")
    return file


def trainable(model: nn.Module) -> int:
    """How many weights training can change; those that a model keeps fixed do not count."""
    return sum(weight.numel() for weight in model.parameters() if weight.requires_grad)


def load(path: Path) -> tuple[Any, Reader | None, Path]:
    """The trained task at ``path``, in evaluation mode, the reader of its run's recipe, and the file of its weights.

    Weights without a recipe beside them have no reader.

    Raises:
        FileNotFoundError: there are no weights.
        ValueError: they make no model, or the recipe asks for plugins that the command line does not name.
    """
    file = weights_of(path)
    reader = read(file.parent).data if (file.parent / FILE).exists() else None
    return models.load(file), reader, file


def set_reading(task: Any, **options: int | bool | None) -> None:
    """Change how a trained task reads, where an option is not None.

    Raises:
        ValueError: it does not read, or cannot read so.
    """
    given = {name: value for name, value in options.items() if value is not None}
    for name in given:
        if not hasattr(task.settings, name):
            raise ValueError(f"{name} is for networks that read, not for a {type(task).__name__}")
    settings = replace(task.settings, **given)
    check_views(bool(given.get("views")), task.facts.ndim)
    task.settings = settings


def reading_of(task: Any) -> dict[str, int | bool]:
    """How a trained task reads; nothing if it does not."""
    return {name: getattr(task.settings, name) for name in ("beam", "views") if hasattr(task.settings, name)}
