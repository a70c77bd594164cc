"""Small images of single digits with their labels, in memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from torch import Tensor


@dataclass(frozen=True)
class DigitImages:
    """Images that each show one digit, or one of other classes of drawn signs.

    Shapes: ``images`` (N, H, W, 1) float32, 0 for paper to 1 for full ink; ``labels`` (N,) int64.
    """

    images: Tensor
    labels: Tensor
    num_classes: int

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: slice | Tensor) -> DigitImages:
        return replace(self, images=self.images[index], labels=self.labels[index])

    @property
    def background(self) -> int:
        """The label of pixels without ink, one past the last digit."""
        return self.num_classes

    @property
    def pixels(self) -> Tensor:
        """A label for each pixel, (N, H, W) int64: its image's digit where there is any ink, else background.

        Graves, Fernandez & Schmidhuber 2007, section 4.2, label MNIST in this way, with eleven classes.
        """
        ink = self.images[..., 0] > 0
        return torch.where(ink, self.labels[:, None, None], self.background)


class Split(NamedTuple):
    """Images to learn from and others, held out, to judge by; and where they come from, in words."""

    train: DigitImages
    test: DigitImages
    source: str
