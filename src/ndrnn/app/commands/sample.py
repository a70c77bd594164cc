"""``ndrnn sample``: draw images from a density model."""

from __future__ import annotations

import torch

from ..density_model import as_stored, load_density, overflow_of, write_image
from ..options import Sample
from ..output import Output
from ..outputs import Outputs


def run(options: Sample) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    task, reader = load_density(options.model)
    outputs = Outputs(force=options.force)
    paths = [outputs.claim(options.out / f"{number}.png") for number in range(options.n)]
    options.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(options.seed)
    with torch.no_grad(), overflow_of(str(options.model)):
        images = task.model.sample(
            options.n, options.height, options.width, margin=options.margin, generator=generator
        )
    for image, path in zip(images, paths, strict=True):
        with overflow_of(str(path)):
            stored = as_stored(image, task.levels, reader is not None and reader.invert)
        write_image(stored, path)
        out.say(str(path))
    out.result({"images": [str(path) for path in paths], "seed": options.seed})
    return 0
