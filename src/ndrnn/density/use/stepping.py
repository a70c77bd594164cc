"""The incremental evaluator: hidden states of a RIDE wavefront by wavefront, while its image is still being made.

Likelihood, sampling and coding share it. Pixel (i, j) is in wavefront j + (r+1) i. The left predecessor of row i is
row i of the wavefront before, the upper one is row i-1 of the wavefront r+1 steps before, so that a ring of r+2
wavefronts is all that is kept. A volume's rows are those of all its planes: pixel (i, j, k) is in wavefront
k + (r+1) j + (r+1)^2 i, and a signal has one row.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...nn.layers import ScanLayer
from ...scan import step
from ..mixture.drawing import Drawer
from ..mixture.likelihood import MixtureParams, log_density
from ..mixture.precision import own_precision
from ..ride.model import RideModel

Places = slice | Tensor


@dataclass(frozen=True)
class Step:
    """One wavefront of m pixels in N images."""

    pixels: Tensor
    """Row-major indices (m,) of the pixels in the grid of predicted pixels."""
    inputs: Tensor
    """Their neighbourhoods (m N, num_inputs), not whitened, pixel by pixel."""
    hidden: Tensor
    """Their top hidden vectors (m N, hidden_size), of images overwritten by the wavefront r+2 steps later."""
    at: Tensor
    """Row-major indices (m,) of the pixels in the canvas."""


class StepTable(NamedTuple):
    """All T steps at once, for those who want each to be the same work: rows of m pixels, filled up with pixels that nobody
    draws. Of a pixel of row i in wavefront t:
    """

    pixels: Tensor  # (T, m): its row-major index in the grid
    at: Tensor  # (T, m): and in the canvas
    written: Tensor  # (T, m): likewise, but one past the canvas where nobody draws
    live: Tensor  # (T, m): whether somebody does
    now: Tensor  # (T, m): where its states go, of a ring's slots laid end to end
    before: Tensor  # (axes, T, m): where those of its predecessors are


class _Rows:
    """The rows of a grid, all but its last axis, and when each of them begins.

    A row has a number among those of the grid, and a place among the rows with a border of one before each axis, where
    nothing is ever written: those of the predecessors of first rows.
    """

    def __init__(self, grid: Sequence[int], strides: Sequence[int], device: torch.device) -> None:
        self.shape, self.columns = tuple(grid[:-1]), grid[-1]
        self.strides = tuple(strides)
        self.total = prod(size + 1 for size in self.shape)
        self.steps = sum(s * (size - 1) for s, size in zip(strides, grid, strict=True)) + 1
        number = torch.arange(prod(self.shape), device=device)
        start, place, rest, border = torch.zeros_like(number), torch.zeros_like(number), number, 1
        self.back: list[int] = []
        """How far before a row its predecessor along each of the axes is, among the places."""
        for size, stride in zip(reversed(self.shape), reversed(self.strides[:-1]), strict=True):
            start, place = start + rest % size * stride, place + (rest % size + 1) * border
            self.back.insert(0, border)
            rest, border = rest // size, border * (size + 1)
        self.number, self.start, self.place = number, start, place

    def at(self, t: int) -> tuple[Tensor, Places]:
        """The numbers of the rows that have a pixel in wavefront ``t``, and their places."""
        if len(self.shape) > 1:
            rows = ((self.start <= t) & (self.start > t - self.columns)).nonzero().squeeze(1)
            return rows, self.place[rows]
        # those of an image lie side by side
        slope, count = self.strides[0], prod(self.shape)
        first = max(0, -((self.columns - 1 - t) // slope))
        last = max(first, min(count - 1, t // slope) + 1)
        begin = len(self.shape)
        return self.number[first:last], slice(first + begin, last + begin)

    def by_wavefront(self) -> tuple[Tensor, Tensor, Tensor]:
        """What :meth:`at` gives, of all wavefronts that have pixels: their numbers (T, 1), rows (T, m), and which are
        there; the others are row 0."""
        when = (self.start[:, None] + torch.arange(self.columns, device=self.start.device)).flatten()
        rows = self.number[:, None].expand(-1, self.columns).flatten()
        order = when.argsort(stable=True)
        wavefronts, step, counts = when[order].unique_consecutive(return_inverse=True, return_counts=True)
        nth = torch.arange(len(when), device=when.device) - (counts.cumsum(0) - counts)[step]
        table = rows.new_zeros(len(wavefronts), int(counts.max()))
        live = torch.zeros_like(table, dtype=torch.bool)
        table[step, nth] = rows[order]
        live[step, nth] = True
        return wavefronts[:, None], table, live


class _Layer(ABC):
    """One layer, and rings of the states in its last wavefronts.

    A slot of a ring holds the states of all rows of the grid, of all images of each side by side, so that those of
    neighbouring rows of an image are a slice of it. What lies before the grid, and every row before its first pixel, is
    the boundary: nothing is ever written there, and it is zero.

    Args:
        rows: of the grid.
        batch: images.
        like: a parameter of the layer.
        widths: of the states of a pixel.
    """

    def __init__(self, rows: _Rows, batch: int, like: Tensor, widths: Sequence[int]) -> None:
        self._rows, self._batch = rows, batch
        slots = rows.strides[0] + 1
        # the last place is no row's
        self._whole = [like.new_zeros(slots, rows.total + 1, batch, width) for width in widths]
        self._rings = [ring.unbind() for ring in self._whole]

    def clear(self) -> None:
        """Forget all states: the boundary of the grid is zero."""
        for ring in self._whole:
            ring.zero_()

    def step(self, x: Tensor, places: Places, t: int) -> Tensor:
        """Hidden vectors (m N, H) of the rows at some places in wavefront ``t`` from inputs (m N, C)."""
        # along the last axis the row itself, one wavefront ago
        back = [*zip(self._rows.strides, self._rows.back, strict=False), (1, 0)]
        before = [[self._read(ring, t - ago, places, shift) for ring in self._rings] for ago, shift in back]
        if isinstance(places, slice):
            return self.advance(x, before, [self._read(ring, t, places, 0) for ring in self._rings])
        new = [torch.empty_like(state) for state in before[-1]]
        hidden = self.advance(x, before, new)
        for ring, state in zip(self._rings, new, strict=True):
            slot = ring[t % len(ring)]
            slot.index_copy_(0, places, state.view(-1, *slot.shape[1:]))
        return hidden

    def step_at(self, x: Tensor, before: Tensor, now: Tensor) -> Tensor:
        """Likewise by places that only the device need know, (axes, m) and (m,), as :class:`StepTable` has them."""
        rings = [ring.flatten(0, 1) for ring in self._whole]
        states = [[ring.index_select(0, index).flatten(0, 1) for ring in rings] for index in before]
        new = [torch.empty_like(state) for state in states[-1]]
        hidden = self.advance(x, states, new)
        for ring, state in zip(rings, new, strict=True):
            ring.index_copy_(0, now, state.view(-1, *ring.shape[1:]))
        return hidden

    @staticmethod
    def _read(ring: Sequence[Tensor], t: int, places: Places, shift: int) -> Tensor:
        """States (m N, H) of wavefront ``t``, of the rows so far before some places; a view where they are a slice."""
        slot = ring[t % len(ring)]
        if isinstance(places, slice):
            return slot[places.start - shift : places.stop - shift].flatten(0, 1)
        return slot.index_select(0, places - shift).flatten(0, 1)

    @abstractmethod
    def advance(self, x: Tensor, before: Sequence[Sequence[Tensor]], new: Sequence[Tensor]) -> Tensor:
        """Hidden vectors (m N, H) from inputs (m N, C) and the predecessors' states, by axis; fills in the new states."""


