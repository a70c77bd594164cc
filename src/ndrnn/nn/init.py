"""First weights that let every level of a hierarchy hear the one below.

Weights drawn without regard to what comes in make a deep hierarchy nearly deaf: each level and each feed-forward layer
passes on a fraction of the variation that it gets, and little of the image reaches the highest level. Scaled by the
data, layer after layer from the lowest, they pass it on whole (Mishkin & Matas 2016, "All you need is a good init").
"""

from __future__ import annotations

import torch
from torch import Tensor

from ..lattice import inside
from .blocks import Subsample
from .hierarchy import Hierarchy


@torch.no_grad()
def balance(model: Hierarchy, x: Tensor, sizes: Tensor | None = None) -> None:
    """Scale the weights between the levels so that what a layer gets varies by 1 over the points of these samples.

    Every feed-forward layer's weights and every recurrent layer's input weights are divided by the standard deviation
    of what they give, the root mean square over the units; biases of recurrent layers take off its mean. Recurrent
    weights, and gates that start closed to the input, stay as they are.

    Args:
        model: with fresh weights, and standardized.
        x: (N, D1, ..., Dn, C), some samples, as for the model itself.
        sizes: true extent (N, n) of each sample, int64.

    Raises:
        TypeError: ``model`` is no hierarchy.
        ValueError: ``x`` or ``sizes`` do not fit it.

    Example:
        >>> network = ndrnn.Hierarchy(1, 5, hidden=(2, 10), subsample=(6,), blocks=((4, 2), (4, 2)))
        >>> samples = torch.rand(3, 48, 60, 1)
        >>> network.standardize(samples.mean((0, 1, 2)), samples.std((0, 1, 2)))
        >>> ndrnn.nn.init.balance(network, samples)
    """
    if not isinstance(model, Hierarchy):
        raise TypeError(f"model must be a Hierarchy, got {type(model).__name__}")
    x, sizes, _ = model.as_batch(x, sizes)
    x = (x - model.mean) / model.std
    for window, layer in zip(model.windows, model.layers, strict=True):
        if isinstance(window, Subsample):
            before = window.blocks(x, sizes)
            given = _points(before, window.output_sizes, sizes) @ window.linear.weight.T
            window.linear.weight /= _spread(given)
        x = window(x, sizes)
        points = _points(x, window.output_sizes, sizes)
        sizes = None if sizes is None else window.output_sizes(sizes)  # type: ignore[operator]
        for direction, weight in enumerate(layer.weight_ih):  # type: ignore[arg-type]
            hears = weight.abs().sum(1) > 0
            weight[hears] /= _spread(points @ weight[hears].T)
            if layer.bias is not None:
                layer.bias[direction] -= (points @ weight.T).mean(0)  # type: ignore[operator, index]
        x = layer(x, sizes=sizes)


def _points(x: Tensor, after: object, sizes: Tensor | None) -> Tensor:
    """The features (P, C) of all points of a lattice that the samples cover, their extents being ``after(sizes)``."""
    if sizes is None:
        return x.flatten(0, -2)
    return x[inside(after(sizes), x.shape[1:-1])]  # type: ignore[operator]


def _spread(given: Tensor) -> Tensor:
    """The standard deviation over points (P, F), the root mean square over the features; 1 where nothing varies."""
    spread = given.var(0).mean().sqrt()
    return torch.where(spread > 1e-6, spread, 1)
