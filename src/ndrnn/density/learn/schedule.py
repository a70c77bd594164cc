"""How a RIDE is trained: the published stages, and a modern schedule."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, pi
from typing import Literal

Augment = Literal["none", "horizontal", "all"]


@dataclass(frozen=True)
class Stage:
    """Descent at one size of patches, then L-BFGS on the MCGSM alone."""

    size: int
    """Side of the patches, along every axis."""
    batch_size: int
    learning_rate: float
    steps: int | None = None
    """Random patches in so many steps; or, if None, ..."""
    epochs: int = 1
    """... so many passes over the tiles of the images."""
    optimizer: Literal["sgd", "adam"] = "adam"
    momentum: float = 0.9
    warmup: float = 0.0
    """Share of the steps in which the learning rate rises from 0."""
    decay: bool = False
    """Whether it then falls to 0 along half a cosine."""
    clip: float | None = None
    """Longest gradient, as the norm over all weights."""
    averaging: float = 0.0
    """Decay of the running mean of the weights, which is what is kept; 0 for none."""
    tune_iterations: int = 0
    """Of L-BFGS on the MCGSM after the descent."""
    tune_pixels: int = 1_000_000

    def rate(self, progress: float) -> float:
        """The learning rate after this share of the steps."""
        if progress < self.warmup:
            return self.learning_rate * progress / self.warmup
        if not self.decay:
            return self.learning_rate
        return self.learning_rate * (0.5 + 0.5 * cos(pi * (progress - self.warmup) / (1 - self.warmup)))


def _check(options: object, positive: tuple[str, ...]) -> None:
    for name in positive:
        value = getattr(options, name)
        if not value > 0:
            raise ValueError(f"{name} must be above 0, got {value}")


@dataclass(frozen=True)
class Published:
    """Growing patches, falling learning rates, SGD, and L-BFGS on the MCGSM after each stage (Theis & Bethge 2015)."""

    patch_sizes: tuple[int, ...] = (8, 10, 12, 14, 16, 18, 20, 22)
    learning_rates: tuple[float, ...] = (1.0, 0.5, 0.1, 0.05, 0.01, 0.005, 0.001, 0.0005)
    """One a stage; the loss is the mean over pixels in nats of whitened data, which is why 1 is not too much."""
    momentum: float = 0.9
    batch_size: int = 50
    epochs: int = 1
    """Passes over the non-overlapping tiles in each stage."""
    tune_iterations: int = 500
    tune_pixels: int = 1_000_000
    augment: Augment = "horizontal"
    """``"none"``, ``"horizontal"`` flips, or ``"all"`` eight flips and transposes; signals and volumes stay as they are."""
    validate_every: int | None = None
    """Steps between looks at the validation images; None for one at the end of a stage."""
    patience: int = 1
    """Looks without a new best after which training stops."""

    def __post_init__(self) -> None:
        _check(self, ("momentum", "batch_size", "epochs", "tune_pixels", "patience"))
        if not self.patch_sizes or len(self.patch_sizes) != len(self.learning_rates):
            raise ValueError(
                "patch_sizes and learning_rates must be equally many, at least one, "
                f"got {len(self.patch_sizes)} and {len(self.learning_rates)}"
            )

    def stages(self) -> list[Stage]:
        return [
            Stage(
                size,
                self.batch_size,
                rate,
                epochs=self.epochs,
                optimizer="sgd",
                momentum=self.momentum,
                tune_iterations=self.tune_iterations,
                tune_pixels=self.tune_pixels,
            )
            for size, rate in zip(self.patch_sizes, self.learning_rates, strict=True)
        ]


@dataclass(frozen=True)
class Modern:
    """Adam with warm-up and decay on random crops, a running mean of the weights, and L-BFGS on the MCGSM at the end."""

    steps: int = 10_000
    batch_size: int = 32
    crop: int = 40
    """Side of the crops; larger ones let the memory reach further."""
    learning_rate: float = 3e-3
    """At its highest."""
    warmup: float = 0.03
    """Share of the steps in which it rises."""
    clip: float = 1.0
    averaging: float = 0.998
    tune_iterations: int = 100
    tune_pixels: int = 300_000
    augment: Augment = "horizontal"
    validate_every: int | None = 500
    patience: int = 10

    def __post_init__(self) -> None:
        _check(self, ("steps", "batch_size", "crop", "learning_rate", "clip", "tune_pixels", "patience"))
        if not 0 <= self.averaging < 1 or not 0 <= self.warmup < 1:
            raise ValueError(
                f"averaging and warmup must lie in [0, 1), got {self.averaging} and {self.warmup}"
            )

    def stages(self) -> list[Stage]:
        return [
            Stage(
                self.crop,
                self.batch_size,
                self.learning_rate,
                steps=self.steps,
                warmup=self.warmup,
                decay=True,
                clip=self.clip,
                averaging=self.averaging,
                tune_iterations=self.tune_iterations,
                tune_pixels=self.tune_pixels,
            )
        ]


Schedule = Published | Modern
