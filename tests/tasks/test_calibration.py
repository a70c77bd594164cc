"""Confidences that come true: bins and errors by hand, the temperature of made-up scores, saving and loading."""

from __future__ import annotations

import json
import struct
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch.utils.data import DataLoader

import ndrnn
from ndrnn.data.batches import ClassifyBatch, Facts, LabelBatch, TranscribeBatch
from ndrnn.learn.tally import add, tally
from ndrnn.saving import models
from ndrnn.tasks import IGNORE, Classify, Density, Label, Network, Transcribe, build, calibrate
from ndrnn.tasks.calibration import FEWEST, Calibration, fitted, nats
from ndrnn.tasks.decoding import hits
from ndrnn.tasks.label import most_probable
from ndrnn.tasks.reliability import BINS, Bins, Evidence, Judged, Kept

pytestmark = pytest.mark.filterwarnings("ignore:backend", "ignore:.*LeafSpec", "ignore:.*samples in targets")

KEPT = Path(__file__).parents[1] / "saved_0_2/label.safetensors"


def test_errors_of_a_few_confidences_by_hand():
    # 0.2 is the upper edge of the third bin, which it belongs to; 0.62 and 0.61 share one
    sure, right = [1.0, 0.9, 0.62, 0.61, 0.2, 0.0], [True, True, False, True, False, False]
    bins = Bins.of(torch.tensor(sure, dtype=torch.float64), torch.tensor(right))
    assert bins.calibration_error == pytest.approx((0 + 0.1 + abs(1.23 - 1) + 0.2 + 0) / 6)
    assert bins.brier == pytest.approx((0 + 0.1**2 + 0.62**2 + 0.39**2 + 0.2**2 + 0) / 6)
    told = bins.told()["bins"]
    assert [one["count"] for one in told] == [1, 0, 1, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 1, 1]
    assert (told[9]["from"], told[9]["to"]) == (pytest.approx(0.6), pytest.approx(2 / 3))
    assert (told[9]["confidence"], told[9]["accuracy"]) == (pytest.approx(0.615), 0.5)
    assert (told[1]["confidence"], told[1]["accuracy"]) == (None, None)


def test_errors_are_those_of_a_plain_loop():
    generator = torch.Generator().manual_seed(0)
    sure = torch.rand(700, generator=generator)
    right = torch.rand(700, generator=generator) < sure**2
    error, brier = 0.0, 0.0
    for number in range(BINS):
        inside = [
            (float(one), bool(hit))
            for one, hit in zip(sure, right, strict=True)
            if number / BINS < one <= (number + 1) / BINS
        ]
        if inside:
            confidence = sum(one for one, _ in inside) / len(inside)
            accuracy = sum(hit for _, hit in inside) / len(inside)
            error += len(inside) / 700 * abs(accuracy - confidence)
    for one, hit in zip(sure.tolist(), right.tolist(), strict=True):
        brier += (one - hit) ** 2 / 700
    bins = Bins.of(sure, right)
    assert bins.calibration_error == pytest.approx(error, rel=1e-9)
    assert bins.brier == pytest.approx(brier, rel=1e-9)


def drawn(temperature, count=30_000, labels=5, characters=False):
    """Scores, and truths drawn by their softmax at a temperature."""
    generator = torch.Generator().manual_seed(1)
    scores = 3 * torch.randn(count, labels, generator=generator)
    true = (scores / temperature).softmax(-1).multinomial(1, generator=generator)[:, 0]
    said = scores.argmax(-1)
    return Evidence(scores, said, said == true, None if characters else true)


@pytest.mark.parametrize("characters", [False, True])
@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_of_made_up_scores_is_found(temperature, characters):
    evidence = drawn(temperature, characters=characters)
    found, reason = fitted(evidence)
    assert not reason
    assert found == pytest.approx(temperature, rel=0.04)
    # it is a minimum, and the confidences are then as true as chance allows
    assert nats(evidence, found) <= min(nats(evidence, 0.99 * found), nats(evidence, 1.01 * found))
    judged = Judged.of(evidence, found)
    assert judged.given.calibration_error < 0.012
    if temperature == 3:
        assert judged.plain.calibration_error > 0.2
    if not characters:
        expected = F.cross_entropy(evidence.scores / found, evidence.true)
        assert nats(evidence, found) == pytest.approx(float(expected), rel=1e-5)


def test_what_a_temperature_cannot_be_learned_from():
    assert fitted(None)[0] == 1
    few = Evidence(*(part[: FEWEST - 1] for part in drawn(3.0)))
    assert fitted(few) == (1, f"{FEWEST - 1} predictions on held-out samples are too few, it takes {FEWEST}")
    right = drawn(3.0)._replace(right=torch.ones(30_000, dtype=torch.bool))
    assert fitted(right) == (1, "all predictions on held-out samples are right")
    with pytest.raises(TypeError, match="a DensityTask gives no confidences"):
        calibrate(build(Density(hidden=2, components=2, features=2), Facts(levels=0)), [])


