"""Models to disk and back: one safetensors file, whose header holds the class and its constructor's arguments.

``save(model, "digits.safetensors")`` writes the weights, the name of the class and ``model.config()``. ``load`` makes
``cls(**config)`` without memory for weights, compares names and shapes, and puts the weights in place; it runs no code
from a file and makes no class that is not registered. To take part, a class needs:

- ``config()``: the arguments of its constructor, made of what JSON knows (tuples become lists);
- a name: ``register(cls)``, which is also a decorator. This library's own models have theirs;
- where an argument is more than JSON can hold, a class method ``from_config(config)``;
- where that takes more than there are arguments, their names in the class attribute ``config_keys``.

A layer alone (``MDLSTM`` and its kin) can be saved too. Files of version 0.1, which kept class and arguments in a
``.json`` beside the weights, are read as well.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Iterable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypeVar, get_args, get_type_hints

import torch
from torch import Tensor, nn

from ..registry import models, nearest
from ..version import __version__
from . import shipped
from .atomic import replacing
from .skeleton import fill, skeleton, unfilled

try:
    from safetensors import SafetensorError, safe_open
    from safetensors.torch import save_file
except ModuleNotFoundError as error:
    raise ImportError("saving and loading models needs safetensors: pip install safetensors") from error

Class = TypeVar("Class", bound=type[nn.Module])

MODEL_FILE = "model.safetensors"
"""The weights in a folder that holds a model."""
RUN_FILE = "best.safetensors"
"""Those in the folder of a run."""

_FORMAT = "ndrnn-model-2"
_KEYS = ("format", "ndrnn", "model", "config")
_PAIR = 1  # the format of 0.1
_RENAMED = {"checkpoint": "recompute"}  # arguments since 0.1
_REALS = (torch.float16, torch.bfloat16, torch.float32, torch.float64)


def register(cls: Class, name: str | None = None) -> Class:
    """Let models of ``cls`` be saved and loaded, under ``name`` or the name of the class; returns ``cls``.

    Raises:
        ValueError: another class has this name.
    """
    return models.register(cls, name)


def save(model: nn.Module, path: str | PathLike[str]) -> None:
    """Write weights, class and arguments to ``path``, which ends in ``.safetensors``, whole or not at all.

    Raises:
        TypeError: the class is not registered, or its config holds what JSON cannot.
        ValueError: the name has another ending, or a weight is NaN or infinite.
    """
    path = _checked(path)
    name, arguments = name_of(model), _config_of(model)
    try:
        config = json.dumps(arguments, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise TypeError(f"{type(model).__name__}.config() must hold what JSON can: {error}") from error
    tensors = {}
    for key, value in model.state_dict().items():
        if not isinstance(value, Tensor):
            raise TypeError(f"state {key!r} must be a tensor, got {type(value).__name__}")
        _check_finite(value, key, type(model).__name__)
        tensors[key] = value.detach().to("cpu", copy=True).contiguous()
    metadata = {"format": _FORMAT, "ndrnn": __version__, "model": name, "config": config}
    with replacing(path) as temporary:
        save_file(tensors, temporary, metadata)


def load(path: str | PathLike[str], device: torch.device | str = "cpu") -> nn.Module:
    """The model saved at ``path``, in evaluation mode, each tensor with the dtype it was saved with.

    ``path`` is a file, a folder that holds a model (:func:`ndrnn.hub.save_pretrained`) or a run, whose best weights it
    stands for then, or the name of a model that ships with the package (:func:`ndrnn.saving.shipped.names`).

    No memory is taken for weights before the file is known to hold them, and no random number is drawn.

    Raises:
        FileNotFoundError: there is no such file, or no weights in the folder.
        ValueError: it is truncated, foreign, or its weights do not fit its configuration; the message names the file,
            and the key or the tensor.
    """
    path = _checked(file_of(path))
    metadata, tensors = _read(path)
    content, where = _described(path, metadata)
    cls, config = _class_of(content, where)
    made_by = getattr(cls, "from_config", None) or (lambda arguments: cls(**arguments))

    def make() -> nn.Module:
        model: nn.Module = made_by(config)
        return model

    try:
        model = skeleton(make, len(tensors))
    except Exception as error:  # whatever a constructor makes of a foreign configuration
        raise ValueError(f"{where}: config does not make a {cls.__name__}: {_told(error)}") from error
    _check_fit(model.state_dict(keep_vars=True), tensors, str(path))
    if unfilled(model):  # more than its state is made by the constructor: it is made once more, with memory
        with torch.random.fork_rng(devices=[]):
            model = make()
    fill(model, tensors)
    return model.to(device).eval()


def file_of(path: str | PathLike[str]) -> Path:
    """The file of weights that ``path`` means: a model that ships, by its name, itself, or that of a folder with a model
    or a run.

    What a model that ships is called means that model, in every folder: a file or a folder of the same name is meant by
    a longer path.

    Raises:
        FileNotFoundError: it is a folder without weights.
    """
    if ships := shipped.file_of(str(path)):
        return ships
    path = Path(path)
    if not path.is_dir():
        return path
    for name in (MODEL_FILE, RUN_FILE):
        if (path / name).exists():
            return path / name
    raise FileNotFoundError(f"{path}: no folder with weights ({MODEL_FILE}, or {RUN_FILE} of a run)")


def _checked(path: str | PathLike[str]) -> Path:
    path = Path(path)
    if path.suffix != ".safetensors":
        ships = (
            f", or be one of the models that ship: {', '.join(known)}" if (known := shipped.names()) else ""
        )
        raise ValueError(f"path must end in .safetensors{ships}, got {str(path)!r}")
    return path


def _read(path: Path) -> tuple[dict[str, str], dict[str, Tensor]]:
    """What a safetensors file says of itself, and its tensors."""
    if path.exists() and not (path.is_file() or path.is_dir()):
        raise ValueError(f"{path}: is no plain file")  # a pipe would never end
    with path.open("rb"):  # says what it is when there is none, or a folder
        pass
    try:
        with safe_open(path, "pt") as file:
            return file.metadata() or {}, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, TypeError, RuntimeError, AttributeError, KeyError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _described(path: Path, metadata: Mapping[str, str]) -> tuple[dict[str, Any], str]:
    """Format, class and configuration of the model at ``path``, and which file says so."""
    if "format" not in metadata:
        return _pair_of(path)
    if metadata["format"] != _FORMAT:
        raise ValueError(
            f"{path}: format must be {_FORMAT}, got {metadata['format']!r}; it is no model of ndrnn, or of a newer one"
        )
    content: dict[str, Any] = dict(metadata)
    _check_keys(str(path), content, _KEYS)
    content["config"] = _json(content.get("config", ""), f"{path}: config")
    return content, str(path)


def _pair_of(path: Path) -> tuple[dict[str, Any], str]:
    """The same of a file of 0.1, from the ``.json`` beside it."""
    beside = path.with_suffix(".json")
    if not beside.is_file():
        raise ValueError(
            f"{path}: must name the class of its model, in its header or, as by 0.1, in {beside.name}"
        )
    try:
        content = _json(beside.read_bytes().decode("utf-8"), str(beside))
    except UnicodeDecodeError as error:
        raise ValueError(f"{beside}: not a whole JSON file ({error})") from error
    if not isinstance(content, dict):
        raise ValueError(f"{beside}: must hold an object, got {type(content).__name__}")
    _check_keys(str(beside), content, _KEYS)
    if content.get("format") != _PAIR or isinstance(content["format"], bool):
        raise ValueError(f"{beside}: format must be {_PAIR}, got {content.get('format')!r}")
    config = content.get("config")
    known = _arguments(models[content["model"]]) if content.get("model") in _names() else set()
    if isinstance(config, dict):
        names = {old: new for old, new in _RENAMED.items() if old not in known and new in known}
        content["config"] = {names.get(key, key): value for key, value in config.items()}
    return content, str(beside)


def _class_of(content: Mapping[str, Any], where: str) -> tuple[type[nn.Module], dict[str, Any]]:
    missing = [key for key in _KEYS if key not in content]
    if missing:
        raise ValueError(f"{where}: key {missing[0]!r} is missing")
    name, config = content["model"], content["config"]
    if name not in _names():
        raise ValueError(f"{where}: no registered model has the name {name!r}{nearest(str(name), models)}")
    if not isinstance(config, dict):
        raise ValueError(f"{where}: config must be an object, got {type(config).__name__}")
    cls: type[nn.Module] = models[name]
    _check_keys(where, config, {*_arguments(cls), *getattr(cls, "config_keys", ())})
    return cls, config


def _names() -> list[object]:
    return list(models)  # a list, since what a file holds may not be hashable


def _json(text: str, where: str) -> Any:
    def refuse(word: str) -> None:
        raise ValueError(f"{word} is no number")

    try:
        return json.loads(text, parse_constant=refuse)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{where}: not whole JSON ({error})") from error


def _told(error: Exception) -> str:
    """An error as part of a message; of a missing key, what it is."""
    if isinstance(error, KeyError):
        return f"key {error.args[0]!r} is missing"
    return str(error) or type(error).__name__


def _check_fit(targets: Mapping[str, Any], tensors: Mapping[str, Tensor], where: str) -> None:
    for name in sorted(targets.keys() | tensors.keys()):
        if name not in tensors:
            raise ValueError(f"{where}: tensor {name!r} is missing")
        if name not in targets:
            raise ValueError(f"{where}: unexpected tensor {name!r}{nearest(name, targets)}")
        target, tensor = targets[name], tensors[name]
        expected, got = tuple(target.shape), tuple(tensor.shape)
        if expected != got:
            raise ValueError(f"{where}: tensor {name!r} must have shape {expected}, got {got}")
        if target.is_floating_point() if tensor.dtype in _REALS else target.dtype == tensor.dtype:
            _check_finite(tensor, name, where)
            continue
        raise ValueError(f"{where}: tensor {name!r} must be of {target.dtype}, got {tensor.dtype}")


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


def _check_keys(where: str, found: Iterable[str], known: Iterable[str]) -> None:
    for key in found:
        if key not in known:
            raise ValueError(f"{where}: unknown key {key!r}{nearest(key, known)}")


def _check_finite(tensor: Tensor, name: str, where: str) -> None:
    if not torch.isfinite(tensor).all():
        raise ValueError(f"{where}: tensor {name!r} has values that are NaN or infinite")
