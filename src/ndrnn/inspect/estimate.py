"""What a layer will cost, told before anything is computed."""

from __future__ import annotations

import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from math import prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from ..nn.scan_layer import ScanLayer


@dataclass(frozen=True)
class Estimate:
    """The cost of one call of a layer, or of one training step.

    Attributes:
        operations: floating-point operations of the matrix products, 2 * (C + n*H) * G*H a point and direction
            forward, three times that with the backward pass. What the gates cost is not in it, nor what the way back
            computes again to keep less.
        output_bytes: of y.
        kept_bytes: held for the backward pass beside x, the parameters and y; 0 for inference.
        peak_bytes: the most that is in use at once beside x and the parameters: y, what is kept, work space, and in
            training the gradients of y, of x and of the parameters. The compiled kernels' own work space comes on
            top: some wavefronts, and partial sums of the weights' gradients up to 64 MiB. An allocator may hold more
            than is in use, on the wavefront backend with its many tensors half as much again.
    """

    operations: int
    output_bytes: int
    kept_bytes: int
    peak_bytes: int

    def __str__(self) -> str:
        return (
            f"{_readable(self.operations, 'FLOP')}; output {_readable(self.output_bytes)}, "
            f"kept for the backward pass {_readable(self.kept_bytes)}, peak {_readable(self.peak_bytes)}"
        )


def estimate(layer: ScanLayer, shape: Sequence[int], *, training: bool = True) -> Estimate:
    """The cost of a layer on inputs of a shape, on the backend in force and the device of the layer.

    The layer runs on tensors without memory while what it allocates is added up, so that the answer holds for every
    cell and option. That is instant for the compiled backends; the plain ones take their steps even so, and some
    tenths of a millisecond for each.

    Args:
        layer: a layer of ndrnn.
        shape: (N, D1, ..., Dn, C) of its input.
        training: whether to take a training step, or to call the layer without tracking of gradients.

    Raises:
        TypeError: ``layer`` is no layer of ndrnn, or ``shape`` no sequence of ints.
        ValueError: the shape does not fit the layer.

    Example:
        >>> layer = ndrnn.MDLSTM(3, 64)
        >>> print(ndrnn.estimate(layer, (1, 256, 256, 3), training=False))
        22 GFLOP; output 67.1 MB, kept for the backward pass 0 B, peak 67.1 MB
    """
    if not isinstance(layer, ScanLayer):
        raise TypeError(f"layer must be a layer of ndrnn, got {type(layer).__name__}")
    shape = tuple(shape)
    if not all(isinstance(size, int) for size in shape):
        raise TypeError(f"shape must be ints (N, D1, ..., Dn, C), got {shape}")
    if len(shape) != layer.ndim + 2 or shape[-1] != layer.input_size or min(shape) < 0:
        axes = ", ".join(f"D{axis + 1}" for axis in range(layer.ndim))
        raise ValueError(f"shape must be (N, {axes}, {layer.input_size}), got {shape}")
    kept, peak, output = _simulate(layer, shape, training)
    operations = _operations(layer, shape) * (3 if training else 1)
    return Estimate(operations, output, kept, peak)


def _operations(layer: ScanLayer, shape: Sequence[int]) -> int:
    """Of the products forward: every element of a matrix is multiplied and added once a point."""
    rows = len(layer.directions) * len(layer.cell.gates(layer.ndim)) * layer.hidden_size
    # not by their values: to look at a parametrised weight computes it, and may change what the parametrization keeps
    has_recurrent = layer.cell.recurrent and layer._parameters.get("weight_hh", ...) is not None
    recurrent = layer.ndim * layer.hidden_size * (has_recurrent + layer.cell.feeds_memory)
    return 2 * prod(shape[:-1]) * rows * (layer.input_size + recurrent)


def _simulate(layer: ScanLayer, shape: Sequence[int], training: bool) -> tuple[int, int, int]:
    """Bytes kept after the forward pass, at the peak, and of the output."""
    from torch._subclasses import FakeTensorMode  # brings in much of the compiler

    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        # fakes of the parameters, so that their gradients are fakes as well, and of what parametrizations keep and
        # would write to
        weights = {
            name: mode.from_tensor(weight.detach()).requires_grad_(weight.requires_grad)
            for name, weight in (*layer.named_parameters(), *layer.named_buffers())
        }
        weight = next(iter(weights.values()))
        x = torch.empty(shape, dtype=weight.dtype, device=weight.device, requires_grad=training)
        with _Ledger([x, *weights.values()]) as ledger, torch.set_grad_enabled(training):
            y = torch.func.functional_call(layer, weights, (x,))
            output = y.untyped_storage().nbytes()
            kept = ledger.live - output
            if training:
                y.backward(torch.empty_like(y))
    return kept, ledger.peak, output


class _Ledger(TorchDispatchMode):
    """Adds up the storages that operators return, for as long as they live."""

    def __init__(self, ignored: Sequence[Tensor]) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known = weakref.WeakSet(tensor.untyped_storage() for tensor in ignored)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        results = func(*args, **(kwargs or {}))
        for result in results if isinstance(results, (tuple, list)) else (results,):
            if isinstance(result, Tensor):
                self._enter(result.untyped_storage())
        return results

    def _enter(self, storage: torch.UntypedStorage) -> None:
        if storage in self._known:
            return
        self._known.add(storage)
        size = storage.nbytes()
        weakref.finalize(storage, self._leave, size).atexit = False
        self.live += size
        self.peak = max(self.peak, self.live)

    def _leave(self, size: int) -> None:
        self.live -= size


def _readable(count: float, unit: str = "B") -> str:
    for prefix in ("", "k", "M", "G", "T"):
        if count < 1000 or prefix == "T":
            break
        count /= 1000
    return f"{count:.3g} {prefix}{unit}"
