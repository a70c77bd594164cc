"""Ancestral sampling of a RIDE, one batched step per wavefront: whole images, the unknown part of some, textures."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from ..lattices.neighborhood import as_image_batch
from ..mixture.finite import check_each_finite, check_finite
from ..ride.model import RideModel
from ..ride.stacked import StackedModel
from . import captured
from .stepping import WavefrontEvaluator

Bounds = tuple[Tensor | float, Tensor | float]
Tell = Callable[[int, int], None]
"""Is told how many wavefronts of how many are drawn."""


@dataclass(frozen=True)
class Noise:
    """The random numbers of a drawing: the same ones give the same images, in whatever order pixels are drawn."""

    uniform: Tensor
    """(N, H', W'), picks the mixture components."""
    normal: Tensor
    """(N, H', W', C)."""

    @classmethod
    def draw(cls, ride: RideModel, n: int, *grid: int, generator: torch.Generator | None = None) -> Noise:
        """For a grid of predicted pixels of these extents, rows and columns of an image."""
        dtype = ride.marginal.dtype
        uniform = torch.rand((n, *grid), generator=generator, dtype=dtype)
        normal = torch.randn((n, *grid, ride.channels), generator=generator, dtype=dtype)
        return cls(uniform.to(ride.marginal), normal.to(ride.marginal))


@dataclass(frozen=True)
class Drawn:
    """Images of which some pixels were drawn."""

    images: Tensor
    """(N, H, W, C)."""
    log_prob: Tensor | None
    """Log-density in nats, (N, H', W'), of every predicted pixel, drawn or known; None unless asked for."""


def drawable(ride: RideModel, images: Tensor, mask: Tensor, name: str = "mask") -> Tensor:
    """A mask of pixels to fill as (N, H, W), checked.

    Args:
        images: (N, H, W, C).
        mask: bool, (H, W) or (N, H, W), True where a pixel is unknown.

    Raises:
        TypeError: the mask is not bool.
        ValueError: it has another shape, nothing to fill, or asks for pixels that lack their neighbourhood.
    """
    if mask.dtype != torch.bool:
        raise TypeError(f"{name} must be torch.bool, True where a pixel is unknown, got {mask.dtype}")
    shape = tuple(images.shape[:-1])
    if tuple(mask.shape) not in (shape, shape[1:]):
        raise ValueError(f"{name} must have shape {shape[1:]} or {shape}, got {tuple(mask.shape)}")
    mask = mask.expand(shape)
    if not bool(mask.any()):
        raise ValueError(f"{name} must be True somewhere: there is nothing to fill")
    if not ride.pad and int(ride.predicted(mask).sum()) < int(mask.sum()):
        sides = ride.neighborhood.margins
        places = (
            ("rows above", "below", "columns left", "right") if ride.ndim == 2 else ("before", "after") * 3
        )
        *told, last = (f"{side} {place}" for side, place in zip(sides, places, strict=False))
        raise ValueError(
            f"{name} must leave known the pixels without a whole neighbourhood: {', '.join(told)} and {last}"
        )
    return mask


@torch.no_grad()
def ancestral(
    ride: RideModel,
    images: Tensor,
    mask: Tensor | None = None,
    *,
    observed: Tensor | None = None,
    noise: Noise | None = None,
    generator: torch.Generator | None = None,
    clamp: Bounds | None = None,
    with_log_prob: bool = False,
    order: str = "wavefront",
    progress: Tell | None = None,
) -> Drawn:
    """Draw the pixels where ``mask`` is True one after another, each given all pixels before it.

    Exact samples where nothing after a drawn pixel is known; where something is, the distribution that
    :func:`ndrnn.density.use.inpainting.inpaint` corrects.

    Args:
        images: (N, H, W, C) or (N, H, W); values under the mask do not matter.
        mask: bool (H, W) or (N, H, W); every predicted pixel if not given.
        observed: the observed channels (N, H, W, O) of a model that has such.
        noise: the random numbers; drawn by ``generator`` if not given.
        clamp: lowest and highest value of a drawn pixel.
        order: ``"wavefront"``, or ``"raster"`` for one pixel at a time, with the same result.
        progress: is told at every step on the CPU how many of how many are done.

    Raises:
        TypeError, ValueError: images or mask do not fit, see :meth:`RIDE.canvas` and :func:`drawable`.
        FloatingPointError: what is drawn is not finite; the message names the image.
    """
    canvas, seen = ride.canvases(images, observed)
    images = as_image_batch(images, ndim=ride.ndim)
    nb = ride.neighborhood
    grid = nb.grid(*canvas.shape[1:-1])
    at = None
    if mask is not None:
        mask = drawable(ride, images, mask)
        canvas = canvas.clone()
        # of a canvas with a border the image is what is predicted
        region = nb.inner(canvas) if ride.pad else canvas
        known = images[~mask]
        region[mask] = 0  # whatever was there, NaN even, must not be seen
        check_finite(known, "images")
        at = _by_pixel(ride.predicted(mask).unsqueeze(-1))
    if noise is None:
        noise = Noise.draw(ride, len(canvas), *grid, generator=generator)
    wanted = (len(canvas), *grid)
    if noise.uniform.shape != wanted or noise.normal.shape != (*wanted, ride.channels):
        raise ValueError(
            f"noise must hold {wanted} uniform and {(*wanted, ride.channels)} normal numbers, "
            f"got {tuple(noise.uniform.shape)} and {tuple(noise.normal.shape)}"
        )
    uniform, normal = _by_pixel(noise.uniform.unsqueeze(-1)).squeeze(-1), _by_pixel(noise.normal)
    evaluator = WavefrontEvaluator(ride, canvas, seen, order=order)
    bounds = None
    if clamp is not None:
        low, high = (torch.as_tensor(bound).to(canvas) for bound in clamp)
        bounds = low, high
    if captured.wanted(canvas.device):
        captured.draw_steps(captured.DrawingSteps(evaluator, uniform, normal, at, bounds), canvas.device)
    else:
        _draw_one_by_one(evaluator, uniform, normal, at, bounds, progress)
    drawn = evaluator.images()
    if ride.pad:
        drawn = nb.targets(drawn)
    drawn = drawn.contiguous()
    check_each_finite(drawn, "what is drawn")
    # in one scan, several times as fast as step by step
    return Drawn(drawn, ride.log_prob(drawn, observed) if with_log_prob else None)


def _draw_one_by_one(
    evaluator: WavefrontEvaluator,
    uniform: Tensor,
    normal: Tensor,
    at: Tensor | None,
    bounds: tuple[Tensor, Tensor] | None,
    progress: Tell | None,
) -> None:
    """Draw where ``at`` (P, N, 1) is True, each wavefront with as many pixels as it has."""
    unknown = len(uniform) if at is None else int(at.any(2).any(1).sum())
    for done, step in enumerate(evaluator):
        if progress is not None:
            progress(done, evaluator.steps)
        here = None if at is None else at[step.pixels]
        drawing = len(step.pixels) if here is None else int(here.any(2).any(1).sum())
        if drawing:
            values = evaluator.draw(
                step, uniform.index_select(0, step.pixels), normal.index_select(0, step.pixels)
            )
            if bounds is not None:
                values = values.clamp(*bounds)
            if here is not None:
                values = torch.where(here, values, evaluator.flat[step.at])
            evaluator.write(step, values)
            unknown -= drawing
            if not unknown:
                break  # what follows is known


def sample(
    ride: RideModel,
    n: int,
    *size: int,
    margin: int = 8,
    observed: Tensor | None = None,
    clamp: Bounds | None = None,
    generator: torch.Generator | None = None,
    progress: Tell | None = None,
) -> Tensor:
    """Draw ``n`` images of a size: (n, height, width, C) by W + (r+1) H batched steps, or what else lies on the model's
    axes.

    A stationary model needs a border to start from: independent draws from the marginal of the pixels, and ``margin``
    rows above and columns at both sides that are drawn too and cut off. A model that pads starts from nothing.

    Args:
        observed: the observed channels (n, height, width, O) of a model that has such.
        clamp: lowest and highest value of a pixel, a guard for models of textures; the distribution is exact without.
        progress: is told how many steps of how many are done, on the CPU.

    Raises:
        ValueError: a size or the margin is out of range, or ``observed`` does not fit.
    """
    names = ("height", "width") if ride.ndim == 2 else ("size",) * ride.ndim
    if len(size) != ride.ndim:
        raise ValueError(f"size must have {ride.ndim} extents, those of the model's axes, got {size}")
    for name, value in zip(("n", *names), (n, *size), strict=True):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    return _draw(ride, (n, *size), ride.marginal, margin, observed, clamp, generator, progress)


@torch.no_grad()
def sample_pair(
    model: StackedModel,
    n: int,
    height: int,
    width: int,
    *,
    margin: int = 8,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Draw ``n`` images whose transforms have ``height`` x ``width`` pixels: the first channels, then the others.

    Raises:
        ValueError: a size is out of range.
    """
    for name, value in (("n", n), ("height", height), ("width", width)):
        if value < 1:
            raise ValueError(f"{name} must be at least 1, got {value}")
    above = below = before = after = 0
    if not model.first.pad:
        both = zip(model.first.neighborhood.margins, model.second.neighborhood.margins, strict=True)
        above, below, before, after = (max(pair) for pair in both)
        above, before, after = (max(margin, side) for side in (above, before, after))
    shape = (n, height + above + below, width + before + after)

    def border(ride: RideModel) -> Tensor:
        if ride.pad:
            return ride.marginal.new_zeros(*shape, ride.channels)
        return ride.marginal[torch.randint(len(ride.marginal), shape, generator=generator)]

    first = ancestral(model.first, border(model.first), generator=generator).images
    second = ancestral(model.second, border(model.second), observed=first, generator=generator).images
    channels = torch.cat([first, second], -1)[:, above : above + height, before : before + width]
    images: Tensor = model.transform.inverse(channels)  # type: ignore[operator]
    return images


