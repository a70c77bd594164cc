"""No figure without exactness: every layer that is measured must first agree with the reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

import ndrnn

from .workloads import Workload

TOLERANCE = {torch.float32: 2e-5, torch.float64: 1e-10}


def failures(workloads: Iterable[Workload]) -> list[str]:
    """What disagrees on small lattices, one line each."""
    kinds = {
        replace(workload, batch=2, lattice=(5, 4, 3)[: len(workload.lattice)], threads=1): None
        for workload in workloads
    }
    found = []
    for workload in kinds:
        error = _error(workload)
        if not error < TOLERANCE[workload.input().dtype]:
            found.append(f"{workload.name}: error {error:.1e}")
    return found


def _error(workload: Workload) -> float:
    """The largest error of output and gradients against the reference in float64, in parts of their own size."""
    results = []
    for backend, dtype in (("auto", None), ("reference", torch.float64)):
        layer, x = workload.build().to(dtype), workload.input().to(dtype).requires_grad_()
        torch.manual_seed(2)
        with ndrnn.backend(backend):  # type: ignore[arg-type]
            y = layer(x)
            dy = torch.randn(y.shape, dtype=torch.float64).to(y.dtype)
            grads = torch.autograd.grad(y, [x, *layer.parameters()], dy)
        results.append([y.detach(), *grads])
    return max(
        float((ours - theirs).abs().max() / theirs.abs().max().clamp(min=1e-3))
        for ours, theirs in zip(*results, strict=True)
    )
