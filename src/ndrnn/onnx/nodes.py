"""A way to write down ONNX graphs node by node."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import count
from typing import Any

import numpy as np
import onnx_ir as ir

Value = ir.Value
Given = Value | int | Sequence[int] | np.ndarray | None


class Nodes:
    """Appends nodes to a list, the beginning of a graph or of one within a ``Scan``.

    Called with the name of an operator, its inputs and, by keyword, its attributes; gives the output, or with ``count``
    a tuple of outputs. Integers among the inputs become constants: an int a tensor of one element, a sequence one of an
    axis; so do arrays, as they are.

    Args:
        into: gets the nodes.
        name: what the names of all values begin with. A graph within another sees the values of that one, so that no two
            may have the same.
    """

    def __init__(self, into: list[ir.Node], name: str) -> None:
        self._into = into
        self.name = name
        self._numbers = count()
        self._constants: dict[Any, Value] = {}

    def __call__(self, operator: str, *inputs: Given, **attributes: Any) -> Value:
        (output,) = self.several(1, operator, *inputs, **attributes)
        return output

    def several(self, outputs: int, operator: str, *inputs: Given, **attributes: Any) -> tuple[Value, ...]:
        """The same for an operator with so many outputs."""
        node = ir.node(
            operator,
            [None if given is None else self.value(given) for given in inputs],
            attributes,
            num_outputs=outputs,
        )
        for value in node.outputs:
            value.name = f"{self.name}_{next(self._numbers)}"
        self._into.append(node)
        return tuple(node.outputs)

    def value(self, given: Value | int | Sequence[int] | np.ndarray) -> Value:
        """An input as a value."""
        if isinstance(given, ir.Value):
            return given
        array = given if isinstance(given, np.ndarray) else np.atleast_1d(np.asarray(given, np.int64))
        key = array.dtype.str, array.shape, array.tobytes()
        if key not in self._constants:
            self._constants[key] = self("Constant", value=ir.tensor(array))
        return self._constants[key]

    def joined(self, *parts: Value | int, axis: int = 0) -> Value:
        """Tensors laid end to end; ints are parts of one element."""
        return self("Concat", *parts, axis=axis)

    def total(self, first: Value, *more: Value) -> Value:
        for value in more:
            first = self("Add", first, value)
        return first

    def steps(self, end: Value) -> Value:
        """0, 1, ... up to before ``end`` (1,), as (end,)."""
        zero, one = np.array(0, np.int64), np.array(1, np.int64)
        return self("Range", zero, self("Squeeze", end), one)


def size_of(value: Value, axis: int) -> int:
    """The size of a tensor along an axis on which it is known."""
    size = None if value.shape is None else value.shape[axis]
    assert isinstance(size, int)
    return size
