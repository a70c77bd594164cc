"""What is refused because it is not finite."""

from __future__ import annotations

import torch
from torch import Tensor


def check_finite(values: Tensor, name: str) -> None:
    """Raise ValueError if ``values`` holds NaN or an infinity."""
    if not bool(torch.isfinite(values).all()):
        bad = int((~torch.isfinite(values)).sum())
        raise ValueError(f"{name} must be finite, got {bad} values that are NaN or infinite")


def check_each_finite(values: Tensor, what: str) -> None:
    """Raise FloatingPointError that names the first images of which a number is NaN or infinite.

    Args:
        values: (N, ...), what was computed of N images.
        what: how the message begins, such as ``"the log-density"``.
    """
    good = torch.isfinite(values).flatten(1).all(1) if values.dim() > 1 else torch.isfinite(values)
    if not bool(good.all()):
        bad = (~good).nonzero().flatten().tolist()
        names = ", ".join(map(str, bad[:5])) + (", ..." if len(bad) > 5 else "")
        raise FloatingPointError(
            f"{what} is not finite for image {names} of {len(values)} (counted from 0): the model's memory or its "
            "mixture overflows there; cut images smaller, or train with a bounded cell such as cell='gru'"
        )
