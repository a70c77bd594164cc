"""Street scenes of eleven classes, in the form of ``recipes/camvid_unet.toml``.

Scenes belong to drives, as pictures of a camera in a car do: those of one drive share colours, light and lens. Half of
the scenes to watch by are of drives to learn from; those of the test are of others, drawn from wider ranges.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from scipy.ndimage import gaussian_filter

from .files import Array, part, picture, stream, write_zip
from .scene import HEIGHT, Canvas, Label, Style
from .things import THINGS

FILES = ("streets.zip",)
RECIPE = "recipes/camvid_unet.toml"
SPLITS = {"train": 367, "val": 101, "test": 233}
DRIVES = {"train": (0, 1, 2, 3, 4, 5), "val": (0, 6, 3, 7), "test": (8, 9, 10, 11, 12)}


def scene(rng: np.random.Generator, style: Style) -> tuple[Array, Array]:
    """Colours (90, 120, 3) from 0 to 255 and labels (90, 120)."""
    canvas = Canvas(rng, style)
    canvas.sky()
    canvas.backdrop()
    canvas.ground()
    canvas.row(right=False)
    canvas.row(right=True)
    standing = []
    for thing, usual, (low, high) in THINGS:
        for _ in range(rng.poisson(usual)):
            across, far = rng.uniform(low, high), float(np.exp(rng.uniform(np.log(5), np.log(45))))
            metres = canvas.road + across * (canvas.kerb - canvas.road if across > 0 else canvas.road)
            standing.append((far, len(standing), thing, metres * rng.choice([-1, 1])))
    for far, _, thing, side in sorted(standing, key=lambda one: -one[0]):
        before = canvas.label.copy()
        thing(canvas, side, far)
        if far > 25 and rng.random() < 0.4:  # too small for who marked them
            canvas.label[canvas.label != before] = Label.IGNORED
    if style.bonnet:
        own = canvas.y > HEIGHT - style.bonnet + 0.0015 * (canvas.x - 70) ** 2
        canvas.paint(own, Label.IGNORED, 0.06 + 0.05 * (canvas.y / HEIGHT)[..., None], 1.0)
    return _photograph(canvas), canvas.label


def _photograph(canvas: Canvas) -> Array:
    """The canvas as a camera sees it: haze, light, blur and noise."""
    rng, style = canvas.rng, canvas.style
    clear = np.exp(-style.haze * np.minimum(canvas.far, 150))[..., None]
    seen = canvas.colour * clear + style.sky * (1 - clear)
    seen = gaussian_filter(np.clip(seen, 0, 1.2), (style.blur, style.blur, 0))
    seen = seen * style.tint * style.light * rng.uniform(0.85, 1.15)
    seen = seen + style.noise * rng.standard_normal(seen.shape)
    return 255 * np.clip(seen, 0, 1) ** rng.uniform(0.85, 1.15)


def make(folder: Path, seed: int, share: float, progress: Callable[[str], None]) -> None:
    """Write the archive."""

    def entries() -> Iterator[tuple[str, bytes]]:
        for number, (split, count) in enumerate(SPLITS.items()):
            there = part(count, share)
            drives = DRIVES[split]
            styles = [Style.draw(stream(seed, 0, 9, drive), strange=split == "test") for drive in drives]
            for index in range(there):
                drive = index % len(drives)
                image, label = scene(stream(seed, 0, number, index), styles[drive])
                name = f"drive{drives[drive]:02}_{index:03}"
                yield f"{split}/{name}.jpg", picture(image, "JPEG")
                yield f"{split}annot/{name}.png", picture(label)
                progress(f"{split}: scene {index + 1} of {there}")

    write_zip(folder / FILES[0], entries())
