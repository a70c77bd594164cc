"""Which backend runs a scan."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, ContextDecorator, contextmanager
from contextvars import ContextVar
from itertools import count
from threading import Lock
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor

from ..cells import Cell, Params, Tensors
from ..lattice import Direction, face_points
from . import cpu, reference, triton, wavefront
from .circumstances import TRANSFORMED

# Backends with kernels of their own. Each is a module: refusal() tells why it is not available here, refusal_of(cell,
# x, params) why it cannot serve a call, and scan(cell, x, params, directions, sizes, h0, c0, return_state) runs it.
_COMPILED: dict[str, Any] = {"cpu": cpu, "triton": triton}
_OF_DEVICE = {"cpu": "cpu", "cuda": "triton"}
_NAMES = ("auto", "reference", "wavefront", "cpu", "triton")
_warned: set[str] = set()


class _Block(NamedTuple):
    """A ``with`` block that chooses; its number tells it from others with the same choice."""

    number: int
    choice: str | None


# The blocks that an eager call is in, from the outermost. A block takes out itself when it ends, wherever it stands
# among the others: generators leave theirs in any order, and threads and tasks have contexts of their own.
_blocks: ContextVar[tuple[_Block, ...]] = ContextVar("ndrnn_backend", default=())
_numbers = count()
# What a compiled function goes by, because torch.compile guards on a plain global and breaks on a context variable:
# the choice of the block entered last of those that are open in any thread.
_traced: str | None = None
_open: list[_Block] = []
_opening = Lock()

State = tuple[Tensor, Tensor | None]


def _check_name(name: str, source: str) -> str:
    if name not in _NAMES:
        raise ValueError(f"{source} must be one of {', '.join(map(repr, _NAMES))}, got {name!r}")
    return name


class _Choice(ContextDecorator, AbstractContextManager[None]):
    """What :func:`backend` returns: a block that can be entered again when it has ended."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._entered: AbstractContextManager[None] | None = None

    def _recreate_cm(self) -> _Choice:  # what a decorated function enters, once a call
        return _Choice(self._name)

    def __enter__(self) -> None:
        if self._entered is not None:
            raise RuntimeError(
                f"this backend({self._name!r}) is entered already; call ndrnn.backend again for a block within "
                "its block, and for other threads and tasks"
            )
        entering = _on(self._name)
        entering.__enter__()
        self._entered = entering

    def __exit__(self, *raised: Any) -> None:
        entered, self._entered = self._entered, None
        assert entered is not None
        entered.__exit__(*raised)


@contextmanager
def _on(name: str) -> Iterator[None]:
    _check_name(name, "name")
    reason = available_backends().get(name, True)
    if reason is not True:
        raise RuntimeError(f"backend {name!r} is not available: {reason}")
    with under(name):
        yield


def backend(name: Literal["auto", "reference", "wavefront", "cpu", "triton"]) -> _Choice:
    """Run the scans of a ``with`` block on one backend; ``"auto"`` chooses by the device of the tensors.

    The choice holds for the calling thread, or the asynchronous task, as a context variable does; the backward pass
    keeps to the choice of its forward pass. Functions under ``torch.compile`` follow the block that was entered last in
    any thread. Outside all blocks the environment variable ``NDRNN_BACKEND`` chooses, or else ``"auto"``.

    What is returned can be entered again once its block has ended, and decorates functions.

    Raises:
        ValueError: there is no backend of that name.
        RuntimeError: it is not available here; the message says why. Or its block has not ended.
    """
    # torch.compile follows generators
    return _on(name) if torch.compiler.is_compiling() else _Choice(name)  # type: ignore[return-value]


def choice() -> str | None:
    """What the innermost block around an eager call chooses, or None."""
    if torch.compiler.is_compiling():
        return _traced
    blocks = _blocks.get()
    return blocks[-1].choice if blocks else None


@contextmanager
def under(chosen: str | None) -> Iterator[None]:
    """A block with an earlier :func:`choice`, such as that of the forward pass; None is no choice."""
    global _traced
    if torch.compiler.is_compiling():
        before, _traced = _traced, chosen
        try:
            yield
        finally:
            _traced = before
        return
    block = _Block(next(_numbers), chosen)
    _blocks.set((*_blocks.get(), block))
    with _opening:
        _open.append(block)
        _traced = chosen
    try:
        yield
    finally:
        _blocks.set(tuple(other for other in _blocks.get() if other != block))
        with _opening:
            _open.remove(block)
            _traced = _open[-1].choice if _open else None


