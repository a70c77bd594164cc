"""``ndrnn decompress``: the image of which ``ndrnn compress`` made a file."""

from __future__ import annotations

from PIL import Image

from ...data.faults import BadFile
from ...density.use.codec import decompress
from ...saving.atomic import replacing
from ..density_model import load_density, overflow_of
from ..options import Decompress
from ..output import Output
from ..outputs import Outputs


def run(options: Decompress) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    target = options.out or options.file.with_suffix(".png")
    Outputs(force=options.force, originals=(options.model, options.file)).claim(target)
    task, reader = load_density(options.model)
    try:
        with overflow_of(str(options.file)):
            image = decompress(task.model, options.file.read_bytes())
    except ValueError as error:
        raise BadFile(str(options.file), str(error)) from error
    if reader is not None and reader.invert:
        image = 255 - image
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        Image.fromarray(image.numpy()).save(path, format="PNG")
    out.say(f"{target}: {image.shape[0]} x {image.shape[1]} pixels")
    out.result({"image": str(target), "height": image.shape[0], "width": image.shape[1]})
    return 0
