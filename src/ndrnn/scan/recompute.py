"""A scan that keeps next to nothing for its gradient: strip by strip, with the boundary states on the cuts.

The lattice is cut across its longest axis. The first pass keeps the states on the cuts; the backward pass takes the
strips in the opposite order and scans each once more, so that what a scan keeps exists for one strip at a time.
``torch.utils.checkpoint`` around every strip does the same, but writes what the gradient needs on the first pass
too, and holds the outputs of the strips beside the whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate
from math import isqrt
from typing import Any

import torch
from torch import Tensor

from ..cells import Cell, Params
from ..lattice import Direction, face_points, pack_faces, unpack_faces
from . import scan
from .circumstances import batched, traced, transformed
from .dispatch import choice, under

State = tuple[Tensor, Tensor | None]
Faces = Sequence[Tensor]


def check_recompute(recompute: bool | int) -> bool | int:
    """The ``recompute`` option of a layer, see :class:`ndrnn.nn.layers.ScanLayer`.

    Raises:
        TypeError: it is neither a bool nor an int.
        ValueError: it is less than one strip.
    """
    if not isinstance(recompute, int):
        raise TypeError(f"recompute must be a bool or a number of strips, got {type(recompute).__name__}")
    if recompute is not False and recompute < 1:
        raise ValueError(f"recompute must be a bool or a number of strips, at least 1, got {recompute}")
    return recompute


def strip_count(recompute: bool | int, lattice: Sequence[int]) -> int:
    """Into how many strips a lattice is cut; ``True`` balances the states on the cuts with what one strip keeps."""
    longest = max(lattice)
    wanted = isqrt(longest) if recompute is True else int(recompute)
    return max(1, min(wanted, longest))


def scan_in_strips(
    cell: Cell,
    x: Tensor,
    params: Params,
    directions: Sequence[Direction],
    sizes: Tensor | None = None,
    state: State | None = None,
    *,
    strips: int,
    return_state: bool = False,
) -> tuple[Tensor, State | None]:
    """What :func:`ndrnn.scan.scan` returns; its gradients are of first order.

    The strips are scanned again on the backend that was chosen in the forward pass. Under functional transforms,
    forward-mode differentiation and tracing it is that scan, which keeps all that its gradient needs.
    """
    h0, c0 = state if state is not None else (None, None)
    inputs = [tensor for tensor in (x, h0, c0, *params) if tensor is not None]
    plain = not torch.compiler.is_compiling() and (transformed() or traced())
    needless = not torch.is_grad_enabled() or not any(tensor.requires_grad for tensor in inputs)
    if strips < 2 or plain or needless:
        return scan(cell, x, params, directions, sizes, state, return_state=return_state)
    ways = _ways(x.shape[1:-1], directions, strips)
    y, *exits = _StripScan.apply(cell, ways, x, sizes, h0, c0, *params)
    return y, (exits[0], exits[1] if cell.memory else None) if return_state else None


@dataclass(frozen=True)
class _Strip:
    """A stretch of one axis of a lattice."""

    whole: tuple[int, ...]
    axis: int
    begin: int
    length: int

    @property
    def lattice(self) -> tuple[int, ...]:
        return (*self.whole[: self.axis], self.length, *self.whole[self.axis + 1 :])

    def of(self, points: Tensor) -> Tensor:
        """The strip's part of values (N, *lattice, ...)."""
        return points.narrow(self.axis + 1, self.begin, self.length)

    def of_faces(self, faces: Faces) -> list[Tensor]:
        """The strip's part of faces (D, N, *lattice without an axis, H); the face at the cuts is whole."""
        return [
            face if k == self.axis else face.narrow(2 + self.axis - (self.axis > k), self.begin, self.length)
            for k, face in enumerate(faces)
        ]

    def pack(self, faces: Faces, on_cut: Tensor) -> Tensor:
        """The boundary state of the strip, ``on_cut`` in place of the lattice's face there."""
        parts = self.of_faces(faces)
        parts[self.axis] = on_cut
        return pack_faces(parts)

    def unpack_into(self, faces: Faces, directions: list[int] | slice, state: Tensor) -> Tensor:
        """Write a boundary state of the strip to the lattice's faces; returns what lies on the cut.

        The face at the cuts is written by one strip after the other; the last is the one at its end of the lattice.
        """
        found = unpack_faces(state, self.lattice)
        for face, part in zip(self.of_faces(faces), found, strict=True):
            face[directions] = part
        return found[self.axis]

    def sizes(self, sizes: Tensor | None) -> Tensor | None:
        if sizes is None:
            return None
        sizes = sizes.clone()
        sizes[:, self.axis] = (sizes[:, self.axis] - self.begin).clamp(0, self.length)
        return sizes


