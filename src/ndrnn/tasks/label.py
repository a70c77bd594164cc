"""Labelling every point of a lattice: pixels of images, voxels of volumes."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor
from torchmetrics import MetricCollection
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassF1Score,
    MulticlassJaccardIndex,
)

from ..data.batches import IGNORE, Facts, LabelBatch
from ..lattice import inside
from ..learn.task import Task
from ..nn.hierarchy import Hierarchy
from ..nn.networks import ScanUNet
from .configuration import Label
from .reliability import Evidence, Judged, Reliability
from .supervision import supervised


class Labelled(NamedTuple):
    """What a network says of a sample's points."""

    name: str
    """Where the sample comes from."""
    labels: Tensor
    """The most probable label of each point, (D1, ..., Dn) int64."""
    confidence: Tensor
    """Its probability by the task's temperature, (D1, ..., Dn)."""


class LabelTask(Task):
    """Trains and checks a network that labels points; its batches are :class:`LabelBatch`.

    Metrics: ``point_error``, the share of points with a wrong label; ``mean_iou`` and ``mean_dice`` over the classes,
    and for each class ``iou/NAME`` and ``dice/NAME``. ``miss``, which decides on the best weights, is 1 - mean_iou;
    where there is nothing but background, ``point_error``.
    """

    monitor = "miss"
    counted = ()
    settings_class = Label
    settings: Label
    model: Hierarchy | ScanUNet
    class_weights: Tensor | None
    """Of each class in the cross-entropy (classes,), scaled so that the mean over the training's points is 1."""

    def __init__(self, settings: Label, facts: Facts) -> None:
        if len(facts.classes) < 2:
            raise ValueError(f"facts must name at least two classes, got {facts.classes}")
        if settings.background is not None and not 0 <= settings.background < len(facts.classes):
            raise ValueError(
                f"background must lie in [0, {len(facts.classes) - 1}], got {settings.background}"
            )
        super().__init__(settings, facts)
        count = len(facts.classes)
        with torch.device("cpu"):  # their sums have memory also where the weights have none yet
            self.metrics = MetricCollection(
                {
                    "accuracy": MulticlassAccuracy(count, average="micro", ignore_index=IGNORE),
                    "iou": MulticlassJaccardIndex(count, average="none", ignore_index=IGNORE),
                    "dice": MulticlassF1Score(count, average="none", ignore_index=IGNORE),
                    "confusion": MulticlassConfusionMatrix(count, ignore_index=IGNORE),
                }
            )
            self.reliability = Reliability()
        self.judged: Judged | None = None
        """How true the confidences were in the last check that was none of a training."""
        self.confusion: Tensor | None = None
        """Of the last check: points of each true class (rows) by the label that they got."""
        # a resumed training has them from its state
        self.register_buffer("class_weights", torch.ones(count) if settings.class_balance else None)

    @property
    def outputs(self) -> tuple[str, ...]:
        return self.facts.classes

    def make_model(self) -> Any:
        return self.settings.network.build(
            self.facts, len(self.facts.classes), expand=True, auxiliary=self.settings.deep_supervision > 0
        )

    def prepare(self, batches: Iterable[Any]) -> None:
        super().prepare(batches)
        if self.class_weights is not None:
            points = torch.zeros(len(self.facts.classes), dtype=torch.float64)
            for batch in islice(batches, 200):
                target = _counted(batch)
                points += torch.bincount(target[target != IGNORE].cpu(), minlength=len(points))
            weights = class_weights(points, self.settings.class_balance)
            self.class_weights.copy_(weights)

    def augmented(self, batch: LabelBatch) -> LabelBatch:
        x, target = self.settings.augment(batch.x, batch.sizes, batch.target)
        return LabelBatch(x, batch.target if target is None else target, batch.sizes, batch.names)

    def loss(self, batch: LabelBatch) -> Tensor:
        target = _counted(batch)

        def loss_of(scores: Tensor) -> Tensor:
            loss = label_loss(
                scores, target, self.share, weights=self.class_weights, focal=self.settings.focal
            )
            return loss + self.settings.dice * dice_loss(scores, target) if self.settings.dice else loss

        return supervised(self.model, batch, self.settings.deep_supervision, loss_of)

    def check(self, batch: LabelBatch) -> None:
        scores = self.model(batch.x, batch.sizes)
        self.watch(scores, batch)
        said, target = scores.argmax(-1), _counted(batch)
        self.metrics.update(said, target)
        if not self.in_training:
            counts = target != IGNORE
            said, target = said[counts], target[counts]
            self.reliability.update(Evidence(scores[counts], said, said == target, target), self.temperature)

    def results(self) -> dict[str, Tensor | float]:
        found = self.metrics.compute()
        self.metrics.reset()
        self.judged = self.reliability.taken(self.temperature)
        self.confusion = found["confusion"].cpu()
        true = self.confusion.sum(1) > 0
        some = bool(true.any())
        present = true | (self.confusion.sum(0) > 0)
        if self.settings.background is not None:
            true[self.settings.background] = present[self.settings.background] = False
        results: dict[str, Tensor | float] = {"point_error": 1 - found["accuracy"]}
        for metric in ("iou", "dice"):
            values = found[metric].cpu()
            results[f"mean_{metric}"] = values[present].mean() if present.any() else torch.tensor(float(some))
            results |= {
                f"{metric}/{name}": value for name, value in zip(self.facts.classes, values, strict=True)
            }
        # where there is only background, every false object would be as bad as many
        results["miss"] = 1 - results["mean_iou"] if true.any() else results["point_error"]
        return results

    def predict_step(self, batch: LabelBatch, batch_idx: int = 0) -> list[Labelled]:
        """The labels of each sample's points; its ``target`` is not looked at."""
        with torch.no_grad():
            scores = self.model(batch.x, batch.sizes)
            confidence, labels = (found.cpu() for found in most_probable(scores, self.temperature))
        predictions = []
        for index in range(len(batch.x)):
            own: tuple[int | slice, ...] = (index,)
            if batch.sizes is not None:
                own += tuple(slice(int(size)) for size in batch.sizes[index])
            name = batch.names[index] if batch.names else ""
            predictions.append(Labelled(name, labels[own], confidence[own]))
        return predictions


