"""Modules that hold others, as plain values for a saved config: ``{"model": name, "config": {...}}``."""

from __future__ import annotations

from typing import Any

from torch import nn

from ..registry import models


def description(module: nn.Module) -> dict[str, Any]:
    """What :func:`made` makes the module from.

    Raises:
        TypeError: its class is not registered, or has no ``config()``.
    """
    name, config = models.name_of(type(module)), getattr(module, "config", None)
    if name is None or config is None:
        cls = type(module).__name__
        raise TypeError(
            f"{cls} must be registered in ndrnn.registry.models and have a method config() to be saved"
        )
    return {"model": name, "config": config()}


def made(described: Any) -> nn.Module:
    """The module that a description stands for, with fresh weights.

    Raises:
        ValueError: the description has another form, or its model is not registered.
    """
    if not isinstance(described, dict) or set(described) != {"model", "config"}:
        raise ValueError(f"a model within another must be described by model and config, got {described!r}")
    cls, config = models.find(described["model"]), described["config"]
    if not isinstance(config, dict):
        raise ValueError(f"config of {described['model']} must be an object, got {type(config).__name__}")
    make = getattr(cls, "from_config", None)
    module: nn.Module = cls(**config) if make is None else make(config)
    return module
