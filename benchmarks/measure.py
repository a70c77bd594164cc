"""Times of calls and of the limit, taken in turn so that a drifting machine moves both."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import torch

from .workloads import Workload

Call = Callable[[], object]

GEMM_SIZE = 1024
LEAST_SECONDS = 50e-3  # of a round of one call, which is repeated until then
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}


@dataclass(frozen=True)
class Effort:
    """How long to measure: some seconds and rounds at the least, but no new round after ``patience`` seconds.

    The clock ``"cpu"`` leaves out what other processes take, here too; it is for one thread only.
    """

    seconds: float = 1.0
    rounds: int = 7
    patience: float = 30.0
    clock: str = "wall"

    @classmethod
    def quick(cls, clock: str) -> Effort:
        return cls(0.3, 3, 6.0, clock)


@dataclass
class Times:
    """Seconds of one call, one entry a round, and the limit's rate in operations a second around each."""

    seconds: list[float] = field(default_factory=list)
    limit: list[float] = field(default_factory=list)

    @property
    def median(self) -> float:
        return median(self.seconds)

    @property
    def median_limit(self) -> float:
        return median(self.limit)

    def share(self, operations: int) -> float:
        """The part of the limit's rate that the call reached."""
        return median(
            operations / seconds / rate for seconds, rate in zip(self.seconds, self.limit, strict=True)
        )

    def ratio(self, other: Times) -> float:
        """How many times longer the other call took in the same round."""
        pairs = zip(self.seconds, other.seconds, strict=True)
        return median(theirs / ours for ours, theirs in pairs)


@contextmanager
def threads(count: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Limit:
    """The rate of a single-thread float32 matrix product, what the machine itself reaches."""

    def __init__(self, clock: str) -> None:
        self.clock = CLOCKS[clock]
        self.left, self.right = torch.randn(2, GEMM_SIZE, GEMM_SIZE).unbind()
        self.out = torch.empty(GEMM_SIZE, GEMM_SIZE)
        self.rate()

    def product(self) -> None:
        torch.mm(self.left, self.right, out=self.out)

    def rate(self) -> float:
        with threads(1):
            start = self.clock()
            self.product()
            return 2 * GEMM_SIZE**3 / (self.clock() - start)


def in_turn(
    calls: Mapping[str, Call],
    effort: Effort,
    *,
    thread_counts: Mapping[str, int] | None = None,
    warm: bool = False,
) -> dict[str, Times]:
    """Time the calls one after the other, round after round, with the limit between any two of them.

    The limit has one thread, and the others fall asleep meanwhile. A short call is therefore made once before it is
    timed, as in a loop, where it finds them awake. With ``warm`` so is a long one: after other calls the system hands out
    large memory page by page anew, which took up to as long as the call itself, where a loop finds what it has freed.
    """
    clock, limit = CLOCKS[effort.clock], Limit(effort.clock)
    counts = thread_counts or {}
    times = {name: Times() for name in calls}
    repeats = {}
    for name, call in calls.items():
        with threads(counts.get(name, torch.get_num_threads())):
            for _ in range(2):  # the first call may build something
                start = clock()
                call()
                seconds = clock() - start
                if seconds > 0.5:
                    break
            repeats[name] = max(1, round(LEAST_SECONDS / max(seconds, 1e-6)))
    began = clock()
    rounds, before = 0, limit.rate()
    while rounds == 0 or (
        (rounds < effort.rounds or clock() - began < effort.seconds) and clock() - began < effort.patience
    ):
        for name, call in calls.items():
            with threads(counts.get(name, torch.get_num_threads())):
                if warm or repeats[name] > 1:
                    call()
                start = clock()
                for _ in range(repeats[name]):
                    call()
                seconds = (clock() - start) / repeats[name]
            after = limit.rate()
            times[name].seconds.append(seconds)
            times[name].limit.append((before + after) / 2)
            before = after
        rounds += 1
    return times


def inference(model: Callable[[torch.Tensor], object], x: torch.Tensor) -> Call:
    def call() -> object:
        with torch.inference_mode():
            return model(x)

    return call


def training_step(
    model: torch.nn.Module, x: torch.Tensor, output_of: Callable[[Any], torch.Tensor] = lambda y: y
) -> Call:
    """Forward and backward, with the gradients of all parameters and of the input, as within a network."""
    x = x.clone().requires_grad_()
    dy: torch.Tensor | None = None

    def call() -> None:
        nonlocal dy
        model.zero_grad(set_to_none=True)
        x.grad = None
        y = output_of(model(x))
        dy = torch.randn_like(y) if dy is None else dy
        y.backward(dy)

    return call


def calls_of(workload: Workload) -> dict[str, Call]:
    """The two calls of a workload on the backend in force."""
    layer, x = workload.build(), workload.input()
    return {"inference": inference(layer, x), "training": training_step(layer, x)}
