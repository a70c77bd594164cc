"""Programs of one launch at the same time, as on a GPU: the interpreter's, each in a thread of its own.

By itself the interpreter runs programs one after the other, and a strip that waits too little would go unnoticed.
Here unwritten memory is NaN and the threads take turns all the time, so that reading ahead shows.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from dataclasses import replace
from threading import Thread
from time import monotonic
from typing import Any

import pytest
import torch
from torch import Tensor

import ndrnn
from ndrnn.scan import triton as package

if not package.INTERPRETED:
    pytest.skip("needs TRITON_INTERPRET=1", allow_module_level=True)

import triton
import triton.language as tl
from triton.runtime import interpreter

from ndrnn.scan.triton import fronts, launch, walk, wide

KERNELS = ("forward_kernel", "backward_kernel", "forward_fronts_kernel", "backward_fronts_kernel")
FOREVER = "programs wait for each other forever"
in_order = walk.needed_before, walk.needed_after
part_in_order = fronts.part_of


@triton.jit
def less_before(t, i_strip, rows, reach):  # type: ignore[no-untyped-def]
    return in_order[0](t, i_strip, rows, reach) - 1


@triton.jit
def less_after(t, i_strip, strips, rows, extent, reach):  # type: ignore[no-untyped-def]
    return in_order[1](t, i_strip, strips, rows, extent, reach) - 1


@triton.jit
def part_too_early(number, strip, crew, front, done, group, groups, CUT: tl.constexpr):  # type: ignore[no-untyped-def]
    part, first, needed = part_in_order(number, strip, crew, front, done, group, groups, CUT)
    return part, first, needed - 1


@pytest.fixture
def launches(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Makes all programs of a sweep run at once; collects how many there were."""
    counts: list[int] = []
    one_by_one = interpreter.GridExecutor.__call__

    def at_once(self: Any, *given: Any, **options: Any) -> None:
        if self.fn.__name__ not in KERNELS:
            one_by_one(self, *given, **options)
            return
        names = inspect.getfullargspec(self.fn).args
        scope = interpreter._patch_lang(self.fn)
        failures: list[BaseException] = []
        try:
            arguments = inspect.getcallargs(
                self.fn, *given, **{k: v for k, v in options.items() if k in names}
            )
            for name, argument in arguments.items():
                if name not in self.constexprs:
                    arguments[name] = interpreter._implicit_cvt(argument)

            def program() -> None:
                try:
                    self.fn(**arguments)
                except BaseException as failure:
                    failures.append(failure)

            interpreter.interpreter_builder.set_grid_dim(*self.grid, 1, 1)
            threads = [Thread(target=program, daemon=True) for _ in range(self.grid[0])]
            counts.append(len(threads))
            for thread in threads:
                thread.start()
            latest = monotonic() + 60
            for thread in threads:
                thread.join(max(0.0, latest - monotonic()))
            if failures:  # the others then wait for the program that failed
                raise failures[0]
            assert not any(thread.is_alive() for thread in threads), FOREVER
        finally:
            scope.restore()

    monkeypatch.setattr(interpreter.GridExecutor, "__call__", at_once)
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    torch.use_deterministic_algorithms(True)
    torch.utils.deterministic.fill_uninitialized_memory = True
    yield counts
    torch.use_deterministic_algorithms(False)
    sys.setswitchinterval(interval)


def results(backend: Any, hidden: int = 3, rows: int = 5, batch: int = 16) -> list[Tensor]:
    """Output and gradients of a scan of several strips in two directions."""
    torch.manual_seed(0)
    layer = ndrnn.MDRNN(2, hidden, directions=[(1, -1), (-1, 1)], dtype=torch.float64)
    x = torch.randn(batch, rows, 3, 2, dtype=torch.float64, requires_grad=True)
    with ndrnn.backend(backend):
        y = layer(x)
        return [y, *torch.autograd.grad((y**2).sum(), [x, *layer.parameters()])]


def agree(got: list[Tensor], expected: list[Tensor]) -> list[bool]:
    return [torch.allclose(a, b, rtol=1e-10, atol=1e-12) for a, b in zip(got, expected, strict=True)]


def test_strips_wait_for_each_other(launches: list[int]) -> None:
    assert all(agree(results("triton"), results("wavefront")))
    assert launches == [5 * 2, 5 * 2]


def test_slices_wait_for_each_other(launches: list[int], monkeypatch: pytest.MonkeyPatch) -> None:
    """A program for 16 of 20 units and one for the others: each needs the outputs of both."""
    cut = launch._plan
    slices = {"span": 16, "slices": 2, "BU": 16, "rows": 3, "strips": 2}
    monkeypatch.setattr(launch, "_plan", lambda *problem, **way: replace(cut(*problem, **way), **slices))
    assert all(agree(results("triton", 20), results("wavefront", 20)))
    assert launches == [2 * 2 * 2, 2 * 2 * 2]


@pytest.mark.parametrize("too_early", ["before", "after"])
def test_a_wavefront_less_would_show(
    launches: list[int], too_early: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The test above can fail: with strips that start one wavefront early it does."""
    monkeypatch.setattr(walk, f"needed_{too_early}", less_before if too_early == "before" else less_after)
    output, *grads = agree(results("triton"), results("wavefront"))
    assert not all(grads)
    assert output == (too_early == "after")


@pytest.fixture
def crews(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whole wavefronts: of each direction two programs for 16 of 20 units, and two for the others."""
    cut = launch._plan
    crew = {"span": 16, "slices": 2, "BU": 16, "crew": 2, "resident": False}
    monkeypatch.setenv(wide.CHOICE, "fronts")
    monkeypatch.setattr(launch, "_plan", lambda *problem, **way: replace(cut(*problem, **way), **crew))


def test_crews_wait_for_each_other(launches: list[int], crews: None) -> None:
    assert all(agree(results("triton", 20, 3, 9), results("wavefront", 20, 3, 9)))
    assert launches == [2 * 2 * 2, 2 * 2 * 2]


@pytest.mark.xfail(strict=False, reason="whether a tile overtakes another is up to the machine's threads")
def test_a_tile_less_would_show(launches: list[int], crews: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """The test above can fail: with tiles that wait for all tiles but one of the wavefront before it does."""
    monkeypatch.setattr(fronts, "part_of", part_too_early)
    assert not all(agree(results("triton", 20, 3, 9), results("wavefront", 20, 3, 9)))
