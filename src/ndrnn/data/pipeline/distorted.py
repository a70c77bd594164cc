"""Samples that were changed at random, each by draws of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch

from ...seeds import step_seed
from .samples import Sample, Samples


class Distorted(Samples):
    """Samples, each put through ``change``, which draws from torch's global generator.

    The draws belong to the seed and to the place of the sample in its files: neither the batch that a sample is in, nor
    the other samples, nor what was drawn before plays a part, and the global generator is left as it was.

    Args:
        samples: what is changed; each is read when it is asked for, and always changed alike.
        change: keeps the extents of a sample.
        seed: another one draws anew.
    """

    def __init__(self, samples: Samples, change: Callable[[Sample], Sample], seed: int) -> None:
        super().__init__(samples.source, samples.indices, samples.extents, samples.intensities, samples._kept)
        self._undistorted = samples
        self._change = change
        self._seed = seed

    def __getitem__(self, position: int) -> Sample:
        sample = self._undistorted[position]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(step_seed(self._seed, self.indices[position]))
            return self._change(sample)

    def part(self, positions: Sequence[int]) -> Samples:
        return Distorted(self._undistorted.part(positions), self._change, self._seed)
