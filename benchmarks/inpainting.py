"""A hole in a picture, filled by a trained RIDE: ``python -m benchmarks.inpainting --model WEIGHTS --image FILE``.

A square in the middle of a crop is hidden and filled by Metropolis-Hastings, several chains, and by climbing to the most
probable pixels. The picture shows the original, the hole, and the fillings; the figures are log-densities of the crop,
relative to the original's, a hidden pixel. Without an image the model draws the crop itself: then what was hidden is a
sample of the very distribution that the chains should sample.
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any

import numpy as np
import torch
import tyro
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from ndrnn.density import RIDE, dequantize
from ndrnn.saving import models as checkpoint
from ndrnn.saving.atomic import replacing

from . import machine


@dataclass(frozen=True)
class Options:
    """What is filled, by what, and where it is shown."""

    model: Path
    """Weights of a RIDE of grey images (.safetensors)."""
    image: Path | None = None
    """An 8-bit picture; without it the model draws one."""
    corner: tuple[int, int] = (0, 0)
    """Row and column where the crop begins."""
    size: tuple[int, int] = (112, 112)
    """Rows and columns of the crop."""
    hole: int = 40
    """Side of the square in its middle that is hidden."""
    sweeps: int = 100
    chains: int = 2
    from_original: bool = False
    """Start the chains at what is hidden, to see whether they stay as probable."""
    steps: int = 200
    """Iterations of the climb to the most probable pixels."""
    seed: int = 0
    picture: Path | None = None
    """Where the pictures go, side by side (PNG)."""
    json: Path | None = None
    """Where the figures go."""


def main(options: Options) -> None:
    torch.set_num_threads(1)
    ride = checkpoint.load(options.model)
    assert isinstance(ride, RIDE)
    ride.eval().requires_grad_(False)
    generator = torch.Generator().manual_seed(options.seed)
    original = crop(options, ride, generator)
    mask = torch.zeros(options.size, dtype=torch.bool)
    top, left = ((extent - options.hole) // 2 for extent in options.size)
    mask[top : top + options.hole, left : left + options.hole] = True
    hidden = int(mask.sum())
    truth = float(ride.log_prob(original).double().sum())

    def bits_above(log_prob: Tensor) -> list[float]:
        return ((log_prob.flatten().double() - truth) / hidden / log(2.0)).tolist()

    began = time.process_time()
    sampled = ride.inpaint(
        original,
        mask,
        epochs=options.sweeps,
        chains=options.chains,
        start=original.expand(options.chains, *original.shape) if options.from_original else None,
        generator=generator,
        progress=True,
    )
    sampling = time.process_time() - began
    began = time.process_time()
    climbed = ride.inpaint(
        original, mask, method="map", epochs=options.steps, generator=generator, progress=True
    )
    climbing = time.process_time() - began
    assert sampled.acceptance is not None
    figures: dict[str, Any] = {
        "command": shlex.join(["python", "-m", "benchmarks.inpainting", *sys.argv[1:]]),
        "options": json.loads(json.dumps(asdict(options), default=str)),
        "hidden_pixels": hidden,
        "original": {
            "log_prob_nats": truth,
            "bits_per_pixel": truth / ride.log_prob(original).numel() / log(2.0),
        },
        "metropolis_hastings": {
            "acceptance": sampled.acceptance.flatten().tolist(),
            "log_prob_nats": sampled.log_prob.flatten().tolist(),
            "bits_per_hidden_pixel_above_original": bits_above(sampled.log_prob),
            "bits_above_original_after_sweeps": {
                sweep: bits_above(sampled.history[sweep])
                for sweep in sorted({0, 1, 3, 10, 30, 100, 300, options.sweeps})
                if sweep <= options.sweeps
            },
            "processor_seconds": sampling,
        },
        "most_probable": {
            "log_prob_nats": climbed.log_prob.flatten().tolist(),
            "bits_per_hidden_pixel_above_original": bits_above(climbed.log_prob),
            "processor_seconds": climbing,
        },
        "machine": machine.describe(),
    }
    print(json.dumps(figures, indent=1))
    if options.json is not None:
        with replacing(options.json) as part:
            part.write_text(json.dumps(figures, indent=1) + "\n")
    if options.picture is not None:
        hole = original.clone()
        hole[:, mask] = 0.5
        shown = [("original", original[0]), (f"{options.hole} x {options.hole} hidden", hole[0])]
        shown += [(f"drawn, chain {k + 1}", images[0]) for k, images in enumerate(sampled.images)]
        shown.append(("most probable", climbed.images[0, 0]))
        with replacing(options.picture) as part:
            draw(shown).savefig(part, dpi=100, format="png", pil_kwargs={"optimize": True})


def crop(options: Options, ride: RIDE, generator: torch.Generator) -> Tensor:
    """The picture (1, H, W, 1), in the range of 0 to 1."""
    if options.image is None:
        low, high = ride.marginal.min(), ride.marginal.max()
        drawn: Tensor = ride.sample(1, *options.size, margin=32, clamp=(low, high), generator=generator)
        return drawn
    with Image.open(options.image) as picture:
        values = torch.from_numpy(np.array(picture.convert("L")))
    rows, columns = (
        slice(start, start + extent) for start, extent in zip(options.corner, options.size, strict=True)
    )
    if values[rows, columns].shape != options.size:
        raise ValueError(
            f"the crop must lie within the picture of {tuple(values.shape)}, got {rows}, {columns}"
        )
    return dequantize(values[rows, columns], generator=generator)[None, ..., None]


def draw(shown: list[tuple[str, Tensor]]) -> Figure:
    """Grey pictures (H, W, 1) side by side."""
    height, width = shown[0][1].shape[:2]
    figure = Figure(figsize=(1.6 * len(shown), 1.6 * height / width + 0.35), layout="constrained")
    for axes, (title, image) in zip(figure.subplots(1, len(shown)), shown, strict=True):
        axes.imshow(image[..., 0].numpy(), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axes.set_title(title, fontsize=8)
        axes.axis("off")
    return figure


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m benchmarks.inpainting", description=__doc__))
