"""``ndrnn compress``: an 8-bit grey image to few bytes without loss, by a density model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
import tyro

from ...data.faults import BadFile
from ...data.formats import images
from ...density.use.codec import compress
from ...saving.atomic import replacing
from ..density_model import load_density, overflow_of
from ..inputs import find
from ..output import Output


@dataclass(frozen=True)
class Compress:
    """Compress IMAGE, 8-bit grey, without loss, by a density model; decompress needs the same model and machine."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    image: Annotated[Path, tyro.conf.Positional]
    """The image."""
    out: Path | None = None
    """The compressed file; the image's name with the ending .ndrnn if not given."""
    json: bool = False
    """Print one JSON object."""


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = tyro.cli(Compress, prog="ndrnn compress", args=argv)
    out = Output(options.json)
    task, reader = load_density(options.model)
    if task.settings.levels != 256:
        raise ValueError(f"{options.model}: must be a model of 256 levels, got levels {task.settings.levels}")
    (file,) = find([options.image])
    array = images.decode(file.storage.read(file.name), file.where)
    if array.dtype != "uint8" or array.shape[2] != 1:
        raise BadFile(
            file.where, f"must be an 8-bit grey image, got {array.shape[2]} channels of {array.dtype}"
        )
    image = torch.from_numpy(array)
    # the model's values may be those of the negative
    with overflow_of(file.where):
        data = compress(task.model, 255 - image if reader is not None and reader.invert else image)
    target = options.out or options.image.with_suffix(".ndrnn")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(data)
    rate = 8 * len(data) / image.numel()
    out.say(f"{target}: {len(data):,} bytes, {rate:.3f} bits per pixel")
    out.result({"file": str(target), "bytes": len(data), "bits_per_pixel": rate})
    return 0
