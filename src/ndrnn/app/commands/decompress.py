"""``ndrnn decompress``: the images and volumes of which ``ndrnn compress`` made files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ...data.faults import BadFile, Faults
from ...density.use.codec import decode, fingerprint, read_header
from ...saving import shipped
from ...saving.atomic import replacing
from ..codec_model import CodingModels
from ..once import Once, identity
from ..options import Decompress
from ..output import Output
from ..outputs import Outputs
from ..samples import Samples, cut, moved, parts, write
from .compress import SUFFIX, Tell

Region = Sequence[tuple[int, int]]


def run(options: Decompress) -> int:
    """Run the command; returns the exit status: 1 if a file could not be read as a whole."""
    out = Output(options.json)
    found, faults, done = list(_found(options, out.warn)), Faults(strict=False), []
    models = CodingModels(options.model)
    outputs = Outputs(force=options.force, originals=[file for file, _ in found], folder=options.out)
    for file, target in out.progress(found, "decompressing", len(found)):
        try:
            with out.steps("decompressing", shown=len(found) == 1) as tell:
                result = _one(file, target, options, models, outputs, tell)
        except ValueError as error:
            faults.add(error if isinstance(error, BadFile) else BadFile(str(file), str(error)))
            continue
        done.append(result)
        for reason in result["damaged"]:
            faults.add(BadFile(str(file), reason))
        out.say(f"{result['file']}: {' x '.join(map(str, result['shape']))}")
    for fault in faults.found:
        out.warn(f"{'damaged' if options.salvage else 'left out'}: {fault}")
    out.result(
        {
            "files": done,
            "left_out": [{"file": fault.file, "reason": fault.reason} for fault in faults.found],
        }
    )
    return 1 if faults else 0


def _found(options: Decompress, say: Callable[[str], None]) -> Iterator[tuple[Path, Path]]:
    """Files, and where their results go, without an ending."""
    once = Once(say)
    for path in options.inputs:
        if path.is_dir():
            inside = sorted(path.rglob(f"*{SUFFIX}"))
            if not inside:
                raise BadFile(str(path), f"holds no {SUFFIX} files")
        elif path.exists():
            inside = [path]
        else:
            raise FileNotFoundError(f"no such file: {path}")
        for file in once.new(path, inside, identity):
            place = file.relative_to(path) if path.is_dir() else Path(file.name)
            yield file, (file if options.out is None else options.out / place).with_suffix("")


def _one(
    file: Path, target: Path, options: Decompress, models: CodingModels, outputs: Outputs, tell: Tell
) -> dict[str, Any]:
    data = file.read_bytes()
    name = options.model or read_header(data).model
    if not name:
        raise ValueError("names no model: --model must")
    if not options.model and name not in shipped.names():  # a file does not choose what is read from the disk
        raise ValueError(
            f"was made with the model {name!r}, which does not come with the package: name it by --model"
        )
    samples, damaged = _decoded(data, models, name, options, tell)
    target = outputs.claim(target.with_name(target.name + samples.suffix), str(file))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(write(samples))
    return {"file": str(target), "shape": list(samples.values.shape), "damaged": damaged}


def _decoded(
    data: bytes, models: CodingModels, name: str, options: Decompress, tell: Tell
) -> tuple[Samples, list[str]]:
    """The samples of a file, or of the region of it, and what is wrong with them."""
    header, coding = read_header(data), models.named(name)
    model, count = coding.model, parts(header.chunks)
    if moved(header.chunks, header.bits) and fingerprint(model) != header.fingerprint:
        model = coding.for_signed()
    region = _region(options.region, (header.size[0] // count, *header.size[1:]))
    decoded = [
        decode(
            model,
            data,
            region=one,
            salvage=options.salvage,
            threads=options.threads,
            most_samples=options.most_samples,
            progress=tell,
        )
        for one in (_of_parts(region, header.size[0] // count, count) if region else [None])
    ]
    values = np.concatenate([one.image.numpy() for one in decoded])
    samples = Samples(values, header.bits, header.alpha, dict(header.chunks), len(header.size))
    damaged = {reason for one in decoded for reason in one.damaged}
    return (cut(samples, region) if region else samples), sorted(damaged)


def _region(text: str, size: Sequence[int]) -> Region | None:
    """First and last + 1 along each axis.

    Raises:
        ValueError: it is none within an image of this size.
    """
    if not text:
        return None
    ranges = [tuple(map(int, part.split(":"))) for part in text.split(",")]
    region = [(first, last) for first, last in ranges]
    shown = " x ".join(map(str, size))
    if len(region) != len(size):
        raise ValueError(f"--region must have {len(size)} ranges for {shown} points, got {text}")
    if not all(first < last <= extent for (first, last), extent in zip(region, size, strict=True)):
        raise ValueError(
            f"--region must lie within {shown} points, and hold some along each axis, got {text}"
        )
    return region


def _of_parts(region: Region, extent: int, count: int) -> list[Region]:
    """The same region of each of the volumes that lie one after the other along the first axis."""
    (first, last), *others = region
    return [[(part * extent + first, part * extent + last), *others] for part in range(count)]
