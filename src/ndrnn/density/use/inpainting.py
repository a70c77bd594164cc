"""Filling holes with a RIDE: samples by Metropolis-Hastings with ancestral proposals, or the most probable pixels."""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ...progress import Progress
from ..lattices.neighborhood import as_image_batch
from ..mixture.finite import check_each_finite, check_finite
from ..ride.model import RideModel
from .blocks import Block, Plan, plan
from .frame import Frame, reaches_border
from .sampling import ancestral, drawable


@dataclass(frozen=True)
class Inpainting:
    """Filled images; log-densities are in nats, of all predicted pixels of an image."""

    images: Tensor
    """(chains, N, H, W, C), the last state of every chain."""
    log_prob: Tensor
    """(chains, N)."""
    acceptance: Tensor | None
    """(chains, N), the share of proposals that a chain accepted; None for the most probable pixels."""
    history: Tensor
    """(epochs + 1, chains, N), the log-density before the first and after every sweep; shorter if a climb ended early."""

    @property
    def best(self) -> Tensor:
        """Of every image the most probable chain, (N, H, W, C)."""
        return self.images[self.log_prob.argmax(0), torch.arange(self.images.shape[1])]


def inpaint(
    ride: RideModel,
    images: Tensor,
    mask: Tensor,
    *,
    method: Literal["mh", "map"] = "mh",
    chains: int = 1,
    epochs: int = 100,
    patch: int | None = 19,
    inner: int = 5,
    stride: int = 3,
    initializations: int = 5,
    start: Tensor | None = None,
    observed: Tensor | None = None,
    generator: torch.Generator | None = None,
    progress: bool = False,
) -> Inpainting:
    """Fill the pixels where ``mask`` is True; all others stay as they are, to the last bit.

    ``"mh"`` samples: each chain starts at the most probable of some ancestral samples, and its sweeps propose anew
    the inner pixels of overlapping patches, accepted with the ratio of p(patch) over the proposal (Theis & Bethge
    2015, section 4.4). The patches see nothing of what lies outside them, so the stationary distribution is that of
    the model only up to the reach of its memory; with ``patch=None`` they are the whole image and the samples exact.
    ``"map"`` climbs the log-density from such a start by L-BFGS; it warns and ends where the gradient is not finite.

    A hole may reach the border. A model that does not pad then gets a frame of repeated pixels around the image, filled
    in too where it adjoins the hole and cut off at the end; log-densities are those of the image with its frame.

    Args:
        images: (N, H, W) or (N, H, W, C), or of the model's axes; what lies under the mask does not matter.
        mask: bool, (H, W) or (N, H, W).
        chains: independent fillings of every image; all run at once.
        epochs: sweeps, or iterations of L-BFGS.
        patch, inner, stride: sides of the patches and of the block in them that is drawn anew, and their distance.
            A model that pads always takes whole images.
        initializations: ancestral samples to choose the start from.
        start: images (chains, N, H, W, C) to start from instead; those of an earlier result are filled further.
        observed: the observed channels (N, H, W, O) of a model that has such.

    Raises:
        TypeError, ValueError: an argument is out of range, or images or mask do not fit, see
            :func:`ndrnn.density.use.sampling.drawable`.
        FloatingPointError: what is drawn or its log-density is not finite; the message names the image.
    """
    counts = {"chains": chains, "inner": inner, "stride": stride, "initializations": initializations}
    for name, value in counts.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    if stride > inner:
        raise ValueError(f"stride must not exceed inner={inner}, or pixels are left out, got {stride}")
    if epochs < 0:
        raise ValueError(f"epochs must not be negative, got {epochs}")
    if method not in ("mh", "map"):
        raise ValueError(f'method must be "mh" or "map", got {method!r}')
    ride.canvases(images, observed)
    images = as_image_batch(images, ndim=ride.ndim)
    whole, frame = images, None
    if start is not None:
        check_start(start, (chains, *images.shape), images.dtype)
    if observed is not None:
        observed = as_image_batch(observed, "observed", ride.ndim)
    if not ride.pad and reaches_border(ride, images, mask):
        frame = Frame(ride)
        images, mask, observed, start = frame.grown(images, mask, observed, start, generator)
    mask = drawable(ride, images, mask)
    reach = max(ride.neighborhood.margins)
    if patch is not None and not ride.pad and (patch - inner) // 2 < reach:
        raise ValueError(
            f"patch must leave {reach} pixels on every side of inner={inner} for the neighbourhood, got {patch}"
        )
    n = len(images)
    filling = _Filling(
        ride,
        _repeated(images, chains),
        _repeated(mask, chains),
        None if observed is None else _repeated(observed, chains),
        generator,
    )
    if start is None:
        filling.start(initializations)
    else:
        filling.start_from(start)
    accepted = None
    if method == "map":
        history = filling.climb(epochs, progress)
    else:
        blocks = plan(mask.any(0), None if ride.pad else patch, inner, stride)
        history, share = filling.sweep(epochs, blocks, progress)
        accepted = share.view(chains, n)
    filled = filling.images if frame is None else frame.cut(filling.images)
    filled = filled.reshape(chains, n, *whole.shape[1:])
    log_prob = history[-1].view(chains, n)
    check_each_finite(log_prob.T, "the log-density of what is filled in")
    return Inpainting(filled, log_prob, accepted, history.view(len(history), chains, n))


