"""``ndrnn info``: what there is here, or what a trained model is."""

from __future__ import annotations

import os
import platform
from pathlib import Path
from typing import Any

import torch

from ...data.readers.place import VARIABLE
from ...registry import readers, tasks
from ...saving.config import to_dict
from ...scan import available_backends
from ...version import __version__
from ..options import Info
from ..output import Output


def run(info: Info) -> int:
    """Run the command; returns the exit status."""
    out = Output(info.json)
    values = _here() if info.model is None else _model(info.model)
    out.table(_rows(values))
    out.result(values)
    return 0


def _here() -> dict[str, Any]:
    backends = {
        name: "available" if reason is True else reason for name, reason in available_backends().items()
    }
    return {
        "ndrnn": __version__,
        "torch": torch.__version__,
        "python": platform.python_version(),
        "machine": f"{platform.system()} {platform.machine()}, {torch.get_num_threads()} threads",
        "cuda": [torch.cuda.get_device_name(index) for index in range(torch.cuda.device_count())],
        "backends": backends,
        "tasks": list(tasks),
        "formats": sorted(readers),
        "data": os.environ.get(VARIABLE, f"{VARIABLE} is not set"),
    }


def _model(path: Path) -> dict[str, Any]:
    from ...learn.task import Task
    from ..trained import load, trainable

    task, _, file = load(path)
    if not isinstance(task, Task):
        return {
            "file": str(file),
            "model": type(task).__name__,
            "weights": trainable(task),
            "configuration": task.config(),
        }
    return {
        "file": str(file),
        "task": type(task).__name__,
        "weights": trainable(task.model),
        **({} if task.temperature == 1 else {"temperature": task.temperature}),
        "facts": to_dict(task.facts),
        "settings": to_dict(task.settings),
    }


def _shown(value: Any) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value in (None, ""):
        return "none"
    return f"{value:,}" if isinstance(value, int) else str(value)


def _rows(values: dict[str, Any], prefix: str = "") -> list[tuple[str, str]]:
    rows: list[tuple[str, str]] = []
    for key, value in values.items():
        if isinstance(value, dict):
            rows += _rows(value, f"{prefix}{key}.")
        elif isinstance(value, (list, tuple)):
            rows.append((prefix + key, ", ".join(map(str, value)) or "none"))
        else:
            rows.append((prefix + key, _shown(value)))
    return rows
