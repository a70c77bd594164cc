"""How fast pictures and volumes are coded, as shares of the limit."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from torch import nn

from ndrnn import RIDE, CausalNeighborhood
from ndrnn.app.codec_model import CodingModels
from ndrnn.density.lattices.images import dead_leaves
from ndrnn.density.use.codec import compress, decompress, rides_of
from ndrnn.density.use.codec.kernels import Network
from ndrnn.density.use.codec.network import network_of

from .measure import Effort, in_turn, threads
from .table import Table

# a fused multiply-add counts as two; of docs/codec.md
EXPONENTIAL = 20
TAIL = 20 + EXPONENTIAL
CELL_OF_MIXTURE = 5 + TAIL  # for each decision
CONTEXTS, SETS, INPUTS = 7, 3, 9  # of the mixing


@dataclass(frozen=True)
class Coding:
    """A picture or a volume, there and back by one thread."""

    kind: str
    shape: tuple[int, ...]
    axes: int

    @property
    def name(self) -> str:
        return f"{self.kind}; {' x '.join(map(str, self.shape[: self.axes]))}"

    @property
    def planes(self) -> int:
        return self.shape[-1] if len(self.shape) > self.axes else 1

    @property
    def points(self) -> int:
        return int(np.prod(self.shape[: self.axes]))

    def model(self) -> nn.Module:
        """The one that ships, or of volumes one that has learned nothing: what takes time are its operations."""
        if self.axes == 2:
            return CodingModels().of(2, self.planes).model
        torch.manual_seed(0)
        return RIDE(32, neighborhood=CausalNeighborhood.window(3, ndim=3), num_components=16, num_features=32)

    def samples(self) -> np.ndarray:
        """Leaves that cover each other, with noise, uint8."""
        rng = np.random.default_rng(0)
        rows, columns = self.points // self.shape[self.axes - 1], self.shape[self.axes - 1]
        leaves = dead_leaves(rows, columns, r_min=4, generator=torch.Generator().manual_seed(0)).numpy()
        values = leaves.reshape(self.shape[: self.axes])[..., None] * 200 + 20
        values = values + rng.normal(0, 4, (*values.shape[:-1], self.planes))
        samples = values.clip(0, 255).astype(np.uint8)
        return samples if self.planes > 1 else samples[..., 0]


GREY = Coding("grey", (512, 768), 2)
CODINGS = (GREY, Coding("colour", (512, 768, 3), 2), Coding("volume", (64, 64, 64), 3))


def operations(network: Network, decisions: int) -> int:
    """Floating-point operations of a point: products, exponentials and the masses of the mixture, not the integers of the
    mixing and of the coder."""
    n, hidden = network.axes, network.hidden
    inputs = len(network.offsets) + network.planes * len(network.observed_offsets)
    gru = network.cell == 3
    gates = 2 * n + 1 if gru else n + 3
    total = 2 * inputs * (inputs + 1)
    for layer in range(network.layers):
        seen = hidden if layer else inputs
        total += 2 * gates * hidden * (seen + n * hidden) + hidden * (gates + 1) * EXPONENTIAL
    components, features, cells = network.components, network.features, network.components * network.scales
    total += 2 * features * hidden + 2 * components * features
    total += 2 * (2 if network.linear else 1) * components * hidden
    return total + cells * (2 + EXPONENTIAL + decisions * CELL_OF_MIXTURE)


def bytes_moved(network: Network, decisions: int) -> int:
    """Bytes of a point that are written and read again: inputs, states, gates, mixture; and of the mixing's tables."""
    n, hidden = network.axes, network.hidden
    inputs = len(network.offsets) + network.planes * len(network.observed_offsets)
    gates = 2 * n + 1 if network.cell == 3 else n + 3
    numbers = 2 * inputs + network.layers * hidden * (2 * n + gates + 2) + network.features
    numbers += network.components * (3 + network.scales)
    again = decisions * network.components * (network.scales + 1)
    mixing = decisions * 2 * (4 * CONTEXTS + 4 * SETS * INPUTS)
    return 4 * (2 * numbers + again) + mixing


@cache
def _depths(coding: Coding) -> tuple[int, ...]:
    """Decisions of a value of each plane of 8 bits."""
    return (8, 9, 9) if coding.planes == 3 else (8,) * coding.planes


def table(chosen: Sequence[Coding], effort: Effort, progress: Callable[[str], None]) -> Table:
    result = Table(
        "The codec, 8 bits, one thread",
        {
            "workload": "",
            "GEMM, GFLOP/s": ".0f",
            "thousand operations a point": ".0f",
            "kB a point": ".1f",
            "there, s": ".2f",
            "share": ".0%",
            "back, s": ".2f",
            "share ": ".0%",
            "times grey, a point": ".2f",
        },
        notes=[
            "A point of colour has three planes. Operations are those of docs/codec.md in floating point; beside them each "
            "decision mixes eight numbers and changes as many counters, in integers. Bytes are what passes between them "
            "and the caches."
        ],
    )
    grey: float | None = None
    for coding in chosen:
        progress(coding.name)
        model, samples = coding.model(), coding.samples()
        networks = [network_of(ride) for ride in rides_of(model)]
        each = [(networks[min(p, len(networks) - 1)], depth) for p, depth in enumerate(_depths(coding))]
        count = sum(operations(network, depth) for network, depth in each)
        moved = sum(bytes_moved(network, depth) for network, depth in each)
        data = compress(model, samples, threads=1)
        calls = {
            "there": lambda model=model, samples=samples: compress(model, samples, threads=1),
            "back": lambda model=model, data=data: decompress(model, data, threads=1),
        }
        with threads(1):
            times = in_turn(calls, effort)
        there, back = times["there"], times["back"]
        a_point = (there.median + back.median) / coding.points
        grey = a_point if coding == GREY else grey
        result.add(
            coding.name,
            there.median_limit / 1e9,
            count / 1e3,
            moved / 1e3,
            there.median,
            there.share(count * coding.points),
            back.median,
            back.share(count * coding.points),
            a_point / grey if grey else None,
        )
    return result
