"""Draws linear scans, and what all of them compute."""

from __future__ import annotations

import random
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import Tensor

import ndrnn


@dataclass
class Case:
    """The arguments of a linear scan."""

    z: Tensor
    f: Tensor
    direction: tuple[int, ...]
    sizes: Tensor | None
    state: tuple[Tensor, ...] | None

    @property
    def inputs(self) -> list[Tensor]:
        return [self.z, self.f, *(self.state or ())]

    def to(self, dtype: torch.dtype) -> Case:
        state = None if self.state is None else tuple(face.detach().to(dtype) for face in self.state)
        return Case(self.z.detach().to(dtype), self.f.detach().to(dtype), self.direction, self.sizes, state)

    def run(self) -> tuple[Tensor, ...]:
        c, exits = ndrnn.linear_scan(
            self.z,
            self.f,
            direction=self.direction,
            sizes=self.sizes,
            initial_state=self.state,
            return_state=True,
        )
        return (c, *exits)


def draw(
    lattice: tuple[int, ...],
    hidden: int,
    *,
    seed: int = 0,
    batch: int = 2,
    direction: tuple[int, ...] | None = None,
    shared: bool = False,
    ragged: bool = False,
    state: bool = False,
    dtype: torch.dtype = torch.float64,
) -> Case:
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype).requires_grad_()

    ndim = len(lattice)
    extents = [torch.randint(0, extent + 1, (batch,), generator=generator) for extent in lattice]
    return Case(
        normal(batch, *lattice, hidden),
        normal(ndim, batch, *lattice, 1 if shared else hidden),
        direction or (1,) * ndim,
        torch.stack(extents, 1) if ragged else None,
        tuple(normal(batch, *lattice[:k], *lattice[k + 1 :], hidden) for k in range(ndim)) if state else None,
    )


def draw_any(rng: random.Random, seed: int) -> Case:
    """A small scan of any kind, extents of one and zero among them."""
    ndim = rng.choice([1, 2, 2, 3, 4])
    least = rng.choice([0, 1, 1, 1, 1, 1])
    lattice = tuple(rng.randint(least, 4) for _ in range(ndim))
    options: dict[str, Any] = {name: rng.random() < 0.5 for name in ("shared", "ragged", "state")}
    direction = tuple(rng.choice((1, -1)) for _ in range(ndim))
    hidden = rng.choice([1, 2, 3, 8, 9, 17])
    return draw(lattice, hidden, seed=seed, batch=rng.choice([0, 1, 2, 3]), direction=direction, **options)


def gradients(case: Case, outputs: tuple[Tensor, ...], seed: int = 0) -> tuple[Tensor, ...]:
    """Of a random linear function of the outputs, by all inputs."""
    generator = torch.Generator().manual_seed(seed)
    weights = [torch.randn(o.shape, generator=generator, dtype=torch.float64).to(o.dtype) for o in outputs]
    reached = [(o, w) for o, w in zip(outputs, weights, strict=True) if o.requires_grad]
    if not reached:
        return tuple(map(torch.zeros_like, case.inputs))
    return torch.autograd.grad(
        [o for o, _ in reached], case.inputs, [w for _, w in reached], materialize_grads=True
    )


@pytest.fixture
def scans() -> SimpleNamespace:
    """What is above, for tests, which cannot import it."""
    return SimpleNamespace(Case=Case, draw=draw, draw_any=draw_any, gradients=gradients)
