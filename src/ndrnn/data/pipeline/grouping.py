"""Batches of samples of nearly equal size, so that little of a batch is padding."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...seeds import step_seed


def group_by_size(
    extents: Sequence[Sequence[int]] | Tensor,
    batch_size: int,
    *,
    generator: torch.Generator | None = None,
    max_padding: float = 0.2,
    pool: int = 64,
) -> list[list[int]]:
    """All samples once, in batches of at most ``batch_size``, each with less padding than ``max_padding``.

    Samples are shuffled and cut into pools of ``pool`` batches. A pool is halved, along the axis on which its samples
    differ most, until each part is a batch; batches that would be padded too much are halved further. Then the batches
    are shuffled. Nearly equal samples thus meet in ever new company.

    Args:
        extents: the sizes (D1, ..., Dn) of the samples.
        batch_size: samples in a batch.
        generator: of the shuffling; without it the samples keep their order within a size, the batches theirs.
        max_padding: share of a batch's points that may be padding.
        pool: batches that are grouped together.

    Raises:
        ValueError: ``batch_size`` or ``pool`` is below 1, or ``max_padding`` not in [0, 1).
    """
    for name, value in (("batch_size", batch_size), ("pool", pool)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if not 0 <= max_padding < 1:
        raise ValueError(f"max_padding must lie in [0, 1), got {max_padding}")
    if not len(extents):
        return []
    sizes = torch.as_tensor(extents, dtype=torch.int64)
    count = len(sizes)
    order = torch.arange(count) if generator is None else torch.randperm(count, generator=generator)
    step = count if generator is None else pool * batch_size
    batches: list[list[int]] = []
    for start in range(0, count, step):
        batches += _divided(order[start : start + step], sizes, batch_size, max_padding)
    if generator is None:
        return batches
    return [batches[index] for index in torch.randperm(len(batches), generator=generator).tolist()]


def padding(extents: Tensor) -> float:
    """Share of a batch's points that are padding, when samples of these sizes (N, n) are brought to one size."""
    padded = len(extents) * int(extents.amax(0).prod())
    return 1 - int(extents.prod(1).sum()) / padded if padded else 0.0


def _divided(part: Tensor, sizes: Tensor, batch_size: int, max_padding: float) -> list[list[int]]:
    mine = sizes[part]
    if len(part) <= batch_size and (len(part) == 1 or padding(mine) <= max_padding):
        return [part.tolist()]
    spread = mine.amax(0).log() - mine.clamp(min=1).amin(0).log()
    part = part[mine[:, int(spread.argmax())].argsort(stable=True)]
    # at a whole number of batches, so that all but the last are full
    full = len(part) // 2 // batch_size * batch_size
    cut = full or (batch_size if len(part) > batch_size else len(part) // 2)
    return [
        batch for half in (part[:cut], part[cut:]) for batch in _divided(half, sizes, batch_size, max_padding)
    ]


class Grouped:
    """Makes the batches of every pass for :class:`ndrnn.data.sampler.BatchOrder`: those of :func:`group_by_size` in turn.

    Shuffling changes how many batches the samples make, but all passes must have equally many: a pass is as many
    batches as the first grouping has, and takes up where the one before it ended.
    """

    def __init__(self, extents: Sequence[Sequence[int]], seed: int, *, max_padding: float = 0.2) -> None:
        self._extents = torch.as_tensor(extents, dtype=torch.int64)
        self._seed = seed
        self._max_padding = max_padding
        self._lengths: dict[int, list[int]] = {}

    def __call__(self, number: int, size: int) -> list[list[int]]:
        """The batches of at most ``size`` samples of pass ``number``."""
        lengths = self._lengths.setdefault(size, [len(self._grouping(0, size))])
        first = number * lengths[0]
        batches: list[list[int]] = []
        end, turn = 0, 0
        while len(batches) < lengths[0]:
            if turn == len(lengths):
                lengths.append(len(self._grouping(turn, size)))
            start, end = end, end + lengths[turn]
            if end > first:
                skipped = max(0, first - start)
                batches += self._grouping(turn, size)[skipped : skipped + lengths[0] - len(batches)]
            turn += 1
        return batches

    def _grouping(self, turn: int, size: int) -> list[list[int]]:
        generator = torch.Generator().manual_seed(step_seed(self._seed, turn))
        return group_by_size(self._extents, size, generator=generator, max_padding=self._max_padding)
