"""Modules without memory for their weights, to be compared with a file and filled from it."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

_SPARE = 1000  # parts beyond those that a file explains: metrics, dropouts, containers


def skeleton(make: Callable[[], nn.Module], tensors: int) -> nn.Module:
    """The module that ``make`` gives, on the device ``meta`` where that can be.

    Args:
        make: the constructor; one that looks at the values of its weights is called a second time, with memory.
        tensors: how many tensors fill it. What makes far more parts than these is stopped, whatever it was told.

    Raises:
        ValueError: it makes more parts.
    """
    with _limited(_SPARE + 16 * tensors):
        try:
            with torch.device("meta"):
                return make()
        except (NotImplementedError, RuntimeError) as error:
            if not isinstance(error, NotImplementedError) and "meta tensor" not in str(error):
                raise
        with torch.random.fork_rng(devices=[]):
            return make()


def unfilled(model: nn.Module) -> bool:
    """Whether a module holds tensors without memory that are no part of its state, such as the sums of a metric."""
    state = {id(value) for value in model.state_dict(keep_vars=True).values()}
    return any(
        value.is_meta and id(value) not in state
        for module in model.modules()
        for value in _tensors(vars(module))
    )


def fill(model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Put tensors into the state of a module; names and shapes must be equal. What was shared stays shared."""
    shared: dict[int, list[str]] = {}
    for name, value in model.state_dict(keep_vars=True).items():
        shared.setdefault(id(value), []).append(name)
    model.load_state_dict(dict(tensors), assign=True)
    for first, *others in shared.values():
        for name in others:
            owner, _, attribute = name.rpartition(".")
            source, _, part = first.rpartition(".")
            setattr(model.get_submodule(owner), attribute, getattr(model.get_submodule(source), part))


def _tensors(value: Any, depth: int = 3) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, (dict, list, tuple)) and depth:
        for entry in value.values() if isinstance(value, dict) else value:
            yield from _tensors(entry, depth - 1)


@contextmanager
def _limited(most: int) -> Iterator[None]:
    """Within the block, this thread registers at most so many parts of modules."""
    thread, count = threading.get_ident(), 0

    def note(*_: Any) -> None:
        nonlocal count
        if threading.get_ident() == thread:
            count += 1
            if count > most:
                raise ValueError(f"it makes more than {most} parts, far more than the file has tensors")

    hooks = [
        registration.register_module_parameter_registration_hook(note),
        registration.register_module_module_registration_hook(note),
        registration.register_module_buffer_registration_hook(note),
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
