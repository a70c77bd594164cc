"""``ndrnn compress``: an 8-bit grey image to few bytes without loss, by a density model."""

from __future__ import annotations

import torch

from ...data.faults import BadFile
from ...data.formats import images
from ...density.use.codec import compress
from ...saving.atomic import replacing
from ..density_model import load_density, overflow_of
from ..inputs import find
from ..options import Compress
from ..output import Output
from ..outputs import Outputs


def run(options: Compress) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    target = options.out or options.image.with_suffix(".ndrnn")
    Outputs(force=options.force, originals=(options.model, options.image)).claim(target)
    task, reader = load_density(options.model)
    if task.levels != 256:
        raise ValueError(f"{options.model}: must be a model of 256 levels, got levels {task.levels}")
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
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(data)
    rate = 8 * len(data) / image.numel()
    out.say(f"{target}: {len(data):,} bytes, {rate:.3f} bits per pixel")
    out.result({"file": str(target), "bytes": len(data), "bits_per_pixel": rate})
    return 0
