"""Trained models that come with the package, by name.

Each is two files in ``ndrnn/models``: ``NAME.safetensors`` and its card ``NAME.toml``, which says what the model is for,
whose pictures it learned from and under which licences, the command that made it, and how well it does. One that pictures
are compressed with where no other is named says of how many channels they are, opacity apart: ``channels = [3]``.
"""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[1] / "models"


def names() -> list[str]:
    """The names of all models that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.safetensors"))


def file_of(name: str) -> Path | None:
    """The weights of a model that ships, or None if none has this name."""
    return FOLDER / f"{name}.safetensors" if name in names() else None


def coder(channels: int) -> str | None:
    """The name of the model that pictures of so many channels, opacity apart, are coded with: one for such pictures, or
    for grey ones, plane by plane; None if there is neither."""
    fits = {name: card(name).get("channels", []) for name in names()}
    return next((name for wanted in (channels, 1) for name, own in fits.items() if wanted in own), None)


def card(name: str) -> dict[str, Any]:
    """What there is to know of a model that ships.

    Raises:
        ValueError: none has this name.
    """
    if name not in names():
        raise ValueError(f"name must be one of {', '.join(names())}, got {name!r}")
    return tomllib.loads((FOLDER / f"{name}.toml").read_text(encoding="utf-8"))
