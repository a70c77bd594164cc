"""No figure without exactness: every layer that is measured must first agree with the reference."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import torch

from ndrnn.inspect.conformance import assert_conforms

from .workloads import Workload


def failures(workloads: Iterable[Workload]) -> list[str]:
    """What disagrees, outputs or gradients, on small lattices with full and with ragged samples."""
    found = []
    for workload in dict.fromkeys(map(_small, workloads)):
        layer, x = workload.build(), workload.input()
        sizes = torch.tensor([workload.lattice, [extent - 1 for extent in workload.lattice]])
        for given in (None, sizes):
            try:
                assert_conforms(layer, x, given)
            except AssertionError as error:
                found.append(f"{workload.name}: {error}")
    return found


def _small(workload: Workload) -> Workload:
    return replace(workload, batch=2, lattice=(5, 4, 3)[: len(workload.lattice)], threads=1)
