"""The models of photographs that ship: ``python -m benchmarks.photographs FOLDER --weights FILE``.

Trains a RIDE on the grey values of all pictures of ``FOLDER/train``, and tells how many bits a sample those of
``FOLDER/validation`` take by it, each picture's middle, and beside it JPEG XL where ``cjxl`` is installed. With
``--luma MODEL`` that model of grey becomes one of colour: two RIDEs learn the chroma planes, each given the planes
before it.
"""

from __future__ import annotations

import json
import shlex
import sys
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
from ndrnn.density import RIDE, CausalNeighborhood, Modern, PlaneModel
from ndrnn.density.use.codec import training_planes
from ndrnn.density.use.codec.planes import plane_bits, split
from ndrnn.saving.atomic import replacing

from .codec import jpeg_xl_size


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
    luma: str | None = None
    """A model of grey pictures, shipped or a file, which those of the chroma planes are added to."""
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
    began = time.process_time()
    model = grey_model(options) if options.luma is None else colour_model(options)
    seconds = time.process_time() - began
    ndrnn.save(model.eval(), options.weights)
    figures = {
        "command": shlex.join(["python", "-m", "benchmarks.photographs", *sys.argv[1:]]),
        "options": json.loads(json.dumps(asdict(options), default=str)),
        "weights": sum(weight.numel() for weight in model.parameters() if weight.requires_grad),
        "processor_seconds": seconds,
        "bits_per_sample": measure(model, options),
    }
    print(json.dumps(figures, indent=2))
    if options.result is not None:
        with replacing(options.result) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def grey_model(options: Training) -> RIDE:
    """A RIDE that has learned the grey values."""
    ride = _ride(options, observed=0)
    pictures = list(_pictures(options.folder / "train", "L").values())
    ride.fit(
        pictures, levels=256, schedule=_schedule(options), seed=options.seed, checkpoint=options.checkpoint
    )
    return ride


def colour_model(options: Training) -> PlaneModel:
    """The grey model for luma, and two RIDEs that have learned the chroma planes given those before."""
    assert options.luma is not None
    planes: list[Any] = [ndrnn.load(options.luma)]
    pictures = list(_pictures(options.folder / "train", "RGB").values())
    for plane in (1, 2):
        generator = torch.Generator().manual_seed(options.seed)
        learned = [training_planes(picture, generator=generator)[plane] for picture in pictures]
        ride = _ride(options, observed=plane)
        checkpoint = options.checkpoint
        if checkpoint is not None:
            checkpoint = checkpoint.with_stem(f"{checkpoint.stem}-{plane}")
        ride.fit(
            [values for values, _ in learned],
            observed=[observed for _, observed in learned],
            schedule=_schedule(options),
            seed=options.seed + plane,
            checkpoint=checkpoint,
        )
        planes.append(ride)
    return PlaneModel(planes)


def _ride(options: Training, observed: int) -> RIDE:
    return RIDE(
        options.hidden,
        options.layers,
        CausalNeighborhood.window(options.window, observed=observed > 0),
        options.components,
        options.scales,
        options.features,
        observed_channels=observed,
        cell=options.cell,
        residual=options.residual,
    )


def _schedule(options: Training) -> Modern:
    return Modern(
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


@torch.no_grad()
def measure(model: RIDE | PlaneModel, options: Training) -> dict[str, dict[str, float]]:
    """Bits a sample of the middle of each validation picture, by the model's discrete probabilities, and by JPEG XL."""
    colour = isinstance(model, PlaneModel)
    rows: dict[str, dict[str, float]] = {}
    for name, picture in _pictures(options.folder / "validation", "RGB" if colour else "L").items():
        top, left = ((have - want) // 2 for have, want in zip(picture.shape, options.size, strict=False))
        piece = picture[top : top + options.size[0], left : left + options.size[1]].contiguous()
        bits = _colour_bits(model, piece) if isinstance(model, PlaneModel) else _bits(model, piece)
        size = jpeg_xl_size(piece.numpy())
        rows[name] = {"model": bits, **({"jxl_9": 8 * size / piece.numel()} if size else {})}
    rows["mean"] = {key: mean(row[key] for row in rows.values()) for key in next(iter(rows.values()))}
    return rows


def _bits(ride: RIDE, values: Tensor, observed: Tensor | None = None, levels: int = 256) -> float:
    """Bits a pixel of integers (H, W)."""
    seen = None if observed is None else observed.unsqueeze(0)
    nats = ride.log_prob_discrete(values.unsqueeze(0), seen, levels=levels).double()
    return -float(nats.mean()) / log(2)


def _colour_bits(model: PlaneModel, picture: Tensor) -> float:
    """Bits a sample of a colour picture (H, W, 3), uint8, all planes together."""
    planes = split(picture.numpy().astype(np.uint16), 8, model.transform)
    levels = [1 << bits for bits in plane_bits(8, len(planes), model.transform)]
    values = [torch.from_numpy(plane.astype(np.int32)) for plane in planes]
    centres = [(value + 0.5) / most for value, most in zip(values, levels, strict=True)]
    bits = []
    for plane, ride in enumerate(model.rides):
        seen = torch.stack(centres[:plane], -1) if plane else None
        bits.append(_bits(ride, values[plane], seen, levels[plane]))  # type: ignore[arg-type]
    return sum(bits) / len(bits)


def _pictures(folder: Path, mode: str) -> dict[str, Tensor]:
    """All pictures (H, W) or (H, W, 3), uint8."""
    found = {}
    for path in sorted(folder.glob("*.png")):
        with Image.open(path) as image:
            found[path.stem] = torch.from_numpy(np.array(image.convert(mode)))
    if not found:
        raise FileNotFoundError(f"{folder}: no PNG files")
    return found


if __name__ == "__main__":
    main(tyro.cli(Training))
