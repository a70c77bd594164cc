"""How far back an output learns from, fresh and after a training that needs it: ``python -m benchmarks.reach --json FILE``.

The sensitivity at a distance is the norm of the Jacobian of the last point's units by the input there, over that by the
input at the last point itself. It is told along an axis and along the diagonal, where a distance of d is d points back
on every axis. The training is to recall: of values +1 and -1 one is marked, at the far corner or at the far end of the
last row, the others are noise, and the last point has to tell it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import fmean, median

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor, nn

import ndrnn
from ndrnn.nn.layers import ScanLayer

from . import machine
from .table import Table, Value, publish

FEATURES = 2
"""Of a point: its value and whether it is the marked one."""
KINDS: dict[str, Callable[..., ScanLayer]] = {
    "MDLinearRNN": ndrnn.MDLinearRNN,
    'MDLinearRNN, "even"': partial(ndrnn.MDLinearRNN, normalize="even"),
    "MDGRU": ndrnn.MDGRU,
    "MDLSTM": ndrnn.MDLSTM,
    "StableMDLSTM": ndrnn.StableMDLSTM,
    "LeakyMDLSTM": ndrnn.LeakyMDLSTM,
}
LATTICES = {1: (513,), 2: (513, 513), 3: (65, 65, 65)}


@dataclass(frozen=True)
class Mark:
    """What is to be recalled: the value at a place of a lattice."""

    name: str
    lattice: tuple[int, ...]
    place: tuple[int, ...]


MARKS = (
    Mark("the first of 513 points", (513,), (0,)),
    Mark("the far corner of 65 x 65 points", (65, 65), (0, 0)),
    Mark("the far end of the last row of 65 x 65 points", (65, 65), (64, 0)),
)


@dataclass(frozen=True)
class Options:
    """What is measured, and where the results go."""

    hidden: int = 16
    """Units; one direction."""
    distances: tuple[int, ...] = (1, 8, 64, 256, 512)
    samples: int = 2
    """Inputs of independent normal values; of these the mean square."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Of fresh weights; of these the median."""
    steps: int = 600
    """Of the training to recall."""
    batch_size: int = 8
    rates: tuple[float, ...] = (0.01, 0.03)
    """Learning rates of Adam; the better one by the loss of the last quarter of the steps, each on new samples, counts."""
    json: Path | None = None
    """Where the tables go."""


def build(kind: str, hidden: int, ndim: int) -> ScanLayer:
    return KINDS[kind](FEATURES, hidden, ndim, directions=[(1,) * ndim])


def sensitivities(layer: ScanLayer, x: Tensor) -> Tensor:
    """The norm of the last point's Jacobian by each point (D1, ..., Dn): a random combination of the units, with signs
    for weights, has it as its mean square."""
    x = x.detach().requires_grad_()
    last = layer(x)[(slice(None), *[-1] * layer.ndim)]
    signs = torch.randint(0, 2, last.shape, generator=torch.Generator().manual_seed(0)) * 2 - 1
    (gradient,) = torch.autograd.grad((last * signs).sum(), x)
    return gradient.square().sum(-1).mean(0).sqrt()


def profile(layer: ScanLayer, lattice: tuple[int, ...], options: Options, seed: int) -> list[list[float]]:
    """The share of the sensitivity that is left at each distance: along an axis, the root mean square of all, and along
    the diagonal; NaN where the lattice ends before."""
    x = torch.randn(
        options.samples,
        *lattice,
        FEATURES,
        dtype=torch.float64,
        generator=torch.Generator().manual_seed(seed),
    )
    x[..., 1] = 0
    found = sensitivities(layer.double(), x)  # in float32 what is far away would be 0
    last = torch.tensor(found.shape) - 1
    shares = []
    for distance in options.distances:
        if distance > int(last.min()):
            shares.append([float("nan")] * 2)
            continue
        steps = [*(distance * torch.eye(len(last), dtype=torch.int64)), torch.full_like(last, distance)]
        *axes, diagonal = (found[tuple((last - step).tolist())] for step in steps)
        here = found[tuple(last.tolist())]
        shares.append([float(torch.stack(axes).square().mean().sqrt() / here), float(diagonal / here)])
    return shares


