"""What is refused because it is not finite."""

from __future__ import annotations

import torch
from torch import Tensor


def check_finite(values: Tensor, name: str) -> None:
    """Raise ValueError if ``values`` holds NaN or an infinity."""
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).sum())
        raise ValueError(f"{name} must be finite, got {bad} values that are NaN or infinite")