@dataclass(frozen=True)
class _Way:
    """The directions that cross the cuts the same way: their numbers, and the strips in the order they meet them.

    Numbers at equal distances are a slice, with which tensors are read and written several times faster.
    """

    directions: list[Direction]
    numbers: list[int] | slice
    strips: list[_Strip]

    def scan(
        self, cell: Cell, x: Tensor, weights: Params, sizes: Tensor | None, entry: Sequence[Tensor]
    ) -> tuple[Tensor, list[Tensor]]:
        """Output and exit states of these directions alone, h and, where there is one, c."""
        state = entry[0], entry[1] if cell.memory else None
        y, exits = scan(cell, x, weights, self.directions, sizes, state, return_state=True)
        assert exits is not None
        return y, [state for state in exits if state is not None]

    def weights(self, weights: Sequence[Tensor | None]) -> Params:
        """The rows of these directions, as copies."""
        return Params(*(None if weight is None else weight[self.numbers].clone() for weight in weights))  # type: ignore[arg-type]

    def faces(self, state: Tensor) -> tuple[Tensor, ...]:
        return unpack_faces(state[self.numbers], self.strips[0].whole)


def _ways(lattice: Sequence[int], directions: Sequence[Direction], count: int) -> list[_Way]:
    axis = max(range(len(lattice)), key=lambda k: lattice[k])
    length, longer = divmod(lattice[axis], count)
    lengths = [length + (number < longer) for number in range(count)]
    begins = accumulate(lengths[:-1], initial=0)
    strips = [_Strip(tuple(lattice), axis, *span) for span in zip(begins, lengths, strict=True)]
    ways = []
    for sign in (1, -1):
        numbers = [number for number, direction in enumerate(directions) if direction[axis] == sign]
        if numbers:
            chosen = [directions[number] for number in numbers]
            ways.append(_Way(chosen, _as_slice(numbers), strips[::sign]))
    return ways


def _as_slice(numbers: list[int]) -> list[int] | slice:
    """Rising numbers as a slice, if they are at equal distances."""
    step = numbers[1] - numbers[0] if len(numbers) > 1 else 1
    evenly = range(numbers[0], numbers[-1] + 1, step)
    return slice(evenly.start, evenly.stop, evenly.step) if list(evenly) == numbers else numbers


def _entries(cell: Cell, x: Tensor, weight_hh: Tensor, h0: Tensor | None, c0: Tensor | None) -> list[Tensor]:
    """The boundary states of the lattice, h and, where there is one, c; zeros where none are given."""
    if h0 is not None:
        return [h0] if c0 is None else [h0, c0]
    shape = (weight_hh.shape[0], x.shape[0], sum(face_points(x.shape[1:-1])), weight_hh.shape[-1])
    return [x.new_zeros(shape)] * (2 if cell.memory else 1)


class _StripScan(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        cell: Cell,
        ways: list[_Way],
        x: Tensor,
        sizes: Tensor | None,
        h0: Tensor | None,
        c0: Tensor | None,
        *weights: Tensor | None,
    ) -> tuple[Tensor, ...]:
        weight_hh = Params(*weights).weight_hh  # type: ignore[arg-type]
        lattice, axis = ways[0].strips[0].whole, ways[0].strips[0].axis
        entries = _entries(cell, x, weight_hh, h0, c0)
        y = x.new_empty((*x.shape[:-1], weight_hh.shape[0], weight_hh.shape[-1]))
        exits = [torch.empty_like(entry) for entry in entries]
        exit_faces = [unpack_faces(state, lattice) for state in exits]
        on_cuts: list[Tensor] = []
        for way in ways:
            own, entry_faces = way.weights(weights), [way.faces(entry) for entry in entries]
            crossing = [faces[axis] for faces in entry_faces]
            for strip in way.strips:
                on_cuts += crossing
                entry = [strip.pack(faces, face) for faces, face in zip(entry_faces, crossing, strict=True)]
                part, leaving = way.scan(cell, strip.of(x), own, strip.sizes(sizes), entry)
                strip.of(y)[..., way.numbers, :] = part
                crossing = [
                    strip.unpack_into(faces, way.numbers, state)
                    for faces, state in zip(exit_faces, leaving, strict=True)
                ]
        ctx.cell, ctx.ways, ctx.choice = cell, ways, choice()
        ctx.save_for_backward(x, sizes, h0, c0, *weights, *on_cuts)
        return y, *exits

    @staticmethod
    def backward(ctx: Any, dy: Tensor, *d_exits: Tensor) -> tuple[Tensor | None, ...]:
        compiling = torch.compiler.is_compiling()
        with under(ctx.choice), torch.no_grad():
            if not compiling and any(map(batched, (dy, *d_exits))):
                found = _gradients_of_the_whole(ctx, dy, *d_exits)
            else:
                found = _gradients_by_strips(ctx, dy, *d_exits)
        if compiling or not torch.is_grad_enabled():
            return found
        # a graph of them is asked for, in which they must not pass for constants
        marked = iter(_OfFirstOrder.apply(*(grad.requires_grad_() for grad in found if grad is not None)))
        return tuple(None if grad is None else next(marked) for grad in found)


