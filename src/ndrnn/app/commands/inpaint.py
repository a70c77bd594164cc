"""``ndrnn inpaint``: fill in what a mask hides, by a density model."""

from __future__ import annotations

import numpy as np
import torch

from ...data.faults import BadFile
from ...data.formats import images
from ..density_model import (
    as_continuous,
    as_stored,
    kept,
    load_density,
    overflow_of,
    write_image,
)
from ..inputs import Loader, find
from ..options import Inpaint
from ..output import Output
from ..outputs import Outputs


def _check_colour(picture: np.ndarray, channels: int, where: str) -> None:
    """Refuse a picture (H, W, C) in colour for a model of grey ones, which would come back grey."""
    colour = picture.shape[-1] >= 3 and bool((picture[..., 1:3] != picture[..., :1]).any())
    if channels < 3 and colour:
        raise BadFile(
            where,
            "is in colour and the model is of grey images: give it a grey copy, or train a model with --data.channels 3",
        )


def run(options: Inpaint) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    task, reader = load_density(options.model)
    originals = (options.model, options.image, options.mask)
    Outputs(force=options.force, originals=originals).claim(options.out)
    loader = Loader(reader, task.facts.channels, task.facts.ndim)
    (file,), (hidden,) = find([options.image]), find([options.mask])
    values, data, _ = loader.read(file)
    picture = images.decode(data, file.where)
    _check_colour(picture, task.facts.channels, file.where)
    mask = images.decode_mask(hidden.storage.read(hidden.name), hidden.where) != 0
    if mask.shape != values.shape[:-1]:
        expected, got = (" x ".join(map(str, shape)) for shape in (values.shape[:-1], mask.shape))
        raise BadFile(hidden.where, f"mask must be {expected} like its image, got {got}")
    generator = torch.Generator().manual_seed(options.seed)
    known = as_continuous(loader.features(values, file).unsqueeze(0), task.levels, generator)
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
        stored = as_stored(found.best[0], task.levels, loader.intensities.invert)
    write_image(kept(stored, picture, mask), options.out)
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
