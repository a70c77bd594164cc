"""Volumes by a RIDE of three axes: ``python -m benchmarks.volumes hippocampus FILE.npz`` or ``... nifti FILE.nii.gz``.

Of the hippocampus volumes those to learn from train the model, and the test ones are coded. Of a NIfTI file of several
volumes the first trains and the others are coded. Sizes are those of whole files. Beside them stands JPEG XL at effort 9
(``cjxl``): of every slice along the first axis by itself, and of one picture in which all slices stand side by side.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from math import ceil, sqrt
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from numpy.typing import NDArray

import ndrnn
from ndrnn.density import RIDE, CausalNeighborhood, Modern, compress, decompress
from ndrnn.saving.atomic import replacing

from .codec import jpeg_xl_size

Volume = NDArray[Any]


@dataclass(frozen=True)
class Training:
    """One model and what it codes."""

    kind: Annotated[Literal["hippocampus", "nifti"], tyro.conf.Positional]
    file: Annotated[Path, tyro.conf.Positional]
    weights: Path = Path("volumes.safetensors")
    """Where the model goes."""
    hidden: int = 48
    layers: int = 1
    window: int = 5
    """Width of the causal neighbourhood."""
    components: int = 32
    scales: int = 4
    features: int = 32
    cell: str = "leaky"
    steps: int = 3000
    batch_size: int = 4
    crop: int = 20
    learning_rate: float = 6e-3
    averaging: float = 0.998
    tune_iterations: int = 100
    tune_pixels: int = 200_000
    seed: int = 0
    threads: int = 1
    checkpoint: Path | None = None
    """Where the state of the training is kept, and read from if it exists."""
    result: Path | None = None
    """Where the figures go as JSON."""


def main(options: Training) -> dict[str, Any]:
    """Train, code, print and write."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    learned, coded = (_hippocampus if options.kind == "hippocampus" else _nifti)(options.file)
    bits = 8 * coded[0].itemsize
    ride = RIDE(
        options.hidden,
        options.layers,
        CausalNeighborhood.window(options.window, ndim=3),
        options.components,
        options.scales,
        options.features,
        cell=options.cell,
        ndim=3,
    )
    schedule = Modern(
        steps=options.steps,
        batch_size=options.batch_size,
        crop=options.crop,
        learning_rate=options.learning_rate,
        averaging=options.averaging,
        augment="none",
        validate_every=None,
        tune_iterations=options.tune_iterations,
        tune_pixels=options.tune_pixels,
    )
    began = time.process_time()
    ride.fit(
        [torch.from_numpy(volume.astype(np.int32)) for volume in learned],
        levels=1 << bits,
        schedule=schedule,
        seed=options.seed,
        checkpoint=options.checkpoint,
    )
    seconds = time.process_time() - began
    ndrnn.save(ride.eval(), options.weights)
    voxels = sum(volume.size for volume in coded)
    figures = {
        "command": shlex.join(["python", "-m", "benchmarks.volumes", *sys.argv[1:]]),
        "options": json.loads(json.dumps(asdict(options), default=str)),
        "weights": sum(weight.numel() for weight in ride.parameters() if weight.requires_grad),
        "processor_seconds": seconds,
        "volumes": len(coded),
        "voxels": voxels,
        "bits_per_voxel": {
            name: 8 * size / voxels for name, size in (_ours(ride, coded) | _jpeg_xl(coded)).items()
        },
    }
    print(json.dumps(figures, indent=2))
    if options.result is not None:
        with replacing(options.result) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _hippocampus(file: Path) -> tuple[list[Volume], list[Volume]]:
    """Volumes to learn from, and those of the test."""
    with np.load(file) as data:
        shapes, test = data["shape"], data["test"]
        ends = shapes.prod(1).cumsum()
        pieces = np.split(data["image"], ends[:-1])
    volumes = [piece.reshape(shape) for piece, shape in zip(pieces, shapes, strict=True)]
    return (
        [volume for volume, kept in zip(volumes, test, strict=True) if not kept],
        [volume for volume, kept in zip(volumes, test, strict=True) if kept],
    )


def _nifti(file: Path) -> tuple[list[Volume], list[Volume]]:
    """The first volume, and the others."""
    import nibabel

    values = np.asanyarray(nibabel.nifti1.load(file).dataobj)
    if values.ndim != 4 or values.shape[3] < 2 or values.dtype.kind not in "iu" or values.min() < 0:
        raise ValueError(
            f"{file}: must hold several volumes of integers from 0 on, got {values.shape} {values.dtype}"
        )
    unsigned = np.ascontiguousarray(np.moveaxis(values, 3, 0)).astype(f"u{values.itemsize}")
    return [unsigned[0]], list(unsigned[1:])


def _ours(ride: RIDE, volumes: list[Volume]) -> dict[str, int]:
    """Bytes of all volumes, each a file; all have to come back."""
    total = 0
    for volume in volumes:
        data = compress(ride, np.ascontiguousarray(volume))
        if not np.array_equal(decompress(ride, data).numpy(), volume):
            raise RuntimeError("a volume did not come back")
        total += len(data)
    return {"ndrnn": total}


def _jpeg_xl(volumes: list[Volume]) -> dict[str, int]:
    """Bytes of all volumes at effort 9, or nothing where the coder is not installed."""
    slices = [jpeg_xl_size(picture) for volume in volumes for picture in volume]
    sheets = [jpeg_xl_size(_sheet(volume)) for volume in volumes]
    sizes = {"jxl_9_slices": slices, "jxl_9_sheet": sheets}
    return {name: sum(filter(None, each)) for name, each in sizes.items() if None not in each}


def _sheet(volume: Volume) -> Volume:
    """All slices along the first axis in rows, the last row filled up with zeros."""
    across = ceil(sqrt(len(volume)))
    rows = ceil(len(volume) / across)
    full = np.zeros((rows * across, *volume.shape[1:]), volume.dtype)
    full[: len(volume)] = volume
    laid = full.reshape(rows, across, *volume.shape[1:]).transpose(0, 2, 1, 3)
    return laid.reshape(rows * volume.shape[1], across * volume.shape[2])


if __name__ == "__main__":
    main(tyro.cli(Training))
