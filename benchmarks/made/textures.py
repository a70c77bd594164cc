"""Random textures, all of mean 0 and variance 1 or nearly so, over lattices of any dimension."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from scipy.ndimage import gaussian_filter, map_coordinates

from ndrnn.density.lattices.images import dead_leaves

from .files import Array

Shape = Sequence[int]


def standard(values: Array) -> Array:
    """Shifted and scaled to mean 0 and variance 1."""
    return (values - values.mean()) / (values.std() + 1e-9)


def smooth(rng: np.random.Generator, shape: Shape, width: float | Sequence[float]) -> Array:
    """Noise whose correlation ends after about ``width`` points."""
    return standard(gaussian_filter(rng.standard_normal(shape), width, mode="reflect", truncate=3))


def clouds(rng: np.random.Generator, shape: Shape, power: float = 1.5) -> Array:
    """Noise of all scales: amplitudes fall as frequency to the minus ``power``."""
    axes = [np.fft.fftfreq(size) for size in shape[:-1]] + [np.fft.rfftfreq(shape[-1])]
    frequency = np.sqrt(sum(axis**2 for axis in np.meshgrid(*axes, indexing="ij")))
    frequency.flat[0] = np.inf
    spectrum = np.fft.rfftn(rng.standard_normal(shape)) * frequency**-power
    return standard(np.fft.irfftn(spectrum, shape, axes=range(len(shape))))


def leaves(rng: np.random.Generator, height: int, width: int, r_min: float, r_max: float) -> Array:
    """Dead leaves, as the density models learn them."""
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    image = dead_leaves(height, width, r_min=r_min, r_max=r_max, generator=generator)
    return (image.numpy().astype(float) - 0.5) * 12**0.5


def bars(position: Array, period: float, share: float) -> Array:
    """1 where ``position`` lies in the first ``share`` of a period, else 0."""
    return (np.mod(position / period, 1) < share).astype(float)


def bend(values: Array, shifts: Sequence[Array], fill: float = 0.0) -> Array:
    """The values that lie ``shifts`` away from each point, one array of shifts an axis."""
    grid = np.meshgrid(*map(np.arange, values.shape), indexing="ij", sparse=True)
    places = [axis + shift for axis, shift in zip(grid, shifts, strict=True)]
    return map_coordinates(values, places, order=1, cval=fill)
