"""What readers of images and volumes have in common: the decoder that a file's name asks for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...later import Later
from .source import Reader

if TYPE_CHECKING:
    import numpy as np

    from ..formats import images, volumes
else:
    images, volumes = Later("ndrnn.data.formats.images"), Later("ndrnn.data.formats.volumes")


@dataclass(frozen=True)
class PictureReader(Reader):
    """Reads images and volumes, each by the ending of its name."""

    stacked: bool = False
    """Whether the pictures of a file with several (TIFF, GIF, ...) are the slices of a volume, and all images are such
    volumes; otherwise a file with several is named and left out."""

    def values(self, name: str, data: bytes, file: str) -> np.ndarray:
        """The values (D1, ..., Dn, C) in the bytes of a file; raises :class:`ndrnn.data.BadFile`."""
        return decode(name, data, file, stacked=self.stacked)

    def labels(self, name: str, data: bytes, file: str) -> np.ndarray:
        """The labels (D1, ..., Dn) int64 in the bytes of a mask; raises :class:`ndrnn.data.BadFile`."""
        if is_volume(name):
            return volumes.decode_mask(data, file)
        return images.decode_mask(data, file, stacked=self.stacked)


def is_volume(name: str) -> bool:
    """Whether a file of this name is taken for a volume."""
    return name.lower().endswith(volumes.SUFFIXES)


def decode(name: str, data: bytes, file: str, *, stacked: bool = False) -> np.ndarray:
    """The values (D1, ..., Dn, C) in the bytes of an image or a volume; raises :class:`ndrnn.data.BadFile`."""
    if is_volume(name):
        return volumes.decode(data, file)
    return images.decode(data, file, stacked=stacked)
