"""``ndrnn sample``: draw images, volumes or signals from a density model."""

from __future__ import annotations

import torch

from ...data.formats.intensities import Intensities
from ..density_files import format_of, kind_of, write_sample
from ..density_model import as_values, load_density, overflow_of
from ..options import Sample
from ..output import Output
from ..outputs import Outputs


def run(options: Sample) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    task, reader = load_density(options.model)
    # channels that are apart are samples of their own
    model, axes, levels = task.model, task.facts.ndim, task.facts.levels
    size = options.extents(axes)
    form = format_of(options.format, axes, model.channels, levels)
    outputs = Outputs(force=options.force)
    paths = [outputs.claim(options.out / f"{number}.{form}") for number in range(options.n)]
    options.out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(options.seed)
    with torch.no_grad(), overflow_of(str(options.model)), out.steps("drawing") as tell:
        drawn = model.sample(options.n, *size, margin=options.margin, generator=generator, progress=tell)
    intensities = Intensities() if reader is None else reader.intensities
    for one, path in zip(drawn, paths, strict=True):
        with overflow_of(str(path)):
            values = as_values(one, task.levels, intensities, kind_of(levels, form))
        write_sample(values, path, reader)
        out.say(str(path))
    out.result({"images": [str(path) for path in paths], "seed": options.seed})
    return 0
