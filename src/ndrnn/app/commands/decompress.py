"""``ndrnn decompress``: the images and volumes of which ``ndrnn compress`` made files."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from ...data.faults import BadFile, Faults
from ...density.use.codec import MOST_SAMPLES, decode, read_header
from ...saving.atomic import replacing
from ..codec_model import coding_model
from ..output import Output
from ..samples import VOLUME, Samples, write
from .compress import SUFFIX


@dataclass(frozen=True)
class Decompress:
    """Make the images again of which compress made files: PNG, and NIfTI of volumes. Nothing is ever deleted."""

    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="FILE [FILE ...]")]
    """Compressed files, or folders of them."""
    model: str = ""
    """The model that they were compressed with: one that ships with the package, a run's folder, or weights. If not
    given, the one that the file names."""
    out: Path | None = None
    """Folder for the results, where the tree of the given folders is kept; beside the files if not given."""
    region: str = ""
    """Only this part, such as 0:100,50:150: first and last + 1 row, then column. The rest is not decoded."""
    salvage: bool = False
    """Go on where blocks are damaged; their samples become 0, and the status is 1."""
    force: bool = False
    """Write over files that are there."""
    most_samples: int = MOST_SAMPLES
    """The largest image that is made."""
    threads: int | None = None
    """Blocks at a time; as many as there are threads if not given."""
    json: bool = False
    """Print one JSON object."""

    def __post_init__(self) -> None:
        if not self.inputs:
            raise ValueError("FILE must name at least one compressed file or folder, got none")
        if self.region and not re.fullmatch(r"\d+:\d+(,\d+:\d+)*", self.region):
            raise ValueError(f"region must be like 0:100,50:150, got {self.region!r}")


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status: 1 if a file could not be read as a whole."""
    options = tyro.cli(Decompress, prog="ndrnn decompress", args=argv)
    out = Output(options.json)
    found, faults, done = list(_found(options)), Faults(strict=False), []
    models: dict[str, Any] = {}
    for file, target in out.progress(found, "decompressing", len(found)):
        try:
            result = _one(file, target, options, models)
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


def _one(file: Path, target: Path, options: Decompress, models: dict[str, Any]) -> dict[str, Any]:
    data = file.read_bytes()
    name = options.model or read_header(data).model
    if not name:
        raise ValueError("names no model: --model must")
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
    target = target.with_name(target.name + samples.suffix)
    if target.exists() and not options.force:
        raise ValueError(f"{target} exists: give --force to write over it, or --out another folder")
    target.parent.mkdir(parents=True, exist_ok=True)
    with replacing(target) as path:
        path.write_bytes(write(samples))
    return {"file": str(target), "shape": list(result.image.shape), "damaged": list(result.damaged)}
