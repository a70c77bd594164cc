"""Layers one after the other, with the sizes and states that :class:`torch.nn.Sequential` does not hand on."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor, nn

from .nested import description, made
from .state import InitialState, State


class Stack(nn.Module):
    """Layers in turn, each reading the outputs of the one before, with dropout between them as in :class:`torch.nn.LSTM`.

    Args:
        layers: one after the other; each takes as many features as the one before gives, over the same axes.
        dropout: share of the outputs of every layer but the last that are set to zero in training.

    Shapes:
        Input (N, D1, ..., Dn, C), or unbatched without N; output (N, D1, ..., Dn, F) of the last layer. A state is a
        tuple with one :class:`ndrnn.State` a layer.

    Example:
        >>> stack = ndrnn.Stack(ndrnn.MDGRU(3, 8), ndrnn.MDGRU(32, 4), dropout=0.2)
        >>> stack(torch.zeros(2, 5, 7, 3)).shape
        torch.Size([2, 5, 7, 16])
    """

    def __init__(self, *layers: nn.Module, dropout: float = 0.0) -> None:
        super().__init__()
        if not layers:
            raise ValueError("layers must be at least one, got none")
        for layer in layers:
            if not isinstance(layer, nn.Module) or not hasattr(layer, "output_size"):
                raise TypeError(
                    "layers must be layers of ndrnn, given one by one as to torch.nn.Sequential, "
                    f"got {type(layer).__name__}"
                )
        for number, (below, above) in enumerate(pairwise(layers), 1):
            for given, taken, what in (
                ("output_size", "input_size", "features"),
                ("ndim", "ndim", "lattice axes"),
            ):
                before, after = getattr(below, given, None), getattr(above, taken, None)
                if None not in (before, after) and before != after:
                    raise ValueError(
                        f"layers: layer {number} takes {after} {what} but layer {number - 1} gives {before}"
                    )
        self.layers = nn.ModuleList(layers)
        self.dropout = nn.Dropout(dropout)

    def __len__(self) -> int:
        return len(self.layers)

    def __iter__(self) -> Iterator[nn.Module]:
        return iter(self.layers)

    def __getitem__(self, index: int) -> nn.Module:
        return self.layers[index]

    @property
    def ndim(self) -> int:
        """Number n of lattice axes."""
        return int(self.layers[0].ndim)  # type: ignore[arg-type]

    @property
    def input_size(self) -> int:
        """Features at each point of the input."""
        return int(self.layers[0].input_size)  # type: ignore[arg-type]

    @property
    def output_size(self) -> int:
        """Features at each point of the output."""
        return int(self.layers[-1].output_size)  # type: ignore[arg-type]

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, for :mod:`ndrnn.saving.models`."""
        return {"layers": [description(layer) for layer in self.layers], "dropout": self.dropout.p}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> Stack:
        """The stack that a saved config describes."""
        layers = config.get("layers")
        if not isinstance(layers, Sequence) or isinstance(layers, str):
            raise ValueError(f"layers must be a list, got {type(layers).__name__}")
        return cls(*map(made, layers), dropout=config.get("dropout", 0.0))

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: Sequence[InitialState | None] | None = None,
        return_state: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: Sequence[InitialState | None] | None = None,
        *,
        return_state: Literal[True],
    ) -> tuple[Tensor, tuple[State, ...]]: ...

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: Sequence[InitialState | None] | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[State, ...]]: ...

    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: Sequence[InitialState | None] | None = None,
        return_state: bool = False,
    ) -> Tensor | tuple[Tensor, tuple[State, ...]]:
        """Run the layers.

        Args:
            x: (N, D1, ..., Dn, C), or unbatched without N.
            sizes: true extent (N, n) of each sample, int64, for every layer.
            initial_state: for every layer its boundary state, or None for zeros.
            return_state: whether to return also the layers' states on the exit faces.

        Returns:
            y of the last layer, or the pair of y and a tuple with the :class:`ndrnn.State` of every layer.
        """
        entries = [None] * len(self) if initial_state is None else initial_state
        if not isinstance(entries, (tuple, list)) or isinstance(entries, State) or len(entries) != len(self):
            got = f"a {type(entries).__name__}" + (
                f" of {len(entries)}" if isinstance(entries, (tuple, list)) else ""
            )
            raise TypeError(f"initial_state must hold a state for each of the {len(self)} layers, got {got}")
        states = []
        for number, (layer, entry) in enumerate(zip(self.layers, entries, strict=True)):
            if number:
                x = self.dropout(x)
            given: dict[str, Any] = {} if entry is None else {"initial_state": entry}
            if return_state:
                x, state = layer(x, sizes=sizes, **given, return_state=True)
                states.append(state)
            else:
                x = layer(x, sizes=sizes, **given)
        return (x, tuple(states)) if return_state else x

    if TYPE_CHECKING:
        __call__ = forward
