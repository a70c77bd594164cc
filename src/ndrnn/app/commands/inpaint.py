"""``ndrnn inpaint``: fill in what a mask hides, by a density model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import numpy as np
import torch
import tyro

from ...data.faults import BadFile
from ...data.formats import images
from ...density.lattices.images import dequantize
from ..density_model import as_stored, load_density, overflow_of, write_image
from ..inputs import Loader, find
from ..output import Output


@dataclass(frozen=True)
class Inpaint:
    """Fill in the pixels of IMAGE where MASK is not 0, by a density model; all others stay as they are."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    image: Annotated[Path, tyro.conf.Positional]
    """The image."""
    mask: Annotated[Path, tyro.conf.Positional]
    """Another of the same size; what is not 0 in it is filled in."""
    out: Path = Path("inpainted.png")
    """The filled image, PNG."""
    method: Literal["mh", "map"] = "mh"
    """Draw by Metropolis-Hastings, as published, or climb to the most probable."""
    epochs: int = 100
    """Sweeps over the hidden pixels, or steps of the climb; the time grows with them."""
    chains: int = 1
    """Independent fillings, of which the most probable is kept."""
    seed: int = 0
    """Equal seeds give equal images."""
    json: bool = False
    """Print one JSON object."""


def _check_colour(picture: np.ndarray, channels: int, where: str) -> None:
    """Refuse a picture (H, W, C) in colour for a model of grey ones, which would come back grey."""
    colour = picture.shape[-1] >= 3 and bool((picture[..., 1:3] != picture[..., :1]).any())
    if channels < 3 and colour:
        raise BadFile(
            where,
            "is in colour and the model is of grey images: give it a grey copy, or train a model with --data.channels 3",
        )


def _kept(filled: np.ndarray, picture: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Filled pixels where the mask is True, and the picture's own elsewhere where both have one form."""
    if filled.shape != picture.shape or filled.dtype != picture.dtype:
        return filled
    return np.where(mask[..., None], filled, picture)


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    options = tyro.cli(Inpaint, prog="ndrnn inpaint", args=argv)
    out = Output(options.json)
    task, reader = load_density(options.model)
    loader = Loader(reader, task.facts.channels, task.facts.ndim)
    (file,), (hidden,) = find([options.image]), find([options.mask])
    values, data = loader.read(file)
    picture = images.decode(data, file.where)
    _check_colour(picture, task.facts.channels, file.where)
    mask = images.decode_mask(hidden.storage.read(hidden.name), hidden.where) != 0
    if mask.shape != values.shape[:-1]:
        expected, got = (" x ".join(map(str, shape)) for shape in (values.shape[:-1], mask.shape))
        raise BadFile(hidden.where, f"mask must be {expected} like its image, got {got}")
    generator = torch.Generator().manual_seed(options.seed)
    known = loader.features(values, file).unsqueeze(0)
    if levels := task.settings.levels:
        known = dequantize((known * (levels - 1)).round().long(), levels=levels, generator=generator)
    with out.others(), overflow_of(file.where):
        found = task.model.inpaint(
            known,
            torch.from_numpy(mask),
            method=options.method,
            epochs=options.epochs,
            chains=options.chains,
            generator=generator,
            progress=not options.json,
        )
    options.out.parent.mkdir(parents=True, exist_ok=True)
    with overflow_of(file.where):
        stored = as_stored(found.best[0], task.settings.levels, loader.intensities.invert)
    write_image(_kept(stored, picture, mask), options.out)
    out.say(str(options.out))
    out.result(
        {
            "image": str(options.out),
            "filled": int(mask.sum()),
            "log_prob": float(found.log_prob.max()),
            "acceptance": None if found.acceptance is None else float(found.acceptance.mean()),
        }
    )
    return 0
