"""The models that the page offers, and what it says of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...data.batches import Purpose
from ...data.formats.labelmaps import palette
from ...data.readers.source import Reader
from ...density.ride.model import RideModel
from ...inspect.activity import scan_layers
from ...learn import BEST
from ...learn.task import Task
from ...saving import shipped
from ...tasks.use import use_of
from ..density_model import as_task
from ..inputs import Loader
from ..trained import load, trainable

VIEWS: dict[Purpose, tuple[str, ...]] = {
    "label": ("labels", "memory"),
    "transcribe": ("text", "memory"),
    "classify": ("classes", "memory"),
    "density": ("surprise", "fill", "draw", "memory"),
}
"""What can be seen of a model of each purpose, the first at once."""


@dataclass(frozen=True)
class Served:
    """A model that the page offers."""

    name: str
    purpose: Purpose
    task: Any
    loader: Loader
    device: str
    about: str = ""

    @property
    def model(self) -> Any:
        """The network, or the density."""
        return self.task.model

    @property
    def reader(self) -> Reader | None:
        """That of the run's data."""
        return self.loader.reader

    def described(self) -> dict[str, Any]:
        """What the page has to know, for JSON."""
        classes = self.task.facts.classes
        return {
            "name": self.name,
            "purpose": self.purpose,
            "about": self.about,
            "channels": self.task.facts.channels,
            "views": VIEWS[self.purpose],
            "classes": classes,
            "colours": palette(len(classes)).tolist(),
            "layers": [
                {
                    "name": name,
                    "kind": type(layer).__name__,
                    "units": layer.hidden_size,
                    "directions": layer.directions,
                }
                for name, layer in scan_layers(self.model).items()
            ],
        }


def open_models(paths: Sequence[Path], device: str) -> list[Served]:
    """The models at ``paths``, each under a name of its own.

    Raises:
        FileNotFoundError: there are no weights at one.
        ValueError: one is of nothing that the page can show.
    """
    models: list[Served] = []
    for path in paths:
        models.append(_open(path, _free(_called(path), [model.name for model in models]), device))
    return models


def _open(path: Path, name: str, device: str) -> Served:
    task, reader, file = load(path)
    if not isinstance(task, (Task, RideModel)):
        raise ValueError(
            f"{file}: must be a trained task or a density of images, got a {type(task).__name__}, "
            "of which nobody knows what its values mean"
        )
    task = as_task(task, file)
    purpose = use_of(task).purpose
    if task.facts.ndim != 2:
        raise ValueError(
            f"{file}: must be a model of images, got one of {task.facts.ndim} axes; ndrnn predict uses it"
        )
    task.to(device)
    loader = Loader(reader, task.facts)
    summary = shipped.card(str(path))["summary"] if file == shipped.file_of(str(path)) else ""
    kind = {1: "grey", 2: "grey with opacity", 3: "colour", 4: "colour with opacity"}
    about = summary or (
        f"{purpose}, {trainable(task.model):,} weights, {kind.get(task.facts.channels, f'{task.facts.channels} channels')}"
    )
    return Served(name, purpose, task, loader, device, about)


def _called(path: Path) -> str:
    """What a person calls a model: the run's folder, or the file."""
    path = path.absolute()
    return (
        path.parent.name if path.name == BEST else path.stem if path.suffix == ".safetensors" else path.name
    )


def _free(name: str, taken: Sequence[str]) -> str:
    number, free = 1, name
    while free in taken:
        number += 1
        free = f"{name} ({number})"
    return free
