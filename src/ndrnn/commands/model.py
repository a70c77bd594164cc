"""Trained models by the path of their weights or of the run's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .. import checkpoint
from ..training import BEST
from .recipe import FILE, read


def weights_of(path: Path) -> Path:
    """The weights that ``path`` means: a file, or the best of a run's folder.

    Raises:
        FileNotFoundError: there are none.
    """
    file = path / BEST if path.is_dir() else path
    if not file.exists():
        kind = "run's folder with weights" if path.is_dir() else "such model"
        raise FileNotFoundError(f"{file}: no {kind}")
    return file


def load(path: Path, plugins: tuple[str, ...] = ()) -> tuple[Any, Path]:
    """The trained task at ``path``, in evaluation mode, and the file that it is from.

    The modules that its run's recipe names as plugins are imported first, since they may hold its class.
    """
    from .recipe import load_plugin

    file = weights_of(path)
    if (file.parent / FILE).exists():
        read(file.parent)  # imports the plugins of the run
    for plugin in plugins:
        load_plugin(plugin)
    return checkpoint.load(file), file
