"""``ndrnn compress``: images and volumes to few bytes without loss, by a density model."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro
from torch import nn

from ...data.faults import BadFile, Faults
from ...density.use.codec import compress, decode
from ...saving.atomic import replacing
from ..codec_model import DEFAULT, CodingModel, coding_model
from ..inputs import Input, find
from ..output import Output
from ..samples import Samples, negative, read

SUFFIX = ".ndrnn"


@dataclass(frozen=True)
class Compress:
    """Compress images and volumes without loss: grey, colour, palette, with or without opacity, of 1 to 16 bits. What
    is written is read again and compared before it gets its name. Nothing is ever deleted."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Images, volumes, folders, zip archives."""
    model: str = DEFAULT
    """A model that ships with the package, a run's folder, or weights (.safetensors). Decompressing needs it."""
    out: Path | None = None
    """Folder for the results, where the tree of the given folders is kept; beside the files if not given."""
    force: bool = False
    """Write over files that are there."""
    verify: bool = True
    """Decode every result and compare it before it is kept."""
    block: int = 0
    """Edge of the blocks that are coded alone; near 256 for images and 64 for volumes if 0. Larger ones cost memory, save a
    few per thousand, and leave less to work on at the same time."""
    threads: int | None = None
    """Blocks at a time; as many as there are threads if not given."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("FILE must name at least one image, volume, folder or zip archive, got none")
        if self.block < 0:
            raise ValueError(f"block must not be negative, got {self.block}")


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status: 1 if a file could not be compressed."""
    options = tyro.cli(Compress, prog="ndrnn compress", args=argv)
    out = Output(options.json)
    coding = coding_model(options.model)
    found, faults, done = find(options.inputs), Faults(strict=False), []
    for file in out.progress(found, "compressing", len(found)):
        try:
            done.append(_one(coding, file, options))
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


def _one(coding: CodingModel, file: Input, options: Compress) -> dict[str, Any]:
    start = time.perf_counter()
    target = _target(file, options.out)
    if target.exists() and not options.force:
        raise BadFile(file.where, f"{target} exists: give --force to write over it, or --out another folder")
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
