"""How fast RIDE trains and samples.

A training step is forward and backward of 50 patches of 22x22 pixels, 64 hidden units, MCGSM included; its share is
that of the rate of a single-thread float32 ``torch.mm``. Sampling by wavefronts is timed against a loop over the pixels
that calls the same modules, cell, MCGSM and whitening, once a pixel; the loop is timed on so many rows and extrapolated.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from statistics import median

import torch
from torch import Tensor

from ndrnn.density import RIDE
from ndrnn.density.use.sampling import Noise, ancestral
from ndrnn.density.use.stepping import WavefrontEvaluator

from .measure import CLOCKS, Effort, in_turn, threads
from .table import Table
from .workloads import counted

BATCH, PATCH, HIDDEN = 50, 22, 64
SIDE, MANY, LOOP_ROWS = 256, 16, 4


@dataclass(frozen=True)
class Step:
    """A training step of so many layers, on one thread."""

    layers: int

    @property
    def name(self) -> str:
        return f"RIDE; {BATCH}, {PATCH}, {PATCH} → {HIDDEN}; {counted(self.layers, 'layer')}"


@dataclass(frozen=True)
class Drawing:
    """Sampling on so many threads."""

    threads: int

    @property
    def name(self) -> str:
        return f"RIDE; {SIDE}, {SIDE} → {HIDDEN}; {counted(self.threads, 'thread')}"


STEPS = (Step(1), Step(2))
DRAWINGS = (Drawing(1), Drawing(2))


def _ride(num_layers: int = 1) -> tuple[RIDE, Tensor]:
    ride = RIDE(HIDDEN, num_layers, cell="spatial")
    images = torch.rand(BATCH, PATCH, PATCH).cumsum(1) / 5
    return ride.fit_whitening(images), images


def operations(ride: RIDE, pixels: int) -> int:
    """Floating-point operations of a training step in matrix products: forward, and twice as many backward."""
    a_pixel = 0
    for layer in ride.scan_layers():
        a_pixel += layer.weight_ih.numel() + layer.weight_hh.numel()
    mcgsm = ride.mcgsm
    a_pixel += (
        mcgsm.features.numel() + mcgsm.linear.numel() + mcgsm.predictors.numel() + mcgsm.weights.numel()
    )
    return 3 * 2 * a_pixel * pixels


def training(chosen: Sequence[Step], effort: Effort, progress: Callable[[str], None]) -> Table:
    table = Table(
        "A training step of RIDE, MCGSM included, one thread",
        {"workload": "", "ms": ".1f", "pixels a second": ",.0f", "share": ".0%"},
    )
    for wanted in chosen:
        progress(wanted.name)
        ride, images = _ride(wanted.layers)
        pixels = ride.log_prob(images).numel()

        def step(ride: RIDE = ride, images: Tensor = images) -> None:
            ride.zero_grad(set_to_none=True)
            (-ride.log_prob(images).mean()).backward()

        times = in_turn({"step": step}, effort)["step"]
        share = times.share(operations(ride, pixels))
        table.add(wanted.name, 1e3 * times.median, pixels / times.median, share)
    return table


@torch.no_grad()
def sampling(chosen: Sequence[Drawing], effort: Effort, progress: Callable[[str], None]) -> Table:
    """Wavefronts for one image and for 16, and the loop, in turn."""
    now = CLOCKS[effort.clock]
    table = Table(
        f"Sampling by RIDE, seconds for one image and for {MANY}",
        {
            "workload": "",
            "one": ".2f",
            f"{MANY}": ".2f",
            "times longer": ".1f",
            "loop over the pixels of one": ".1f",
            "times longer ": ".0f",
        },
        notes=[f"The loop over the pixels was timed on {LOOP_ROWS} rows and extrapolated."],
    )
    ride, _ = _ride()
    top, _, left, right = ride.neighborhood.margins
    canvas = torch.rand(MANY, SIDE + top, SIDE + left + right, 1)
    noise = Noise.draw(ride, MANY, SIDE, SIDE)
    for drawing in chosen:
        progress(drawing.name)
        one, many, loop = list[float](), list[float](), list[float]()
        with threads(drawing.threads):
            for _ in range(max(3, effort.rounds - 2)):
                started = now()
                raster_loop(ride, canvas[:1], noise, LOOP_ROWS)
                loop.append((now() - started) * SIDE / LOOP_ROWS)
                for seconds, n in ((one, 1), (many, MANY)):
                    started = now()
                    ancestral(ride, canvas[:n], noise=Noise(noise.uniform[:n], noise.normal[:n]))
                    seconds.append(now() - started)
        ratios = [median(b / a for a, b in zip(one, other, strict=True)) for other in (many, loop)]
        table.add(drawing.name, median(one), median(many), ratios[0], median(loop), ratios[1])
    return table


def raster_loop(ride: RIDE, canvas: Tensor, noise: Noise, rows: int) -> None:
    """The first rows, one pixel at a time, by the modules as they are."""
    evaluator = WavefrontEvaluator(ride, canvas, order="raster")
    for count, step in enumerate(evaluator):
        if count == rows * evaluator.columns:
            break
        i, j = divmod(int(step.pixels), evaluator.columns)
        evaluator.write(
            step, evaluator.draw(step, noise.uniform[:1, i, j], noise.normal[:1, i, j].unsqueeze(1))
        )
