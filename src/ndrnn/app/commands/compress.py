"""``ndrnn compress``: images and volumes to few bytes without loss, by a density model."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from ...data.faults import BadFile, Faults
from ...density.use.codec import compress, decode
from ...saving.atomic import replacing
from ..codec_model import CodingModel, coding_model
from ..inputs import Input, find
from ..options import Compress
from ..output import Output
from ..outputs import Outputs
from ..samples import Samples, negative, read
from ..shards import Shard

SUFFIX = ".ndrnn"


def run(options: Compress) -> int:
    """Run the command; returns the exit status: 1 if a file could not be compressed."""
    out = Output(options.json)
    coding = coding_model(options.model)
    faults, done = Faults(strict=False), []
    found = find(options.inputs, faults=faults)
    outputs = Outputs(force=options.force, originals=[file.path for file in found], folder=options.out)
    shared = Shard.of(options.shard).share(found)
    for file in out.progress(shared, "compressing", len(shared)):
        try:
            done.append(_one(coding, file, options, outputs))
        except BadFile as error:
            faults.add(error)
        except ValueError as error:  # the model does not fit, for one
            faults.add(BadFile(file.where, str(error)))
    if done:
        out.table(
            (
                (r["file"], f"{r['bytes']:,}", f"{r['bits']:.3f}", f"{r['ratio']:.3f}", f"{r['seconds']:.1f}")
                for r in done
            ),
            ("file", "bytes", "bits a sample", "of the original", "seconds"),
        )
    for fault in faults.found:
        out.warn(f"left out: {fault}")
    out.result(
        {
            "model": coding.name,
            "files": done,
            "left_out": [{"file": fault.file, "reason": fault.reason} for fault in faults.found],
        }
    )
    return 1 if faults else 0


def _one(coding: CodingModel, file: Input, options: Compress, outputs: Outputs) -> dict[str, Any]:
    start = time.perf_counter()
    target = outputs.claim(_target(file, options.out), file.where)
    original = file.storage.read(file.name)
    samples = read(original, file.name, file.where)
    if coding.negative:
        samples = negative(samples)
    axes = 3 if file.is_volume else 2
    data = compress(
        coding.model,
        samples.values,
        bits=samples.bits,
        alpha=samples.alpha,
        block=(options.block,) * axes if options.block else None,
        name=coding.name,
        chunks=samples.chunks,
        threads=options.threads,
    )
    if options.verify:
        _verify(coding.model, data, samples, file, options)
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(data)
    return {
        "file": str(target),
        "bytes": len(data),
        "bits": 8 * len(data) / samples.values.size,
        "ratio": len(data) / len(original),
        "seconds": time.perf_counter() - start,
    }


def _verify(model: nn.Module, data: bytes, samples: Samples, file: Input, options: Compress) -> None:
    back = decode(model, data, threads=options.threads)
    if not np.array_equal(back.image.numpy(), samples.values) or back.header.chunks != dict(samples.chunks):
        raise BadFile(file.where, "what was written does not decode to the image; nothing was kept")


def _target(file: Input, folder: Path | None) -> Path:
    if folder is not None:
        return folder / (file.place + SUFFIX)
    path = Path(file.where)
    if not path.exists():
        raise BadFile(file.where, "lies in an archive: --out must name a folder for the results")
    return path.with_name(Path(file.place).name + SUFFIX)
