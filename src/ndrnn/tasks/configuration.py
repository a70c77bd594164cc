"""What the library's tasks can be told: their configurations, read without PyTorch or Lightning."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from ..learn.options import Options
from .augmentation import Augment
from .network import Network


@dataclass(frozen=True)
class Label:
    """Label each point."""

    network: Network = field(default_factory=Network)
    dice: float = 0.0
    """Weight of the soft Dice loss beside the cross-entropy; it counts small classes as much as large ones."""
    class_balance: float = 0.0
    """How much more a point of a rare class counts in the cross-entropy: the weight of a class is its share of the
    training's points to the power of minus this; at 1 all classes count alike, 0.5 is half-way."""
    focal: float = 0.0
    """Power of the focal loss (Lin et al. 2017): the cross-entropy of a point counts (1 - p)^focal, with p the probability
    of its true label, so that learning turns to what is not known yet; 0 counts all alike."""
    deep_supervision: float = 0.0
    """Weight of the loss of each lower level's own output, which only training uses, beside that of the network; 0: none
    has one."""
    background: int | None = None
    """Label that the means over the classes leave out."""
    augment: Augment = field(default_factory=Augment)
    training: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        for name in ("dice", "class_balance", "focal"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be below 0, got {getattr(self, name)}")
        _check_supervision(self)


@dataclass(frozen=True)
class Classify:
    """Name each sample."""

    network: Network = field(default_factory=Network)
    by: Literal["points", "sample"] | None = None
    """By points: each point with any ink is labelled with its sample's class, the others as background, and the
    points together name the sample. By sample: all points of the highest level are averaged, and one output names it.
    By default by points, and with network.kind classifier by sample."""
    background: float = 0.0
    """Points without a feature above this are background."""
    deep_supervision: float = 0.0
    """Weight of the loss of each lower level's own output, which only training uses, beside that of the network; 0: none
    has one."""
    augment: Augment = field(default_factory=Augment)
    training: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        if self.by is None:
            object.__setattr__(self, "by", "sample" if self.network.kind == "classifier" else "points")
        if self.by not in ("points", "sample"):
            raise ValueError(f'by must be "points" or "sample", got {self.by!r}')
        _check_supervision(self)


def _published() -> Network:
    return Network(hidden=(2, 10, 50), subsample=(6, 20), blocks=("4x3", "4x3", "4x2"), layer="MDLSTM")


@dataclass(frozen=True)
class Transcribe:
    """Read the text of each image."""

    network: Network = field(default_factory=_published)
    """By default that of Graves & Schmidhuber 2009; frames are as wide as the blocks of all levels together."""
    beam: int = 0
    """Prefixes that decoding keeps; 0 for the most probable path alone."""
    views: bool = False
    """Whether each line is also read narrower and wider, slanted, lower and higher, and the reading counts that the
    network is surest of, in eleven times the time; the checks of a training do without."""
    word_mix: float = 0.0
    """Share of the batches in training whose words are dealt out anew among their lines, cut where the network sees a
    space (after StackMix, Shonenkov et al. 2021), so that lines are not learned by heart."""
    augment: Augment = field(default_factory=Augment)
    training: Options = field(default_factory=Options)

    def __post_init__(self) -> None:
        if not self.beam >= 0:
            raise ValueError(f"beam must not be below 0, got {self.beam}")
        if not 0 <= self.word_mix <= 1:
            raise ValueError(f"word_mix must lie in [0, 1], got {self.word_mix}")


@dataclass(frozen=True)
class Density:
    """Learn the density of images, or of signals or volumes."""

    hidden: int = 64
    """Units of each recurrent layer."""
    layers: int = 1
    """Recurrent layers."""
    cell: str = "leaky"
    """Of the layers: leaky, stable, gru, rnn or linear, which are bounded on images of any size; spatial, the published
    one, spatial_extended or lstm; or the name of a registered layer."""
    residual: bool = False
    """Whether each layer above the first adds to what it is given."""
    window: int = 5
    """Width of the causal neighbourhood; it has half as many rows, rounded up, and of volumes as many planes."""
    components: int = 32
    """Components of the mixture."""
    scales: int = 4
    """Scales of each component."""
    features: int = 32
    """Quadratic features that the components share."""
    patch: int = 32
    """Extent of the patches that are learned from, along each axis."""
    patches: int = 8
    """Patches taken of an image each time."""
    levels: int | None = None
    """Grey levels; uniform noise within a level makes values continuous. None: as many as the type of the files holds,
    256 of 8 bits and 65536 of 16. 0: the values are continuous already."""
    apart: bool = False
    """Whether each channel is an image of its own, as the volumes of a series are; ``compress`` needs such a model."""
    flip: bool = True
    """Whether half of the patches of images are mirrored; those of signals and volumes never are."""
    training: Options = field(default_factory=lambda: Options(batch_size=8, learning_rate=3e-3))

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "window", "components", "scales", "features", "patch", "patches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd, got {self.window}")
        if self.levels is not None and (self.levels < 0 or self.levels == 1):
            raise ValueError(f"levels must be 0 or at least 2, got {self.levels}")
        if self.patch <= self.window:
            raise ValueError(f"patch must be above window, {self.window}, got {self.patch}")


def _check_supervision(settings: Any) -> None:
    """Look at ``deep_supervision`` of a task's configuration.

    Raises:
        ValueError: it is below 0, or the network has no lower level.
    """
    if not settings.deep_supervision >= 0:
        raise ValueError(f"deep_supervision must not be below 0, got {settings.deep_supervision}")
    if settings.deep_supervision and settings.network.kind != "hierarchy":
        raise ValueError(
            f"deep_supervision must be 0 for network.kind = {settings.network.kind!r}, got {settings.deep_supervision}"
        )
    if settings.deep_supervision and len(settings.network.hidden) < 2:
        raise ValueError(
            f"deep_supervision needs at least two levels in hidden, got {settings.network.hidden}"
        )
