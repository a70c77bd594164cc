"""How sure a network is of characters, words and lines, and where they are."""

from __future__ import annotations

from itertools import product
from math import log

import numpy as np
import pytest
import torch

from ndrnn.data.reading import mean_confidence, words_of
from ndrnn.tasks import Facts, Transcribe, build
from ndrnn.tasks.decoding import aligned, collapsed, frames_needed
from ndrnn.tasks.network import Network
from ndrnn.tasks.transcribe import TranscribeTask


def spans_by_force(log_probs, labels):
    """The runs of the most probable of all paths that give the labelling."""
    frames, count = log_probs.shape
    best = max(
        (path for path in product(range(count), repeat=frames) if collapsed(path) == labels),
        key=lambda path: sum(float(log_probs[time, label]) for time, label in enumerate(path)),
    )
    spans, before = [], 0
    for time, label in enumerate(best):
        if label and label != before:
            spans.append([time, time + 1])
        elif label:
            spans[-1][1] = time + 1
        before = label
    return [tuple(span) for span in spans]


@pytest.mark.parametrize("labels", [(1,), (1, 2), (1, 1), (2, 1, 2), (1, 1, 2)])
def test_alignment_is_the_best_of_all_paths(labels):
    generator = torch.Generator().manual_seed(len(labels))
    for _ in range(5):
        log_probs = (2 * torch.randn(6, 3, generator=generator)).log_softmax(-1)
        assert aligned(log_probs, labels) == spans_by_force(log_probs, labels)


def test_alignment_needs_frames():
    flat = torch.zeros(3, 3).log_softmax(-1)
    assert aligned(flat, ()) == []
    assert frames_needed((1, 1, 2)) == 4
    with pytest.raises(ValueError, match="3 labels need 4 frames, got 3"):
        aligned(flat, (1, 1, 2))


class Fixed(torch.nn.Module):
    """A network whose output is known."""

    def __init__(self, probabilities):
        super().__init__()
        self.scores = torch.tensor(probabilities).log()

    def forward(self, x, sizes=None):
        return self.scores.expand(len(x), -1, -1)

    def output_sizes(self, sizes):
        return torch.full((len(sizes), 1), len(self.scores))


def reader(probabilities, alphabet, **options):
    task = build(
        Transcribe(network=Network(hidden=(2,)), **options),
        Facts(alphabet=alphabet[0], direction=alphabet[1]),
    )
    assert isinstance(task, TranscribeTask)
    task.model = Fixed(probabilities)
    return task


def read(task):
    from ndrnn.data.batches import TranscribeBatch

    (one,) = task.predict_step(TranscribeBatch(torch.zeros(1, 4, 8, 1), ("",)))
    return one


# frames of blank, space, a, b
FRAMES = [
    [0.1, 0.1, 0.7, 0.1],
    [0.05, 0.05, 0.8, 0.1],
    [0.9, 0.02, 0.04, 0.04],
    [0.2, 0.1, 0.1, 0.6],
    [0.1, 0.5, 0.2, 0.2],
    [0.9, 0.02, 0.04, 0.04],
    [0.02, 0.02, 0.06, 0.9],
    [0.9, 0.02, 0.04, 0.04],
]


@pytest.mark.parametrize("beam", [0, 50])
def test_confidence_of_characters_words_and_lines(beam):
    one = read(reader(FRAMES, (" ab", ""), beam=beam))
    assert one.text == "ab b"
    assert one.characters == pytest.approx([0.8, 0.6, 0.5, 0.9])
    assert [word.text for word in one.words] == ["ab", "b"]
    assert [word.confidence for word in one.words] == pytest.approx([(0.8 * 0.6) ** 0.5, 0.9])
    assert one.confidence == pytest.approx((0.8 * 0.6 * 0.5 * 0.9) ** 0.25)
    # b is seen in frame 3, the other one in frame 6 of 8: words meet in the middle between the ends
    assert [(word.start, word.end) for word in one.words] == [(0.0, 0.625), (0.625, 1.0)]
    paths = 0.0
    for path in product(range(4), repeat=8):
        if collapsed(path) == (2, 3, 1, 3):
            paths += float(np.prod([FRAMES[time][label] for time, label in enumerate(path)]))
    assert one.log_probability == pytest.approx(log(paths), rel=1e-5)


