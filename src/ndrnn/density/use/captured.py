"""Steps of a drawing that are all the same work, over memory that stays where it is: captured once in a CUDA graph, and
replayed. Launched one by one, their few dozen operators take several times as long as the device needs for them.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Callable

import torch
from torch import Tensor

from .stepping import WavefrontEvaluator

SWITCH = "NDRNN_CUDA_GRAPHS"
"""The variable that, set to 0, lets every operator be launched by itself, for measuring."""

# The first steps load kernels and libraries, which cannot be captured.
_WARMING = 3


def wanted(device: torch.device) -> bool:
    """Whether steps on a device are to be captured: on CUDA, unless a graph is being captured already."""
    return (
        device.type == "cuda"
        and os.environ.get(SWITCH) != "0"
        and not torch.cuda.is_current_stream_capturing()
    )


class Repeated:
    """A call that does the same work every time, on memory that stays where it is, and brings about something else.

    On CUDA it is captured in a graph after a few calls, if it can be.
    """

    def __init__(self, call: Callable[[], object], device: torch.device) -> None:
        self._call, self._device = call, device
        self._replay: Callable[[], object] | None = None
        self._plain = _WARMING if device.type == "cuda" else -1
        """Calls before the capture; negative if there will be none."""

    def __call__(self) -> None:
        if self._replay is None and self._plain == 0:
            self._capture()
        if self._replay is not None:
            self._replay()
            return
        self._call()
        self._plain -= self._plain > 0

    def _capture(self) -> None:
        """Record the call without running it; what cannot be recorded goes on as it is."""
        try:
            with torch.cuda.device(self._device):
                graph = torch.cuda.CUDAGraph()
                with torch.cuda.graph(graph):
                    self._call()
        except RuntimeError as error:
            self._plain = -1
            reason = str(error).strip().partition("\n")[0]
            warnings.warn(f"steps are launched one operator at a time: no CUDA graph, {reason}", stacklevel=2)
            return
        self._replay = graph.replay


class DrawingSteps:
    """The steps of :func:`ndrnn.density.use.sampling.ancestral`, each the same function of what is in memory.

    A counter on the device says which step is next. Every step has as many pixels, those that nobody draws go nowhere.

    Args:
        evaluator: of the images; what it holds is drawn on.
        uniform: random numbers (P, N) by pixel,
        normal: and (P, N, C).
        unknown: bool (P, N, 1), which pixels to draw; all if None.
        clamp: lowest and highest value of a drawn pixel.
    """

    def __init__(
        self,
        evaluator: WavefrontEvaluator,
        uniform: Tensor,
        normal: Tensor,
        unknown: Tensor | None,
        clamp: tuple[Tensor, Tensor] | None,
    ) -> None:
        self._evaluator, self._uniform, self._normal = evaluator, uniform, normal
        self._unknown, self._clamp = unknown, clamp
        self._table = evaluator.table()
        # one pixel more, for what goes nowhere
        flat = evaluator.flat
        self._canvas = torch.cat([flat, flat.new_zeros(1, *flat.shape[1:])])
        evaluator.flat = self._canvas[:-1]
        evaluator.start_at_places()
        self._next = torch.zeros(1, dtype=torch.int64, device=flat.device)

    @property
    def count(self) -> int:
        """Steps until nothing is left to draw."""
        table = self._table
        if self._unknown is None:
            return len(table.live)
        drawing = self._unknown.flatten(1).any(1)[table.pixels] & table.live
        return int(drawing.any(1).nonzero().amax()) + 1

    @torch.no_grad()
    def step(self) -> None:
        """The next one."""
        table, evaluator = self._table, self._evaluator
        pixels, at, written, now = (
            part.index_select(0, self._next).squeeze(0)
            for part in (table.pixels, table.at, table.written, table.now)
        )
        before = table.before.index_select(1, self._next).squeeze(1)
        step = evaluator.step_at(pixels, at, before, now)
        values = evaluator.draw(
            step, self._uniform.index_select(0, pixels), self._normal.index_select(0, pixels)
        )
        if self._clamp is not None:
            values = values.clamp(*self._clamp)
        if self._unknown is not None:
            known = self._canvas.index_select(0, at)
            values = torch.where(self._unknown.index_select(0, pixels), values, known)
        self._canvas.index_copy_(0, written, values)
        self._next += 1


def draw_steps(steps: DrawingSteps, device: torch.device) -> None:
    """Draw what there is to draw."""
    repeated = Repeated(steps.step, device)
    for _ in range(steps.count):
        repeated()
    if device.type == "cuda":
        # the graph goes away now, and with it the memory that its operators work in
        torch.cuda.current_stream(device).synchronize()
