"""The models that pictures are coded with, by name or by path."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import nn

from ..density.use.codec import fingerprint
from ..registry import nearest
from ..saving import shipped
from .trained import load


class CodingModel(NamedTuple):
    """A model, what to call it, and whether it learned from negatives."""

    model: nn.Module
    name: str
    negative: bool


def coding_model(name: str) -> CodingModel:
    """A model that ships with the package, or that of a run's folder or a file of weights.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is for something else.
    """
    path = shipped.file_of(name) or Path(name)
    if not path.exists():
        raise FileNotFoundError(
            f"--model {name}: no run's folder, no weights and no model that ships{nearest(name, shipped.names())}"
        )
    model, reader, file = load(path)
    model = getattr(model, "model", model)  # of a task
    try:
        fingerprint(model)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    label = name if name in shipped.names() else file.parent.name if path.is_dir() else file.stem
    return CodingModel(model, label, reader is not None and reader.invert)
