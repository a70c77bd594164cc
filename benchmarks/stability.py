"""Memories and gradients of every cell on growing lattices: ``python -m benchmarks.stability --picture FILE --json FILE``.

One direction, 16 units, input of three independent normal features; ``ndrnn.diagnose`` at the default initialisation,
and, for the cells with one forget gate an axis, at the bias of 1 that one-dimensional networks start with.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

import ndrnn
from ndrnn.nn.layers import ScanLayer
from ndrnn.saving.atomic import replacing

from . import machine
from .table import Table, publish

EXTENTS = (16, 32, 64, 128, 256)
FEATURES, HIDDEN = 3, 16


def customary(layer: ScanLayer) -> ScanLayer:
    """The layer with every forget gate's bias at 1 and its weights drawn like the others'."""
    bound = HIDDEN**-0.5
    assert layer.bias is not None
    with torch.no_grad():
        for number, gate in enumerate(layer.cell.gates(layer.ndim)):
            if not gate.startswith("f"):
                continue
            rows = slice(number * HIDDEN, (number + 1) * HIDDEN)
            layer.weight_ih[:, rows].uniform_(-bound, bound)
            layer.weight_hh[:, rows].uniform_(-bound / 2**0.5, bound / 2**0.5)
            layer.bias[:, rows] = 1
    return layer


LAYERS: dict[str, Callable[[], ScanLayer]] = {
    "MDLSTM": lambda: ndrnn.MDLSTM(FEATURES, HIDDEN, directions=[(1, 1)]),
    "SpatialLSTM": lambda: ndrnn.SpatialLSTM(FEATURES, HIDDEN),
    "SpatialLSTM, extended": lambda: ndrnn.SpatialLSTM(FEATURES, HIDDEN, extended=True),
    "StableMDLSTM": lambda: ndrnn.StableMDLSTM(FEATURES, HIDDEN, directions=[(1, 1)]),
    "LeakyMDLSTM": lambda: ndrnn.LeakyMDLSTM(FEATURES, HIDDEN, directions=[(1, 1)]),
    "MDGRU": lambda: ndrnn.MDGRU(FEATURES, HIDDEN, directions=[(1, 1)]),
    "MDRNN": lambda: ndrnn.MDRNN(FEATURES, HIDDEN, directions=[(1, 1)]),
    "MDLSTM, forget bias 1": lambda: customary(ndrnn.MDLSTM(FEATURES, HIDDEN, directions=[(1, 1)])),
    "SpatialLSTM, forget bias 1": lambda: customary(ndrnn.SpatialLSTM(FEATURES, HIDDEN)),
}


def measure(extents: Sequence[int], seed: int) -> tuple[Table, dict[str, list[float]]]:
    """The table, and for every layer the largest state at each extent."""
    largest: dict[str, list[float]] = {}
    table = Table(
        "At initialisation, 16 units, one direction",
        {
            "layer": "",
            **{f"largest state, {extent}²": ".3g" for extent in extents},
            "sum of f, mean": ".3f",
            "reach of the gradient, points": ".0f",
        },
    )
    for name, build in LAYERS.items():
        states: list[float] = []
        for extent in extents:
            torch.manual_seed(seed)
            layer = build()
            found = ndrnn.diagnose(layer, torch.randn(1, extent, extent, FEATURES)).directions[0]
            states.append(found.largest_state)
            print(f"{name}, {extent}²: {found.largest_state:.4g}, reach {found.reach}", flush=True)
        largest[name] = states
        table.add(name, *states, found.forget_sum_mean, float(max(found.reach)))
    table.notes.append(
        f"The sum of the forget gates and the reach are of the lattice of {extents[-1]}² points."
    )
    return table, largest


def draw(extents: Sequence[int], largest: dict[str, list[float]]) -> Figure:
    """The largest states against the extent, both axes logarithmic."""
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.subplots()
    for name, states in largest.items():
        finite = [state if state < 1e30 else float("nan") for state in states]
        axes.plot(extents, finite, marker="o", linestyle="--" if "bias" in name else "-", label=name)
    axes.set_xscale("log", base=2)
    axes.set(yscale="log", xlabel="points an axis", ylabel="largest |c| (|h| without memory)")
    axes.set_xticks(extents, [str(extent) for extent in extents])
    axes.legend(fontsize=8)
    return figure


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stability", description=__doc__)
    parser.add_argument("--extents", type=int, nargs="+", default=EXTENTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--picture", type=Path, metavar="FILE", help="where the figure goes (PNG)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the table goes")
    options = parser.parse_args()
    table, largest = measure(options.extents, options.seed)
    publish(machine.describe(), [table], options.json)
    if options.picture:
        with replacing(options.picture) as part:
            draw(options.extents, largest).savefig(part, dpi=110, format="png")


if __name__ == "__main__":
    main()
