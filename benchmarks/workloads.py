"""What is measured: every workload is registered here, once."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from math import prod
from typing import Any

import torch
from torch import Tensor

import ndrnn
from ndrnn.nn.layers import ScanLayer

_DTYPES = {"float32": torch.float32, "float64": torch.float64}


def counted(number: int, noun: str) -> str:
    """A number of things in words, for the names of rows."""
    return f"{number} {noun}{'s' * (number > 1)}"


@dataclass(frozen=True)
class Workload:
    """A layer and the shape of its input; ``directions`` counts them, all 2^n by default."""

    layer: str
    batch: int
    lattice: tuple[int, ...]
    input_size: int
    hidden_size: int
    directions: int | None = None
    variant: str | None = None  # a keyword of the layer, set to True
    dtype: str = "float32"
    threads: int = 1

    @property
    def name(self) -> str:
        parts = [
            self.layer if self.variant is None else f"{self.layer}({self.variant})",
            f"{', '.join(map(str, (self.batch, *self.lattice, self.input_size)))} → {self.hidden_size}",
        ]
        if self.directions is not None:
            parts.append(counted(self.directions, "direction"))
        if self.dtype != "float32":
            parts.append(self.dtype)
        if self.threads != 1:
            parts.append(counted(self.threads, "thread"))
        return "; ".join(parts)

    @property
    def points(self) -> int:
        return prod(self.lattice)

    def build(self) -> ScanLayer:
        """The layer, with weights that are the same in every run."""
        torch.manual_seed(0)
        ndim = len(self.lattice)
        chosen = ndrnn.lattice.all_directions(ndim)[: self.directions]
        options: dict[str, Any] = {"directions": chosen, "dtype": _DTYPES[self.dtype]}
        if self.variant is not None:
            options[self.variant] = True
        return getattr(ndrnn, self.layer)(self.input_size, self.hidden_size, ndim, **options)

    def input(self) -> Tensor:
        torch.manual_seed(1)
        return torch.randn(self.batch, *self.lattice, self.input_size, dtype=_DTYPES[self.dtype])

    def operations(self) -> int:
        """Floating-point operations forward, 2 * (C + n*H) * G*H a point and direction; training counts thrice."""
        layer = self.build()
        matrices = [layer.weight_ih, layer.params.weight_hh]
        if layer.cell.feeds_memory:
            matrices.append(layer.get_parameter("weight_ch"))
        return 2 * self.batch * self.points * sum(matrix.numel() for matrix in matrices)

    def with_lattice(self, *lattice: int) -> Workload:
        return replace(self, lattice=lattice)

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Workload:
        return cls(**{**fields, "lattice": tuple(fields["lattice"])})


# digits, text lines, feature maps of a network, one photograph, a deep network's last layer
MAIN = (
    Workload("MDLSTM", 16, (28, 28), 1, 25),
    Workload("MDLSTM", 16, (32, 256), 1, 32),
    Workload("MDLSTM", 4, (64, 64), 16, 64),
    Workload("MDLSTM", 1, (256, 256), 3, 64),
    Workload("MDLSTM", 32, (16, 64), 32, 128),
)

# as many rows of weights as the LSTM's, so that all have the same product to compute
CELLS = (
    Workload("MDLSTM", 4, (64, 64), 16, 64, variant="peepholes"),
    Workload("StableMDLSTM", 4, (64, 64), 16, 64),
    Workload("LeakyMDLSTM", 4, (64, 64), 16, 64),
    Workload("SpatialLSTM", 4, (64, 64), 16, 64, directions=4),
    Workload("SpatialLSTM", 4, (64, 64), 16, 64, directions=4, variant="extended"),
    Workload("MDGRU", 4, (64, 64), 16, 64),
    Workload("MDRNN", 4, (64, 64), 16, 320),
)

OTHERS = (
    Workload("MDLSTM", 2, (32, 32, 32), 8, 32),
    *(replace(workload, dtype="float64") for workload in MAIN),
    Workload("MDLSTM", 1, (256, 256), 3, 64, directions=1),
)

SEQUENCES = tuple(
    Workload("MDLSTM", batch, (length,), inputs, hidden, directions=directions, threads=threads)
    for batch, length, inputs, hidden in ((16, 1024, 64, 64), (64, 256, 128, 128))
    for directions in (None, 1)
    for threads in (1, 2)
)

THREADS = (*MAIN, OTHERS[-1], Workload("MDLSTM", 1, (64, 64), 16, 64, directions=1))

RECOMPUTED = (*MAIN[2:], Workload("MDLSTM", 1, (1024, 1024), 1, 16))

# the linear recurrence, and what it stands beside: gated layers of as many units, and of as many weights
LINEAR = (
    Workload("MDLinearRNN", 1, (256, 256), 64, 64),
    Workload("MDGRU", 1, (256, 256), 64, 64),
    Workload("MDLSTM", 1, (256, 256), 64, 64),
    Workload("MDGRU", 1, (256, 256), 64, 32),
    Workload("MDLSTM", 1, (256, 256), 64, 32),
)

EXPORTED = (MAIN[1], MAIN[2], CELLS[5], replace(LINEAR[0], batch=4, lattice=(64, 64)), OTHERS[0])

TINY = Workload("MDLSTM", 1, (4, 4), 1, 4)
