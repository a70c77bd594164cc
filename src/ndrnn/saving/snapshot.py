"""A training's state in one safetensors file: dictionaries, lists, numbers and tensors, nothing that is code."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from .atomic import replacing

_FORMAT = "ndrnn-training-1"


def write(path: str | Path, tree: Any) -> None:
    """Write a tree of dicts, lists, tuples, tensors, strings, numbers, booleans and None, whole or not at all.

    Raises:
        TypeError: the tree holds something else.
    """
    from safetensors.torch import save_file

    tensors: dict[str, Tensor] = {}
    text = json.dumps(_encode(tree, tensors))
    with replacing(path) as temporary:
        save_file(tensors, temporary, {"format": _FORMAT, "tree": text})


def read(path: str | Path) -> Any:
    """The tree that was written.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: it is no whole file of this kind.
    """
    from safetensors import SafetensorError, safe_open

    if not Path(path).exists():
        raise FileNotFoundError(f"no such file: {path}")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != _FORMAT:
                raise ValueError(f"{path}: not the state of a training ({_FORMAT})")
            try:
                return _decode(json.loads(metadata["tree"]), file)
            except ValueError as error:
                raise ValueError(f"{path}: not whole ({error})") from error
    except (SafetensorError, LookupError, TypeError, AttributeError, RecursionError, OSError) as error:
        raise ValueError(f"{path}: not a whole safetensors file ({error})") from error


def _encode(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, Tensor):
        name = str(len(tensors))
        tensors[name] = value.detach().to("cpu", copy=True).contiguous()
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_encode(k, tensors), _encode(v, tensors)] for k, v in value.items()]}
    if isinstance(value, (list, tuple)):
        kind = "tuple" if isinstance(value, tuple) else "list"
        return {kind: [_encode(item, tensors) for item in value]}
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    raise TypeError(f"a snapshot holds no {type(value).__name__}")


def _decode(value: Any, file: Any) -> Any:
    if not isinstance(value, dict):
        return value
    ((kind, content),) = value.items()
    if kind == "tensor":
        return torch.as_tensor(file.get_tensor(content))
    if kind == "dict":
        return {_decode(k, file): _decode(v, file) for k, v in content}
    items = [_decode(item, file) for item in content]
    return tuple(items) if kind == "tuple" else items
