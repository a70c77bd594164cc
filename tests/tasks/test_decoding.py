"""CTC decoding against the sum over every path, and torch's loss."""

from __future__ import annotations

from itertools import product
from math import exp, log, prod

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from ndrnn.tasks.decoding import aligned, beam_search, collapsed, frames_needed, greedy


def every_labelling(log_probs: torch.Tensor) -> dict[tuple[int, ...], float]:
    """Probabilities of all labellings: paths enumerated, repeats merged by hand, blanks dropped."""
    probabilities = log_probs.exp().tolist()
    totals: dict[tuple[int, ...], float] = {}
    for path in product(range(log_probs.shape[1]), repeat=len(log_probs)):
        merged = [label for t, label in enumerate(path) if t == 0 or path[t - 1] != label]
        labels = tuple(label for label in merged if label)
        totals[labels] = totals.get(labels, 0.0) + prod(
            frame[label] for frame, label in zip(probabilities, path, strict=True)
        )
    return totals


@pytest.mark.parametrize("seed", range(20))
@pytest.mark.parametrize(("frames", "labels"), [(1, 3), (3, 2), (4, 4), (5, 3)])
def test_a_wide_beam_finds_every_labelling_with_its_exact_probability(seed, frames, labels):
    generator = torch.Generator().manual_seed(seed)
    log_probs = (3 * torch.randn(frames, labels, generator=generator, dtype=torch.float64)).log_softmax(-1)
    expected = every_labelling(log_probs)
    found = beam_search(log_probs, 10_000, count=10_000)
    assert {decoded.labels for decoded in found} == expected.keys()
    for decoded in found:
        assert decoded.log_prob == pytest.approx(log(expected[decoded.labels]), abs=1e-9)
    assert [decoded.log_prob for decoded in found] == sorted((d.log_prob for d in found), reverse=True)
    assert sum(exp(decoded.log_prob) for decoded in found) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(10))
def test_a_scorer_is_asked_for_each_next_label_and_for_the_end(seed):
    generator = torch.Generator().manual_seed(seed)
    log_probs = torch.randn(4, 3, generator=generator, dtype=torch.float64).log_softmax(-1)

    def scorer(prefix):
        rng = np.random.default_rng([seed, *prefix])
        return rng.normal(size=3)

    def total(labels):
        steps = [scorer(labels[:n])[label] for n, label in enumerate(labels)]
        return sum(steps) + scorer(labels)[0]

    expected = {labels: log(p) + total(labels) for labels, p in every_labelling(log_probs).items()}
    found = beam_search(log_probs, 10_000, scorer=scorer, count=10_000)
    assert found[0].labels == max(expected, key=expected.get)
    assert {decoded.labels: pytest.approx(decoded.log_prob) for decoded in found} == expected


def test_a_scorer_can_forbid():
    log_probs = torch.tensor([[0.1, 0.6, 0.3], [0.2, 0.2, 0.6]]).log()
    assert beam_search(log_probs, 8)[0].labels == (1, 2)
    found = beam_search(log_probs, 8, scorer=lambda prefix: [0, -np.inf, 0], count=8)
    assert {decoded.labels for decoded in found} == {(2,), ()}


@pytest.mark.parametrize("width", [1, 2, 4])
def test_a_narrow_beam_gives_a_lower_bound(width):
    log_probs = torch.randn(
        12, 5, generator=torch.Generator().manual_seed(1), dtype=torch.float64
    ).log_softmax(-1)
    for decoded in beam_search(log_probs, width, count=width):
        loss = F.ctc_loss(
            log_probs[:, None], torch.tensor([decoded.labels]), torch.tensor([12]), torch.tensor([len(decoded.labels)]),
            reduction="sum",
        )  # fmt: skip
        assert decoded.log_prob <= -loss + 1e-9


def test_summing_paths_can_beat_the_best_path():
    # Graves et al. 2006: the best path is all blanks, yet "1" is the more probable labelling
    log_probs = torch.tensor([[0.6, 0.4], [0.6, 0.4]]).log()
    assert greedy(log_probs).labels == ()
    assert greedy(log_probs).log_prob == pytest.approx(log(0.36))
    best = beam_search(log_probs, 4)[0]
    assert best.labels == (1,)
    assert best.log_prob == pytest.approx(log(0.64))


@pytest.mark.parametrize(
    ("path", "labels"), [([0, 1, 1, 0, 1, 2, 2], (1, 1, 2)), ([], ()), ([0, 0], ()), ([3, 3, 3], (3,))]
)
def test_repeats_merge_unless_a_blank_parts_them(path, labels):
    assert collapsed(path) == labels


def test_frames_needed_is_where_torchs_loss_becomes_finite():
    for labels in ([1], [1, 1], [1, 2, 2, 2, 1], [2, 2, 1, 1]):
        for frames in range(1, 12):
            loss = F.ctc_loss(
                torch.zeros(frames, 1, 3).log_softmax(-1), torch.tensor([labels]), torch.tensor([frames]),
                torch.tensor([len(labels)]), reduction="sum",
            )  # fmt: skip
            assert bool(torch.isfinite(loss)) == (frames >= frames_needed(labels))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: beam_search(torch.zeros(3)), r"log_probs must have shape \(T, L\) with L > 1, got \(3,\)"),
        (lambda: beam_search(torch.zeros(3, 2), 0), r"count must lie in \[1, width\] = \[1, 0\], got 1"),
        (
            lambda: beam_search(torch.zeros(3, 2), scorer=lambda prefix: [0.0]),
            "scorer must give 2 log-weights",
        ),
    ],
)
def test_bad_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("frames", "labels"), [(1, 3), (4, 3), (5, 4), (6, 2)])
def test_labels_are_aligned_along_the_most_probable_path(seed, frames, labels):
    generator = torch.Generator().manual_seed(seed)
    log_probs = (2 * torch.randn(frames, labels, generator=generator, dtype=torch.float64)).log_softmax(-1)
    best: dict[tuple[int, ...], tuple[float, tuple[int, ...]]] = {}
    for path in product(range(labels), repeat=frames):
        value = float(sum(log_probs[t, label] for t, label in enumerate(path)))
        merged = collapsed(path)
        best[merged] = max(best.get(merged, (-np.inf, ())), (value, path))
    for merged, (_, path) in best.items():
        expected, before = [], 0
        for t, label in enumerate(path):
            if label and label != before:
                expected.append((t, t))
            elif label:
                expected[-1] = (expected[-1][0], t)
            before = label
        assert aligned(log_probs, merged) == expected


def test_labels_that_need_more_frames_are_not_aligned():
    log_probs = torch.zeros(2, 3).log_softmax(-1)
    with pytest.raises(ValueError, match="at most the 2 frames that there are, got 3"):
        aligned(log_probs, (1, 1))