def most_probable(scores: Tensor, temperature: float = 1.0) -> tuple[Tensor, Tensor]:
    """The probability of the most probable label and the label itself (N, D1, ..., Dn) int64, of scores
    (N, D1, ..., Dn, L) before the softmax, which are divided by a temperature; NaN where a score is.

    With few labels it takes a fourth of the time of ``scores.softmax(-1).max(-1)``.
    """
    highest, labels = scores.max(-1)  # before the division, whose rounding could make two scores equal
    below = scores - highest[..., None]
    below = below if temperature == 1 else below.div_(temperature)
    return below.exp_().sum(-1).reciprocal_(), labels


def class_weights(points: Tensor, power: float) -> Tensor:
    """The weight of each class: its share of the points to the power of -``power``, scaled so that the mean over the
    points is 1; a class without a point has 1.

    Args:
        points: of each class (classes,), float.
    """
    seen = points > 0
    weights = torch.where(seen, points, 1) ** -power
    mean = (weights * points).sum() / points.sum().clamp(min=1)
    return torch.where(seen, weights / mean, 1)


def label_loss(
    scores: Tensor,
    target: Tensor,
    share: Callable[[Tensor], Tensor] = lambda count: count,
    *,
    weights: Tensor | None = None,
    focal: float = 0.0,
) -> Tensor:
    """Cross-entropy in nats, the mean over the points that count; 0 if none does.

    Args:
        scores: (N, D1, ..., Dn, L), before the softmax.
        target: (N, D1, ..., Dn) int64, a label or ``IGNORE``.
        share: makes the count of points the divisor, see :meth:`ndrnn.learn.Task.share`.
        weights: of each label (L,).
        focal: power of 1 - p by which a point counts whose true label has the probability p (Lin et al. 2017).

    Raises:
        ValueError: the shapes do not fit.
    """
    if target.shape != scores.shape[:-1]:
        raise ValueError(f"target must have shape {tuple(scores.shape[:-1])}, got {tuple(target.shape)}")
    flat, labels = scores.flatten(0, -2), target.flatten()
    if focal:
        each = F.cross_entropy(flat, labels, weights, ignore_index=IGNORE, reduction="none")
        plain = F.cross_entropy(flat, labels, ignore_index=IGNORE, reduction="none")
        # where p rounds to 1 nothing is left, and a power below 1 would have no gradient
        missing = -torch.expm1(-plain)
        total = (missing.clamp(min=torch.finfo(missing.dtype).eps) ** focal * each).sum()
    else:
        total = F.cross_entropy(flat, labels, weights, ignore_index=IGNORE, reduction="sum")
    return total / share((target != IGNORE).sum()).clamp(min=1)


def dice_loss(scores: Tensor, target: Tensor) -> Tensor:
    """1 - the soft Dice coefficient, the mean over the classes that the target holds (Milletari et al. 2016).

    Arguments as for :func:`label_loss`; the sums run over all points of the batch that count.
    """
    counted = target != IGNORE
    probabilities = scores.softmax(-1)[counted]
    true = F.one_hot(target[counted], scores.shape[-1]).to(scores.dtype)
    both, either = (probabilities * true).sum(0), probabilities.sum(0) + true.sum(0)
    present = true.sum(0) > 0
    if not present.any():
        return scores.sum() * 0
    return 1 - (2 * both[present] / either[present]).mean()


def _counted(batch: LabelBatch) -> Tensor:
    if batch.sizes is None:
        return batch.target
    return batch.target.masked_fill(~inside(batch.sizes, batch.target.shape[1:]), IGNORE)
