"""What every section has: the device, the time left, and a file that keeps each row at once."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import torch

Call = Callable[[], object]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Effort:
    repeats: int = 30
    least_repeats: int = 3
    seconds: float = 0.5  # after which no call is repeated more often than that


@dataclass(frozen=True)
class Run:
    """One section under way; ``tiny`` sizes are for a rehearsal under Triton's interpreter."""

    rows: Path
    deadline: float  # of time.monotonic
    tiny: bool
    data: Path

    @property
    def device(self) -> str:
        return "cpu" if self.tiny else "cuda"

    @property
    def effort(self) -> Effort:
        return Effort(1, 1, 0.0) if self.tiny else Effort()

    def left(self) -> float:
        """Seconds that the section still has."""
        return self.deadline - time.monotonic()

    def add(self, **row: Any) -> None:
        """Keep a row; it is in the file when this returns."""
        with self.rows.open("a") as file:
            file.write(json.dumps(row, ensure_ascii=False) + "\n")

    def attempt(self, make: Callable[[], Call]) -> float | str:
        """Seconds that a peer's call takes, or why there is no figure."""
        try:
            return self.seconds(make())
        except torch.cuda.OutOfMemoryError:
            return "no memory"
        except Exception as error:  # a peer that fails is a finding, and the next one goes on
            return said(error)
        finally:
            if not self.tiny:
                torch.cuda.empty_cache()

    def seconds(self, call: Call) -> float:
        """The median of several calls, by the device's own events, after warming up."""
        for _ in range(0 if self.tiny else 2):
            call()
        times: list[float] = []
        effort = self.effort
        while len(times) < effort.repeats and (
            len(times) < effort.least_repeats or sum(times) < effort.seconds
        ):
            times.append(self._once(call))
        return median(times)

    def _once(self, call: Call) -> float:
        if self.tiny:
            started = time.perf_counter()
            call()
            return time.perf_counter() - started
        start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
        start.record()
        call()
        end.record()
        end.synchronize()
        return float(start.elapsed_time(end)) / 1e3


def said(error: Exception) -> str:
    """An error in one line."""
    return f"{type(error).__name__}: {''.join(str(error).strip().splitlines()[:1])}"


def graph_of(call: Call) -> Call:
    """The call captured in a CUDA graph."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(3):
            call()
    torch.cuda.current_stream().wait_stream(stream)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        call()
    return graph.replay
