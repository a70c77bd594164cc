"""Samples that passed all checks, ready to be batched."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import Dataset

from ..faults import BadFile, naming
from ..formats.intensities import Intensities
from ..readers.source import Raw, Source


class Sample(NamedTuple):
    """Features (D1, ..., Dn, C) float32; and a label a point (D1, ..., Dn) int64, a class, a text, or None."""

    name: str
    x: Tensor
    target: Any


class Samples(Dataset[Sample]):
    """Samples of one split; those in ``kept`` stay in memory as they are stored, the others are read anew each time."""

    def __init__(
        self,
        source: Source,
        indices: Sequence[int],
        extents: Sequence[tuple[int, ...]],
        intensities: Intensities,
        kept: dict[int, Raw],
    ) -> None:
        self.source = source
        self.indices = list(indices)
        self.extents = list(extents)
        self.intensities = intensities
        self._kept = kept

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, position: int) -> Sample:
        index = self.indices[position]
        raw = self._kept.get(index)
        if raw is None:
            with naming(self.source.names[index]):
                raw = self.source.read(index)
        return convert(raw, self.source.names[index], self.intensities)

    def name(self, position: int) -> str:
        """What messages call a sample."""
        return self.source.names[self.indices[position]]

    def part(self, positions: Sequence[int]) -> Samples:
        """Some of the samples, in this order."""
        return Samples(
            self.source,
            [self.indices[position] for position in positions],
            [self.extents[position] for position in positions],
            self.intensities,
            self._kept,
        )


def together(parts: Sequence[Samples]) -> Samples:
    """Samples of several splits of the same source as one, in the order of the source."""
    found = sorted(
        (index, extent) for part in parts for index, extent in zip(part.indices, part.extents, strict=True)
    )
    first = parts[0]
    indices, extents = [index for index, _ in found], [extent for _, extent in found]
    return Samples(first.source, indices, extents, first.intensities, first._kept)


def convert(raw: Raw, file: str, intensities: Intensities) -> Sample:
    """A sample from what a file holds.

    Raises:
        BadFile: its values make no features.
    """
    try:
        x = intensities.convert(raw.values, colour=raw.colour)
    except ValueError as error:
        raise BadFile(file, str(error)) from error
    target = raw.target
    if target is not None and not isinstance(target, (int, str)):
        target = torch.from_numpy(target.astype("int64"))
    return Sample(file, x, target)


def pad(tensors: Sequence[Tensor], ndim: int, fill: float = 0) -> tuple[Tensor, Tensor | None]:
    """Tensors whose first ``ndim`` axes differ in size as one, and their sizes (N, n), or None if they are all equal.

    Shapes: each (D1, ..., Dn, ...); the result (N, D1, ..., Dn, ...) with ``fill`` where a tensor does not reach.
    """
    sizes = torch.tensor([tensor.shape[:ndim] for tensor in tensors])
    largest = sizes.amax(0).tolist()
    if bool((sizes == sizes[0]).all()):
        return torch.stack(list(tensors)), None
    result = tensors[0].new_full((len(tensors), *largest, *tensors[0].shape[ndim:]), fill)
    for index, tensor in enumerate(tensors):
        result[index][tuple(slice(size) for size in tensor.shape[:ndim])] = tensor
    return result, sizes
