"""Grey to colour and back, with and without alpha."""

from __future__ import annotations

import numpy as np

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601


def to_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """An image (..., C) with 1, 2, 3 or 4 channels in their place; what is transparent is seen on white.

    White is the largest value of an unsigned integer type, and 1 of a floating-point type. Other numbers of channels,
    and other types, stay as they are where C is already ``channels``.

    Raises:
        ValueError: there is no meaning of C channels as ``channels``, or of the type's values as grey and colour.
    """
    got = image.shape[-1]
    if got == channels:
        return image
    if got not in (1, 2, 3, 4) or channels not in (1, 2, 3, 4):
        raise ValueError(f"has {got} channels, expected {channels}")
    if image.dtype.kind not in "uf":
        raise ValueError(
            f"has {got} channels of {image.dtype}, expected {channels}; only unsigned integers and floating-point "
            "values have a white, and can be converted"
        )
    working = np.float64 if image.dtype.itemsize > 2 and image.dtype.kind == "u" else np.float32
    full = working(np.iinfo(image.dtype).max if image.dtype.kind == "u" else 1)
    values = image.astype(working)
    color: np.ndarray = values
    alpha: np.ndarray = np.full((*image.shape[:-1], 1), full, working)
    if got in (2, 4):
        color, alpha = values[..., :-1], values[..., -1:]
    if channels in (1, 3):
        color = color * (alpha / full) + (full - alpha)
    if channels in (1, 2) and color.shape[-1] == 3:
        color = (color @ np.array(_LUMA, working))[..., None]
    elif channels in (3, 4) and color.shape[-1] == 1:
        color = np.repeat(color, 3, -1)
    result = np.concatenate([color, alpha], -1) if channels in (2, 4) else color
    return result if image.dtype.kind == "f" else np.rint(result).clip(0, full).astype(image.dtype)