def check_start(start: Tensor, shape: tuple[int, ...], dtype: torch.dtype) -> None:
    """Raise ValueError if images to start from are not of the wanted shape (chains, N, H, W, C) and dtype."""
    if tuple(start.shape) != shape or start.dtype != dtype:
        raise ValueError(
            f"start must have shape {shape} and dtype {dtype}, as the images of an earlier result, "
            f"got {tuple(start.shape)} and {start.dtype}"
        )


def _repeated(values: Tensor, chains: int) -> Tensor:
    return values.repeat(chains, *[1] * (values.dim() - 1))


def _per_image(values: Tensor) -> Tensor:
    """Sums (B,) of (B, H, W), in float64."""
    return values.double().sum(tuple(range(1, values.dim())))


def _like(choices: Tensor, images: Tensor) -> Tensor:
    """One choice an image, (B,), of a shape that broadcasts against (B, H, W, C)."""
    return choices.to(images.device).view(-1, *[1] * (images.dim() - 1))


class _Filling:
    """Images (B, H, W, C) that are being filled, one a chain."""

    def __init__(
        self,
        ride: RideModel,
        images: Tensor,
        mask: Tensor,
        observed: Tensor | None,
        generator: torch.Generator | None,
    ) -> None:
        self.ride, self.images, self.mask = ride, images, mask
        self.observed, self.generator = observed, generator

    @torch.no_grad()
    def log_prob(self) -> Tensor:
        """Of every image, (B,)."""
        return _per_image(self.ride.log_prob(self.images, self.observed))

    @torch.no_grad()
    def start(self, initializations: int) -> None:
        """The most probable of some ancestral samples, image by image."""
        chosen, best = self.images, torch.full((len(self.images),), -torch.inf, dtype=torch.float64)
        for _ in range(initializations):
            drawn = ancestral(
                self.ride,
                self.images,
                self.mask,
                observed=self.observed,
                generator=self.generator,
                with_log_prob=True,
            )
            assert drawn.log_prob is not None
            value = _per_image(drawn.log_prob).cpu()
            # an image of no density at all must be replaced too: what lies under its mask may be anything
            better = (value > best) | (best == -torch.inf)
            chosen = torch.where(_like(better, chosen), drawn.images, chosen)
            best = torch.maximum(value, best)
        self.images = chosen

    def start_from(self, start: Tensor) -> None:
        """The pixels of given images (chains, N, H, W, C), where the mask is True."""
        start = start.to(self.images.device).flatten(0, 1)
        check_finite(start[self.mask], "start")
        self.images = torch.where(self.mask.unsqueeze(-1), start, self.images)

    @torch.no_grad()
    def sweep(self, epochs: int, blocks: Plan, progress: bool) -> tuple[Tensor, Tensor]:
        """Metropolis-Hastings: log-densities (epochs + 1, B) and the shares of accepted proposals (B,)."""
        history = [self.log_prob()]
        accepted = torch.zeros(len(self.images), dtype=torch.float64, device=self.images.device)
        proposed = accepted.clone()
        with Progress("inpainting", epochs, shown=progress) as shown:
            for epoch in range(epochs):
                for group in blocks.groups:
                    yes, asked = self._update(group, blocks.size)
                    accepted += yes
                    proposed += asked
                history.append(self.log_prob())
                shown.update(epoch + 1, f"log-density {float(history[-1].mean()):.1f} nats an image")
        return torch.stack(history), accepted / proposed.clamp(min=1)

    def _update(self, group: list[Block], size: tuple[int, ...]) -> tuple[Tensor, Tensor]:
        """Propose anew every block of a group; how many each image accepted, and how many there were, (B,)."""
        old = self._patches(self.images, group, size)
        free = self._patches(self.mask, group, size)
        for k, block in enumerate(group):
            inside = torch.zeros_like(free[k])
            inside[(slice(None), *block.inner)] = True
            free[k] &= inside
        seen = None
        if self.observed is not None:
            seen = self._patches(self.observed, group, size).flatten(0, 1)
        old_flat, free_flat = old.flatten(0, 1), free.flatten(0, 1)
        asked = free.flatten(2).any(2)
        drawn = ancestral(
            self.ride, old_flat, free_flat, observed=seen, generator=self.generator, with_log_prob=True
        )
        assert drawn.log_prob is not None
        # log p' - log q' - (log p - log q): the factors of the drawn pixels cancel, those of the others stay
        drawn_here = self.ride.predicted(free_flat)
        before = self.ride.log_prob(old_flat, seen).masked_fill(drawn_here, 0)
        after = drawn.log_prob.masked_fill(drawn_here, 0)
        ratio = _per_image(after.double() - before.double()).view(len(group), -1)
        chance = torch.rand(ratio.shape, dtype=torch.float64, generator=self.generator).to(ratio)
        yes = (chance.log() < ratio) & asked
        new = drawn.images.view_as(old)
        for k, block in enumerate(group):
            where = (_like(yes[k], free[k]) & free[k]).unsqueeze(-1)
            place = self.images[(slice(None), *block.patch(size))]
            place.copy_(torch.where(where, new[k], place))
        return yes.sum(0), asked.sum(0)

    @staticmethod
    def _patches(values: Tensor, group: list[Block], size: tuple[int, ...]) -> Tensor:
        """(blocks, B, height, width, ...)."""
        return torch.stack([values[(slice(None), *block.patch(size))] for block in group])

    def climb(self, epochs: int, progress: bool) -> Tensor:
        """L-BFGS on the log-density of all images at once; each keeps its best. Log-densities (epochs + 1, B), fewer where
        the gradient overflows."""
        base, where = self.images.clone(), self.mask.unsqueeze(-1).expand_as(self.images)
        free = base[where].clone().requires_grad_()
        best, history = self.log_prob(), []
        history.append(best)
        optimizer = torch.optim.LBFGS([free], max_iter=1, max_eval=25, line_search_fn="strong_wolfe")

        def filled() -> Tensor:
            return base.masked_scatter(where, free)

        def closure() -> Tensor:
            optimizer.zero_grad()
            loss: Tensor = -self.ride.log_prob(filled(), self.observed).sum()
            loss.backward()
            return loss

        frozen = [p for p in self.ride.parameters() if p.requires_grad]
        for p in frozen:
            p.requires_grad_(False)
        try:
            with Progress("inpainting", epochs, shown=progress) as shown:
                for epoch in range(epochs):
                    optimizer.step(closure)
                    if not bool(free.isfinite().all()):
                        warnings.warn(
                            f"the climb ended after {epoch} of {epochs} steps because the gradient is not finite: a "
                            f"memory of the model overflows on images of {tuple(base.shape[1:-1])} pixels; cut them smaller",
                            RuntimeWarning,
                            stacklevel=4,
                        )
                        break
                    with torch.no_grad():
                        images = filled()
                        value = _per_image(self.ride.log_prob(images, self.observed))
                        better = value > best
                        self.images = torch.where(_like(better, images), images, self.images)
                        best = torch.where(better, value, best)
                    history.append(best)
                    shown.update(epoch + 1, f"log-density {float(best.mean()):.1f} nats an image")
        finally:
            for p in frozen:
                p.requires_grad_(True)
        return torch.stack(history)
