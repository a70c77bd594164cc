"""The network of Graves & Schmidhuber 2009: multi-directional layers, each on a coarser lattice than the one below.

With one level on single points it is the labelling network of Graves, Fernandez & Schmidhuber 2007.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from math import prod
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from ..lattice import resolve_directions
from ..registry import layers
from .batching import add_batch
from .blocks import Blocks, Collapse, DCTBlocks, How, Subsample, Unblocks
from .scan_layer import Directions


class Hierarchy(nn.Module):
    """Blocks, then levels of a multi-directional layer with a window and a feed-forward layer between, then an output.

    The network for handwriting of Graves & Schmidhuber 2009 (159,369 weights; heights before widths)::

        Hierarchy(1, 121, hidden=(2, 10, 50), subsample=(6, 20), blocks=((4, 3), (4, 3), (4, 2)), collapse=(0,))

    and the network for MNIST of Graves, Fernandez & Schmidhuber 2007 (27,511 weights)::

        Hierarchy(1, 11, hidden=(25,))

    Args:
        input_size: features C of a point.
        output_size: features of the output, without activation.
        hidden: units of each direction, for every level from the lowest.
        subsample: units of the feed-forward tanh layers between the levels; empty for none: then a level reads the
            outputs of the one below as they are.
        blocks: how many points become one before each level, for every level one number an axis; empty for single
            points throughout.
        ndim: number n of lattice axes.
        layer: the kind of layer, a name in :data:`ndrnn.registry.layers`.
        peepholes: of MDLSTM layers; by default they have them, as published.
        directions: corners to scan from, see :class:`ndrnn.MDLSTM`.
        dct: instead of its points, this many cosine coefficients of each lowest block.
        collapse: axes that are taken together before the output.
        how: to take them together by ``"sum"``, as published, ``"mean"`` or ``"max"``.
        expand: whether the output is spread over the points of the blocks again, so that it covers the lattice of
            the input; for networks that collapse no axis.
        dropout: share of a level's outputs that are set to zero in training.
        auxiliary: whether every level below the highest has an output of its own, for deep supervision (Lee et al.
            2015); :meth:`scores` gives what they say, ``forward`` does without them.
        device, dtype: of the weights.

    The features of the input are first centred and scaled by the buffers ``mean`` and ``std`` (C,), which
    :meth:`standardize` sets.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        input_size: int,
        output_size: int,
        *,
        hidden: Sequence[int],
        subsample: Sequence[int] = (),
        blocks: Sequence[Sequence[int]] = (),
        ndim: int = 2,
        layer: str = "MDLSTM",
        peepholes: bool | None = None,
        directions: Directions = "all",
        dct: int | None = None,
        collapse: Sequence[int] = (),
        how: How = "sum",
        expand: bool = False,
        dropout: float = 0.0,
        auxiliary: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        # copies, since the caller's own lists may change
        hidden, subsample, collapse = tuple(hidden), tuple(subsample), tuple(collapse)
        blocks = tuple(map(tuple, blocks))
        if not isinstance(directions, str):
            directions = resolve_directions(directions, ndim)
        self._config = {
            "input_size": input_size,
            "output_size": output_size,
            "hidden": hidden,
            "subsample": subsample,
            "blocks": blocks,
            "ndim": ndim,
            "layer": layer,
            "peepholes": peepholes,
            "directions": directions,
            "dct": dct,
            "collapse": collapse,
            "how": how,
            "expand": expand,
            "dropout": dropout,
            "auxiliary": auxiliary,
        }
        steps = list(blocks) or [(1,) * ndim] * len(hidden)
        _check(len(hidden), subsample, steps, ndim, layer, peepholes)
        if expand and collapse:
            raise ValueError(f"expand must be False for a network that collapses axes, got {expand}")
        if auxiliary and len(hidden) < 2:
            raise ValueError(f"auxiliary outputs need at least two levels in hidden, got {tuple(hidden)}")
        self.input_size, self.output_size, self.ndim = input_size, output_size, ndim
        options: dict[str, Any] = {"directions": directions}
        if layer == "MDLSTM":
            options["peepholes"] = peepholes is not False
        # a layer of one's own need not take a device
        with nullcontext() if device is None else torch.device(device):
            self.windows = nn.ModuleList()
            self.layers = nn.ModuleList()
            features, widths = input_size, []
            for level, units in enumerate(hidden):
                if level == 0 and dct is not None:
                    window: nn.Module = DCTBlocks(steps[0], dct)
                    features *= dct
                elif level > 0 and subsample:
                    window = Subsample(steps[level], features, subsample[level - 1])
                    features = subsample[level - 1]
                else:
                    window = Blocks(steps[level])
                    features *= prod(steps[level])
                self.windows.append(window)
                scan = layers.find(layer)(features, units, ndim, **options)
                self.layers.append(scan)
                features = int(scan.output_size)
                widths.append(features)
            self.dropout = nn.Dropout(dropout)
            self.collapse = Collapse(ndim, collapse, how) if collapse else None
            self.output, self.expand = _output(features, output_size, steps, expand)
            below = [
                _output(width, output_size, steps[: level + 1], expand)
                for level, width in enumerate(widths[:-1] if auxiliary else [])
            ]
            self.auxiliary = nn.ModuleList(output for output, _ in below)
            self._expand_below = [spread for _, spread in below]
            self.register_buffer("mean", torch.zeros(input_size))
            self.register_buffer("std", torch.ones(input_size))
        if dtype is not None:
            self.to(dtype)

    def config(self) -> dict[str, Any]:
        """The constructor's arguments, for :mod:`ndrnn.saving.models`."""
        return dict(self._config)

    @torch.no_grad()
    def standardize(self, mean: Tensor, std: Tensor) -> None:
        """Set the centre and scale (C,) of each feature; a feature that never varies keeps its scale."""
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > 0, std, 1))

    def output_sizes(self, sizes: Tensor) -> Tensor:
        """The extents of the output for inputs of the extents ``sizes`` (N, n)."""
        if self.expand is not None:
            return sizes
        for window in self.windows:
            sizes = _coarser(window, sizes)
        return sizes if self.collapse is None else self.collapse.output_sizes(sizes)

    def hidden(self, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        """What the layer of every level says: each (N, d1, ..., dn, F) on its own lattice, 0 outside its extents."""
        x, sizes, unbatched = self.as_batch(x, sizes)
        return _alone(self._levels(x, sizes), unbatched)

    def as_batch(self, x: Tensor, sizes: Tensor | None) -> tuple[Tensor, Tensor | None, bool]:
        """x and sizes with the axis N, and whether it had to be added; raises what ``forward`` raises for an x."""
        if not isinstance(x, Tensor):
            raise TypeError(f"x must be a tensor, got {type(x).__name__}")
        if x.dim() not in (self.ndim + 1, self.ndim + 2) or x.shape[-1] != self.input_size:
            form = f"{', '.join(f'D{axis + 1}' for axis in range(self.ndim))}, {self.input_size})"
            raise ValueError(f"x must have shape (N, {form}, or ({form} unbatched, got {tuple(x.shape)}")
        return add_batch(x, sizes, self.ndim)

    def _levels(self, x: Tensor, sizes: Tensor | None) -> list[Tensor]:
        outputs = []
        x = (x - self.mean) / self.std
        for window, layer in zip(self.windows, self.layers, strict=True):
            x = window(x, sizes)
            sizes = None if sizes is None else _coarser(window, sizes)
            x = self.dropout(layer(x, sizes=sizes))
            outputs.append(x)
        return outputs

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        r"""Scores.

        Args:
            x: (N, D1, ..., Dn, C), or (D1, ..., Dn, C) unbatched; sizes and the result then have no axis N either.
            sizes: true extent (N, n) of each sample, int64.

        Returns:
            (N, \*lattice, output_size) with the lattice of the highest level less its collapsed axes, or that of x
            with ``expand``; without meaning outside ``output_sizes(sizes)``.
        """
        x, sizes, unbatched = self.as_batch(x, sizes)
        top, extents = self._levels(x, sizes)[-1], self._level_sizes(sizes)[-1]
        scores = self._said(top, extents, self.output, self.expand, x.shape[1:-1])
        return scores.squeeze(0) if unbatched else scores

    if TYPE_CHECKING:
        __call__ = forward

    def scores(self, x: Tensor, sizes: Tensor | None = None) -> list[Tensor]:
        """What every level says, from the lowest: the auxiliary outputs, and last what ``forward`` gives.

        Arguments and shapes as for ``forward``; without ``expand`` and ``collapse`` each on its level's lattice.

        Raises:
            ValueError: the network has no auxiliary outputs.
        """
        if not self.auxiliary:
            raise ValueError("auxiliary must be True for scores of all levels, got False")
        x, sizes, unbatched = self.as_batch(x, sizes)
        outputs = zip(
            self._levels(x, sizes),
            self._level_sizes(sizes),
            [*self.auxiliary, self.output],
            [*self._expand_below, self.expand],
            strict=True,
        )
        return _alone([self._said(*parts, x.shape[1:-1]) for parts in outputs], unbatched)

    def _said(
        self,
        hidden: Tensor,
        sizes: Tensor | None,
        output: nn.Module,
        expand: Unblocks | None,
        lattice: Sequence[int],
    ) -> Tensor:
        """The scores of a level from what its layer says, and its extents."""
        scores: Tensor = output(hidden if self.collapse is None else self.collapse(hidden, sizes))
        return scores if expand is None else expand(scores, lattice)

    def _level_sizes(self, sizes: Tensor | None) -> list[Tensor | None]:
        """The extents on every level."""
        found = []
        for window in self.windows:
            sizes = None if sizes is None else _coarser(window, sizes)
            found.append(sizes)
        return found


def _alone(outputs: list[Tensor], unbatched: bool) -> list[Tensor]:
    return [output.squeeze(0) for output in outputs] if unbatched else outputs


def _coarser(window: Any, sizes: Tensor) -> Tensor:
    coarser: Tensor = window.output_sizes(sizes)
    return coarser


def _output(
    features: int, output_size: int, steps: Sequence[Sequence[int]], expand: bool
) -> tuple[nn.Linear, Unblocks | None]:
    """The output of a level, and its way back to the points of the input through the blocks up to this level."""
    if not expand:
        return nn.Linear(features, output_size), None
    whole = tuple(map(prod, zip(*steps, strict=True)))
    return nn.Linear(features, output_size * prod(whole)), Unblocks(whole)


def _check(
    levels: int,
    subsample: Sequence[int],
    blocks: Sequence[Sequence[int]],
    ndim: int,
    layer: str,
    peepholes: bool | None,
) -> None:
    if levels < 1:
        raise ValueError("hidden must name at least one level, got none")
    if len(subsample) not in (0, levels - 1):
        raise ValueError(
            f"subsample must have one entry between each two of the {levels} levels, or none, got {len(subsample)}"
        )
    if len(blocks) != levels or any(len(block) != ndim for block in blocks):
        raise ValueError(
            f"blocks must have {ndim} numbers for each of the {levels} levels, or be empty, got {blocks}"
        )
    layers.find(layer)
    if peepholes and layer != "MDLSTM":
        raise ValueError(f"peepholes belong to the layer MDLSTM, got peepholes={peepholes} for {layer}")