def available_backends() -> dict[str, Literal[True] | str]:
    """Each backend's name with True, or with the reason why it is not available here."""
    compiled: dict[str, Literal[True] | str] = {
        name: module.refusal() or True for name, module in _COMPILED.items()
    }
    return {"reference": True, "wavefront": True, **compiled}


def scan(
    cell: Cell,
    x: Tensor,
    params: Params,
    directions: Sequence[Direction],
    sizes: Tensor | None = None,
    state: State | None = None,
    *,
    return_state: bool = False,
) -> tuple[Tensor, State | None]:
    r"""Run a cell over a lattice.

    Args:
        cell: the equations at one point.
        x: inputs (N, \*lattice, C).
        params: weights of the D directions, see :class:`ndrnn.cells.Params`.
        directions: D tuples of +1/-1, one entry an axis.
        sizes: true extents (N, n) of ragged samples; a backward axis starts at a sample's own end.
        state: boundary states h (and c) packed by :func:`ndrnn.lattice.pack_faces`, (D, N, F, H); zero if None.
        return_state: whether the states that leave the lattice are wanted.

    Returns:
        y (N, \*lattice, D, H), zero outside the extents, and the exit state in the form of ``state``, or None.
    """
    h0, c0 = state if state is not None else (None, None)
    name = _select(cell, x, params)
    if name in _COMPILED:
        y, hn, cn = _COMPILED[name].scan(cell, x, params, directions, sizes, h0, c0, return_state)
    else:
        if h0 is None:
            faces, hidden = sum(face_points(x.shape[1:-1])), params.weight_hh.shape[-1]
            h0 = x.new_zeros((len(directions), x.shape[0], faces, hidden))
            c0 = h0 if cell.memory else None
        run = reference.scan if name == "reference" else wavefront.scan
        y, hn, cn = run(cell, x, params, directions, sizes, h0, c0)
    return y, (hn, cn) if return_state else None


def step(
    cell: Cell, x: Tensor, params: Params, h: Tensors, c: Tensors, new_h: Tensor, new_c: Tensor | None = None
) -> None:
    """Compute the states of N points from those of their predecessors: a scan that the caller walks, as for sampling.

    No gradients are kept.

    Args:
        cell: the equations at one point.
        x: inputs (N, C).
        params: weights of one direction, D = 1, see :class:`ndrnn.cells.Params`.
        h: outputs (N, H) of the predecessors, one an axis; contiguous.
        c: their memories (N, H), contiguous; empty for a cell without memory.
        new_h: where the outputs (N, H) go; contiguous, and not a part of what is read.
        new_c: where the memories (N, H) go, if the cell has one.
    """
    points = x.reshape(len(x), *(1,) * len(h), x.shape[-1])
    if _select(cell, points, params) == "cpu":
        cpu.step(cell, points, params, h, c, new_h, new_c)
        return
    with torch.no_grad():
        states = reference.step(cell, x, params.of_direction(0), h, c)
        for to, state in zip((new_h, new_c), states, strict=True):
            if to is not None and state is not None:
                to.copy_(state)


def runs_compiled(x: Tensor) -> bool:
    """Whether operators of the compiled library beside the scan are to serve a tensor: where its scans would be served."""
    return _name_for(x)[1] == "cpu" and cpu.refusal_of_tensor(x) is None


def _name_for(x: Tensor) -> tuple[str, str]:
    """The backend that was asked for, and its name where it is to follow the device of a tensor."""
    asked = choice() or _check_name(os.environ.get("NDRNN_BACKEND") or "auto", "NDRNN_BACKEND")
    return asked, _OF_DEVICE.get(x.device.type, "wavefront") if asked == "auto" else asked


def _select(cell: Cell, x: Tensor, params: Params) -> str:
    """The backend for a call: the one asked for if it can serve it, else the wavefront backend with one warning."""
    asked, name = _name_for(x)
    if name in ("reference", "wavefront"):
        return name
    reason = _COMPILED[name].refusal_of(cell, x, params)
    if reason is None:
        return name
    # under a functional transform the plain backend is the one that was meant
    if not torch.compiler.is_compiling() and reason not in _warned and reason != TRANSFORMED:
        _warned.add(reason)
        warnings.warn(f"backend {asked!r}: {reason}; the wavefront backend runs instead", stacklevel=4)
    return "wavefront"


def _check_required() -> None:
    """Refuse to go on without the backends that NDRNN_REQUIRE lists, as continuous integration does."""
    available = available_backends()
    for name in filter(None, os.environ.get("NDRNN_REQUIRE", "").split(",")):
        reason = available.get(name, f"no such backend; there are {', '.join(available)}")
        if reason is not True:
            raise ImportError(f"NDRNN_REQUIRE asks for the backend {name!r}: {reason}")


_check_required()
