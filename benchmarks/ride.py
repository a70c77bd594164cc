"""How fast RIDE trains and samples: ``python -m benchmarks.ride`` prints the tables.

A training step is forward and backward of 50 patches of 22x22 pixels, 64 hidden units, MCGSM included; its share is
that of the rate of a single-thread float32 ``torch.mm``. Sampling by wavefronts is timed against a loop over the pixels
that calls the same modules, cell, MCGSM and whitening, once a pixel; the loop is timed on so many rows and extrapolated.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from ndrnn.atomic import replacing
from ndrnn.density import RIDE
from ndrnn.density.sampling import Noise, ancestral
from ndrnn.density.stepping import WavefrontEvaluator

from . import machine
from .measure import CLOCKS, Effort, in_turn, threads
from .table import Table, report, to_json

BATCH, PATCH, HIDDEN = 50, 22, 64
SIDE = 256


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ride", description="How fast RIDE is.")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; figures are rough")
    parser.add_argument("--clock", choices=CLOCKS, default="wall", help="cpu: leave out other processes")
    parser.add_argument("--side", type=int, default=SIDE, help="of the sampled image")
    parser.add_argument("--threads", type=int, default=1, metavar="N", help="of sampling; training has one")
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the tables here too")
    options = parser.parse_args(arguments)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    effort = Effort.quick(options.clock) if options.quick else Effort(clock=options.clock)
    described = machine.describe()
    described["clock"] = options.clock
    tables = [training(effort)]
    with threads(options.threads):
        tables.append(sampling(options.side, options.clock, 3 if options.quick else 5))
    print(report(described, tables), end="")
    if options.json:
        with replacing(options.json) as part:
            part.write_text(to_json(described, tables))
    return 0


def _ride(num_layers: int = 1) -> tuple[RIDE, Tensor]:
    ride = RIDE(HIDDEN, num_layers)
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


def training(effort: Effort) -> Table:
    table = Table(
        f"A training step, {BATCH} patches of {PATCH}x{PATCH}, {HIDDEN} hidden units, one thread",
        {"layers": "d", "ms": ".1f", "pixels a second": ",.0f", "share of GEMM": ".0%"},
    )
    for num_layers in (1, 2):
        ride, images = _ride(num_layers)
        pixels = ride.log_prob(images).numel()

        def step(ride: RIDE = ride, images: Tensor = images) -> None:
            ride.zero_grad(set_to_none=True)
            (-ride.log_prob(images).mean()).backward()

        times = in_turn({"step": step}, effort)["step"]
        share = times.share(operations(ride, pixels))
        table.add(num_layers, 1e3 * times.median, pixels / times.median, share)
    return table


@torch.no_grad()
def sampling(side: int, clock: str, rounds: int) -> Table:
    """Wavefronts for one image and for 16, and the loop, in turn."""
    now = CLOCKS[clock]
    ride, _ = _ride()
    top, _, left, right = ride.neighborhood.margins
    canvas = torch.rand(16, side + top, side + left + right, 1)
    noise = Noise.draw(ride, 16, side, side)
    loop_rows = max(1, 1024 // side)
    seconds: dict[str, list[float]] = {"loop": [], "one": [], "sixteen": []}
    for _ in range(rounds):
        started = now()
        raster_loop(ride, canvas[:1], noise, loop_rows)
        seconds["loop"].append((now() - started) * side / loop_rows)
        for name, n in (("one", 1), ("sixteen", 16)):
            started = now()
            ancestral(ride, canvas[:n], noise=Noise(noise.uniform[:n], noise.normal[:n]))
            seconds[name].append(now() - started)
    count = torch.get_num_threads()
    table = Table(
        f"Sampling {side}x{side} pixels, {HIDDEN} hidden units, {count} thread{'s' * (count > 1)}",
        {"how": "", "images": "d", "seconds": ".2f", "times the time of one image by wavefronts": ".1f"},
        notes=[f"The loop over the pixels was timed on {loop_rows} rows and extrapolated."],
    )
    named = {"loop over the pixels": ("loop", 1), "wavefronts": ("one", 1), "wavefronts ": ("sixteen", 16)}
    for how, (name, n) in named.items():
        ratios = sorted(a / b for a, b in zip(seconds[name], seconds["one"], strict=True))
        table.add(how.strip(), n, sorted(seconds[name])[rounds // 2], ratios[rounds // 2])
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


if __name__ == "__main__":
    main()
