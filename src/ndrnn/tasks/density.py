"""The density of images, by RIDE (Theis & Bethge 2015), trained on random patches."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from math import log
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data.batches import DensityBatch, Facts
from ..data.faults import BadFile
from ..density.lattices.neighborhood import CausalNeighborhood
from ..density.ride.cells import PUBLISHED_CELL
from ..density.rides import RIDE
from ..density.use.growth import Growth
from ..lattice import inside
from ..learn.task import Task
from .configuration import Density

NOT_FINITE = (
    "its log-density is not finite: the model's memory or its mixture overflows on this image; cut it smaller, or train "
    "with a bounded cell, such as --cell leaky"
)
"""What to say of such an image."""


class Surprise(NamedTuple):
    """How little a model expected an image."""

    name: str
    """Where the image comes from."""
    bits_per_pixel: float
    """Mean over the predicted pixels and the channels."""
    bits: Tensor
    """Of every predicted pixel, all channels together, (H', W'), or (D',) of a signal, or of a volume's three axes."""
    saturated: bool = False
    """Whether the memory of an additive cell grew to its limit, so that the bits say little."""


class DensityTask(Task):
    """Trains and checks a RIDE of images, or of signals or volumes; its batches are :class:`DensityBatch`.

    Metric: ``bits_per_pixel``, -log2 of the density of dequantised grey levels, a pixel and channel: what storing
    the levels themselves costs at most. With :attr:`levels` 0 it is that of the values as they are. Pixels without a
    full neighbourhood are not predicted.
    """

    monitor = "bits_per_pixel"
    counted = ("_nats", "_pixels")
    settings_class = Density
    settings: Density
    model: RIDE

    def __init__(self, settings: Density, facts: Facts) -> None:
        if facts.ndim > 3:
            raise ValueError(f"facts must be of signals, images or volumes, ndim 1 to 3, got {facts.ndim}")
        super().__init__(settings, facts)
        self.saturated: list[str] = []
        """Of the last check that was none of a training: the images on which a memory grew to its limit."""
        self._nats, self._pixels = 0.0, 0
        self._noise = torch.Generator()
        self._same_noise()

    @property
    def levels(self) -> int:
        """How many grey levels the values have: as the settings say, or else as the data does; 0: continuous values."""
        return self.facts.levels if self.settings.levels is None else self.settings.levels

    def make_model(self) -> RIDE:
        s = self.settings
        return RIDE(
            s.hidden,
            s.layers,
            CausalNeighborhood.window(s.window, ndim=self.facts.ndim),
            num_components=s.components,
            num_scales=s.scales,
            num_features=s.features,
            channels=1 if self.settings.apart else self.facts.channels,
            cell=s.cell,
            residual=s.residual,
        )

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Task:
        """The task of a saved :meth:`config`; one that names no cell, of version 0.1, had the published one."""
        return super().from_config({**config, "settings": _with_cell(config["settings"])})

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        saved = checkpoint["ndrnn"]
        saved["settings"] = _with_cell(saved["settings"])  # or weights of another cell would fit
        super().on_load_checkpoint(checkpoint)

    def prepare(self, batches: Iterable[DensityBatch]) -> None:
        """Fit the whitening to patches of at most 200 batches."""
        generator = torch.Generator().manual_seed(self.options.seed)
        patches = [self._patches(batch, generator) for _, batch in zip(range(200), batches, strict=False)]
        self.model.fit_whitening(self._dequantized(torch.cat(patches), generator), generator=generator)

    def augmented(self, batch: DensityBatch) -> DensityBatch:
        x = self._patches(batch, None)
        if self.settings.flip and self.facts.ndim == 2:
            mirrored = torch.rand(len(x), device=x.device) < 0.5
            x = torch.where(mirrored.view(-1, 1, 1, 1), x.flip(2), x)
        return DensityBatch(self._dequantized(x, None))

    def loss(self, batch: DensityBatch) -> Tensor:
        """Of patches with continuous values: -log of the density, in nats a predicted pixel."""
        log_prob = self.model.log_prob(batch.x)
        return -log_prob.sum() / self.share(torch.tensor(log_prob.numel()))

    def check(self, batch: DensityBatch) -> None:
        with self._growth() as growth:
            log_prob, predicted = self._evaluated(batch)
        self.saturated += [_name(batch, index) for index in self._reached(growth)] if growth else []
        good = (log_prob.isfinite() | ~predicted).flatten(1).all(1)
        if not bool(good.all()) and not self._learning:
            first = int((~good).nonzero()[0])
            raise BadFile(_name(batch, first), NOT_FINITE)
        # in training the number that is none stays, and counts as the worst
        self._nats -= float(log_prob[predicted].double().sum())
        self._pixels += int(predicted.sum())

    def _reached(self, growth: Growth) -> list[int]:
        """The images of a batch on which a memory is at its limit."""
        each = self.facts.channels if self.settings.apart else 1
        return sorted({index // each for index in growth.reached})

    def _growth(self) -> AbstractContextManager[Growth | None]:
        """A look at the memories; a training does without, it takes too long."""
        return nullcontext() if self._learning else Growth(self.model)

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
        super().on_validation_epoch_start()
        self.saturated.clear()
        self._same_noise()

    def _same_noise(self) -> None:
        """Every check and every test adds the same noise."""
        self._noise.manual_seed(self.options.seed)

    def predict_step(self, batch: DensityBatch, batch_idx: int = 0) -> list[Surprise]:
        """How little each image was expected; what is not finite is left to the caller, who knows the file."""
        self._same_noise()
        with torch.no_grad(), Growth(self.model) as growth:
            log_prob, predicted = self._evaluated(batch)
        found = []
        for index in range(len(batch.x)):
            own = tuple(slice(extent) for extent in _extents(predicted[index]))
            bits = self._bits(-log_prob[index][own]).cpu()
            mean = float(bits.double().mean()) / self.facts.channels
            name = batch.names[index] if batch.names else ""
            found.append(Surprise(name, mean, bits, index in self._reached(growth)))
        return found

    def _evaluated(self, batch: DensityBatch) -> tuple[Tensor, Tensor]:
        """Log-densities in nats (N, H', W') of whole images, and which of them are within each image."""
        log_prob = self.model.log_prob(self._single(self._dequantized(batch.x, self._noise)))
        log_prob = log_prob.unflatten(0, (len(batch.x), -1)).sum(1)  # of the channels, if they are apart
        lattice = log_prob.shape[1:]
        whole = torch.tensor(batch.x.shape[1:-1])
        lost = whole - torch.tensor(lattice)
        sizes = whole.expand(len(batch.x), -1) if batch.sizes is None else batch.sizes
        return log_prob, inside((sizes - lost.to(sizes.device)).clamp(min=0), lattice).to(log_prob.device)

    def _bits(self, nats: Tensor) -> Tensor:
        """From nats of values in [0, 1) to bits of grey levels."""
        levels = self.levels
        return nats / log(2) + (self.facts.channels * log(levels) / log(2) if levels else 0.0)

    def _dequantized(self, x: Tensor, generator: torch.Generator | None) -> Tensor:
        """Values 0 ... 1 that stand for the middle of a level's range, as continuous values in [0, 1)."""
        if not self.levels:
            return x
        noise = torch.rand(x.shape, generator=generator, dtype=x.dtype).to(x.device)
        return ((x * (self.levels - 1)).round() + noise) / self.levels

    def _patches(self, batch: DensityBatch, generator: torch.Generator | None) -> Tensor:
        """Random patches (N * patches, patch, ..., patch, C), of which channels that are apart are more of one channel."""
        size, patches = self.settings.patch, []
        for index, image in enumerate(batch.x):
            own = tuple(image.shape[:-1]) if batch.sizes is None else batch.sizes[index].tolist()
            if min(own) < size:
                name = batch.names[index] if batch.names else "an image"
                raise ValueError(f"{name}: must be at least as large as a patch, {size}, got {tuple(own)}")
            for _ in range(self.settings.patches):
                corner = [int(torch.randint(n - size + 1, (), generator=generator)) for n in own]
                patches.append(image[tuple(slice(begin, begin + size) for begin in corner)])
        return self._single(torch.stack(patches))

    def _single(self, x: Tensor) -> Tensor:
        """Images (N, ..., C), or their channels (N C, ..., 1) if they are images of their own."""
        return x.movedim(-1, 1).flatten(0, 1).unsqueeze(-1) if self.settings.apart else x


def _name(batch: DensityBatch, index: int) -> str:
    return batch.names[index] if batch.names else f"image {index} of a batch"


def _extents(inner: Tensor) -> list[int]:
    """How far along each axis a mask reaches that is True in a box at the first corner."""
    return [
        int(inner.movedim(axis, 0).reshape(inner.shape[axis], -1).any(1).sum()) for axis in range(inner.dim())
    ]


def _with_cell(settings: dict[str, Any]) -> dict[str, Any]:
    """Saved settings with a cell: version 0.1 had none but the published one, and did not say so."""
    return {"cell": PUBLISHED_CELL, **settings}
