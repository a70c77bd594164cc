"""Deep supervision: every level of a network learns to give the answer itself (Lee et al. 2015)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import Tensor

from ..nn.hierarchy import Hierarchy


def supervised(model: Hierarchy, batch: Any, weight: float, loss: Callable[[Tensor], Tensor]) -> Tensor:
    """The loss of a network, and ``weight`` times that of each lower level's own output.

    Args:
        model: with auxiliary outputs where ``weight`` is above 0.
        batch: gives ``x`` and ``sizes``.
        weight: 0 for the loss of the network alone.
        loss: of the scores of one output.
    """
    if not weight:
        return loss(model(batch.x, batch.sizes))
    *below, top = model.scores(batch.x, batch.sizes)
    total = loss(top)
    for scores in below:
        total = total + weight * loss(scores)
    return total
