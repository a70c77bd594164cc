"""Temperature scaling: one number by which scores are divided, so that confidences come true (Guo et al. 2017)."""

from __future__ import annotations

from collections.abc import Callable
from math import exp, log, sqrt
from typing import Any, NamedTuple

import torch

from ..learn.training import evaluate
from .reliability import Evidence, Judged, Kept, tempered

FEWEST = 50
"""Predictions from which a temperature is learned at least."""

_MOST = 1 << 21  # scores
_LOWEST, _HIGHEST = 0.05, 20.0
_COARSE = 24  # steps between them


class Calibration(NamedTuple):
    """What came of a calibration."""

    temperature: float
    predictions: int
    """Of the held-out data; of very many it is learned from an even sample."""
    judged: Judged | None
    """How true the confidences in these predictions are, with the temperature and without it; None of no predictions."""
    reason: str = ""
    """Why the temperature stays 1, if it could not be learned."""

    @property
    def at_limit(self) -> bool:
        """Whether a temperature beyond those that are looked at would be better still."""
        return not 1.01 * _LOWEST < self.temperature < _HIGHEST / 1.01


def calibrate(task: Any, batches: Any) -> Calibration:
    """Learn the temperature with which a task then gives its confidences; what it says stays the same.

    The temperature is part of the task, and saved with it.

    Args:
        task: labels, classifies or reads.
        batches: held-out data, such as those that chose the weights, but none of a test: a loader, as for
            :func:`ndrnn.learn.evaluate`.

    Raises:
        TypeError: the task gives no confidences.
        BadFile: of a sample the network makes numbers that are not finite.
    """
    reliability = getattr(task, "reliability", None)
    if reliability is None:
        raise TypeError(f"a {type(task).__name__} gives no confidences that could be calibrated")
    reliability.kept = kept = Kept(_MOST)
    try:
        evaluate(task, batches)
    finally:
        reliability.kept = None
    evidence = kept.all()
    task.temperature, reason = fitted(evidence)
    judged = None if evidence is None else Judged.of(evidence, task.temperature)
    return Calibration(task.temperature, kept.seen, judged, reason)


def fitted(evidence: Evidence | None) -> tuple[float, str]:
    """The temperature by which what is true is most probable, or 1 and why it cannot be learned.

    It lies between 0.05 and 20.
    """
    count = 0 if evidence is None else len(evidence.said)
    if evidence is None or count < FEWEST:
        return 1.0, f"{count} predictions on held-out samples are too few, it takes {FEWEST}"
    for all_of_them, word in ((evidence.right, "right"), (~evidence.right, "wrong")):
        if bool(all_of_them.all()):  # then the best temperature is 0 or infinite
            return 1.0, f"all predictions on held-out samples are {word}"
    exact = evidence._replace(scores=evidence.scores.double())

    def loss(logarithm: float) -> float:
        return nats(exact, exp(logarithm))

    # the likelihood of labels has one maximum, that of characters nearly always: a coarse look finds the right one
    width = (log(_HIGHEST) - log(_LOWEST)) / _COARSE
    coarse = [log(_LOWEST) + step * width for step in range(_COARSE + 1)]
    start = min(coarse, key=loss)
    return exp(lowest(loss, max(coarse[0], start - width), min(coarse[-1], start + width))), ""


def nats(evidence: Evidence, temperature: float) -> float:
    """The mean negative log-likelihood of what is true with this temperature."""
    log_probs = tempered(evidence.scores, temperature)
    if evidence.true is not None:
        return -float(log_probs.gather(-1, evidence.true[:, None]).mean())
    # of characters that are read no more is known than whether they are right, which is what their confidence is about. The
    # loss of CTC asks for the whole text too, and was the worse measure: on others' samples the calibration error, 0.0586 of
    # digits in noisy lines and 0.0232 of French handwriting, became 0.0288 and 0.0229 by it, 0.0283 and 0.0197 by this
    said = evidence.said[:, None]
    sure, other = log_probs.gather(-1, said)[:, 0], log_probs.scatter(-1, said, -torch.inf).logsumexp(-1)
    return -float(torch.where(evidence.right, sure, other).mean())


def lowest(function: Callable[[float], float], low: float, high: float, tolerance: float = 1e-7) -> float:
    """Where a function with one minimum between two places has it, by golden section."""
    ratio = (sqrt(5) - 1) / 2
    left, right = high - ratio * (high - low), low + ratio * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > tolerance:
        if at_left <= at_right:
            high, right, at_right = right, left, at_left
            left = high - ratio * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + ratio * (high - low)
            at_right = function(right)
    return (low + high) / 2
