"""Many units and points: whole wavefronts beside strips in one run, what their plans are worth, and cuDNN's sequences."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

import ndrnn

from ..workloads import Workload
from .run import Run, graph_of
from .scans import cudnn_layer, disagreement, output_of, rates, step_of

PLANES = (Workload("MDLSTM", 64, (64, 64), 32, 128), Workload("MDLSTM", 8, (256, 256), 16, 128))
SEQUENCES = (
    Workload("MDLSTM", 64, (512,), 128, 128),
    Workload("MDLSTM", 64, (512,), 256, 256),
    Workload("MDLSTM", 2048, (64,), 128, 128),
)
TINY_PLANES = (Workload("MDLSTM", 2, (2, 2), 2, 4, directions=1),)
TINY_SEQUENCES = (Workload("MDLSTM", 2, (3,), 2, 4, directions=1),)

Changes = dict[str, Any]

# Of the plans of whole wavefronts for 128 units, forward and on the way back; None for strips.
VARIANTS: dict[str, tuple[Changes, Changes | None]] = {
    "strips back": ({}, None),
    "one group of samples": ({"groups": 1}, {"groups": 1}),
    "eight warps back": ({}, {"num_warps": 8}),
    "all units back": ({}, {"BU": 128, "span": 128, "slices": 1}),
    "eight warps forward": ({"num_warps": 8}, {}),
    "weights streamed": (
        {"resident": False, "M": 128, "BK": 32, "num_stages": 3, "num_warps": 8}, {},
    ),
    "tiles of 32 points": ({"M": 32}, {"M": 32, "num_warps": 8}),
}  # fmt: skip


@contextmanager
def sweep(name: str) -> Iterator[None]:
    """Strips, whole wavefronts, or what the library chooses."""
    from ndrnn.scan.triton import wide as choice

    before = os.environ.get(choice.CHOICE)
    os.environ[choice.CHOICE] = name
    try:
        with ndrnn.backend("triton"):
            yield
    finally:
        if before is None:
            del os.environ[choice.CHOICE]
        else:
            os.environ[choice.CHOICE] = before


@contextmanager
def changed(there: Changes, back: Changes | None, batch: int) -> Iterator[None]:
    """Plans with other numbers."""
    from ndrnn.scan.triton import launch

    planned = launch._plan

    def plan(problem: Any, x: Tensor, backward: bool = False) -> Any:
        wanted = back if backward else there
        if wanted is None:
            with sweep("strips"):
                return planned(problem, x, backward=backward)
        changes = dict(wanted)
        if changes.get("groups") == 1:
            changes["group"] = batch
        return replace(planned(problem, x, backward=backward), **changes)

    launch._plan = plan
    try:
        yield
    finally:
        launch._plan = planned


TILES = ("M", "BU", "BK", "BO", "span", "slices", "resident", "num_warps", "num_stages")


@contextmanager
def tiles_as_of(workload: Workload) -> Iterator[None]:
    """Small problems cut in the tiles of a large one: what is compared with float64 is what will be timed."""
    from ndrnn.scan.triton import launch

    planned = launch._plan

    def plan(problem: Any, x: Tensor, backward: bool = False) -> Any:
        large = problem._replace(batch=workload.batch, lattice=workload.lattice)
        small, cut = planned(problem, x, backward=backward), planned(large, x, backward=backward)
        return replace(small, **{name: getattr(cut, name) for name in TILES}) if cut.crew else small

    launch._plan = plan
    try:
        yield
    finally:
        launch._plan = planned


def repeats(workload: Workload, dtype: torch.dtype, device: str) -> bool:
    """Whether two runs give the same bits: outputs and all gradients."""
    found: list[list[Tensor]] = []
    for _ in range(2):
        layer, x = workload.build().to(device, dtype), workload.input().to(device, dtype).requires_grad_()
        y = output_of(layer(x))
        dy = torch.randn(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
        found.append([y.detach(), *torch.autograd.grad(y, [x, *layer.parameters()], dy)])
    return all(torch.equal(first, second) for first, second in zip(*found, strict=True))


def timed(
    run: Run, workload: Workload, dtype: torch.dtype, training: bool, rate: float, layer: Any = None
) -> dict[str, Any]:
    """Seconds of a call by itself and from a graph, and what share of the products' rate the latter is."""
    layer = (workload.build() if layer is None else layer).to(run.device, dtype)
    step = step_of(layer, workload.input().to(run.device, dtype), training)
    found: dict[str, Any] = {"seconds": run.attempt(lambda: step)}
    if not run.tiny:
        found["in a graph"] = run.attempt(lambda: graph_of(step))
    best = found.get("in a graph", found["seconds"])
    if isinstance(best, float):
        found["share"] = (3 if training else 1) * workload.operations() / best / rate
    return found


def wide(run: Run) -> None:
    """The most telling first: what there is no time for is left out."""
    dtype = torch.float32 if run.tiny else torch.bfloat16
    rate = rates(run, dtype)["products"]
    run.add(dtype=str(dtype), **{"products a second": rate})
    planes, sequences = (TINY_PLANES, TINY_SEQUENCES) if run.tiny else (PLANES, SEQUENCES)
    # what has run on a device before comes first: after a failure nothing more runs in this process
    for name in ("strips", "fronts"):
        for workload in planes:
            row = {"workload": workload.name, "sweep": name}
            with sweep(name):
                with tiles_as_of(workload):
                    wrong = disagreement(workload, dtype, run.device)
                run.add(**row, agrees=wrong or "yes", repeats=repeats(workload, dtype, run.device))
                for training in (False, True):
                    run.add(**row, training=training, **timed(run, workload, dtype, training, rate))
    for workload in sequences:
        if run.left() >= 10:
            with sweep("fronts"):
                with tiles_as_of(workload):
                    wrong = disagreement(workload, dtype, run.device)
                run.add(
                    workload=workload.name, sweep="fronts",
                    agrees=wrong or "yes", repeats=repeats(workload, dtype, run.device),
                )  # fmt: skip
        for training in (False, True):
            row = {"workload": workload.name, "training": training}
            for name in ("auto", "fronts", "strips"):
                if run.left() < 5:
                    run.add(**row, sweep=name, left_out="no time")
                    continue
                with sweep(name):
                    run.add(**row, sweep=name, **timed(run, workload, dtype, training, rate))
            peer = cudnn_layer(workload, 1 if workload.directions == 1 else 2)
            run.add(**row, sweep="cudnn", **timed(run, workload, dtype, training, rate, peer))
    workload = planes[0]
    for variant, changes in VARIANTS.items():
        if run.left() < 10:
            run.add(variant=variant, left_out="no time")
            continue
        if run.tiny and changes[1] is not None and "groups" not in changes[1]:
            continue  # numbers for 128 units
        for training in (False, True):
            with sweep("fronts"), changed(*changes, workload.batch):
                found = timed(run, workload, dtype, training, rate)
            run.add(workload=workload.name, variant=variant, training=training, **found)