def test_a_sample_of_many_predictions_is_an_even_one():
    evidence = drawn(1.0, 4000)
    whole, kept = Kept(10**9), Kept(5000)
    for start in range(0, 4000, 100):
        part = Evidence(*(column[start : start + 100] for column in evidence))
        whole.add(part)
        kept.add(part)
    assert all(torch.equal(one, other) for one, other in zip(whole.all(), evidence, strict=True))
    sample = kept.all()
    assert kept.seen == 4000
    assert 300 < len(sample.said) <= 1000
    places = (sample.scores[:, None, 0] == evidence.scores[None, :, 0]).nonzero()[:, 1].double()
    assert float(places.mean()) == pytest.approx(2000, abs=200)
    assert torch.equal(evidence.true[places.long()], sample.true)


def alignments(said, true):
    """Every way to mend a text: its edits, and which characters it keeps."""
    if not said or not true:
        yield len(said) + len(true), (False,) * len(said)
        return
    for edits, kept in alignments(said[1:], true[1:]):
        yield edits + (said[0] != true[0]), (said[0] == true[0], *kept)
    for edits, kept in alignments(said[1:], true):
        yield edits + 1, (False, *kept)
    for edits, kept in alignments(said, true[1:]):
        yield edits + 1, kept


@pytest.mark.parametrize(
    ("said", "true"),
    [
        ("", "ab"),
        ("ab", ""),
        ("abc", "abc"),
        ("abxc", "abc"),
        ("bc", "abc"),
        ("abab", "baba"),
        ("aab", "cab"),
    ],
)
def test_characters_that_are_right_are_those_of_a_shortest_way_to_the_truth(said, true):
    ways = list(alignments(said, true))
    fewest = min(edits for edits, _ in ways)
    assert tuple(hits(said, true)) in {kept for edits, kept in ways if edits == fewest}


FACTS = Facts(classes=("paper", "ink", "seal"), alphabet="ab")
SETTINGS = {
    "label": Label(network=Network(hidden=(2,))),
    "points": Classify(network=Network(hidden=(2,))),
    "sample": Classify(by="sample", network=Network(hidden=(2,))),
    "transcribe": Transcribe(network=Network(hidden=(2,))),
}


class Fixed(torch.nn.Module):
    """A network that gives back the features of points, or their mean over some axes, so that its output is known."""

    def __init__(self, collapse):
        super().__init__()
        self.collapse = collapse

    def forward(self, x, sizes=None):
        return x.mean(self.collapse) if self.collapse else x

    def output_sizes(self, sizes):
        return sizes[:, 1:]


def made(kind):
    """A task whose network is known, and samples for it."""
    task = build(SETTINGS[kind], FACTS)
    task.model = Fixed({"label": (), "points": (), "sample": (1, 2), "transcribe": (1,)}[kind])
    x = 3 * torch.randn(40, 5, 9, 4 if kind == "points" else 3, generator=torch.Generator().manual_seed(2))
    if kind == "transcribe":
        return task, TranscribeBatch(x, ("ab", "ba", "abab", "b") * 10)
    generator = torch.Generator().manual_seed(3)
    if kind == "label":
        return task, LabelBatch(x, torch.randint(0, 3, x.shape[:-1], generator=generator))
    return task, ClassifyBatch(x, torch.randint(0, 3, (40,), generator=generator))


@pytest.mark.parametrize("temperature", [0.3, 7.0])
@pytest.mark.parametrize("kind", SETTINGS)
def test_a_temperature_changes_how_sure_a_network_is_and_not_what_it_says(kind, temperature):
    task, batch = made(kind)
    before = task.predict_step(batch)
    task.temperature = temperature
    for x, one, other in zip(batch.x, before, task.predict_step(batch), strict=True):
        if kind == "label":
            assert torch.equal(one.labels, other.labels)
            torch.testing.assert_close(other.confidence, (x / temperature).softmax(-1).amax(-1))
        elif kind == "transcribe":
            assert (one.text, one.frames) == (other.text, other.frames)
            assert one.log_probability == other.log_probability
            scores = x.mean(0)
            labels = [" ab".index(character) for character in one.text]
            for label, (first, last), sure in zip(labels, one.frames, other.characters, strict=True):
                frame = max(scores[first:last].softmax(-1), key=lambda row, label=label: float(row[label]))
                powers = frame ** (1 / temperature)
                assert sure == pytest.approx(float(powers[label] / powers.sum()), rel=1e-4)
        else:
            assert one.label == other.label == int(one.probabilities.argmax())
            powers = one.probabilities ** (1 / temperature)
            torch.testing.assert_close(other.probabilities, powers / powers.sum(), rtol=1e-4, atol=1e-7)


def test_two_nearly_equal_scores_keep_their_order():
    scores = torch.tensor([1.0, 1.0 + 2**-23])
    for temperature in (0.3, 3.0, 7.0, 19.0):
        assert int(most_probable(scores, temperature)[1]) == 1


