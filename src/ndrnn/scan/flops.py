"""What the scan operators count for in :class:`torch.utils.flop_counter.FlopCounterMode`.

Only matrix products count there: 2 * (C + n*H) * G*H a point and direction forward, and 2 * C * G*H of cells whose
recurrence has none. The counter's module brings in triton where that is installed, so the formulas are handed over when
somebody imports it, and not before.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from math import prod
from types import ModuleType
from typing import Any

_COUNTER = "torch.utils.flop_counter"

Shape = Sequence[int]


def _products(x: Shape, weights: Sequence[Shape | None]) -> tuple[int, int]:
    """Operations of the products with the inputs and with the predecessors' states, for all points."""
    weight_ih, weight_hh, extra = weights[0], weights[1], weights[3]
    assert weight_ih is not None
    assert weight_hh is not None
    recurrent = prod(weight_hh)
    # (D, n, G*H, H): a matrix through which the memories enter; peepholes and biases have fewer axes
    recurrent += prod(extra) if extra is not None and len(extra) == 4 else 0
    points = 2 * prod(x[:-1])
    return points * prod(weight_ih), points * recurrent


def of_scan(x: Shape, *arguments: Any, **_: Any) -> int:
    """Of ``ndrnn::scan`` and its like, from the shapes of its tensors."""
    return sum(_products(x, arguments[:4]))


def of_scan_backward(x: Shape, weights: Sequence[Shape | None], needs_x: bool, needs_weights: bool) -> int:
    """Of the way back: through the recurrence, and by what else a gradient is wanted."""
    inputs, recurrent = _products(x, weights)
    return recurrent + inputs * needs_x + (inputs + recurrent) * needs_weights


def of_linear_layer(x: Shape, weight: Shape, *_: Any, **__: Any) -> int:
    """Of ``ndrnn::linear_layer``, whose recurrence has no products."""
    return 2 * prod(x[:-1]) * prod(weight)


def of_linear_layer_backward(x: Shape, weight: Shape, needs_x: bool, needs_weights: bool) -> int:
    """Of the way back: the gates, which were not kept, once more, and by what a gradient is wanted."""
    return of_linear_layer(x, weight) * (1 + needs_x + needs_weights)


def offer(operator: Any, formula: Callable[..., int]) -> None:
    """Have an operator counted by a formula of its arguments, in which shapes stand for tensors."""
    if _COUNTER in sys.modules:
        _register(operator, formula)
    else:
        _offered.append((operator, formula))
        if _waiting not in sys.meta_path:
            sys.meta_path.insert(0, _waiting)


def _register(operator: Any, formula: Callable[..., int]) -> None:
    from torch.utils.flop_counter import register_flop_formula

    register_flop_formula(operator)(formula)


class _WhenImported(MetaPathFinder):
    """Registers what was offered right after the counter's module has been executed."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if fullname != _COUNTER:
            return None
        sys.meta_path.remove(self)
        spec = PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def execute_and_register(module: ModuleType) -> None:
            execute(module)
            while _offered:
                _register(*_offered.pop())

        spec.loader.exec_module = execute_and_register  # type: ignore[method-assign]
        return spec


_offered: list[tuple[Any, Callable[..., int]]] = []
_waiting = _WhenImported()
