"""``ndrnn decompress``: the images and volumes of which ``ndrnn compress`` made files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ...data.faults import BadFile, Faults
from ...density.use.codec import decode, read_header
from ...saving import shipped
from ...saving.atomic import replacing
from ..codec_model import coding_model
from ..options import Decompress
from ..output import Output
from ..outputs import Outputs
from ..samples import VOLUME, Samples, write
from .compress import SUFFIX


def run(options: Decompress) -> int:
    """Run the command; returns the exit status: 1 if a file could not be read as a whole."""
    out = Output(options.json)
    found, faults, done = list(_found(options)), Faults(strict=False), []
    models: dict[str, Any] = {}
    if options.model:  # before any file: a model that cannot be used is no file's fault
        models[options.model] = coding_model(options.model).model
    outputs = Outputs(force=options.force, originals=[file for file, _ in found], folder=options.out)
    for file, target in out.progress(found, "decompressing", len(found)):
        try:
            result = _one(file, target, options, models, outputs)
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


def _found(options: Decompress) -> Iterator[tuple[Path, Path]]:
    """Files, and where their results go, without an ending."""
    for path in options.inputs:
        if path.is_dir():
            inside = sorted(path.rglob(f"*{SUFFIX}"))
            if not inside:
                raise BadFile(str(path), f"holds no {SUFFIX} files")
        elif path.exists():
            inside = [path]
        else:
            raise FileNotFoundError(f"no such file: {path}")
        for file in inside:
            place = file.relative_to(path) if path.is_dir() else Path(file.name)
            yield file, (file if options.out is None else options.out / place).with_suffix("")


def _one(
    file: Path, target: Path, options: Decompress, models: dict[str, Any], outputs: Outputs
) -> dict[str, Any]:
    data = file.read_bytes()
    name = options.model or read_header(data).model
    if not name:
        raise ValueError("names no model: --model must")
    if not options.model and name not in shipped.names():  # a file does not choose what is read from the disk
        raise ValueError(
            f"was made with the model {name!r}, which does not come with the package: name it by --model"
        )
    if name not in models:
        models[name] = coding_model(name).model
    region = (
        [tuple(map(int, part.split(":"))) for part in options.region.split(",")] if options.region else None
    )
    result = decode(
        models[name],
        data,
        region=region,  # type: ignore[arg-type]
        salvage=options.salvage,
        threads=options.threads,
        most_samples=options.most_samples,
    )
    chunks = dict(result.header.chunks)
    if region is not None and VOLUME in chunks:
        raise ValueError("--region of a volume would need another header; use ndrnn.density.use.codec.decode")
    samples = Samples(result.image.numpy(), result.header.bits, result.header.alpha, chunks)
    target = outputs.claim(target.with_name(target.name + samples.suffix), str(file))
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(write(samples))
    return {"file": str(target), "shape": list(result.image.shape), "damaged": list(result.damaged)}