def loader(*batches):
    return DataLoader(list(batches), batch_size=None, collate_fn=lambda batch: batch)


def test_neither_padding_nor_points_that_do_not_count_have_a_say():
    task, whole = made("label")
    target = whole.target.clone()
    target[:, 0, 0] = IGNORE
    sizes = torch.stack([torch.randint(2, 6, (40,)), torch.randint(2, 10, (40,))], 1)
    found = calibrate(task, loader(whole._replace(target=target, sizes=sizes)))
    parts = [
        LabelBatch(x[None, :height, :width], labels[None, :height, :width])
        for x, labels, (height, width) in zip(whole.x, target, sizes.tolist(), strict=True)
    ]
    alone = calibrate(task, loader(*parts))
    assert found.predictions == alone.predictions == int((sizes.prod(1) - 1).sum())
    assert alone.temperature == pytest.approx(found.temperature, rel=1e-5)
    assert task.temperature == alone.temperature > 1.5  # the labels are chance
    assert alone.judged.plain.calibration_error == pytest.approx(found.judged.plain.calibration_error)
    changed = whole.x.clone()
    changed[:, 0, 0] = 100.0
    again = calibrate(task, loader(whole._replace(x=changed, target=target, sizes=sizes)))
    assert again.temperature == pytest.approx(found.temperature, rel=1e-5)


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_check_judges_what_predict_says(kind):
    task, batch = made(kind)
    task.temperature = 2.5
    task.check(batch)
    task.results()
    judged = task.judged
    expected = said(task, kind, batch)
    assert judged.given.calibration_error == pytest.approx(expected.calibration_error, abs=1e-5)
    assert judged.given.brier == pytest.approx(expected.brier, abs=1e-5)
    task.temperature = 1.0
    plain = said(task, kind, batch)
    assert judged.plain.brier == pytest.approx(plain.brier, abs=1e-5)
    assert abs(plain.brier - expected.brier) > 1e-3
    # the parts of an evaluation are added up, and nothing is left of what was told before
    task.temperature = 2.5
    task.check(batch)
    counts = tally(task)
    other, _ = made(kind)
    other.temperature = 2.5
    add(other, json.loads(json.dumps(counts)))
    add(other, counts)
    other.results()
    assert int(other.judged.given.counts.sum()) == 2 * int(expected.counts.sum())
    assert other.judged.given.brier == pytest.approx(judged.given.brier)


def said(task, kind, batch):
    """The bins of what it predicts."""
    sure, right = [], []
    for one, target in zip(task.predict_step(batch), batch.target, strict=True):
        if kind == "label":
            sure += one.confidence.flatten().tolist()
            right += (one.labels == target).flatten().tolist()
        elif kind == "transcribe":
            sure += one.characters
            right += hits(one.text, target)
        else:
            sure.append(float(one.probabilities[one.label]))
            right.append(one.label == int(target))
    return Bins.of(torch.tensor(sure), torch.tensor(right))


@pytest.mark.parametrize("kind", SETTINGS)
def test_a_temperature_is_saved_and_loaded(kind, tmp_path):
    task = build(SETTINGS[kind], FACTS)
    task.temperature = 1.5
    ndrnn.save(task, tmp_path / "one.safetensors")
    assert ndrnn.load(tmp_path / "one.safetensors").temperature == 1.5
    task.setup("fit")  # other weights, another temperature
    assert task.temperature == 1
    assert "temperature" not in task.config()


def test_models_of_before_have_none():
    task = ndrnn.load(KEPT)
    assert "temperature" not in models.load(KEPT).config()
    assert task.temperature == 1


@pytest.mark.parametrize("wrong", ["0", "-1.5", '"hot"', "null", "[1]"])
def test_a_temperature_that_is_none_is_refused(wrong, tmp_path):
    task = build(SETTINGS["label"], FACTS)
    task.temperature = 1.25
    path = tmp_path / "one.safetensors"
    ndrnn.save(task, path)
    whole = path.read_bytes()
    (length,) = struct.unpack("<Q", whole[:8])
    head = whole[8 : 8 + length].rstrip().replace(b"1.25", json.dumps(wrong)[1:-1].encode())
    path.write_bytes(struct.pack("<Q", len(head)) + head + whole[8 + length :])
    with pytest.raises(ValueError, match=r"one.safetensors: .*temperature must be a finite number above 0"):
        ndrnn.load(path)


def test_a_temperature_at_the_end_of_the_range_is_told():
    """What is surely wrong three times in four is best not sure at all, which no temperature makes it."""
    scores = torch.zeros(60, 3)
    scores[:, 0] = 5
    true = torch.ones(60, dtype=torch.int64)
    true[::4] = 0
    said = torch.zeros(60, dtype=torch.int64)
    found, _ = fitted(Evidence(scores, said, said == true, true))
    assert Calibration(found, 60, None).at_limit
    assert not Calibration(1.5, 60, None).at_limit
