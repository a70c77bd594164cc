"""``ndrnn compress``: images and volumes to few bytes without loss, by a density model."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ...data.faults import BadFile, Faults
from ...density.use.codec import compress, decode, even_blocks, rides_of
from ...saving.atomic import replacing
from ..codec_model import CodingModels
from ..inputs import Input, find
from ..options import Compress
from ..output import Output
from ..outputs import Outputs
from ..samples import ARRAY, Samples, full_range, moved, negative, parts, read
from ..shards import Shard

SUFFIX = ".ndrnn"

Tell = Callable[[int, int], None]
"""Is told how many blocks of how many are done."""


def run(options: Compress) -> int:
    """Run the command; returns the exit status: 1 if a file could not be compressed."""
    out = Output(options.json)
    models = CodingModels(options.model)
    if options.model and (note := models.named(options.model).note):
        out.warn(note)
    faults, done = Faults(strict=False), []
    found = find(options.inputs, faults=faults, tell=out.warn)
    outputs = Outputs(force=options.force, originals=[file.path for file in found], folder=options.out)
    shared = Shard.of(options.shard).share(found)
    for file in out.progress(shared, "compressing", len(shared)):
        try:
            with out.steps("compressing", shown=len(found) == 1) as tell:
                done.append(_one(models, file, options, outputs, tell))
        except BadFile as error:
            faults.add(error)
        except ValueError as error:  # the model does not fit, for one
            faults.add(BadFile(file.where, str(error)))
    if done:
        out.table(
            (
                (
                    r["file"],
                    r["model"],
                    f"{r['bytes']:,}",
                    f"{r['bits']:.3f}",
                    f"{r['ratio']:.3f}",
                    f"{r['seconds']:.1f}",
                )
                for r in done
            ),
            ("file", "model", "bytes", "bits a sample", "of the original", "seconds"),
        )
    for fault in faults.found:
        out.warn(f"left out: {fault}")
    out.result(
        {
            "model": models.named(options.model).name if options.model else None,
            "files": done,
            "left_out": [{"file": fault.file, "reason": fault.reason} for fault in faults.found],
        }
    )
    return 1 if faults else 0


def _one(
    models: CodingModels, file: Input, options: Compress, outputs: Outputs, tell: Tell
) -> dict[str, Any]:
    start = time.perf_counter()
    target = outputs.claim(_target(file, options.out), file.where)
    original = file.storage.read(file.name)
    samples = read(original, file.name, file.where)
    coding = models.of(samples.axes, samples.channels - samples.alpha)
    if coding.ships:
        samples = full_range(samples)
    if coding.negative:
        samples = negative(samples)
    model = coding.for_signed() if moved(samples.chunks, samples.bits) else coding.model
    axes = rides_of(model)[0].ndim
    if axes != samples.axes and ARRAY not in samples.chunks:  # an array has those of the model
        raise ValueError(f"has {samples.axes} axes, the model {coding.name} is for {axes}")
    data = compress(
        model,
        samples.values,
        bits=samples.bits,
        alpha=samples.alpha,
        block=_block(samples, axes, options.block),
        name=coding.name,
        chunks=samples.chunks,
        threads=options.threads,
        progress=lambda done, count: tell(done, count * (1 + options.verify)),
    )
    if options.verify:
        _verify(model, data, samples, file, options, tell)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(data)
    return {
        "file": str(target),
        "model": coding.name,
        "bytes": len(data),
        "bits": 8 * len(data) / samples.values.size,
        "ratio": len(data) / len(original),
        "seconds": time.perf_counter() - start,
    }


def _block(samples: Samples, axes: int, edge: int) -> tuple[int, ...] | None:
    """Points of a block along each axis; None: as usual. Several volumes are cut as one of them is."""
    if edge:
        return (edge,) * axes
    count = parts(samples.chunks)
    return (
        even_blocks((samples.values.shape[0] // count, *samples.values.shape[1:axes])) if count > 1 else None
    )


def _verify(
    model: nn.Module, data: bytes, samples: Samples, file: Input, options: Compress, tell: Tell
) -> None:
    back = decode(
        model, data, threads=options.threads, progress=lambda done, count: tell(count + done, 2 * count)
    )
    if not np.array_equal(back.image.numpy(), samples.values) or back.header.chunks != dict(samples.chunks):
        raise BadFile(file.where, "what was written does not decode to the image; nothing was kept")


def _target(file: Input, folder: Path | None) -> Path:
    if folder is not None:
        return folder / (file.place + SUFFIX)
    path = Path(file.where)
    if not path.exists():
        raise BadFile(file.where, "lies in an archive: --out must name a folder for the results")
    return path.with_name(Path(file.place).name + SUFFIX)
