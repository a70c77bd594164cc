"""The density of images, by RIDE (Theis & Bethge 2015), trained on random patches."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from math import log
from typing import NamedTuple

import torch
from torch import Tensor

from ..data.batches import DensityBatch, Facts
from ..data.faults import BadFile
from ..density.lattices.neighborhood import CausalNeighborhood
from ..density.rides import RIDE
from ..lattice import inside
from ..learn.options import Options
from ..learn.task import Task
from .use import Use


@dataclass(frozen=True)
class Density:
    """Learn the density of images."""

    hidden: int = 64
    """Units of each recurrent layer."""
    layers: int = 1
    """Recurrent layers."""
    cell: str = "spatial"
    """Of the layers: spatial, spatial_extended, lstm, stable, leaky, gru or rnn, or the name of a registered layer.
    Stable, leaky, gru and rnn are bounded on images of any size."""
    window: int = 5
    """Width of the causal neighbourhood; it has half as many rows, rounded up."""
    components: int = 32
    """Components of the mixture."""
    scales: int = 4
    """Scales of each component."""
    features: int = 32
    """Quadratic features that the components share."""
    patch: int = 32
    """Height and width of the patches that are learned from."""
    patches: int = 8
    """Patches taken of an image each time."""
    levels: int = 256
    """Grey levels of the images; uniform noise within a level makes values continuous. 0: they are so already."""
    flip: bool = True
    """Whether half of the patches are mirrored."""
    training: Options = field(default_factory=lambda: Options(batch_size=8, learning_rate=3e-3))

    def __post_init__(self) -> None:
        for name in ("hidden", "layers", "window", "components", "scales", "features", "patch", "patches"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.window % 2 == 0:
            raise ValueError(f"window must be odd, got {self.window}")
        if self.levels < 0 or self.levels == 1:
            raise ValueError(f"levels must be 0 or at least 2, got {self.levels}")
        if self.patch <= self.window:
            raise ValueError(f"patch must be above window, {self.window}, got {self.patch}")


NOT_FINITE = (
    "its log-density is not finite: the model's memory or its mixture overflows on this image; cut it smaller, or train "
    "with a bounded cell, such as --cell gru"
)
"""What to say of such an image."""


class Surprise(NamedTuple):
    """How little a model expected an image."""

    name: str
    """Where the image comes from."""
    bits_per_pixel: float
    """Mean over the predicted pixels and the channels."""
    bits: Tensor
    """Of every predicted pixel, all channels together, (H', W')."""


class DensityTask(Task):
    """Trains and checks a RIDE; its batches are :class:`DensityBatch`.

    Metric: ``bits_per_pixel``, -log2 of the density of dequantised grey levels, a pixel and channel: what storing
    the levels themselves costs at most. With ``levels`` 0 it is that of the values as they are. Pixels without a full
    neighbourhood are not predicted.
    """

    monitor = "bits_per_pixel"
    settings_class = Density
    settings: Density
    model: RIDE

    def __init__(self, settings: Density, facts: Facts) -> None:
        if facts.ndim != 2:
            raise ValueError(f"facts must be of images, ndim 2, got {facts.ndim}")
        super().__init__(settings, facts)
        self._nats, self._pixels = 0.0, 0
        self._noise = torch.Generator()
        self._same_noise()

    def make_model(self) -> RIDE:
        s = self.settings
        return RIDE(
            s.hidden,
            s.layers,
            CausalNeighborhood.window(s.window),
            num_components=s.components,
            num_scales=s.scales,
            num_features=s.features,
            channels=self.facts.channels,
            cell=s.cell,
        )

    def prepare(self, batches: Iterable[DensityBatch]) -> None:
        """Fit the whitening to patches of at most 200 batches."""
        generator = torch.Generator().manual_seed(self.options.seed)
        patches = [self._patches(batch, generator) for _, batch in zip(range(200), batches, strict=False)]
        self.model.fit_whitening(self._dequantized(torch.cat(patches), generator), generator=generator)

    def augmented(self, batch: DensityBatch) -> DensityBatch:
        x = self._patches(batch, None)
        if self.settings.flip:
            mirrored = torch.rand(len(x), device=x.device) < 0.5
            x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(2), x)
        return DensityBatch(self._dequantized(x, None))

    def loss(self, batch: DensityBatch) -> Tensor:
        """Of patches with continuous values: -log of the density, in nats a predicted pixel."""
        log_prob = self.model.log_prob(batch.x)
        return -log_prob.sum() / self.share(torch.tensor(log_prob.numel()))

    def check(self, batch: DensityBatch) -> None:
        log_prob, predicted = self._evaluated(batch)
        good = (log_prob.isfinite() | ~predicted).flatten(1).all(1)
        if not bool(good.all()) and not self._learning:
            first = int((~good).nonzero()[0])
            raise BadFile(batch.names[first] if batch.names else f"image {first} of a batch", NOT_FINITE)
        # in training the number that is none stays, and counts as the worst
        self._nats -= float(log_prob[predicted].double().sum())
        self._pixels += int(predicted.sum())

    @property
    def _learning(self) -> bool:
        """Whether a check is one of a training."""
        return self._trainer is not None and self.trainer.state.fn == "fit"

    def results(self) -> dict[str, Tensor | float]:
        bits = self._bits(torch.tensor(self._nats / max(1, self._pixels))) / self.facts.channels
        self._nats, self._pixels = 0.0, 0
        self._same_noise()
        return {"bits_per_pixel": bits}

    def on_validation_epoch_start(self) -> None:
        self._same_noise()

    def on_test_epoch_start(self) -> None:
        self._same_noise()

    def _same_noise(self) -> None:
        """Every check and every test adds the same noise."""
        self._noise.manual_seed(self.options.seed)

    def predict_step(self, batch: DensityBatch, batch_idx: int = 0) -> list[Surprise]:
        """How little each image was expected; what is not finite is left to the caller, who knows the file."""
        self._same_noise()
        with torch.no_grad():
            log_prob, predicted = self._evaluated(batch)
        found = []
        for index in range(len(batch.x)):
            rows, columns = predicted[index].any(1), predicted[index].any(0)
            bits = self._bits(-log_prob[index][rows][:, columns]).cpu()
            mean = float(bits.double().mean()) / self.facts.channels
            found.append(Surprise(batch.names[index] if batch.names else "", mean, bits))
        return found

    def _evaluated(self, batch: DensityBatch) -> tuple[Tensor, Tensor]:
        """Log-densities in nats (N, H', W') of whole images, and which of them are within each image."""
        log_prob = self.model.log_prob(self._dequantized(batch.x, self._noise))
        lattice = log_prob.shape[1:]
        lost = torch.tensor(batch.x.shape[1:3]) - torch.tensor(lattice)
        sizes = (
            torch.tensor([batch.x.shape[1:3]]).expand(len(batch.x), 2) if batch.sizes is None else batch.sizes
        )
        return log_prob, inside((sizes - lost.to(sizes.device)).clamp(min=0), lattice).to(log_prob.device)

    def _bits(self, nats: Tensor) -> Tensor:
        """From nats of values in [0, 1) to bits of grey levels."""
        levels = self.settings.levels
        return nats / log(2) + (self.facts.channels * log(levels) / log(2) if levels else 0.0)

    def _dequantized(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Values 0 ... 1 that stand for the middle of a level's range, as continuous values in [0, 1)."""
        if not self.settings.levels:
            return x
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return ((x * (self.settings.levels - 1)).round() + noise) / self.settings.levels

    def _patches(self, batch: DensityBatch, generator: torch.Generator | None) -> Tensor:
        """Random patches (N * patches, patch, patch, C)."""
        size, patches = self.settings.patch, []
        for index, image in enumerate(batch.x):
            own = image.shape[:2] if batch.sizes is None else batch.sizes[index].tolist()
            if min(own) < size:
                name = batch.names[index] if batch.names else "an image"
                raise ValueError(f"{name}: must be at least as large as a patch, {size}, got {tuple(own)}")
            for _ in range(self.settings.patches):
                row, column = (int(torch.randint(n - size + 1, (), generator=generator)) for n in own)
                patches.append(image[row : row + size, column : column + size])
        return torch.stack(patches)


USE = Use(Density, DensityTask, "density")
