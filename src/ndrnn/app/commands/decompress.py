"""``ndrnn decompress``: the image of which ``ndrnn compress`` made a file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from PIL import Image

from ...data.faults import BadFile
from ...density.use.codec import decompress
from ...saving.atomic import replacing
from ..density_model import load_density, overflow_of
from ..output import Output


@dataclass(frozen=True)
class Decompress:
    """Make the image again of which compress, with the same model, made FILE."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    file: Annotated[Path, tyro.conf.Positional]
    """The compressed file."""
    out: Path | None = None
    """The image, PNG; the file's name with the ending .png if not given."""
    json: bool = False
    """Print one JSON object."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = tyro.cli(Decompress, prog="ndrnn decompress", args=argv)
    out = Output(options.json)
    task, reader = load_density(options.model)
    try:
        with overflow_of(str(options.file)):
            image = decompress(task.model, options.file.read_bytes())
    except ValueError as error:
        raise BadFile(str(options.file), str(error)) from error
    if reader is not None and reader.invert:
        image = 255 - image
    target = options.out or options.file.with_suffix(".png")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        Image.fromarray(image.numpy()).save(path, format="PNG")
    out.say(f"{target}: {image.shape[0]} x {image.shape[1]} pixels")
    out.result({"image": str(target), "height": image.shape[0], "width": image.shape[1]})
    return 0
