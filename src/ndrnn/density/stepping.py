"""The incremental evaluator: hidden states of a RIDE wavefront by wavefront, while its image is still being made.

Likelihood, sampling and coding share it. Pixel (i, j) is in wavefront j + (r+1) i. The left predecessor of row i is
row i of the wavefront before, the upper one is row i-1 of the wavefront r+1 steps before, so that a ring of r+2
wavefronts is all that is kept.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from ..layers import ScanLayer
from ..scan import scan
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
    """One layer, and a ring of the states that its pixels start from.

    To the scan the pixels of a wavefront are lattices of a single point each, and the states of their predecessors the
    boundary. A slot of the ring holds those of every row of the grid in one wavefront, (rows + 1, batch, 2 axes,
    hidden). A step writes its states ahead to where they will be read, one wavefront later as left predecessors and
    r+1 wavefronts later as upper ones, and so no step has to gather any. What is never written is the boundary of the
    grid, which is zero.
    """

    def __init__(
        self, layer: ScanLayer, rows: int, batch: int, ring: int, first: tuple[Tensor, Tensor] | None
    ) -> None:
        self.cell, self.params = layer.cell, layer.params
        if first is not None:
            # the whitening of the inputs is folded into the weights
            transform, mean = first
            weight_ih = self.params.weight_ih @ transform
            shift = weight_ih @ mean
            bias = -shift if self.params.bias is None else self.params.bias - shift
            self.params = self.params._replace(weight_ih=weight_ih, bias=bias)
        shape = (ring, rows + 1, batch, 2, layer.hidden_size)
        self.h = self.params.weight_ih.new_zeros(shape)
        self.c = self.h.new_zeros(shape) if self.cell.memory else None

    def clear(self) -> None:
        """Forget all states: the boundary of the grid is zero."""
        self.h.zero_()
        if self.c is not None:
            self.c.zero_()

    def step(self, x: Tensor, rows: tuple[int, int], t: int) -> Tensor:
        """Hidden vectors (m N, H) of the rows [first, last) in wavefront ``t`` from inputs (m N, C)."""
        first, last = rows
        ring = len(self.h)
        here, after, below = t % ring, (t + 1) % ring, (t + ring - 1) % ring  # below: r + 1 wavefronts later

        def boundary(slots: Tensor) -> Tensor:
            return slots[here, first:last].flatten(0, 1).unsqueeze(0)

        state = boundary(self.h), None if self.c is None else boundary(self.c)
        y, left = scan(self.cell, x[:, None, None], self.params, [(1, 1)], None, state, return_state=True)
        assert left is not None
        for slots, new in zip((self.h, self.c), left, strict=True):
            if slots is not None and new is not None:
                up, along = new.view(slots[here, first:last].shape).unbind(2)
                slots[below, first + 1 : last + 1, :, 0] = up
                slots[after, first:last, :, 1] = along
        return y.flatten(1)


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
            yield Step(i * (columns - slope) + t, x, hidden, at)

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
