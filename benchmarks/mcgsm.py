"""The stationary MCGSM on images: bits per pixel given the pixels of a 9-wide causal neighbourhood.

``python -m benchmarks.mcgsm`` fits 32 components to 200,000 pixels of grey BSDS300; ``--components 128 --scales 4
--features 48 --train 1000000 --valid 200000`` is the published baseline, ``--data dead_leaves`` takes other images. With
``--checkpoint`` a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass
from math import log
from pathlib import Path
from typing import Any, Literal

import torch
import tyro
from safetensors.torch import load_file, save_file
from torch import Tensor

from benchmarks import bsds300, dead_leaves
from ndrnn.density import MCGSM, CausalNeighborhood, Whitening
from ndrnn.density.lattices.rate import Rate, rate_of
from ndrnn.density.mixture.likelihood import log_density
from ndrnn.saving.atomic import replacing

DATA = {"bsds300": bsds300, "dead_leaves": dead_leaves}


@dataclass(frozen=True)
class Config:
    """One fit and its evaluation."""

    data: Literal["bsds300", "dead_leaves"] = "bsds300"
    components: int = 32
    scales: int = 6
    features: int = 40
    linear: bool = False
    """Whether the gate has linear terms; the published models have none."""
    width: int = 9
    """Of the neighbourhood."""
    train: int = 200_000
    """Pixels to fit."""
    valid: int = 50_000
    """Pixels to stop early."""
    iterations: int = 1000
    warm_up: int = 0
    """Pixels that are fitted first, for ``warm_up_iterations``: most of the way at a fraction of the cost."""
    warm_up_iterations: int = 300
    minutes: float = 60.0
    """The fit ends after so long, this run and those before it together."""
    seed: int = 0
    threads: int = 1
    checkpoint: Path | None = None
    """Where the state of the fit is kept (safetensors), and read from if it exists."""
    result: Path | None = None
    """Where the figures go as JSON."""


def main(config: Config) -> dict[str, Any]:
    """Fit, evaluate, print and write."""
    torch.set_num_threads(config.threads)
    neighborhood = CausalNeighborhood.window(config.width)
    x, y = training_samples(config, neighborhood)
    whitening = Whitening(neighborhood.size).fit(x[: config.train], y[: config.train])
    x, y = whitening(x, y)
    torch.manual_seed(config.seed)
    mcgsm = MCGSM(neighborhood.size, 1, config.components, config.scales, config.features)
    mcgsm.linear.requires_grad_(config.linear)
    history, seconds = _fit(config, mcgsm, x, y)
    rate = evaluate(config, mcgsm, whitening, neighborhood)
    whitened = float(whitening.log_jacobian) / log(2.0)
    figures = {
        "command": shlex.join(["python", "-m", "benchmarks.mcgsm", *sys.argv[1:]]),
        "config": {name: str(v) if isinstance(v, Path) else v for name, v in asdict(config).items()},
        "bits_per_pixel": float(rate),
        "interval_95": rate.interval,
        "test_images": rate.images,
        "pixels_per_image": rate.pixels_per_image,
        "weights": sum(p.numel() for p in mcgsm.parameters() if p.requires_grad),
        "iterations": int(history[-1][0]),
        "train_bits": whitened - history[-1][1] / log(2.0),
        "valid_bits": whitened - min(row[2] for row in history) / log(2.0),
        "seconds": seconds,
        "threads": config.threads,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
    }
    print(f"{mcgsm}\n{rate}")
    if config.result is not None:
        with replacing(config.result) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def training_samples(config: Config, neighborhood: CausalNeighborhood) -> tuple[Tensor, Tensor]:
    """Inputs and outputs at random places of the training images, without replacement, shuffled."""
    generator = torch.Generator().manual_seed(config.seed)
    groups = DATA[config.data].training_images(config.seed)
    total, count = sum(len(group) for group in groups), config.train + config.valid
    pairs = [neighborhood.sample(group, count * len(group) // total, generator=generator) for group in groups]
    order = torch.randperm(sum(len(x) for x, _ in pairs), generator=generator)
    x, y = (torch.cat(parts) for parts in zip(*pairs, strict=True))
    return x[order], y[order]


def _fit(config: Config, mcgsm: MCGSM, x: Tensor, y: Tensor) -> tuple[list[list[float]], float]:
    state: dict[str, Tensor] = {}
    if config.checkpoint is not None and config.checkpoint.exists():
        state = load_file(config.checkpoint)
    began = time.monotonic() - float(state.pop("seconds", 0.0))
    first = int(state.pop("stage", 0))

    def late() -> bool:
        return time.monotonic() - began >= 60 * config.minutes

    stages = [(config.warm_up, config.warm_up_iterations), (config.train, config.iterations)]
    history: list[list[float]] = []
    for stage, (pixels, iterations) in list(enumerate(stages))[first:]:
        if not pixels:
            continue

        def keep(state: dict[str, Tensor], stage: int = stage) -> None:
            if config.checkpoint is not None:
                extra = {"seconds": torch.tensor(time.monotonic() - began), "stage": torch.tensor(stage)}
                with replacing(config.checkpoint) as path:
                    save_file({**state, **extra}, path)

        report = mcgsm.fit(
            x[:pixels],
            y[:pixels],
            x[config.train :],
            y[config.train :],
            initialize=not history,
            max_iter=0 if late() and state else iterations,
            state=state or None,
            checkpoint=keep,
            callback=lambda *_: not late(),
            progress=True,
        )
        print(
            f"{pixels} pixels: {report.iterations} iterations, {report.evaluations} evaluations, {report.reason}"
        )
        state, history = {}, [list(row) for row in report.history]
    return history, time.monotonic() - began


@torch.no_grad()
def evaluate(config: Config, mcgsm: MCGSM, whitening: Whitening, neighborhood: CausalNeighborhood) -> Rate:
    """Bits per pixel of the test tiles, over all pixels whose neighbourhood fits, with an interval over images."""
    per_image, pixels = [], 0
    for image in DATA[config.data].held_out_tiles():
        x, y = whitening(*neighborhood.extract(image))
        value = log_density(mcgsm.mixture_params(), x, y) + whitening.log_jacobian
        per_image.append(value.double().mean())
        pixels = len(value)
    return rate_of(torch.stack(per_image), "continuous", pixels)


if __name__ == "__main__":
    main(tyro.cli(Config, description=__doc__))
