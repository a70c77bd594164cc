"""How fast the MCGSM's likelihood is, as samples a second and as shares of the limit, beside the C++ of cmt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from ndrnn.density import MCGSM
from ndrnn.density.mixture.likelihood import log_density, log_density_and_gradients

from .measure import Call, Effort, in_turn, threads
from .table import Table
from .workloads import counted

SAMPLES = 100_000
INPUTS, COMPONENTS, SCALES, FEATURES = 40, 32, 6, 40
CMT_RATE, CMT_LIMIT = 68_000, 100e9
"""Loss and gradient of the C++ of cmt (commit 39cf7a3, gcc 12, -O3 -march=native, double): samples a second of
processor time on one thread of a machine with this float32 matrix rate, an EPYC with AVX-512."""


@dataclass(frozen=True)
class Likelihood:
    """The loss and its gradient on so many threads."""

    dtype: torch.dtype
    threads: int

    @property
    def name(self) -> str:
        return f"MCGSM; {str(self.dtype).removeprefix('torch.')}; {counted(self.threads, 'thread')}"


LIKELIHOODS = tuple(Likelihood(dtype, count) for dtype in (torch.float32, torch.float64) for count in (1, 2))


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


def table(chosen: Sequence[Likelihood], effort: Effort, progress: Callable[[str], None]) -> Table:
    result = Table(
        f"MCGSM: {INPUTS} inputs, {COMPONENTS} components, {SCALES} scales, {FEATURES} features, {SAMPLES:,} samples",
        {
            "workload": "",
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
    for likelihood in chosen:
        progress(likelihood.name)
        with threads(likelihood.threads):
            times = in_turn(mcgsm_calls(likelihood.dtype), effort)
        gradient = times["gradient"]
        limit = gradient.median_limit
        rate = SAMPLES / gradient.median
        result.add(
            likelihood.name,
            limit / 1e9,
            SAMPLES / times["loss"].median,
            rate,
            gradient.share(3 * mcgsm_operations() * SAMPLES),
            rate / (likelihood.threads * CMT_RATE * limit / CMT_LIMIT),
        )
    return result
