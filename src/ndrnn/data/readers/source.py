"""What a reader of any format gives: samples that are found, and are read one by one."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..faults import BadFile

if TYPE_CHECKING:
    import numpy as np

    from ..formats.intensities import Intensities

SPLITS = ("train", "validation", "test")
_SPELLINGS = {
    "train": "train",
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "validation": "validation",
    "dev": "validation",
    "test": "test",
    "testing": "test",
}


def split_called(name: str) -> str:
    """One of ``SPLITS`` if ``name`` is a usual name of it, in whatever case, else nothing."""
    return _SPELLINGS.get(name.strip().lower(), "")


class Raw(NamedTuple):
    """A sample as it is stored.

    ``values`` (D1, ..., Dn, C) of the file's own type; ``target`` (D1, ..., Dn) int64 of labels, the number of a
    class, a text, or None. ``colour`` tells whether channels are grey, alpha and colour, as in pictures, so that they
    can be converted; if not, a sample whose channels are others than expected is refused.
    """

    values: np.ndarray
    target: Any = None
    colour: bool = True


class Source(ABC):
    """Samples that were found but not read yet.

    A format of your own is a subclass that fills ``names`` (one a sample, for messages), ``splits`` (one of
    ``"train"``, ``"validation"``, ``"test"`` a sample, or ``""`` where the data does not tell) and, where they are
    known, ``classes``; and that reads a sample by its number. ``faults`` tell of files that were found and belong to no
    sample, and why.
    """

    names: Sequence[str]
    splits: Sequence[str]
    classes: tuple[str, ...] = ()
    faults: Sequence[BadFile] = ()

    def __len__(self) -> int:
        return len(self.names)

    @abstractmethod
    def read(self, index: int) -> Raw:
        """The sample of this number.

        Raises:
            ndrnn.data.BadFile: its file is damaged or makes no sense; names the file and says why.
        """

    def remarks(self) -> list[str]:
        """What a person should know of the samples that were read so far, though each of them can be used."""
        return []


@dataclass(frozen=True)
class Reader(ABC):
    """The options of a format, and the way to its :class:`Source`.

    A reader of your own is a frozen dataclass derived from this one; its fields are keys of recipes and options of the
    command line. See :func:`ndrnn.data.register`.
    """

    path: str = ""
    """Folder, archive or file with the data, as it is or below ``root``."""
    root: str = ""
    """Where relative paths start: this folder, or that of the environment variable NDRNN_DATA, or the current one."""
    channels: int = 0
    """Channels of a point: 1 grey, 2 grey and alpha, 3 colour, 4 colour and alpha; 0: as in the first file."""
    scale: Literal["type", "sample", "channel"] = "type"
    """0 to 1 is from 0 to the largest value of the file's integer type, of 8 or 16 bits (floating-point values stay), or
    the range of each sample, or of each of its channels, as for magnetic resonance of several kinds."""
    invert: bool = False
    """Whether dark becomes 1, as for ink on paper."""
    held_out: float = 0.1
    """Share of the training samples that only the validation sees, where the data names none for it."""
    memory: float = 2.0
    """GiB of samples, as they are stored, that stay in memory; the others are read whenever they are needed."""

    def __post_init__(self) -> None:
        if not 0 < self.held_out < 1:
            raise ValueError(f"held_out must lie between 0 and 1, got {self.held_out}")
        if self.channels < 0:
            raise ValueError(f"channels must be at least 0, got {self.channels}")
        if not (0 <= self.memory < inf):
            raise ValueError(f"memory must not be negative, and finite, got {self.memory}")

    @property
    def intensities(self) -> Intensities:
        """How stored values become features."""
        from ..formats.intensities import Intensities  # options alone are read without PyTorch

        return Intensities(self.channels, self.scale, self.invert)

    def prepare(self, values: np.ndarray) -> np.ndarray:
        """What is done to a sample's values (D1, ..., Dn, C) as they are read; also to those that a trained model is
        used on."""
        return values

    @abstractmethod
    def open(self) -> Source:
        """Find the samples.

        Raises:
            FileNotFoundError: there is nothing at ``path``.
            ndrnn.data.BadFile: it holds no samples of this format.
        """
