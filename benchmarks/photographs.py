"""The models of photographs that ship: ``python -m benchmarks.photographs FOLDER --weights FILE``.

Trains a RIDE on the grey values of all pictures of ``FOLDER/train``, and tells how many bits a pixel those of
``FOLDER/validation`` take by it, each picture's middle, and beside it JPEG XL where ``cjxl`` is installed.
"""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from statistics import mean
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

import ndrnn
from ndrnn.density import RIDE, CausalNeighborhood, Modern
from ndrnn.saving.atomic import replacing


@dataclass(frozen=True)
class Training:
    """One model."""

    folder: Annotated[Path, tyro.conf.Positional]
    """With the folders train and validation."""
    weights: Path = Path("photographs.safetensors")
    """Where the model goes."""
    hidden: int = 64
    layers: int = 1
    window: int = 5
    """Width of the causal neighbourhood."""
    components: int = 32
    scales: int = 4
    features: int = 32
    cell: str = "leaky"
    residual: bool = False
    steps: int = 8000
    batch_size: int = 16
    crop: int = 40
    learning_rate: float = 6e-3
    averaging: float = 0.999
    tune_iterations: int = 100
    tune_pixels: int = 200_000
    seed: int = 0
    threads: int = 1
    checkpoint: Path | None = None
    """Where the state of the training is kept, and read from if it exists."""
    size: tuple[int, int] = (480, 640)
    """Rows and columns of the middle of each validation picture."""
    result: Path | None = None
    """Where the figures go as JSON."""


def main(options: Training) -> dict[str, Any]:
    """Train, measure, print and write."""
    torch.set_num_threads(options.threads)
    torch.manual_seed(options.seed)
    ride = RIDE(
        options.hidden,
        options.layers,
        CausalNeighborhood.window(options.window),
        options.components,
        options.scales,
        options.features,
        cell=options.cell,
        residual=options.residual,
    )
    schedule = Modern(
        steps=options.steps,
        batch_size=options.batch_size,
        crop=options.crop,
        learning_rate=options.learning_rate,
        averaging=options.averaging,
        augment="all",
        validate_every=None,
        tune_iterations=options.tune_iterations,
        tune_pixels=options.tune_pixels,
    )
    began = time.process_time()
    pictures = list(_pictures(options.folder / "train").values())
    ride.fit(pictures, levels=256, schedule=schedule, seed=options.seed, checkpoint=options.checkpoint)
    seconds = time.process_time() - began
    ndrnn.save(ride.eval(), options.weights)
    figures = {
        "command": shlex.join(["python", "-m", "benchmarks.photographs", *sys.argv[1:]]),
        "options": json.loads(json.dumps(asdict(options), default=str)),
        "weights": sum(weight.numel() for weight in ride.parameters() if weight.requires_grad),
        "processor_seconds": seconds,
        "bits_per_pixel": measure(ride, options),
    }
    print(json.dumps(figures, indent=2))
    if options.result is not None:
        with replacing(options.result) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


@torch.no_grad()
def measure(ride: RIDE, options: Training) -> dict[str, dict[str, float]]:
    """Bits a pixel of the middle of each validation picture, by the model's discrete probabilities, and by JPEG XL."""
    rows: dict[str, dict[str, float]] = {}
    for name, picture in _pictures(options.folder / "validation").items():
        top, left = ((have - want) // 2 for have, want in zip(picture.shape, options.size, strict=True))
        piece = picture[top : top + options.size[0], left : left + options.size[1]].contiguous()
        bits = -float(ride.log_prob_discrete(piece.unsqueeze(0)).double().mean()) / log(2)
        rows[name] = {"model": bits, **({"jxl_9": size} if (size := _jpeg_xl(piece)) else {})}
    rows["mean"] = {key: mean(row[key] for row in rows.values()) for key in next(iter(rows.values()))}
    return rows


def _pictures(folder: Path) -> dict[str, Tensor]:
    """Grey values (H, W) of all pictures, uint8."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            found[path.stem] = torch.from_numpy(np.array(image.convert("L")))
    if not found:
        raise FileNotFoundError(f"{folder}: no PNG files")
    return found


def _jpeg_xl(picture: Tensor) -> float | None:
    """Bits a pixel without loss at effort 9, or None where the coder is not installed."""
    if shutil.which("cjxl") is None:
        return None
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder) / "picture.png", Path(folder) / "picture.jxl"
        Image.fromarray(picture.numpy()).save(source)
        subprocess.run(
            ["cjxl", "-q", "100", "-e", "9", source, target], check=True, capture_output=True, timeout=600
        )
        return 8 * target.stat().st_size / picture.numel()


if __name__ == "__main__":
    main(tyro.cli(Training))
