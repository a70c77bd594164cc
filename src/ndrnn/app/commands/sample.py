"""``ndrnn sample``: draw images from a density model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ..density_model import as_stored, load_density, overflow_of, write_image
from ..output import Output


@dataclass(frozen=True)
class Sample:
    """Draw images from a density model, exactly by its probabilities, pixel after pixel."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    out: Path = Path("samples")
    """Folder for the images, 0.png, 1.png, ..."""
    n: int = 4
    """Images."""
    height: int = 64
    width: int = 64
    margin: int = 8
    """Pixels around an image that are drawn too and cut off, so that it does not begin at noise."""
    seed: int = 0
    """Equal seeds give equal images."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        for name in ("n", "height", "width"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = tyro.cli(Sample, prog="ndrnn sample", args=argv)
    out = Output(options.json)
    task, reader = load_density(options.model)
    options.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(options.seed)
    with torch.no_grad(), overflow_of(str(options.model)):
        images = task.model.sample(
            options.n, options.height, options.width, margin=options.margin, generator=generator
        )
    paths = [options.out / f"{number}.png" for number in range(options.n)]
    for image, path in zip(images, paths, strict=True):
        with overflow_of(str(path)):
            stored = as_stored(image, task.settings.levels, reader is not None and reader.invert)
        write_image(stored, path)
        out.say(str(path))
    out.result({"images": [str(path) for path in paths], "seed": options.seed})
    return 0