class _Scan(_Layer):
    """A scan, one step of its cell at a time."""

    def __init__(
        self, layer: ScanLayer, rows: _Rows, batch: int, first: tuple[Tensor, Tensor] | None
    ) -> None:
        self.cell, self.params = layer.cell, layer.params
        if first is not None:
            # the whitening of the inputs is folded into the weights
            transform, mean = first
            weight_ih = self.params.weight_ih @ transform
            shift = weight_ih @ mean
            bias = -shift if self.params.bias is None else self.params.bias - shift
            self.params = self.params._replace(weight_ih=weight_ih, bias=bias)
        widths = [layer.hidden_size] * (1 + self.cell.memory)
        super().__init__(rows, batch, self.params.weight_ih, widths)

    def advance(self, x: Tensor, before: Sequence[Sequence[Tensor]], new: Sequence[Tensor]) -> Tensor:
        h, *c = zip(*before, strict=True)
        step(self.cell, x, self.params, h, c[0] if c else (), *new)
        return new[0]


class _Other(_Layer):
    """Any other layer that takes and returns boundary states: every pixel is a lattice of one point to it."""

    def __init__(
        self,
        layer: nn.Module,
        inputs: int,
        rows: _Rows,
        batch: int,
        first: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.layer, self.first = layer, first
        like = next(layer.parameters())
        # the form of a state is the layer's own: a face an axis, of one part or of several
        self._axes = (1,) * len(rows.strides)
        _, state = layer(like.new_zeros(1, *self._axes, inputs), return_state=True)
        faces, self._form = tree_flatten(state)
        super().__init__(rows, batch, like, [face.shape[-1] for face in faces[:: len(self._axes)]])

    def advance(self, x: Tensor, before: Sequence[Sequence[Tensor]], new: Sequence[Tensor]) -> Tensor:
        if self.first is not None:
            transform, mean = self.first
            x = (x - mean) @ transform.T
        shape = (1, len(x), *self._axes[1:], -1)
        faces = [state.reshape(shape) for part in zip(*before, strict=True) for state in part]
        state = tree_unflatten(faces, self._form)
        y, exits = self.layer(x.view(len(x), *self._axes, -1), initial_state=state, return_state=True)
        # of a single point all faces hold the same
        for to, face in zip(new, tree_flatten(exits)[0][:: len(self._axes)], strict=True):
            to.copy_(face.view_as(to))
        result: Tensor = y.view(len(x), -1)
        return result


class WavefrontEvaluator:
    """Walks a RIDE over canvases (N, H, W, C) that may be written, between the steps, at the pixels of the last step.

    Args:
        ride: the model; its parameters are read once, here.
        canvas: images as :meth:`RIDE.canvas` gives them; a copy is made and kept in :attr:`flat`.
        observed: the observed channels' canvas, if the model has such.
        order: ``"wavefront"``, or ``"raster"`` for one pixel at a time: slow, and the definition of the result.

    Every iteration starts anew at the first pixel, from what the canvas then holds. No gradients are kept.
    """

    @torch.no_grad()
    def __init__(
        self, ride: RideModel, canvas: Tensor, observed: Tensor | None = None, *, order: str = "wavefront"
    ) -> None:
        if order not in ("wavefront", "raster"):
            raise ValueError(f'order must be "wavefront" or "raster", got {order!r}')
        nb = ride.neighborhood
        self.ride = ride
        batch, *lattice, channels = canvas.shape
        device = canvas.device
        self.shape = canvas.shape
        self.grid = nb.grid(*lattice)
        """Extents of the pixels that are walked over."""
        strides = nb.strides
        if order == "raster":
            # every row starts only when the one before is complete
            one_by_one = [1]
            for size, least in zip(reversed(self.grid[1:]), reversed(strides[:-1]), strict=True):
                one_by_one.insert(0, max(least, one_by_one[0] * size))
            strides = tuple(one_by_one)
        self._rows = _Rows(self.grid, strides, device)
        self.flat = canvas.movedim(0, -2).reshape(-1, batch, channels).contiguous()
        self.seen = None
        if observed is not None:
            self.seen = observed.movedim(0, -2).reshape(len(self.flat), batch, -1).contiguous()
        self._shift = nb.flat_offsets(nb.offsets, lattice).to(device)
        self._observed_shift = nb.flat_offsets(nb.observed_offsets, lattice).to(device)
        # where the first pixel of every row is in the canvas, less its wavefront
        numbers = nb.inner(torch.arange(len(self.flat), device=device).view(1, *lattice))
        self._begin = numbers[..., 0].flatten() - self._rows.start
        self._first = self._rows.number * self._rows.columns - self._rows.start
        with own_precision(device):
            self._fold(ride, batch)

    def _fold(self, ride: RideModel, batch: int) -> None:
        """Lay out layers and mixture, the whitening folded into both."""
        whitening = ride.whitening
        folded = (whitening.input_transform, whitening.input_mean)
        self._layers: list[_Layer] = []
        for layer in ride.layers:
            first = None if self._layers else folded
            inputs = ride.hidden_size if self._layers else whitening.num_inputs
            if isinstance(layer, ScanLayer):
                self._layers.append(_Scan(layer, self._rows, batch, first))
            else:
                self._layers.append(_Other(layer, inputs, self._rows, batch, first))
        self._params = MixtureParams(*(p.detach() for p in ride.mcgsm.mixture_params()))
        # what does not depend on the pixel is folded into the mixture: y = y_whitened O + b + P x
        self._predictor = whitening.predictor.T
        constant = whitening.output_mean - whitening.input_mean @ self._predictor
        self._drawer = Drawer(self._params, whitening.output_inverse, constant)

    @property
    def rows(self) -> int:
        """Rows of the grid, those of all planes of a volume."""
        return len(self._rows.number)

    @property
    def columns(self) -> int:
        """Pixels of a row."""
        return self._rows.columns

    @property
    def steps(self) -> int:
        """How many steps an iteration has at most."""
        return self._rows.steps

    def __iter__(self) -> Iterator[Step]:
        for state in self._layers:
            state.clear()
        for t in range(self._rows.steps):
            rows, places = self._rows.at(t)
            if not len(rows):
                continue
            at = self._begin[rows] + t
            # not around the loop: the caller's own code runs between the steps
            with torch.no_grad(), own_precision(self.flat.device):
                x = self._gather(at)
                hidden = x
                for level, layer in enumerate(self._layers):
                    hidden = self.ride.handed_on(level, hidden, layer.step(hidden, places, t))
            yield Step(self._first[rows] + t, x, hidden, at)

    def table(self) -> StepTable:
        """The steps that an iteration makes, in one table on the device."""
        rows = self._rows
        t, numbers, live = rows.by_wavefront()
        slots, slot = rows.strides[0] + 1, rows.total + 1
        places = rows.place[numbers].where(live, rows.total)
        back = [*zip(rows.strides, rows.back, strict=False), (1, 0)]
        at = self._begin[numbers] + t
        # what nobody draws has the neighbourhood of a pixel that somebody does
        at = at.where(live, at[:, :1])
        return StepTable(
            (self._first[numbers] + t).where(live, 0),
            at,
            at.where(live, len(self.flat)),
            live,
            t % slots * slot + places,
            torch.stack([(t - ago) % slots * slot + places - shift for ago, shift in back]),
        )

    @torch.no_grad()
    def start_at_places(self) -> None:
        """Begin anew at the first pixel, for :meth:`step_at`."""
        for state in self._layers:
            state.clear()

    @torch.no_grad()
    def step_at(self, pixels: Tensor, at: Tensor, before: Tensor, now: Tensor) -> Step:
        """A step by its row of the table; it holds pixels that nobody draws, too."""
        with own_precision(self.flat.device):
            x = self._gather(at)
            hidden = x
            for level, layer in enumerate(self._layers):
                hidden = self.ride.handed_on(level, hidden, layer.step_at(hidden, before, now))
        return Step(pixels, x, hidden, at)

    @torch.no_grad()
    def log_prob(self, step: Step) -> Tensor:
        """Log-densities in nats, (m, N), of what the canvas holds at the pixels of a step."""
        outputs = self.flat.index_select(0, step.at).flatten(0, 1)
        whitened = self.ride.whitening(step.inputs, outputs)[1]
        value = log_density(self._params, step.hidden, whitened) + self.ride.whitening.log_jacobian
        return value.view(len(step.at), -1)

    @torch.no_grad()
    def draw(self, step: Step, uniform: Tensor, normal: Tensor) -> Tensor:
        """Samples (m, N, C) at the pixels of a step from random numbers (m, N) and (m, N, C)."""
        with own_precision(self.flat.device):
            drawn = self._drawer.draw(step.hidden, uniform.reshape(-1), normal.flatten(0, 1))
            drawn.addmm_(step.inputs, self._predictor)
        return drawn.view(len(step.at), -1, self.flat.shape[-1])

    def write(self, step: Step, values: Tensor) -> None:
        """Put values (m, N, C) at the pixels of a step."""
        self.flat.index_copy_(0, step.at, values)

    def images(self) -> Tensor:
        """The canvas (N, H, W, C) as it stands."""
        n, *lattice, channels = self.shape
        return self.flat.view(*lattice, n, channels).movedim(-2, 0)

    def _gather(self, at: Tensor) -> Tensor:
        """The neighbourhoods (m N, num_inputs) of m pixels."""
        parts = [self._windows(self.flat, at, self._shift)]
        if self.seen is not None:
            parts.append(self._windows(self.seen, at, self._observed_shift))
        return torch.cat(parts, 1) if len(parts) > 1 else parts[0]

    @staticmethod
    def _windows(flat: Tensor, at: Tensor, shift: Tensor) -> Tensor:
        picked = flat.index_select(0, (at[:, None] + shift).flatten())
        picked = picked.view(len(at), len(shift), *flat.shape[1:])
        return picked.transpose(1, 2).reshape(len(at) * flat.shape[1], -1)
