"""The network that labels every point, as plain PyTorch: no training library is needed to use it."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from ..layers import MDLSTM, Directions


class PixelLabeler(nn.Module):
    """Multi-directional MDLSTM layers under one output layer, a softmax over labels at every point.

    Graves, Fernandez & Schmidhuber 2007: 2^n hidden layers, one from each corner of the lattice, feed one output
    layer; its sum of 2^n linear maps and a bias is one linear map of their concatenation. With one layer of 25 units
    with peepholes and 11 labels for grey images it has the 27,511 weights of their network for MNIST.

    Args:
        input_size: features C of a point.
        hidden_size: units H of each direction.
        num_labels: labels L.
        ndim: number n of lattice axes.
        num_layers: multi-directional layers on top of each other.
        peepholes: whether the gates see the memories, as in the paper.
        directions: corners to scan from, see :class:`ndrnn.MDLSTM`.

    Features are first centred and scaled by the buffers ``mean`` and ``std`` (C,), which :meth:`standardize` sets.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_labels: int,
        ndim: int = 2,
        *,
        num_layers: int = 1,
        peepholes: bool = True,
        directions: Directions = "all",
    ) -> None:
        super().__init__()
        for name, value in (("num_labels", num_labels), ("num_layers", num_layers)):
            if not isinstance(value, int) or isinstance(value, bool):
                raise TypeError(f"{name} must be an int, got {type(value).__name__}")
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self._config = {
            "input_size": input_size,
            "hidden_size": hidden_size,
            "num_labels": num_labels,
            "ndim": ndim,
            "num_layers": num_layers,
            "peepholes": peepholes,
            "directions": directions,
        }
        self.layers = nn.ModuleList()
        features = input_size
        for _ in range(num_layers):
            layer = MDLSTM(features, hidden_size, ndim, peepholes=peepholes, directions=directions)
            self.layers.append(layer)
            features = layer.output_size
        self.output = nn.Linear(features, num_labels)
        self.register_buffer("mean", torch.zeros(input_size))
        self.register_buffer("std", torch.ones(input_size))

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, for :mod:`ndrnn.checkpoint`."""
        return dict(self._config)

    @torch.no_grad()
    def standardize(self, x: Tensor) -> None:
        """Centre and scale each feature by its mean and standard deviation in ``x`` (N, D1, ..., Dn, C)."""
        std, mean = torch.std_mean(x.flatten(0, -2), dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1))

    def hidden(self, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        """What every layer says: for each (N, D1, ..., Dn, directions, H)."""
        outputs = []
        x = (x - self.mean) / self.std
        for layer in self.layers:
            x = layer(x, sizes=sizes)
            outputs.append(x.unflatten(-1, (-1, layer.hidden_size)))
        return outputs

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Log-probabilities of the labels at every point, in nats.

        Args:
            x: (N, D1, ..., Dn, C).
            sizes: true extent (N, n) of each sample, int64.

        Returns:
            (N, D1, ..., Dn, L); without meaning outside ``sizes``.
        """
        return self.output(self.hidden(x, sizes)[-1].flatten(-2)).log_softmax(-1)
