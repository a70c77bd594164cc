"""Whether confidences are true: of the predictions that are c sure, a share of c should be right (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric

BINS = 15
"""Bins of equal width, as in the paper."""
NAMES = {"calibration_error": "calibration error", "brier": "Brier score"}
"""What tells how true confidences are, properties of :class:`Bins`, and what people call them."""


class Evidence(NamedTuple):
    """Predictions beside what is true."""

    scores: Tensor
    """Of all labels (M, L), before the softmax."""
    said: Tensor
    """The label that was said (M,) int64, and whose probability is the confidence."""
    right: Tensor
    """Whether it is the true one (M,) bool."""
    true: Tensor | None = None
    """The true label (M,) int64, where it is known what should have been said."""

    def confidence(self, temperature: float = 1.0) -> Tensor:
        """Of each prediction (M,)."""
        scores = self.scores / temperature
        return (scores.gather(-1, self.said[:, None])[:, 0] - scores.logsumexp(-1)).exp()


def tempered(scores: Tensor, temperature: float) -> Tensor:
    """The logarithm of the softmax of scores (..., L) that are divided by a temperature: above 1 it is less sure."""
    return (scores / temperature).log_softmax(-1)


class Bins(NamedTuple):
    """Predictions by their confidence: those of bin k lie above k / 15, and not above (k + 1) / 15."""

    counts: Tensor
    """How many they are (15,)."""
    confidence: Tensor
    """The sum of their confidences (15,)."""
    right: Tensor
    """How many of them are right (15,)."""
    squares: Tensor
    """Over all predictions, the sum of (confidence - 1)² of right ones and confidence² of wrong ones."""

    @classmethod
    def of(cls, confidence: Tensor, right: Tensor) -> Bins:
        """Those of confidences (M,), and of whether each prediction was right (M,) bool; float64, on the CPU."""
        sure, hit = confidence.detach().cpu().double(), right.cpu().double()
        place = torch.bucketize(sure, torch.arange(1, BINS, dtype=torch.float64) / BINS)
        count, total, hits = (
            torch.bincount(place, weights, BINS) for weights in (torch.ones_like(sure), sure, hit)
        )
        return cls(count, total, hits, ((sure - hit) ** 2).sum())

    @property
    def calibration_error(self) -> float:
        """The distance of the mean confidence from the share of right predictions in a bin, the mean over all
        predictions: the expected calibration error; NaN of none."""
        return float((self.confidence - self.right).abs().sum() / self.counts.sum())

    @property
    def brier(self) -> float:
        """The mean of the squares (Brier 1950), with 1 as the truth of a right prediction and 0 of a wrong one."""
        return float(self.squares / self.counts.sum())

    def told(self) -> dict[str, Any]:
        """As plain values; of a bin without predictions confidence and accuracy are None."""
        bins = []
        for number, (count, total, right) in enumerate(
            zip(self.counts.tolist(), self.confidence.tolist(), self.right.tolist(), strict=True)
        ):
            bins.append(
                {
                    "from": number / BINS,
                    "to": (number + 1) / BINS,
                    "count": int(count),
                    "confidence": total / count if count else None,
                    "accuracy": right / count if count else None,
                }
            )
        return {**{name: getattr(self, name) for name in NAMES}, "bins": bins}


def figure_rows(columns: Iterable[Bins]) -> list[list[str]]:
    """The figures of several bins side by side, a line each with its name."""
    beside = list(columns)
    return [[called, *(f"{getattr(bins, name):.4f}" for bins in beside)] for name, called in NAMES.items()]


class Judged(NamedTuple):
    """How true the confidences in the same predictions are."""

    temperature: float
    given: Bins
    """With the temperature."""
    plain: Bins
    """Without it."""

    @classmethod
    def of(cls, evidence: Evidence, temperature: float) -> Judged:
        """Those of some predictions."""
        plain = Bins.of(evidence.confidence(), evidence.right)
        if temperature == 1:
            return cls(1.0, plain, plain)
        return cls(temperature, Bins.of(evidence.confidence(temperature), evidence.right), plain)

    def told(self) -> dict[str, Any]:
        """As plain values, those without the temperature where there is one."""
        told = {
            "temperature": self.temperature,
            "predictions": int(self.given.counts.sum()),
            **self.given.told(),
        }
        return told if self.temperature == 1 else {**told, "uncalibrated": self.plain.told()}


class Kept:
    """An even sample of predictions as they come, so that memory stays bounded.

    Args:
        most: scores that are kept at most.
    """

    def __init__(self, most: int) -> None:
        self.most = most
        self.seen = 0
        """Predictions of which it is a sample."""
        self._share = 1.0
        self._parts: list[Evidence] = []
        self._generator = torch.Generator().manual_seed(0)

    def add(self, evidence: Evidence) -> None:
        """Take predictions into account."""
        self.seen += len(evidence.said)
        self._parts.append(self._drawn(evidence, self._share))
        while sum(part.scores.numel() for part in self._parts) > self.most:
            self._share /= 2
            self._parts = [self._drawn(part, 0.5) for part in self._parts]

    def all(self) -> Evidence | None:
        """What is kept; None of no predictions."""
        if not self.seen:
            return None
        columns = zip(*self._parts, strict=True)
        return Evidence(*(None if column[0] is None else torch.cat(column) for column in columns))  # type: ignore[arg-type]

    def _drawn(self, evidence: Evidence, share: float) -> Evidence:
        chosen: slice | Tensor = slice(None)
        if share < 1:
            drawn = torch.rand(len(evidence.said), generator=self._generator) < share
            chosen = drawn.to(evidence.said.device)
        return Evidence(*(None if part is None else part[chosen].detach().cpu() for part in evidence))  # type: ignore[arg-type]


class Reliability(Metric):
    """Adds up bins over batches, over processes, and over the parts of an evaluation."""

    full_state_update = False
    counts: Tensor
    sums: Tensor
    squares: Tensor

    def __init__(self) -> None:
        super().__init__()
        # first with the temperature, then without; float32, since not every device has more
        self.add_state("counts", torch.zeros(2, 2, BINS, dtype=torch.int64), dist_reduce_fx="sum")
        self.add_state("sums", torch.zeros(2, BINS), dist_reduce_fx="sum")
        self.add_state("squares", torch.zeros(2), dist_reduce_fx="sum")
        self.kept: Kept | None = None
        """Where it is set, it gets the predictions too."""

    def update(self, evidence: Evidence, temperature: float) -> None:
        """Take predictions into account."""
        if self.kept is not None:
            self.kept.add(evidence)
        judged = Judged.of(evidence, temperature)
        both = (judged.given, judged.plain)
        self.counts += torch.stack([torch.stack((bins.counts, bins.right)) for bins in both]).to(self.counts)
        self.sums += torch.stack([bins.confidence for bins in both]).to(self.sums)
        self.squares += torch.stack([bins.squares for bins in both]).to(self.squares)

    def compute(self) -> tuple[Bins, Bins]:
        """With the temperature, and without."""
        parts = zip(self.counts.cpu(), self.sums.cpu().double(), self.squares.cpu().double(), strict=True)
        given, plain = (Bins(count, sums, right, squares) for (count, right), sums, squares in parts)
        return given, plain

    def taken(self, temperature: float) -> Judged | None:
        """What was found since the last call; None without a prediction."""
        found = Judged(temperature, *self.compute()) if self.update_called else None
        self.reset()
        return found if found is not None and found.given.counts.sum() else None
