"""Volumes with a bent object of two parts, in the form of ``recipes/hippocampus_unet.toml``.

The object is a thick head that bends into a thinner tail, and the parts meet behind a knob on its side: where it lies is
seen from the whole, not from the brightness, which is that of half the ground. Tubes without head or knob are no objects.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter
from scipy.spatial import cKDTree

from .files import Array, part, stream, write_npz
from .textures import clouds, smooth

FILES = ("hippocampus.npz",)
RECIPE = "recipes/hippocampus_unet.toml"
COUNT, TESTED = 100, 30


def _tube(shape: tuple[int, ...], line: Array, radius: Array) -> Array:
    """How far points lie within a tube along ``line`` (K, 3), in voxels; below 0 outside."""
    points = np.stack(np.meshgrid(*map(np.arange, shape), indexing="ij"), -1).reshape(-1, 3)
    distance, nearest = cKDTree(line).query(points)
    return (radius[nearest] - distance).reshape(shape)


def sample(rng: np.random.Generator) -> tuple[Array, Array]:
    """A volume of bytes and its labels: 0 ground, 1 front, 2 back."""
    shape = tuple(int(rng.integers(low, high)) for low, high in ((31, 43), (42, 56), (28, 44)))
    sizes = np.array(shape)
    t = np.linspace(0, 1, 200)
    # from the head, at the high end of the second axis, to the tail
    bow, lift, turn = rng.uniform(3, 7), rng.uniform(-4, 6), rng.normal(0, 0.6)
    line = np.stack(
        [
            sizes[0] * rng.uniform(0.42, 0.58) + bow * np.sin(np.pi * (t**1.3)) + turn * 4 * t**2,
            sizes[1] * (rng.uniform(0.76, 0.84) - (rng.uniform(0.5, 0.62)) * t),
            sizes[2] * rng.uniform(0.42, 0.58)
            + lift * (t - 0.4) ** 2 * 3
            + rng.normal(0, 1.5) * np.sin(2 * np.pi * t),
        ],
        -1,
    )
    head, tail = rng.uniform(5.6, 7.4), rng.uniform(3.6, 4.8)
    radius = tail + (head - tail) / (1 + np.exp((t - rng.uniform(0.24, 0.32)) * 16))
    radius = radius * (1 - np.clip((t - 0.85) / 0.15, 0, 1) ** 2 * 0.7)
    border = rng.uniform(0.3, 0.46)  # of the parts, where the knob ends
    depth = _tube(shape, line, radius)
    knob_at = line[int((border - 0.05) * 199)] + np.array([-1, 0, rng.choice([-1, 1]) * 0.5]) * tail * 1.1
    grid = np.meshgrid(*map(np.arange, shape), indexing="ij")
    knob = rng.uniform(2.4, 3.2) - np.sqrt(sum((g - c) ** 2 for g, c in zip(grid, knob_at, strict=True)))
    depth = np.maximum(depth, knob) + 0.7 * smooth(rng, shape, 2.5)
    # the parts meet in a plane of the head's axis, as who marks them does slice by slice
    plane = line[int(border * 199), 1]
    inside = depth > 0
    label = np.where(inside, np.where(grid[1] > plane, 1, 2), 0).astype(np.uint8)
    return _scan(rng, shape, depth, inside), label


def _scan(rng: np.random.Generator, shape: tuple[int, ...], depth: Array, inside: Array) -> Array:
    """What the scanner makes of it: tissues of several levels, the object as bright as one of them, fluid beside it."""
    grey, white, fluid = 0.52 + rng.normal(0, 0.02), 0.8 + rng.normal(0, 0.03), 0.22 + rng.normal(0, 0.03)
    folds = smooth(rng, shape, rng.uniform(3.2, 4.5))
    tissue = np.where(folds > rng.uniform(0.0, 0.4), grey, white)
    tissue = np.where(smooth(rng, shape, 2.5) > 1.5, fluid, tissue)
    for _ in range(rng.poisson(2.5)):  # other tubes, as bright
        ends = rng.uniform(-0.1, 1.1, (3, 3)) * shape
        t = np.linspace(0, 1, 80)[:, None]
        line = ends[0] * (1 - t) ** 2 + 2 * ends[1] * t * (1 - t) + ends[2] * t**2
        other = _tube(shape, line, np.full(80, rng.uniform(2.5, 5)))
        tissue = np.where(other > 0, grey, tissue)
    # fluid wraps the object at some places, white matter at others, and elsewhere nothing marks its edge
    wrap = smooth(rng, shape, 5)
    rim = (depth > -rng.uniform(1.2, 2.2)) & ~inside
    tissue = np.where(rim & (wrap > 0.4), fluid, np.where(rim & (wrap < -0.1), white, tissue))
    tissue = np.where(inside, grey + rng.uniform(-0.04, 0.05), tissue)
    # stripes within, as layers of cells, and grain everywhere
    tissue = tissue + inside * 0.05 * np.sin(depth * rng.uniform(1.8, 2.6)) + 0.035 * clouds(rng, shape, 1.2)
    field = np.exp(0.12 * smooth(rng, shape, 12))
    seen = gaussian_filter(tissue, rng.uniform(0.5, 0.9)) * field + rng.uniform(
        0.02, 0.05
    ) * rng.standard_normal(shape)
    return np.clip(seen * rng.uniform(150, 260), 0, 255).astype(np.uint8)


def make(folder: Path, seed: int, share: float, progress: Callable[[str], None]) -> None:
    """Write the archive: all volumes one after the other, and their sizes."""
    tested = part(TESTED, share)
    learned = part(COUNT - TESTED, share, 4)
    found = []
    for split, count in enumerate((learned, tested)):
        for index in range(count):
            found.append(sample(stream(seed, 2, split, index)))
            progress(f"volume {len(found)} of {learned + tested}")
    arrays = {
        "image": np.concatenate([image.ravel() for image, _ in found]),
        "label": np.concatenate([label.ravel() for _, label in found]),
        "shape": np.array([image.shape for image, _ in found], np.int16),
        "name": np.array([f"volume_{index:03}" for index in range(len(found))]),
        "test": np.arange(len(found)) >= learned,
    }
    write_npz(folder / FILES[0], arrays)
