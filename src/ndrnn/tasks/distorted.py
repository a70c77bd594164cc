"""How a trained task does on held-out samples that are bent and moved as in augmentation, more than once."""

from __future__ import annotations

from copy import copy
from dataclasses import dataclass, fields, replace
from statistics import fmean, stdev

from ..data.batches import Purpose
from ..data.pipeline.distorted import Distorted
from ..data.pipeline.gather import Gathered
from ..data.pipeline.module import collate, in_order
from ..data.pipeline.samples import Sample
from ..learn.task import Task
from ..learn.training import evaluate
from .augmentation import Augment


@dataclass(frozen=True)
class Repeats:
    """Metrics of the same samples under several distortions."""

    seeds: tuple[int, ...]
    metrics: tuple[dict[str, float], ...]
    """Of every repeat."""

    @property
    def mean(self) -> dict[str, float]:
        """Of every metric over the repeats."""
        return {name: fmean(found[name] for found in self.metrics) for name in self.metrics[0]}

    @property
    def spread(self) -> dict[str, float] | None:
        """The standard deviation of every metric over the repeats, with n - 1; None of a single one."""
        if len(self.metrics) < 2:
            return None
        return {name: stdev(found[name] for found in self.metrics) for name in self.metrics[0]}


def evaluate_distorted(
    task: Task,
    gathered: Gathered,
    purpose: Purpose,
    warp: Augment,
    *,
    split: str = "test",
    repeats: int = 1,
    seed: int = 0,
    batch_size: int = 32,
) -> Repeats:
    """The metrics of a task on samples that are distorted as the task distorts what it learns from.

    Repeat k has the seed ``seed`` + k; what it makes of a sample depends on this seed and on the sample's place in its
    files alone, not on ``batch_size``. Labels of points move with their points, as in training.

    Args:
        task: trained; its own ``settings.augment`` plays no part.
        gathered: the samples, see :func:`ndrnn.data.pipeline.gather`.
        purpose: of the task.
        warp: how far samples are bent and moved.
        split: which samples.
        repeats: how often all of them are.
        seed: of the first repeat.
        batch_size: samples measured at a time.

    Raises:
        ValueError: the task's settings have no ``augment``, ``warp`` changes nothing, or ``repeats`` is below 1.
    """
    if not warp.active:
        raise ValueError(f"warp must change something, got {warp}")
    if repeats < 1:
        raise ValueError(f"repeats must be at least 1, got {repeats}")
    seeds = tuple(range(seed, seed + repeats))
    found = []
    for number in seeds:
        bent = distorted(task, gathered, purpose, warp, split=split, seed=number)
        found.append(evaluate(task, in_order(bent.samples(split), purpose, batch_size)))
    return Repeats(seeds, tuple(found))


def distorted(
    task: Task, gathered: Gathered, purpose: Purpose, warp: Augment, *, split: str = "test", seed: int = 0
) -> Gathered:
    """The samples of one split, distorted; arguments and errors as for :func:`evaluate_distorted`."""
    if "augment" not in {field.name for field in fields(task.settings)}:
        raise ValueError(
            f"warp must be left out for a {type(task).__name__}: its settings have no augment, its samples are not bent"
        )
    bending = copy(task)
    bending.settings = replace(task.settings, augment=warp)
    make_batch = collate(purpose)

    def change(sample: Sample) -> Sample:
        # alone in its batch a sample has no padding, which would have a say in what is drawn
        batch = bending.augmented(make_batch([sample]))
        target = batch.target[0]
        return Sample(
            sample.name, batch.x[0], target if isinstance(target, str) or target.dim() else int(target)
        )

    return replace(gathered, splits={split: Distorted(gathered.samples(split), change, seed)})
