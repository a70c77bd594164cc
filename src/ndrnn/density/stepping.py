"""The incremental evaluator: hidden states of a RIDE wavefront by wavefront, while its image is still being made.

Likelihood, sampling and coding share it. Pixel (i, j) is in wavefront j + (r+1) i. The left predecessor of row i is
row i of the wavefront before, the upper one is row i-1 of the wavefront r+1 steps before, so that a ring of r+2
wavefronts is all that is kept. Within a step everything lies with the pixels along the last axis.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..cells import SpatialLSTMCell
from ..layers import ScanLayer
from .drawing import Drawer
from .mixture import MixtureParams, log_density

if TYPE_CHECKING:
    from .ride import RIDE


@dataclass(frozen=True)
class Step:
    """One wavefront of m pixels in N images."""

    pixels: Tensor
    """Row-major indices (m,) of the pixels in the grid of predicted pixels."""
    inputs: Tensor
    """Their neighbourhoods (m N, num_inputs), not whitened, pixel by pixel."""
    hidden: Tensor
    """Their top hidden vectors (m N, hidden_size)."""
    at: Tensor
    """Row-major indices (m,) of the pixels in the canvas."""


class _LayerState:
    """One layer's weights, laid out for a single product a step, and a ring of what that product reads.

    A slot of the ring holds, for every row of the grid, the inputs and both predecessors' states of its pixel in one
    wavefront, with the pixels along the last axes: (inputs + states, rows + 1, batch). A step writes its states ahead
    to where they will be read, one wavefront later as left predecessors and r+1 wavefronts later as upper ones, and
    so no step has to gather any. What is never written is the boundary of the grid, which is zero.
    """

    def __init__(
        self, layer: ScanLayer, rows: int, batch: int, ring: int, first: tuple[Tensor, Tensor] | None
    ) -> None:
        self.cell, hidden = layer.cell, layer.hidden_size
        params = layer.params.of_direction(0)
        weight_ih = params.weight_ih
        bias = weight_ih.new_zeros(len(weight_ih)) if params.bias is None else params.bias
        if first is not None:
            # the whitening of the inputs is folded into the weights
            transform, mean = first
            weight_ih = weight_ih @ transform
            bias = bias - weight_ih @ mean
        through = list(params.weight_hh)
        self.extra: list[Tensor] = []
        if params.extra is not None:
            if self.cell.feeds_memory:
                through += list(params.extra)
            else:
                self.extra = list(params.extra)
        self.recurrent = list(params.weight_hh) if self.cell.needs_separate_products else []
        joined = [weight_ih] if self.recurrent else [weight_ih, *through]
        self.weight, self.bias = torch.cat(joined, 1), bias.unsqueeze(1).clone()
        if isinstance(self.cell, SpatialLSTMCell):
            _double_candidate(self.cell, self.weight, self.bias)
        # the inputs, h of the upper and left predecessor, and c of both
        self.parts = [weight_ih.shape[1], hidden, hidden, *((hidden, hidden) if self.cell.memory else ())]
        self.slots = weight_ih.new_zeros(ring, sum(self.parts), rows + 1, batch)

    def clear(self) -> None:
        """Forget all states: the boundary of the grid is zero."""
        self.slots.zero_()

    def step(self, x: Tensor, rows: tuple[int, int], t: int) -> Tensor:
        """Hidden vectors (H, m N) of the rows [first, last) in wavefront ``t`` from inputs (C, m N)."""
        first, last = rows
        ring = len(self.slots)
        here = self.slots[t % ring, :, first:last]
        here[: len(x)] = x.view(len(x), *here.shape[1:])
        states = here.flatten(1)
        a = torch.addmm(self.bias, self.weight, states[: self.weight.shape[1]])
        _, *before = states.split(self.parts)
        h, c = before[:2], before[2:]
        if isinstance(self.cell, SpatialLSTMCell):
            new = _spatial_step(a, c)
        else:
            products = (
                [(w @ h_k).T for w, h_k in zip(self.recurrent, h, strict=True)] if self.recurrent else []
            )
            turned = self.cell.step(a.T, products, [s.T for s in h], [s.T for s in c], self.extra)
            new = [state.T for state in turned if state is not None]
        _, *left = self.slots[(t + 1) % ring, :, first:last].split(self.parts)
        later = (t + ring - 1) % ring  # r + 1 wavefronts later
        _, *up = self.slots[later, :, first + 1 : last + 1].split(self.parts)
        for k, state in enumerate(new):
            state = state.reshape(left[0].shape)
            up[2 * k].copy_(state)
            left[2 * k + 1].copy_(state)
        return new[0]


def _double_candidate(cell: SpatialLSTMCell, weight: Tensor, bias: Tensor) -> None:
    """Let the product give 2 g in place of g, for :func:`_spatial_step`."""
    gates = cell.gates(2)
    for tensor in (weight, bias):
        tensor.chunk(len(gates))[gates.index("g")].mul_(2)


def _spatial_step(a: Tensor, c: Sequence[Tensor]) -> list[Tensor]:
    """The spatial LSTM's h and c, (H, P), from gates (5 H, P), which it overwrites, with 2 g in place of g.

    tanh(x) = 2 s(2 x) - 1: torch's logistic function s takes a sixth of the time of its tanh.
    """
    i, f_up, f_left, g, o = a.sigmoid_().chunk(5)
    new = (f_up * c[0]).addcmul_(f_left, c[1]).addcmul_(i, g, value=2).sub_(i)
    return [(o * new).mul_(2).sigmoid_().mul_(2).sub_(1), new]


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
        self, ride: RIDE, canvas: Tensor, observed: Tensor | None = None, *, order: str = "wavefront"
    ) -> None:
        if order not in ("wavefront", "raster"):
            raise ValueError(f'order must be "wavefront" or "raster", got {order!r}')
        nb = ride.neighborhood
        self.ride = ride
        batch, height, width, channels = canvas.shape
        self.shape = canvas.shape
        self.rows, self.columns = nb.grid(height, width)
        # in raster order every row starts only when the one before is complete
        self.slope = nb.slope if order == "wavefront" else max(nb.slope, self.columns)
        self.flat = canvas.permute(1, 2, 0, 3).reshape(height * width, batch, channels).contiguous()
        self.seen = None
        if observed is not None:
            self.seen = observed.permute(1, 2, 0, 3).reshape(height * width, batch, -1).contiguous()
        top, _, left, _ = nb.margins
        device = canvas.device
        self._corner, self._width = top * width + left, width
        self._shift = torch.tensor([i * width + j for i, j in nb.offsets], dtype=torch.long, device=device)
        self._observed_shift = torch.tensor(
            [i * width + j for i, j in nb.observed_offsets], dtype=torch.long, device=device
        )
        self._row_index = torch.arange(self.rows, device=device)
        whitening = ride.whitening
        folded = (whitening.input_transform, whitening.input_mean)
        self._layers = [
            _LayerState(layer, self.rows, batch, self.slope + 1, folded if depth == 0 else None)
            for depth, layer in enumerate(ride.scan_layers())
        ]
        self._params = MixtureParams(*(p.detach() for p in ride.mcgsm.mixture_params()))
        self._drawer = Drawer(self._params)

    def __iter__(self) -> Iterator[Step]:
        slope, columns = self.slope, self.columns
        for state in self._layers:
            state.clear()
        for t in range(columns + slope * (self.rows - 1)):
            first = max(0, -((columns - 1 - t) // slope))
            last = min(self.rows - 1, t // slope) + 1
            if first >= last:
                continue
            i = self._row_index[first:last]
            at = i * (self._width - slope) + (t + self._corner)
            # not around the loop: the caller's own code runs between the steps
            with torch.no_grad():
                x = self._gather(at)
                hidden = x
                for layer in self._layers:
                    hidden = layer.step(hidden, (first, last), t)
            yield Step(i * (columns - slope) + t, x.T, hidden.T, at)

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
        whitened = self._drawer.draw(step.hidden, uniform.reshape(-1), normal.flatten(0, 1))
        drawn: Tensor = self.ride.whitening.restore_outputs(step.inputs, whitened)
        return drawn.view(len(step.at), -1, self.flat.shape[-1])

    def write(self, step: Step, values: Tensor) -> None:
        """Put values (m, N, C) at the pixels of a step."""
        self.flat.index_copy_(0, step.at, values)

    def images(self) -> Tensor:
        """The canvas (N, H, W, C) as it stands."""
        n, height, width, channels = self.shape
        return self.flat.view(height, width, n, channels).permute(2, 0, 1, 3)

    def _gather(self, at: Tensor) -> Tensor:
        """The neighbourhoods (num_inputs, m N) of m pixels, with the pixels along the last axis."""
        parts = [self._windows(self.flat, at, self._shift)]
        if self.seen is not None:
            parts.append(self._windows(self.seen, at, self._observed_shift))
        return torch.cat(parts) if len(parts) > 1 else parts[0]

    @staticmethod
    def _windows(flat: Tensor, at: Tensor, shift: Tensor) -> Tensor:
        index = (shift[:, None] + at).flatten()
        picked = flat.index_select(0, index).view(len(shift), len(at), *flat.shape[1:])
        return picked.permute(0, 3, 1, 2).reshape(len(shift) * flat.shape[2], -1)
