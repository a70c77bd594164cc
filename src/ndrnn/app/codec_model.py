"""The models that pictures are coded with, by name or by path."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from torch import nn

from ..density.ride.model import RideModel
from ..density.use.codec import fingerprint, rescaled
from ..saving import shipped
from .trained import load


class CodingModel(NamedTuple):
    """A model, what to call it, whether it learned from negatives, and whether it ships."""

    model: nn.Module
    name: str
    negative: bool
    ships: bool = False
    note: str = ""
    """What speaks against it, if anything does."""

    def for_signed(self) -> nn.Module:
        """The model of the integers of a signed type after they were moved up by half of its range, or of their
        negatives, which are not negative: it learned from values up to 1 that have no more than half of the numbers."""
        if not isinstance(self.model, RideModel):
            return self.model
        return rescaled(self.model, 2.0, 0.0 if self.negative else -1.0)


def coding_model(name: str) -> CodingModel:
    """A model that ships with the package, or that of a run's folder or a file of weights.

    Raises:
        FileNotFoundError: there is none.
        ValueError: it is for something else.
    """
    path = Path(name)
    model, reader, file = load(path)
    model = getattr(model, "model", model)  # of a task
    try:
        fingerprint(model)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    ships = name in shipped.names()
    label = name if ships else file.parent.name if path.is_dir() else file.stem
    note = ""
    if reader is not None and reader.scale == "sample":
        note = f"{name} learned each sample on a scale of its own, and knows nothing of stored values: files will be large"
    return CodingModel(model, label, reader is not None and reader.invert, ships, note)


class CodingModels:
    """Models as files ask for them, each loaded once.

    Args:
        name: of the one for all files; by default each has the one that ships for its channels.
    """

    def __init__(self, name: str = "") -> None:
        self._name, self._loaded = name, dict[str, CodingModel]()
        if name:  # before any file: a model that cannot be used is no file's fault
            self.named(name)

    def named(self, name: str) -> CodingModel:
        """As :func:`coding_model`."""
        if name not in self._loaded:
            self._loaded[name] = coding_model(name)
        return self._loaded[name]

    def of(self, axes: int, channels: int) -> CodingModel:
        """The model for files of so many axes, and channels beside opacity.

        Raises:
            ValueError: none was named, and none that ships is for such files.
        """
        if not (name := self._name or (shipped.coder(channels) if axes == 2 else None)):
            kind = {1: "signals", 3: "volumes"}.get(axes, "such images")
            raise ValueError(
                f"no model that ships codes {kind}: train one by ndrnn train --task density, and name it by --model"
            )
        return self.named(name)
