"""Other orders of the axes than (N, D1, ..., Dn, C), around any layer or network."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Literal, overload

from torch import Tensor, nn

from .nested import description, made


class _Layout(nn.Module):
    """Passes x on in the order of axes that a module takes, and its output in that in which x came."""

    def __init__(self, layer: nn.Module) -> None:
        super().__init__()
        if not isinstance(layer, nn.Module) or not isinstance(getattr(layer, "ndim", None), int):
            raise TypeError(
                f"layer must be a module with the number of its lattice's axes as ndim, got {type(layer).__name__}"
            )
        self.layer = layer

    @property
    def ndim(self) -> int:
        """Number n of lattice axes."""
        return int(self.layer.ndim)  # type: ignore[arg-type]

    @property
    def input_size(self) -> int:
        """Features at each point of the input."""
        return int(self.layer.input_size)  # type: ignore[arg-type]

    @property
    def output_size(self) -> int:
        """Features at each point of the output."""
        return int(self.layer.output_size)  # type: ignore[arg-type]

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """The extents of the output, for a network that changes them."""
        change = getattr(self.layer, "output_sizes", None)
        return sizes if change is None else change(sizes)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, for :mod:`ndrnn.saving.models`."""
        return {"layer": description(self.layer)}

    @classmethod
    def from_config(cls, config: Mapping[str, Any]) -> _Layout:
        """The module that a saved config describes."""
        return cls(made(config["layer"]))

    def _enter(self, x: Tensor, unbatched: bool) -> Tensor:
        raise NotImplementedError

    def _leave(self, y: Tensor, unbatched: bool) -> Tensor:
        raise NotImplementedError

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: Any = None,
        return_state: Literal[False] = False,
    ) -> Tensor: ...

    @overload
    def forward(
        self,
        x: Tensor,
        sizes: Tensor | None = None,
        initial_state: Any = None,
        *,
        return_state: Literal[True],
    ) -> tuple[Tensor, Any]: ...

    @overload
    def forward(
        self, x: Tensor, sizes: Tensor | None = None, initial_state: Any = None, return_state: bool = False
    ) -> Any: ...

    def forward(
        self, x: Tensor, sizes: Tensor | None = None, initial_state: Any = None, return_state: bool = False
    ) -> Any:
        """The layer's output for ``x``; ``sizes`` and states are passed on as they are."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {type(x).__name__}")
        if x.dim() not in (self.ndim + 1, self.ndim + 2):
            raise ValueError(
                f"x must have {self.ndim} axes beside those of the features and, if there is one, the batch, "
                f"got {tuple(x.shape)}"
            )
        unbatched = x.dim() == self.ndim + 1
        # a network without states takes x and sizes alone
        states: dict[str, Any] = {} if initial_state is None else {"initial_state": initial_state}
        if return_state:
            y, state = self.layer(self._enter(x, unbatched), sizes, **states, return_state=True)
            return self._leave(y, unbatched), state
        return self._leave(self.layer(self._enter(x, unbatched), sizes, **states), unbatched)

    if TYPE_CHECKING:
        __call__ = forward


class ChannelsFirst(_Layout):
    r"""A layer or network for channels first, as convolutions have them: (N, C, D1, ..., Dn) in, (N, F, \*lattice) out.

    ``sizes``, ``initial_state`` and ``return_state`` are passed on; states keep their form, the units last. Unbatched
    input is (C, D1, ..., Dn). The values are those of the layer; only the order of the axes differs.

    Args:
        layer: a layer, :class:`ndrnn.Stack`, :class:`ndrnn.Hierarchy`, or a module of your own with ``ndim``.

    Example:
        >>> layer = ndrnn.ChannelsFirst(ndrnn.MDGRU(3, 8))
        >>> layer(torch.zeros(2, 3, 5, 7)).shape
        torch.Size([2, 32, 5, 7])
    """

    def _enter(self, x: Tensor, unbatched: bool) -> Tensor:
        return x.movedim(0 if unbatched else 1, -1)

    def _leave(self, y: Tensor, unbatched: bool) -> Tensor:
        return y.movedim(-1, 0 if unbatched else 1)


class TimeFirst(_Layout):
    """A layer over one axis for sequences with time first, (T, N, C) in, (T, N, F) out: ``batch_first=False``.

    ``from_torch`` gives it for modules of torch with that layout. States are in torch's form either way, and unbatched
    input (T, C) is the same.

    Args:
        layer: a layer or :class:`ndrnn.Stack` with ``ndim`` 1.
    """

    def __init__(self, layer: nn.Module) -> None:
        super().__init__(layer)
        if self.ndim != 1:
            raise ValueError(f"layer must have one lattice axis, got ndim={self.ndim}")

    def _enter(self, x: Tensor, unbatched: bool) -> Tensor:
        return x if unbatched else x.transpose(0, 1)

    def _leave(self, y: Tensor, unbatched: bool) -> Tensor:
        return y if unbatched else y.transpose(0, 1)
