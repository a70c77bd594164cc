"""Naming whole samples: from labels of their points, as in Graves et al. 2007, or from a collapsed hierarchy."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics.classification import MulticlassConfusionMatrix

from ..data.batches import IGNORE, ClassifyBatch, Facts
from ..lattice import inside
from ..learn.task import Task
from .configuration import Classify
from .label import label_loss
from .reliability import Evidence, Judged, Reliability, tempered
from .supervision import supervised


class Classified(NamedTuple):
    """What a network says of a sample."""

    name: str
    """Where the sample comes from."""
    label: int
    probabilities: Tensor
    """Of each class, by the task's temperature, (classes,)."""
    points: Tensor | None
    """By points, the label of each, (D1, ..., Dn), background being one past the last class."""


class ClassifyTask(Task):
    """Trains and checks a network that names samples; its batches are :class:`ClassifyBatch`.

    Metrics: ``sample_error``, the share of samples with a wrong name; by points also ``point_error``, the share of
    points with a wrong label, background included.
    """

    monitor = "sample_error"
    counted = ("_wrong_points", "_points")
    settings_class = Classify
    settings: Classify
    model: Any

    def __init__(self, settings: Classify, facts: Facts) -> None:
        if len(facts.classes) < 2:
            raise ValueError(f"facts must name at least two classes, got {facts.classes}")
        super().__init__(settings, facts)
        with torch.device("cpu"):  # its sums have memory also where the weights have none yet
            self.confusion = MulticlassConfusionMatrix(len(facts.classes))
            self.reliability = Reliability()
        self.judged: Judged | None = None
        """How true the confidences were in the last check that was none of a training."""
        self._wrong_points = self._points = 0

    @property
    def by_points(self) -> bool:
        return bool(self.settings.by == "points")

    @property
    def outputs(self) -> tuple[str, ...]:
        background = ("",) if self.by_points else ()
        return (*self.facts.classes, *background)

    def make_model(self) -> Any:
        network, classes = self.settings.network, len(self.facts.classes)
        auxiliary = self.settings.deep_supervision > 0
        if self.by_points:
            return network.build(self.facts, classes + 1, expand=True, auxiliary=auxiliary)
        axes = range(self.facts.ndim)
        return network.build(self.facts, classes, collapse=axes, how="mean", auxiliary=auxiliary)

    def augmented(self, batch: ClassifyBatch) -> ClassifyBatch:
        x, _ = self.settings.augment(batch.x, batch.sizes)
        return batch._replace(x=x)

    def point_labels(self, batch: ClassifyBatch) -> Tensor:
        """The label of each point (N, D1, ..., Dn): its sample's class where there is ink, else background."""
        ink = (batch.x > self.settings.background).any(-1)
        classes = batch.target.view(-1, *[1] * (batch.x.dim() - 2))
        target = torch.where(ink, classes, len(self.facts.classes))
        if batch.sizes is not None:
            target = target.masked_fill(~inside(batch.sizes, target.shape[1:]), IGNORE)
        return target

    def loss(self, batch: ClassifyBatch) -> Tensor:
        target = self.point_labels(batch) if self.by_points else batch.target
        return supervised(
            self.model,
            batch,
            self.settings.deep_supervision,
            lambda scores: label_loss(scores, target, self.share),
        )

    def check(self, batch: ClassifyBatch) -> None:
        scores = self.model(batch.x, batch.sizes)
        self.watch(scores, batch)
        if self.by_points:
            target = self.point_labels(batch)
            counted = target != IGNORE
            self._wrong_points += int((scores.argmax(-1) != target)[counted].sum())
            self._points += int(counted.sum())
        scores = self.class_scores(scores, batch.sizes)
        said = scores.argmax(-1)
        self.confusion.update(said, batch.target)
        if not self.in_training:
            evidence = Evidence(scores, said, said == batch.target, batch.target)
            self.reliability.update(evidence, self.temperature)

    def results(self) -> dict[str, Tensor | float]:
        counts = self.confusion.compute()
        results: dict[str, Tensor | float] = {"sample_error": 1 - counts.trace() / counts.sum().clamp(min=1)}
        if self.by_points:
            results["point_error"] = self._wrong_points / max(1, self._points)
        self.judged = self.reliability.taken(self.temperature)
        self.confusion.reset()
        self._wrong_points = self._points = 0
        return results

    def predict_step(self, batch: ClassifyBatch, batch_idx: int = 0) -> list[Classified]:
        """What the network says of each sample; its ``target`` is not looked at."""
        with torch.no_grad():
            scores = self.model(batch.x, batch.sizes)
            of_classes = self.class_scores(scores, batch.sizes)
            classes = of_classes.argmax(-1).tolist()
            probabilities = tempered(of_classes, self.temperature).exp().cpu()
        labels = scores.argmax(-1).cpu() if self.by_points else None
        found = []
        for index in range(len(batch.x)):
            points = None if labels is None else labels[index]
            if points is not None and batch.sizes is not None:
                points = points[tuple(slice(int(size)) for size in batch.sizes[index])]
            name = batch.names[index] if batch.names else ""
            found.append(Classified(name, classes[index], probabilities[index], points))
        return found

    def class_scores(self, scores: Tensor, sizes: Tensor | None) -> Tensor:
        """Of each sample's classes, before the softmax, (N, classes), from the scores of the network."""
        return name_samples(scores, len(self.facts.classes), sizes).log() if self.by_points else scores


def name_samples(scores: Tensor, num_classes: int, sizes: Tensor | None = None) -> Tensor:
    """The class probabilities of each sample (N, classes): those of its points, summed and scaled to 1.

    Labels from ``num_classes`` on, such as background, are no names; points outside ``sizes`` have no say.

    Args:
        scores: (N, D1, ..., Dn, L), before the softmax.
        num_classes: labels that are names.
        sizes: (N, n).
    """
    probabilities = scores.softmax(-1)[..., :num_classes]
    if sizes is not None:
        probabilities = probabilities.masked_fill(~inside(sizes, scores.shape[1:-1])[..., None], 0)
    total = probabilities.flatten(1, -2).sum(1)
    # where no point has a say every class is as likely
    return (total + torch.finfo(total.dtype).tiny) / (total + torch.finfo(total.dtype).tiny).sum(-1, True)
