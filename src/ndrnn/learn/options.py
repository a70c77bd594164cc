"""How long, how fast and in what portions a network is trained."""

from __future__ import annotations

from dataclasses import dataclass
from math import cos, isfinite, pi

FREE = ("epochs", "minutes", "patience", "workers")
"""Options that a training which goes on may have others of than when it began."""


@dataclass(frozen=True)
class Options:
    """How long, how fast and in what portions a network is trained, by Adam."""

    epochs: int = 40
    """Passes over the training data."""
    minutes: float | None = None
    """Train for this long instead, however many passes that makes."""
    batch_size: int = 32
    """Samples per step, in each process."""
    learning_rate: float = 1e-2
    """At its highest: it rises over the first 5 % of the training and falls to 0 along half a cosine."""
    clip: float = 1.0
    """Longest gradient, as the norm over all weights."""
    weight_decay: float = 0.0
    """Share of each weight that a step at the full learning rate of 1 would take away."""
    weight_noise: float = 0.0
    """Standard deviation of Gaussian noise on the weights, new in each step (Graves 2011)."""
    average: float = 0.0
    """Keep a moving average of the weights, of which so much stays in each step (such as 0.999): it is what is checked and
    saved. 0: none, the weights themselves are."""
    steps_between_checks: int | None = None
    """Steps from one look at held-out data, and one checkpoint, to the next; by default a pass."""
    patience: int | None = None
    """End the training after so many checks in a row without a better one; by default only the passes or minutes do."""
    freeze: tuple[str, ...] = ()
    """Parts of the network that stay as they are: beginnings of their weights' names, such as encoder or layers.0, or a
    number, for so many of the lowest levels. Of use with weights from another training."""
    workers: int = 0
    """Processes that read and augment ahead of the training, by Linux only; the weights do not depend on it. 0: this
    process does it, and augments where the network runs."""
    seed: int = 0
    """Of first weights, order, augmentation and noise."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "freeze", tuple(self.freeze))  # JSON has only lists
        for name in (
            "epochs",
            "batch_size",
            "learning_rate",
            "clip",
            "minutes",
            "steps_between_checks",
            "patience",
        ):
            value = getattr(self, name)
            if value is not None and not (value > 0 and isfinite(value)):
                raise ValueError(f"{name} must be above 0 and finite, got {value}")
        for name in ("weight_decay", "weight_noise", "workers", "seed"):
            if not (getattr(self, name) >= 0 and isfinite(getattr(self, name))):
                raise ValueError(f"{name} must not be below 0, and finite, got {getattr(self, name)}")
        if not 0 <= self.average < 1:
            raise ValueError(f"average must lie in [0, 1), got {self.average}")
        if self.seed >= 2**63:
            raise ValueError(f"seed must be below 2^63, got {self.seed}")

    def rate(self, progress: float) -> float:
        """Share of the learning rate after this share of the training."""
        rise = 0.05
        if progress < rise:
            return progress / rise
        return 0.5 + 0.5 * cos(pi * min(1.0, (progress - rise) / (1 - rise)))