def texture(
    ride: RideModel,
    image: Tensor,
    height: int,
    width: int,
    n: int = 1,
    *,
    margin: int = 8,
    percentiles: tuple[float, float] = (0.1, 99.8),
    generator: torch.Generator | None = None,
) -> Tensor:
    """Synthesise ``n`` textures (n, height, width, C) with a RIDE that was fitted to ``image``.

    As published: the border holds independent draws of the image's pixels, every drawn pixel is clamped to two
    percentiles of the image, and a margin above and at both sides is cut off (Theis & Bethge 2015, section 4.3).

    Args:
        image: (H, W) or (H, W, C).

    Raises:
        TypeError, ValueError: the image does not fit the model, or the percentiles are out of order.
    """
    low, high = percentiles
    if not 0 <= low < high <= 100:
        raise ValueError(f"percentiles must rise within [0, 100], got {percentiles}")
    pixels = as_image_batch(image.unsqueeze(0), "image").flatten(0, 2)
    if pixels.shape[1] != ride.channels or pixels.dtype != ride.marginal.dtype:
        raise ValueError(
            f"image must have {ride.channels} channels of {ride.marginal.dtype}, got {pixels.shape[1]} of {pixels.dtype}"
        )
    check_finite(pixels, "image")
    ranked = pixels.sort(0).values
    bounds = tuple(ranked[round(share / 100 * (len(ranked) - 1))] for share in percentiles)
    return _draw(ride, (n, height, width), pixels, margin, None, (bounds[0], bounds[1]), generator)