class _OfFirstOrder(torch.autograd.Function):
    """Gradients as they are, which refuse to be differentiated."""

    @staticmethod
    def forward(ctx: Any, *grads: Tensor) -> tuple[Tensor, ...]:
        return tuple(grad.view_as(grad) for grad in grads)

    @staticmethod
    def backward(ctx: Any, *_: Tensor) -> None:
        raise RuntimeError(
            "a layer with recompute has no second derivatives; run one with recompute=False under "
            "ndrnn.backend('wavefront'), which has them"
        )


def _gradients_by_strips(ctx: Any, dy: Tensor, *d_exits: Tensor) -> tuple[Tensor | None, ...]:
    cell: Cell = ctx.cell
    ways: list[_Way] = ctx.ways
    x, sizes, h0, c0, *rest = ctx.saved_tensors
    weights, on_cuts = rest[: len(Params._fields)], iter(rest[len(Params._fields) :])
    lattice, axis = ways[0].strips[0].whole, ways[0].strips[0].axis
    needs_dx = ctx.needs_input_grad[2]
    entries = _entries(cell, x, Params(*weights).weight_hh, h0, c0)
    dx = torch.zeros_like(x) if needs_dx else None
    d_entries = [torch.empty_like(entry) for entry in entries]
    d_entry_faces = [unpack_faces(state, lattice) for state in d_entries]
    d_weights = [None if weight is None else torch.zeros_like(weight) for weight in weights]
    for way in ways:
        own, entry_faces = way.weights(weights), [way.faces(entry) for entry in entries]
        leaves = [weight.requires_grad_() for weight in own if weight is not None]
        d_exit_faces = [way.faces(state) for state in d_exits]
        d_crossing = [faces[axis] for faces in d_exit_faces]
        crossings = [[next(on_cuts) for _ in entries] for _ in way.strips]
        for strip, crossing in zip(reversed(way.strips), reversed(crossings), strict=True):
            entry = [strip.pack(faces, face) for faces, face in zip(entry_faces, crossing, strict=True)]
            d_leaving = [
                strip.pack(faces, face) for faces, face in zip(d_exit_faces, d_crossing, strict=True)
            ]
            points = strip.of(x).detach().requires_grad_(needs_dx)
            inputs = [*(state.detach().requires_grad_() for state in entry), *leaves]
            with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
                part, leaving = way.scan(cell, points, own, strip.sizes(sizes), inputs[: len(entry)])
            found = torch.autograd.grad(
                [part, *leaving],
                [*inputs, points] if needs_dx else inputs,
                [strip.of(dy)[..., way.numbers, :], *d_leaving],
                materialize_grads=True,
            )
            if dx is not None:
                strip.of(dx).add_(found[-1])
            d_crossing = [
                strip.unpack_into(faces, way.numbers, state)
                for faces, state in zip(d_entry_faces, found, strict=False)
            ]
            of_leaves = iter(found[len(entry) :])
            for total in d_weights:
                if total is not None:
                    total[way.numbers] += next(of_leaves)
    d_states = d_entries if h0 is not None else []
    d_states += [None] * (2 - len(d_states))  # type: ignore[list-item]
    return None, None, dx, None, *d_states, *d_weights


def _gradients_of_the_whole(ctx: Any, dy: Tensor, *d_exits: Tensor) -> tuple[Tensor | None, ...]:
    cell: Cell = ctx.cell
    x, sizes, h0, c0, *rest = ctx.saved_tensors
    given = [x, h0, c0, *rest[: len(Params._fields)]]
    leaves: list[Any] = [None if tensor is None else tensor.detach().requires_grad_() for tensor in given]
    directions = _in_order(ctx.ways)
    with torch.enable_grad(), torch.autocast(x.device.type, enabled=False):
        state = None if leaves[1] is None else (leaves[1], leaves[2])
        y, exits = scan(cell, leaves[0], Params(*leaves[3:]), directions, sizes, state, return_state=True)
    assert exits is not None
    found = iter(
        torch.autograd.grad(
            [y, *(exit for exit in exits if exit is not None)],
            [leaf for leaf in leaves if leaf is not None],
            [dy, *d_exits],
            materialize_grads=True,
        )
    )
    dx, dh0, dc0, *d_weights = (None if leaf is None else next(found) for leaf in leaves)
    return None, None, dx, None, dh0, dc0, *d_weights


def _in_order(ways: Sequence[_Way]) -> list[Direction]:
    """The directions of a scan, from its ways across the cuts."""
    numbered: dict[int, Direction] = {}
    count = sum(len(way.directions) for way in ways)
    for way in ways:
        numbers = range(count)[way.numbers] if isinstance(way.numbers, slice) else way.numbers
        numbered |= zip(numbers, way.directions, strict=True)
    return [numbered[number] for number in range(count)]
