"""Training a RIDE: descent on patches, L-BFGS on its MCGSM, and no loss when the program is killed."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...saving import snapshot
from ..lattices.images import dequantize
from ..ride.model import RideModel
from ..ride.stacked import StackedModel
from .course import Course, Look, RideReport, patch_size, step_seed
from .keeping import Keeper
from .patches import PatchSource, Pictures
from .schedule import Modern, Published, Schedule

__all__ = ["Look", "Modern", "Published", "RideReport", "fit_ride", "fit_stacked"]


def fit_ride(
    ride: RideModel,
    images: Pictures,
    val_images: Pictures | None = None,
    *,
    observed: Pictures | None = None,
    val_observed: Pictures | None = None,
    schedule: Schedule | None = None,
    levels: int | None = None,
    only_top: bool = False,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    checkpoint_seconds: float = 60.0,
    progress: bool = True,
    callback: Callable[[Look], bool | None] | None = None,
) -> RideReport:
    """Train a RIDE; its whitening is fitted first unless it has been.

    With validation images the weights that do best on them are kept, and the training stops when they stop improving.
    Ctrl-C ends it after the current step, with the best weights so far and the checkpoint written.

    Args:
        images: (N, H, W) or (N, H, W, C), or a sequence of pictures (H, W) or (H, W, C) of any sizes.
        observed, val_observed: observed channels, likewise, of a model that has such.
        schedule: :class:`Modern` (the default) or :class:`Published`.
        levels: if the pictures hold integers, how many values there are, 256 for 8-bit ones; every patch then gets
            fresh noise.
        only_top: train only the top layer and the MCGSM, the first step after :meth:`RIDE.add_layer`.
        checkpoint: file to which the whole state of the training is written every ``checkpoint_seconds`` and at the
            end of each stage; if it exists, the training goes on from it.
        progress: whether to show how far it is.
        callback: called at every look at the validation images; a returned False stops.

    Raises:
        TypeError, ValueError: pictures do not fit the model or are smaller than the schedule's patches, or the
            checkpoint belongs to another course.
        FloatingPointError: the loss is no longer finite; the learning rate is too high.
    """
    if ride.ndim != 2:
        raise ValueError(
            f"ride must be a model of images, of two axes, got {ride.ndim}; train others on the gradient of log_prob"
        )
    schedule = schedule or Modern()
    dtype = ride.marginal.dtype
    data = PatchSource(images, observed, levels=levels, dtype=dtype)
    val = None
    if val_images is not None:
        val = PatchSource(val_images, val_observed, levels=levels, dtype=dtype, name="val_images")
    wanted = ride.channels + ride.observed_channels
    for source in (data, val):
        if source is not None and source.stacks[0].shape[-1] != wanted:
            raise ValueError(
                f"{source.name} must have {ride.channels} channels and {ride.observed_channels} observed ones, "
                f"got {source.stacks[0].shape[-1]} in all"
            )
    if ride.pad and data.equal_size is None:
        raise ValueError("images must all have the same size for a model of patches (pad=True)")
    for stage in schedule.stages():
        data.check_size(*patch_size(ride, data, stage))
    course = Course(ride, data, val, schedule, only_top, seed)
    path = None if checkpoint is None else Path(checkpoint)
    if path is not None and path.exists():
        course.restore(snapshot.read(path), path)
    else:
        course.prepare()
    return course.run(Keeper(path, checkpoint_seconds), progress, callback)


def fit_stacked(
    model: StackedModel, images: Pictures, val_images: Pictures | None = None, **options: Any
) -> tuple[RideReport, RideReport]:
    """Train both models of a stack; see :meth:`StackedRIDE.fit`."""
    levels, checkpoint = options.pop("levels", None), options.pop("checkpoint", None)
    seed = options.get("seed", 0)

    def parts(pictures: Pictures | None, offset: int) -> tuple[list[Tensor] | None, list[Tensor] | None]:
        if pictures is None:
            return None, None
        generator = torch.Generator().manual_seed(step_seed(seed, offset))
        first, second = [], []
        for picture in pictures:
            if levels is not None:
                picture = dequantize(picture, levels=levels, generator=generator)
            a, b = model.split(picture.unsqueeze(0))
            first.append(a.squeeze(0))
            second.append(b.squeeze(0))
        return first, second

    a, b = parts(images, 0)
    val_a, val_b = parts(val_images, 1)
    assert a is not None
    assert b is not None

    def file(part: str) -> Path | None:
        return None if checkpoint is None else Path(checkpoint).with_stem(f"{Path(checkpoint).stem}-{part}")

    first = fit_ride(model.first, a, val_a, checkpoint=file("first"), **options)
    if first.reason == "interrupted":
        return first, RideReport(0, 0.0, inf, "interrupted")
    second = fit_ride(
        model.second, b, val_b, observed=a, val_observed=val_a, checkpoint=file("second"), **options
    )
    return first, second
