"""Textured blobs that touch, on textured ground, in the form of ``recipes/nuclei_unet.toml``.

Images are of four kinds: bright blobs, faint ones, some bright and some hardly seen, and blobs as bright as the ground,
which only their texture shows. Out-of-focus spots and debris, which are no blobs, lie among them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from .files import Array, part, picture, stream, write_table, write_zip
from .textures import clouds, smooth

FILES = ("nuclei.zip", "index.tsv")
RECIPE = "recipes/nuclei_unet.toml"
SPLITS = {"train": 70, "test": 30}
SIZE = 256

Y, X = np.mgrid[:SIZE, :SIZE].astype(float)

Box = tuple[slice, slice]


@dataclass(frozen=True)
class Kind:
    """How blobs stand out: ranges of their brightness over the ground, and of the depth of their texture."""

    brightness: tuple[float, float]
    depth: tuple[float, float]


KINDS = (
    Kind((0.6, 1.2), (0.1, 0.3)),
    Kind((0.15, 0.35), (0.05, 0.15)),
    Kind((0.08, 1.5), (0.1, 0.3)),
    Kind((-0.02, 0.05), (0.12, 0.2)),
)


def _blob(rng: np.random.Generator, y: float, x: float, radius: float) -> tuple[Box, Array]:
    """How deep points lie in a blob, above 0 inside and 1 in the middle, within a box that holds it."""
    angle, flat = rng.uniform(0, np.pi), rng.uniform(0.55, 1.0)
    waves = [(k, rng.normal(0, 0.13 / k), rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4, 5)]
    ends = [np.clip([at - 1.7 * radius, at + 1.7 * radius + 1], 0, SIZE).astype(int) for at in (y, x)]
    box = (slice(*ends[0]), slice(*ends[1]))
    across, along = X[box] - x, Y[box] - y
    u = (across * np.cos(angle) + along * np.sin(angle)) / radius
    v = (along * np.cos(angle) - across * np.sin(angle)) / (radius * flat)
    turn = np.arctan2(v, u)
    edge = 1 + sum(height * np.cos(k * turn + phase) for k, height, phase in waves)
    return box, 1 - np.hypot(u, v) / edge


def sample(rng: np.random.Generator) -> tuple[Array, Array]:
    """An image (256, 256) from 0 to 255, and the number of the blob at each point, 0 for none."""
    kind = KINDS[rng.choice(4, p=(0.3, 0.25, 0.25, 0.2))]
    usual = rng.uniform(6, 15)
    image, numbers = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE), np.uint8)
    inner = smooth(rng, (SIZE, SIZE), usual / 7)  # of finer grain than the ground
    centres = rng.uniform(-5, SIZE + 5, (int(rng.integers(1, 7)), 2))
    found = 0
    for _ in range(int(np.exp(rng.uniform(np.log(5), np.log(110))))):
        # in clusters, so that blobs touch, or anywhere
        gathered = rng.random() < 0.6
        y, x = (
            (centres[rng.integers(len(centres))] + rng.normal(0, 2.6 * usual, 2))
            if gathered
            else rng.uniform(0, SIZE, 2)
        )
        box, deep = _blob(rng, y, x, usual * np.exp(rng.normal(0, 0.2)))
        inside = (deep > 0) & (numbers[box] == 0)
        if inside.sum() < 0.6 * (deep > 0).sum() or inside.sum() < 12:
            continue  # mostly under others, or outside
        found += 1
        numbers[box][inside] = found
        level, depth = rng.uniform(*kind.brightness), rng.uniform(*kind.depth)
        dome = np.clip(3 * deep, 0, 1) ** 0.5
        image[box][inside] = (level * (0.8 + 0.2 * dome) + depth * inner[box])[inside]
        if rng.random() < 0.3:  # a dark or bright spot, as nucleoli
            dy, dx = rng.normal(0, usual / 4, 2)
            spot = np.exp(-((Y[box] - y - dy) ** 2 + (X[box] - x - dx) ** 2) / 6)
            image[box] -= rng.normal(0, 0.3) * np.abs(level) * spot * inside
    ground = (
        0.2
        + rng.uniform(0.03, 0.1) * clouds(rng, (SIZE, SIZE), 1.5)
        + rng.uniform(0.01, 0.06) * smooth(rng, (SIZE, SIZE), 3)
    )
    if kind is KINDS[3]:  # as deep a texture as the blobs, but coarser
        ground = (
            ground + 0.2 + rng.uniform(0.1, 0.18) * smooth(rng, (SIZE, SIZE), usual / 2.2) * (numbers == 0)
        )
    ground = ground + _clutter(rng, usual, max(0.15, kind.brightness[1] * 0.5))
    light = 1 + 0.25 * (
        np.cos((X - rng.uniform(0, SIZE)) / 150) * np.cos((Y - rng.uniform(0, SIZE)) / 150) - 0.5
    )
    image = gaussian_filter(ground + image, rng.uniform(0.5, 1.5)) * light
    image = (
        image
        + rng.uniform(0.01, 0.05) * np.sqrt(np.clip(image, 0.02, None)) * rng.standard_normal(image.shape) * 2
    )
    return rng.uniform(40, 130) * np.clip(image, 0, 1.9), numbers


def _clutter(rng: np.random.Generator, usual: float, bright: float) -> Array:
    """Spots far out of focus, and specks and threads much smaller than blobs."""
    blurred, sharp = np.zeros((SIZE, SIZE)), np.zeros((SIZE, SIZE))
    for _ in range(rng.poisson(4)):
        y, x = rng.uniform(0, SIZE, 2)
        level = rng.uniform(0.3, 1) * bright
        box, deep = _blob(rng, y, x, usual * rng.uniform(1, 2))
        blurred[box] += level * (deep > 0)
    for _ in range(rng.poisson(12)):
        y, x = rng.uniform(0, SIZE, 2)
        slope, length = rng.uniform(0, np.pi), rng.uniform(1, 12)
        along = (X - x) * np.cos(slope) + (Y - y) * np.sin(slope)
        across = (Y - y) * np.cos(slope) - (X - x) * np.sin(slope) + 0.01 * along**2
        sharp += rng.uniform(0.3, 1.5) * bright * ((np.abs(along) < length) & (np.abs(across) < 1.2))
    return gaussian_filter(blurred, usual * 0.7) + sharp


def make(folder: Path, seed: int, share: float, progress: Callable[[str], None]) -> None:
    """Write the archive and the table of its splits."""
    table = [("name", "split", "width", "height", "nuclei", "fg_fraction")]

    def entries() -> Iterator[tuple[str, bytes]]:
        for number, (split, count) in enumerate(SPLITS.items()):
            there = part(count, share, 4 if split == "train" else 1)
            for index in range(there):
                image, numbers = sample(stream(seed, 1, number, index))
                name = f"{split}{index:03}"
                row = (name, split, SIZE, SIZE, int(numbers.max()), f"{(numbers > 0).mean():.4f}")
                table.append(tuple(map(str, row)))
                yield f"image/{name}.png", picture(image)
                yield f"instance/{name}.png", picture(numbers)
                progress(f"{split}: image {index + 1} of {there}")

    write_zip(folder / FILES[0], entries())
    write_table(folder / FILES[1], table)
