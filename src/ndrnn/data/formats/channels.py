"""Grey to colour and back, with and without alpha."""

from __future__ import annotations

import numpy as np

_LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """An image (..., C) with 1, 2, 3 or 4 channels in their place; what is transparent is seen on white.

    Other numbers of channels stay as they are where C is already ``channels``.

    Raises:
        ValueError: there is no meaning of C channels as ``channels``.
    """
    got = image.shape[-1]
    if got == channels:
        return image
    if got not in (1, 2, 3, 4) or channels not in (1, 2, 3, 4):
        raise ValueError(f"has {got} channels, expected {channels}")
    full = np.float32(np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    values = image.astype(np.float32)
    color: np.ndarray = values
    alpha: np.ndarray = np.full((*image.shape[:-1], 1), full, np.float32)
    if got in (2, 4):
        color, alpha = values[..., :-1], values[..., -1:]
    if channels in (1, 3):
        color = color * (alpha / full) + (full - alpha)
    if channels in (1, 2) and color.shape[-1] == 3:
        color = (color @ _LUMA)[..., None]
    elif channels in (3, 4) and color.shape[-1] == 1:
        color = np.repeat(color, 3, -1)
    result = np.concatenate([color, alpha], -1) if channels in (2, 4) else color
    return result if image.dtype.kind == "f" else np.rint(result).clip(0, full).astype(image.dtype)