def _draw(
    ride: RideModel,
    size: tuple[int, ...],
    pixels: Tensor,
    margin: int,
    observed: Tensor | None,
    clamp: Bounds | None,
    generator: torch.Generator | None,
    progress: Tell | None = None,
) -> Tensor:
    n, *extents = size
    if margin < 0:
        raise ValueError(f"margin must not be negative, got {margin}")
    if observed is not None and tuple(observed.shape[:-1]) != size:
        raise ValueError(
            f"observed must have shape {(*size, ride.observed_channels)}, got {tuple(observed.shape)}"
        )
    if ride.pad:
        blank = ride.marginal.new_zeros(*size, ride.channels)
        return ancestral(
            ride, blank, observed=observed, clamp=clamp, generator=generator, progress=progress
        ).images
    # nothing is drawn after the last row: what comes before does not depend on it
    sides = [max(margin, side) for side in ride.neighborhood.margins]
    sides[1] = ride.neighborhood.margins[1]
    borders = list(zip(sides[::2], sides[1::2], strict=True))
    shape = (n, *(extent + sum(pair) for extent, pair in zip(extents, borders, strict=True)))
    canvas = pixels[torch.randint(len(pixels), shape, generator=generator).to(pixels.device)]
    seen = None
    if observed is not None:
        # what is observed beyond the border is unknown; the nearest that is known is a fair guess
        around = [side for pair in reversed(borders) for side in pair]
        seen = functional.pad(observed.movedim(-1, 1), around, mode="replicate").movedim(1, -1)
    drawn = ancestral(ride, canvas, observed=seen, clamp=clamp, generator=generator, progress=progress).images
    places = zip((before for before, _ in borders), extents, strict=True)
    return drawn[(slice(None), *(slice(before, before + size) for before, size in places))].contiguous()


def _by_pixel(values: Tensor) -> Tensor:
    """(N, H', W', C) as (H' W', N, C), the evaluator's layout."""
    return values.movedim(0, -2).flatten(0, -3).contiguous()
