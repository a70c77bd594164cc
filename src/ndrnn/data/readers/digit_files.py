"""MNIST and its relatives as samples: images in IDX files, each of a class."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...later import Later
from ..faults import printable
from .place import locate
from .source import Raw, Reader, Source

if TYPE_CHECKING:
    import numpy as np

    from ..formats import idx
else:
    np = Later("numpy")
    idx = Later("ndrnn.data.formats.idx")


@dataclass(frozen=True)
class Idx(Reader):
    """A folder with the four IDX files of MNIST, or of a set in its form, plain or compressed with gzip."""

    pixels: bool = False
    """Whether each pixel is labelled: with its image's class where there is any ink, else as background."""

    def open(self) -> Source:
        return _Idx(self)


class _Idx(Source):
    def __init__(self, options: Idx) -> None:
        self.options = options
        folder = locate(options.path, options.root)
        (images, labels), (test_images, test_labels) = idx.read_splits(folder)
        self._images = np.concatenate([images, test_images])
        self._labels = np.concatenate([labels, test_labels])
        self.splits = [*[""] * len(images), *["test"] * len(test_images)]
        self.names = [
            f"{printable(str(folder))}/{part}[{index}]"
            for part, count in (("train", len(images)), ("t10k", len(test_images)))
            for index in range(count)
        ]
        digits = tuple(str(label) for label in range(1 + int(self._labels.max())))
        self.classes = (*digits, "background") if options.pixels else digits

    def read(self, index: int) -> Raw:
        image, label = self._images[index, ..., None], int(self._labels[index])
        if not self.options.pixels:
            return Raw(image, label)
        return Raw(image, np.where(image[..., 0] > 0, label, len(self.classes) - 1))
