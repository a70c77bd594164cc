"""``python -m benchmarks.density``: how fast the density models are, as samples a second and as shares of the limit."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch

from ndrnn.atomic import replacing
from ndrnn.density import MCGSM
from ndrnn.density.mixture import log_density, log_density_and_gradients

from . import machine
from .measure import CLOCKS, Call, Effort, in_turn, threads
from .table import Table, report, to_json

SAMPLES = 100_000
INPUTS, COMPONENTS, SCALES, FEATURES = 40, 32, 6, 40
CMT_RATE, CMT_LIMIT = 68_000, 100e9
"""Loss and gradient of the C++ of cmt (commit 39cf7a3, gcc 12, -O3 -march=native, double): samples a second of
processor time on one thread of a machine with this float32 matrix rate, an EPYC with AVX-512."""


def mcgsm_calls(dtype: torch.dtype) -> dict[str, Call]:
    """The loss alone, and the loss with the gradients of all parameters, as L-BFGS asks for them."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(SAMPLES, INPUTS, generator=generator, dtype=dtype)
    y = torch.randn(SAMPLES, 1, generator=generator, dtype=dtype)
    model = MCGSM(INPUTS, 1, COMPONENTS, SCALES, FEATURES, dtype=dtype).initialize(x, y, generator=generator)
    params = model.mixture_params()
    upstream = x.new_full((SAMPLES,), -1 / SAMPLES)
    return {
        "loss": lambda: log_density(params, x, y),
        "gradient": lambda: log_density_and_gradients(params, x, y, upstream, need_x=False, need_y=False),
    }


def mcgsm_operations() -> int:
    """Floating-point operations of the matrix products of one sample, forward."""
    rows = FEATURES + COMPONENTS + COMPONENTS
    return 2 * rows * INPUTS + 2 * COMPONENTS * FEATURES


def table(thread_counts: Sequence[int], effort: Effort, progress: Callable[[str], None]) -> Table:
    """Every dtype on every number of threads."""
    result = Table(
        f"MCGSM: {INPUTS} inputs, {COMPONENTS} components, {SCALES} scales, {FEATURES} features, {SAMPLES:,} samples",
        {
            "dtype": "",
            "threads": "",
            "GEMM, GFLOP/s": ".0f",
            "loss, samples/s": ",.0f",
            "loss and gradient, samples/s": ",.0f",
            "share": ".0%",
            "times cmt": ".1f",
        },
        notes=[
            f"Times cmt: over {CMT_RATE:,} samples a second and thread (C++, double), scaled by the matrix rates of "
            f"the machines ({CMT_LIMIT / 1e9:.0f} GFLOP/s there). Share: the matrix products' operations over the "
            "time, over the rate of a single-thread float32 product."
        ],
    )
    for dtype in (torch.float32, torch.float64):
        calls = mcgsm_calls(dtype)
        for count in thread_counts:
            name = str(dtype).removeprefix("torch.")
            progress(f"MCGSM; {name}; {count} thread{'s' * (count > 1)}")
            with threads(count):
                times = in_turn(calls, effort)
            gradient = times["gradient"]
            limit = gradient.median_limit
            rate = SAMPLES / gradient.median
            result.add(
                name,
                str(count),
                limit / 1e9,
                SAMPLES / times["loss"].median,
                rate,
                gradient.share(3 * mcgsm_operations() * SAMPLES),
                rate / (count * CMT_RATE * limit / CMT_LIMIT),
            )
    return result


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.density", description=__doc__)
    parser.add_argument("--threads", type=int, nargs="+", default=[1], metavar="N")
    parser.add_argument("--quick", action="store_true", help="fewer rounds; figures are rough")
    parser.add_argument(
        "--clock", choices=CLOCKS, default="wall", help="cpu: leave out what other processes take"
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="keep the table here too")
    given = parser.parse_args(arguments)
    effort = Effort.quick(given.clock) if given.quick else Effort(clock=given.clock)
    described = machine.describe()
    tables = [table(given.threads, effort, lambda text: print(text, flush=True))]
    print(report(described, tables), end="")
    if given.json is not None:
        with replacing(given.json) as path:
            path.write_text(to_json(described, tables))


if __name__ == "__main__":
    main()
