"""The incremental evaluator: hidden states of a RIDE wavefront by wavefront, while its image is still being made.

Likelihood, sampling and coding share it. Pixel (i, j) is in wavefront j + (r+1) i. The left predecessor of row i is
row i of the wavefront before, the upper one is row i-1 of the wavefront r+1 steps before, so that a ring of r+2
wavefronts is all that is kept.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_flatten, tree_unflatten

from ...nn.layers import ScanLayer
from ...scan import step
from ..mixture.drawing import Drawer
from ..mixture.likelihood import MixtureParams, log_density
from ..mixture.precision import own_precision
from ..ride.model import RideModel


@dataclass(frozen=True)
class Step:
    """One wavefront of m pixels in N images."""

    pixels: Tensor
    """Row-major indices (m,) of the pixels in the grid of predicted pixels."""
    inputs: Tensor
    """Their neighbourhoods (m N, num_inputs), not whitened, pixel by pixel."""
    hidden: Tensor
    """Their top hidden vectors (m N, hidden_size), overwritten by the wavefront r+2 steps later."""
    at: Tensor
    """Row-major indices (m,) of the pixels in the canvas."""


class _Layer(ABC):
    """One layer, and rings of the states in its last wavefronts.

    A slot of a ring holds the states of all rows of the grid, (rows + 1) * batch of them, row by row, so that those
    of neighbouring rows are a slice of it. Row -1, and every row before its first pixel, is the boundary of the grid:
    nothing is ever written there, and it is zero.

    Args:
        size: numbers of wavefronts to remember, and of states in each.
        batch: images.
        like: a parameter of the layer.
        widths: of the states of a pixel.
    """

    def __init__(self, size: tuple[int, int], batch: int, like: Tensor, widths: Sequence[int]) -> None:
        self._slope, self._batch = size[0] - 1, batch
        self._rings = [like.new_zeros(*size, width).unbind() for width in widths]

    def clear(self) -> None:
        """Forget all states: the boundary of the grid is zero."""
        for ring in self._rings:
            for slot in ring:
                slot.zero_()

    def step(self, x: Tensor, rows: tuple[int, int], t: int) -> Tensor:
        """Hidden vectors (m N, H) of the rows [first, last) in wavefront ``t`` from inputs (m N, C)."""

        def states(before: int, above: int) -> list[Tensor]:
            """Those ``before`` wavefronts ago, of the rows or of the ones above them."""
            at = slice(*((row + 1 - above) * self._batch for row in rows))
            return [ring[(t - before) % len(ring)][at] for ring in self._rings]

        return self.advance(x, [states(self._slope, 1), states(1, 0)], states(0, 0))

    @abstractmethod
    def advance(self, x: Tensor, before: Sequence[Sequence[Tensor]], new: Sequence[Tensor]) -> Tensor:
        """Hidden vectors (m N, H) from inputs (m N, C) and the predecessors' states, by axis; fills in the new states."""


class _Scan(_Layer):
    """A scan, one step of its cell at a time."""

    def __init__(
        self, layer: ScanLayer, size: tuple[int, int], batch: int, first: tuple[Tensor, Tensor] | None
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
        super().__init__(size, batch, self.params.weight_ih, widths)

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
        size: tuple[int, int],
        batch: int,
        first: tuple[Tensor, Tensor] | None,
    ) -> None:
        self.layer, self.first = layer, first
        like = next(layer.parameters())
        # the form of a state is the layer's own: a face an axis, of one part or of several
        _, state = layer(like.new_zeros(1, 1, 1, inputs), return_state=True)
        faces, self._form = tree_flatten(state)
        super().__init__(size, batch, like, [face.shape[-1] for face in faces[::2]])

    def advance(self, x: Tensor, before: Sequence[Sequence[Tensor]], new: Sequence[Tensor]) -> Tensor:
        if self.first is not None:
            transform, mean = self.first
            x = (x - mean) @ transform.T
        faces = [state.view(1, len(x), 1, -1) for part in zip(*before, strict=True) for state in part]
        state = tree_unflatten(faces, self._form)
        y, exits = self.layer(x.view(len(x), 1, 1, -1), initial_state=state, return_state=True)
        # of a single point all faces hold the same
        for to, face in zip(new, tree_flatten(exits)[0][::2], strict=True):
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
        with own_precision(device):
            self._fold(ride, batch)

    def _fold(self, ride: RideModel, batch: int) -> None:
        """Lay out layers and mixture, the whitening folded into both."""
        whitening = ride.whitening
        folded = (whitening.input_transform, whitening.input_mean)
        size = (self.slope + 1, (self.rows + 1) * batch)
        self._layers: list[_Layer] = []
        for layer in ride.layers:
            first = None if self._layers else folded
            inputs = ride.hidden_size if self._layers else whitening.num_inputs
            if isinstance(layer, ScanLayer):
                self._layers.append(_Scan(layer, size, batch, first))
            else:
                self._layers.append(_Other(layer, inputs, size, batch, first))
        self._params = MixtureParams(*(p.detach() for p in ride.mcgsm.mixture_params()))
        # what does not depend on the pixel is folded into the mixture: y = y_whitened O + b + P x
        self._predictor = whitening.predictor.T
        constant = whitening.output_mean - whitening.input_mean @ self._predictor
        self._drawer = Drawer(self._params, whitening.output_inverse, constant)

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
            with torch.no_grad(), own_precision(self.flat.device):
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
        with own_precision(self.flat.device):
            drawn = self._drawer.draw(step.hidden, uniform.reshape(-1), normal.flatten(0, 1))
            drawn.addmm_(step.inputs, self._predictor)
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