def fresh(options: Options) -> Iterator[Table]:
    for ndim, lattice in LATTICES.items():
        title = f"Fresh, n = {ndim}, {' x '.join(map(str, lattice))} points: sensitivity along an axis / the diagonal"
        table = Table(title, _columns(options, lattice) | {"reach by ndrnn.diagnose": "d"})
        for kind in KINDS:
            found = []
            for seed in options.seeds:
                torch.manual_seed(seed)
                found.append(profile(build(kind, options.hidden, ndim), lattice, options, seed))
            torch.manual_seed(options.seeds[0])
            layer = build(kind, options.hidden, ndim)
            reach = max(ndrnn.diagnose(layer, torch.randn(1, *lattice, FEATURES)).directions[0].reach)
            shares = [[median(each) for each in zip(*at, strict=True)] for at in zip(*found, strict=True)]
            table.add(kind, *_cells(shares, ndim), reach)
            print(table.rows[-1], flush=True)
        yield table


def marked(count: int, mark: Mark, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Inputs (N, D1, ..., Dn, 2), and whether the marked point's value is +1, (N,)."""
    x = torch.zeros(count, *mark.lattice, FEATURES)
    x[..., 0] = torch.randint(0, 2, x.shape[:-1], generator=generator) * 2 - 1
    x[(slice(None), *mark.place, 1)] = 1
    return x, (x[(slice(None), *mark.place, 0)] > 0).float()


class Recall(nn.Module):
    """A layer of one direction, and what it tells at the last point."""

    def __init__(self, kind: str, hidden: int, ndim: int) -> None:
        super().__init__()
        self.layer = build(kind, hidden, ndim)
        self.out = nn.Linear(hidden, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.out(self.layer(x)[(slice(None), *[-1] * self.layer.ndim)]).squeeze(-1)


def train(model: Recall, mark: Mark, rate: float, options: Options) -> float:
    """The mean loss of the last quarter of the steps."""
    generator = torch.Generator().manual_seed(1)
    optimizer = torch.optim.Adam(model.parameters(), rate)
    losses = []
    for _ in range(options.steps):
        x, target = marked(options.batch_size, mark, generator)
        loss = F.binary_cross_entropy_with_logits(model(x), target)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        losses.append(float(loss.detach()))
    return fmean(losses[-(options.steps // 4) :])


def recalled(options: Options) -> Iterator[Table]:
    for mark in MARKS:
        ndim = len(mark.lattice)
        measured = LATTICES[ndim]
        table = Table(
            f"Trained to recall {mark.name}; measured on {' x '.join(map(str, measured))}: sensitivity along an axis / "
            "the diagonal",
            {"layer": "", "rate": "g", "loss": ".3f", "right of 400 marks": ".1%", "processor seconds": ".0f"}
            | {name: form for name, form in _columns(options, measured).items() if name != "layer"},
        )
        for kind in KINDS:
            tried = []
            for rate in options.rates:
                torch.manual_seed(options.seeds[0])
                model = Recall(kind, options.hidden, ndim)
                began = time.process_time()
                loss = train(model, mark, rate, options)
                tried.append((loss, rate, model, time.process_time() - began))
            loss, rate, model, seconds = min(tried, key=lambda found: found[0])
            generator, right = torch.Generator().manual_seed(2), 0
            with torch.no_grad():
                for _ in range(20):
                    x, target = marked(20, mark, generator)
                    right += int(((model(x) > 0) == (target > 0)).sum())
            shares = profile(model.layer, measured, options, options.seeds[0])
            table.add(kind, rate, loss, right / 400, seconds, *_cells(shares, ndim))
            print(table.rows[-1], flush=True)
        yield table


def _columns(options: Options, lattice: tuple[int, ...]) -> dict[str, str]:
    return {"layer": "", **{f"{d} back": ".2g" for d in options.distances if d < min(lattice)}}


def _cells(shares: list[list[float]], ndim: int) -> list[Value]:
    """For the columns of the distances that there are; a line is its own diagonal."""
    return [pair[: 1 + (ndim > 1)] for pair in shares if pair[0] == pair[0]]


def main(options: Options) -> None:
    torch.set_num_threads(1)
    described = machine.describe()
    tables = [*fresh(options), *recalled(options)]
    publish(described, tables, options.json)


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m benchmarks.reach", description=__doc__))
