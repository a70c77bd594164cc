"""Densities are computed in their model's own precision, whatever autocast says."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch


def own_precision(device: torch.device) -> AbstractContextManager[object]:
    """Within the block products are not lowered to half precision: rounding would change a density by whole bits."""
    # the meta device has no autocast
    return nullcontext() if device.type == "meta" else torch.autocast(device.type, enabled=False)
