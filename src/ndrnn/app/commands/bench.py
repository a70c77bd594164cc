"""``ndrnn bench``: points a second of a layer on this machine, by every backend that it has."""

from __future__ import annotations

import time
from math import prod
from statistics import median
from typing import Any

import torch
from torch import nn

from ...registry import layers
from ...scan import available_backends, backend
from ...version import __version__
from ..options import Bench
from ..output import Output


def run(options: Bench) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    torch.manual_seed(0)
    layer = layers[options.layer](options.inputs, options.hidden, len(options.size)).to(options.device)
    x = torch.randn(options.batch, *options.size, options.inputs, device=options.device)
    machine = (
        f"ndrnn {__version__}, torch {torch.__version__}, {torch.get_num_threads()} threads, {options.device}"
    )
    out.say(
        f"{options.layer} {options.inputs} -> {options.hidden}, {options.batch} x {options.size}; {machine}"
    )
    rows: dict[str, Any] = {}
    for name, reason in available_backends().items():
        # the reference is the definition, not a backend to choose; triton is CUDA's, cpu the processor's
        if (
            reason is not True
            or name == "reference"
            or name == ("cpu" if options.device == "cuda" else "triton")
        ):
            continue
        with backend(name):  # type: ignore[arg-type]
            rows[name] = _measure(layer, x, options.seconds)
    out.table(
        [(name, f"{row['forward']:,.0f}", f"{row['training']:,.0f}") for name, row in rows.items()],
        ("backend", "forward, points/s", "training step, points/s"),
    )
    out.result(
        {"machine": machine, "layer": options.layer, "size": list(options.size), "points_per_second": rows}
    )
    return 0


def _measure(layer: nn.Module, x: torch.Tensor, seconds: float) -> dict[str, float]:
    points = prod(x.shape[:-1])

    def forward() -> None:
        with torch.no_grad():
            layer(x)

    def step() -> None:
        layer.zero_grad(set_to_none=True)
        layer(x).square().mean().backward()

    return {"forward": points / _median(forward, x, seconds), "training": points / _median(step, x, seconds)}


def _median(call: Any, x: torch.Tensor, seconds: float) -> float:
    call()  # compiles, fills caches
    taken: list[float] = []
    while sum(taken) < seconds or len(taken) < 3:
        start = time.perf_counter()
        call()
        if x.is_cuda:
            torch.cuda.synchronize()
        taken.append(time.perf_counter() - start)
    return median(taken)
