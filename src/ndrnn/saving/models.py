"""Models to disk and back: weights as safetensors, the model's constructor arguments as JSON beside them.

``save(model, "digits.safetensors")`` also writes ``digits.json``, which names the class and holds
``model.config()``. ``load`` makes ``cls(**config)`` and fills in the weights; it runs no code from a file and
makes no class that is not registered. To take part, a class needs:

- ``config()``: the arguments of its constructor, made of what JSON knows (tuples become lists);
- a name: ``register(cls)``, which is also a decorator. This library's own models have theirs;
- where an argument is more than JSON can hold, a class method ``from_config(config)``.

A layer alone (``MDLSTM`` and its kin) can be saved too.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor, nn

from ..registry import models, nearest
from ..version import __version__
from .atomic import replacing

try:
    from safetensors import SafetensorError
    from safetensors.torch import load_file, save_file
except ModuleNotFoundError as error:
    raise ImportError("saving and loading models needs safetensors: pip install safetensors") from error

Class = TypeVar("Class", bound=type[nn.Module])

_FORMAT = 1
_KEYS = ("format", "ndrnn", "model", "config")


def register(cls: Class, name: str | None = None) -> Class:
    """Let models of ``cls`` be saved and loaded, under ``name`` or the name of the class; returns ``cls``.

    Raises:
        ValueError: another class has this name.
    """
    return models.register(cls, name)


def save(model: nn.Module, path: str | PathLike[str]) -> None:
    """Write weights to ``path``, which ends in ``.safetensors``, and class and arguments to ``.json`` beside it.

    Each file is written under a temporary name and renamed, so that an interrupted save leaves the old files.

    Raises:
        TypeError: the class is not registered, or its config holds what JSON cannot.
        ValueError: the name has another ending, or a weight is NaN or infinite.
    """
    weights_path, config_path = _pair(path)
    content = {"format": _FORMAT, "ndrnn": __version__, "model": name_of(model), "config": _config_of(model)}
    try:
        text = json.dumps(content, indent=2, allow_nan=False) + "\n"
    except (TypeError, ValueError) as error:
        raise TypeError(f"{type(model).__name__}.config() must hold what JSON can: {error}") from error
    tensors = {}
    for name, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"state {name!r} must be a tensor, got {type(value).__name__}")
        _check_finite(value, name, type(model).__name__)
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
    with replacing(weights_path) as weights, replacing(config_path) as config:
        save_file(tensors, weights)
        config.write_text(text, encoding="utf-8")


def load(path: str | PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """The model saved at ``path``, in evaluation mode, each tensor with the dtype it was saved with.

    Raises:
        FileNotFoundError: the weights or the config beside them are missing.
        ValueError: one of them is truncated, foreign or does not fit the other; the message names the file, and the
            key or the tensor.
    """
    weights_path, config_path = _pair(path)
    cls, config = _read_config(config_path)
    try:
        tensors = load_file(weights_path)
    except SafetensorError as error:
        raise ValueError(f"{weights_path}: not a whole safetensors file ({error})") from error
    make: Callable[[dict[str, Any]], nn.Module]
    make = getattr(cls, "from_config", None) or (lambda arguments: cls(**arguments))
    try:
        with torch.random.fork_rng(devices=[]):  # the weights drawn here are thrown away
            model = make(config)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{config_path}: config does not make a {cls.__name__}: {error}") from error
    targets = model.state_dict(keep_vars=True)
    for name in sorted(targets.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"{weights_path}: tensor {name!r} is missing")
        if name not in targets:
            raise ValueError(f"{weights_path}: unexpected tensor {name!r}{nearest(name, targets)}")
        expected, got = tuple(targets[name].shape), tuple(tensors[name].shape)
        if expected != got:
            raise ValueError(f"{weights_path}: tensor {name!r} must have shape {expected}, got {got}")
        _check_finite(tensors[name], name, str(weights_path))
    for name, target in targets.items():
        target.data = tensors[name]
    return model.to(device).eval()


def _pair(path: str | PathLike[str]) -> tuple[Path, Path]:
    path = Path(path)
    if path.suffix != ".safetensors":
        raise ValueError(f"path must end in .safetensors, got {str(path)!r}")
    return path, path.with_suffix(".json")


def name_of(model: nn.Module) -> str:
    """The name under which a model is saved.

    Raises:
        TypeError: its class is not registered.
    """
    name = models.name_of(type(model))
    if name is None:
        cls = type(model).__name__
        raise TypeError(f"{cls} is not registered: call ndrnn.registry.models.register({cls})")
    return name


def _config_of(model: nn.Module) -> dict[str, Any]:
    config: Callable[[], dict[str, Any]] | None = getattr(model, "config", None)
    if config is None:
        raise TypeError(f"{type(model).__name__} must have a method config() to be saved")
    return config()


def _read_config(path: Path) -> tuple[type[nn.Module], dict[str, Any]]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:  # of JSON or of its encoding
        raise ValueError(f"{path}: not a whole JSON file ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path}: must hold an object, got {type(content).__name__}")
    _check_keys(path, content, _KEYS)
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise ValueError(f"{path}: key {missing[0]!r} is missing")
    if content["format"] != _FORMAT:
        raise ValueError(
            f"{path}: format must be {_FORMAT}, got {content['format']!r} (ndrnn {content['ndrnn']})"
        )
    name, config = content["model"], content["config"]
    if not isinstance(name, str) or name not in models:
        raise ValueError(f"{path}: no registered model has the name {name!r}{nearest(str(name), models)}")
    if not isinstance(config, dict):
        raise ValueError(f"{path}: config must be an object, got {type(config).__name__}")
    cls = models[name]
    _check_keys(path, config, _arguments(cls))
    return cls, config


def _arguments(cls: type) -> set[str]:
    """Names that the constructor takes, those of a ``**options: Unpack[TypedDict]`` included."""
    names = set()
    for name, parameter in inspect.signature(cls).parameters.items():
        if parameter.kind is not parameter.VAR_KEYWORD:
            names.add(name)
            continue
        hint = get_type_hints(cls.__init__).get(name)  # type: ignore[misc]
        names |= {key for options in get_args(hint) for key in get_type_hints(options)}
    return names


def _check_keys(path: Path, found: dict[str, Any], known: Iterable[str]) -> None:
    for key in found:
        if key not in known:
            raise ValueError(f"{path}: unknown key {key!r}{nearest(key, known)}")


def _check_finite(tensor: Tensor, name: str, where: str) -> None:
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{where}: tensor {name!r} has values that are NaN or infinite")