def test_an_empty_text_has_the_confidence_of_the_blank():
    one = read(reader([[0.9, 0.1], [0.4 * 2, 0.2]], ("a", "")))
    assert (one.text, one.characters, one.words) == ("", (), ())
    assert one.confidence == pytest.approx((0.9 * 0.8) ** 0.5)


def test_a_long_line_is_as_sure_as_a_short_one():
    frames = [[0.1, 0.9], [0.9, 0.1]] * 200
    one = read(reader(frames, ("a", "")))
    assert len(one.text) == 200
    assert one.confidence == pytest.approx(0.9)


def test_lines_that_run_from_right_to_left():
    # on the image from left to right: gimel, space, bet, alef
    order, sure = "ג בא", [0.9, 0.5, 0.8, 0.7]
    alphabet = " אבג"
    frames = []
    for letter, value in zip(order, sure, strict=True):
        row = [(1 - value) / 4] * 5
        row[1 + alphabet.index(letter)] = value
        frames += [row, [0.96, 0.01, 0.01, 0.01, 0.01]]
    one = read(reader(frames, (alphabet, "auto")))
    assert one.text == "אב ג"
    assert one.characters == pytest.approx([0.7, 0.8, 0.5, 0.9])
    first, second = one.words
    assert (first.text, second.text) == ("אב", "ג")
    assert (second.start, first.end) == (0.0, 1.0)  # what is read first stands at the right
    assert first.start == second.end == pytest.approx((1 / 8 + 4 / 8) / 2)
    task = reader(frames, (alphabet, "auto"))
    assert task.decode(task.encode("אב ג")) == "אב ג"
    assert task.encode("אב ג") == tuple(1 + alphabet.index(letter) for letter in order)


def test_texts_of_models_of_before_are_taken_as_they_stand():
    task = reader(FRAMES, ("אב ", ""))
    assert task.encode("אב") == (1, 2)
    assert task.decode((1, 2)) == "אב"


def test_numbers_that_are_not_finite_are_not_hidden():
    frames = [row[:] for row in FRAMES]
    frames[3] = [float("nan")] * 4
    assert not np.isfinite(read(reader(frames, (" ab", ""))).confidence)


def test_words_and_means():
    assert mean_confidence([0.5, 0.0]) == 0
    assert mean_confidence([1e-300] * 10) == pytest.approx(1e-300)
    assert words_of("", (), ()) == ()
    words = words_of("a b", [1, 1, 1], [(0, 0.2), (0.2, 0.4), (0.4, 0.6)])
    assert [(word.text, word.start, word.end) for word in words] == [
        ("a", 0.0, pytest.approx(0.3)),
        ("b", pytest.approx(0.3), 1.0),
    ]


@pytest.mark.parametrize("options", [{}, {"beam": 4}])
@pytest.mark.parametrize(
    ("path", "text"),
    [
        (" a", "a"),
        ("a ", "a"),
        ("a _ b", "a b"),
        (" _ a b _ ", "a b"),
        (" ", ""),
        (" _ ", ""),
        ("_", ""),
        ("a", "a"),
    ],
)
def test_what_is_read_has_single_spaces_like_what_is_learned_from(path, text, options):
    frames = [[0.97 if symbol == most else 0.01 for symbol in "_ ab"] for most in path]
    read_one = read(reader(frames, (" ab", ""), **options))
    assert read_one.text == text
    assert len(read_one.characters) == len(text)
    assert read_one.log_probability < 0
