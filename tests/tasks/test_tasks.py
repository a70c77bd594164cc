"""Each task: its loss and metrics against formulas, ragged batches, learning on generated data, saving and loading."""

from __future__ import annotations

from dataclasses import replace
from math import log

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from lightning import LightningDataModule
from torch.utils.data import DataLoader

import ndrnn
from ndrnn.data.sampler import BatchOrder, shuffled
from ndrnn.lattice import inside
from ndrnn.learn import Options, evaluate, fit
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import (
    IGNORE,
    Classify,
    ClassifyBatch,
    Density,
    DensityBatch,
    Facts,
    Label,
    LabelBatch,
    Network,
    Transcribe,
    TranscribeBatch,
    TranscribeTask,
    build,
)
from ndrnn.tasks.augmentation import Augment
from ndrnn.tasks.classify import name_samples
from ndrnn.tasks.label import dice_loss, label_loss, most_probable

pytestmark = pytest.mark.filterwarnings("ignore:backend", "ignore:.*LeafSpec", "ignore:.*samples in targets")


class Batches(LightningDataModule):
    """The same batches for training and for checks."""

    def __init__(self, batches, facts):
        super().__init__()
        self.batches, self.facts = batches, facts

    def train_dataloader(self):
        order = BatchOrder(shuffled(len(self.batches), 0), 1, self.trainer)
        return DataLoader(self.batches, batch_sampler=order, collate_fn=lambda batch: batch[0])

    def val_dataloader(self):
        return DataLoader(self.batches, batch_size=None, collate_fn=lambda batch: batch)

    test_dataloader = val_dataloader


def learned(settings, facts, batches, tmp_path):
    """The metrics of a task after training, and the task."""
    data = Batches(batches, facts)
    task = build(settings, facts)
    fit(task, data, tmp_path, show=False, accelerator="cpu")
    return evaluate(task, data), task


def quick(**options):
    return Options(**{"epochs": 30, "learning_rate": 0.03, **options})


def squares(count, n=2, size=8):
    """Noise with a bright square or cube of class 1 in it, in lattices of different sizes."""
    generator = torch.Generator().manual_seed(0)
    sizes = torch.randint(size - 3, size + 1, (count, n), generator=generator)
    x = 0.3 * torch.rand((count, *[size] * n, 1), generator=generator)
    target = torch.zeros((count, *[size] * n), dtype=torch.long)
    for index in range(count):
        place = (index, *(slice(1 + index % 2, 4 + index % 2) for _ in range(n)))
        x[place] += 0.6
        target[place] = 1
    x[~inside(sizes, x.shape[1:-1])] = 0
    return LabelBatch(x, target, sizes, tuple(f"{index}.png" for index in range(count)))


@pytest.mark.parametrize("n", [2, 3])
def test_points_are_labelled(tmp_path, n):
    facts = Facts(ndim=n, classes=("paper", "square"))
    settings = Label(network=Network(hidden=(3,)), dice=0.5, training=quick(steps_between_checks=30))
    batch = squares(6, n, 6)
    found, task = learned(settings, facts, [batch], tmp_path)
    assert found["point_error"] < 0.02
    assert found["iou/square"] > 0.9
    (first, *_) = task.predict_step(batch)
    assert first.name == "0.png"
    assert first.labels.shape == tuple(batch.sizes[0].tolist())
    assert ((first.confidence >= 0.5) & (first.confidence <= 1)).all()


def test_metrics_of_labels_are_those_of_their_definitions():
    facts = Facts(classes=("a", "b", "c", "never"))
    task = build(Label(network=Network(hidden=(2,)), background=0), facts)
    target = torch.tensor([[[0, 0, 1], [1, 2, IGNORE]]])
    said = torch.tensor([[[0, 1, 1], [1, 0, 3]]])
    task.model.forward = lambda x, sizes: F.one_hot(said, 4).float()
    task.check(LabelBatch(torch.zeros(1, 2, 3, 1), target, torch.tensor([[2, 3]])))
    found = task.results()
    assert float(found["point_error"]) == pytest.approx(2 / 5)
    assert float(found["iou/a"]) == pytest.approx(1 / 3)
    assert float(found["iou/b"]) == pytest.approx(2 / 3)
    assert float(found["iou/c"]) == 0
    assert float(found["dice/b"]) == pytest.approx(4 / 5)
    assert float(found["mean_iou"]) == pytest.approx(
        (2 / 3 + 0) / 2
    )  # neither the background nor what never occurs
    assert task.confusion.tolist() == [[1, 1, 0, 0], [0, 2, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]


@pytest.mark.parametrize(
    ("said", "mean_iou", "miss"), [([0, 0, 0, 0], 1, 0), ([0, 0, 1, 0], 0, 1 / 4), ([1, 0, 1, 0], 0, 1 / 2)]
)
def test_where_there_is_only_background_less_that_is_found_is_better(said, mean_iou, miss):
    task = build(Label(network=Network(hidden=(2,)), background=0), Facts(1, classes=("a", "b")))
    task.model.forward = lambda x, sizes: F.one_hot(torch.tensor([said]), 2).float()
    task.check(LabelBatch(torch.zeros(1, 4, 1), torch.zeros(1, 4, dtype=torch.long)))
    found = task.results()
    assert found["mean_iou"] == mean_iou
    assert found["miss"] == pytest.approx(miss)
    task.check(LabelBatch(torch.zeros(1, 4, 1), torch.full((1, 4), IGNORE)))
    assert task.results()["mean_iou"] == 0  # nothing was told


def test_losses_are_those_of_their_definitions():
    scores = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    target = torch.randint(0, 5, (2, 3, 4))
    target[0, 1] = IGNORE
    counted = target != IGNORE
    p = scores.softmax(-1)
    picked = [p[index][target[index]] for index in map(tuple, counted.nonzero().tolist())]
    assert label_loss(scores, target).item() == pytest.approx(-np.log(picked).mean())
    shares = []
    for label in target[counted].unique():
        true = (target == label) & counted
        both = (p[..., label] * true)[counted].sum()
        shares.append(2 * both / (p[..., label][counted].sum() + true.sum()))
    assert dice_loss(scores, target).item() == pytest.approx(1 - torch.stack(shares).mean().item())
    assert label_loss(scores, torch.full_like(target, IGNORE)) == 0
    assert dice_loss(scores, torch.full_like(target, IGNORE)) == 0
    with pytest.raises(ValueError, match=r"target must have shape \(2, 3, 4\), got \(2, 3\)"):
        label_loss(scores, target[..., 0])


def test_padding_neither_counts_nor_matters():
    task = build(Label(network=Network(hidden=(3,))), Facts(classes=("paper", "square")))
    batch = squares(3)
    x = batch.x.masked_fill(~inside(batch.sizes, batch.x.shape[1:-1])[..., None], 7.0)
    target = batch.target.masked_fill(~inside(batch.sizes, batch.target.shape[1:]), 1)
    torch.testing.assert_close(task.loss(batch._replace(x=x, target=target)), task.loss(batch))
    total = sum(int(size.prod()) for size in batch.sizes)
    alone = [
        task.loss(LabelBatch(batch.x[i : i + 1, : s[0], : s[1]], batch.target[i : i + 1, : s[0], : s[1]]))
        * s.prod()
        for i, s in enumerate(batch.sizes)
    ]
    torch.testing.assert_close(task.loss(batch), sum(alone) / total)


@pytest.mark.parametrize("dice", [0.0, 0.5])
def test_deep_supervision_adds_the_loss_of_every_lower_level(dice):
    network = Network(hidden=(2, 3, 2), blocks=("2x1", "1x1", "1x2"))
    facts = Facts(classes=("a", "b"))
    task = build(Label(network=network, dice=dice, deep_supervision=0.3), facts)
    batch = squares(3)
    batch = batch._replace(target=batch.target.masked_fill(~inside(batch.sizes, batch.x.shape[1:-1]), IGNORE))

    def loss(scores):
        return label_loss(scores, batch.target) + dice * dice_loss(scores, batch.target)

    first, second, top = task.model.scores(batch.x, batch.sizes)
    expected = loss(top) + 0.3 * loss(first) + 0.3 * loss(second)
    torch.testing.assert_close(task.loss(batch), expected)
    task.loss(batch).backward()
    assert all(weight.grad.abs().max() > 0 for weight in task.model.auxiliary.parameters())
    plain = build(Label(network=network, dice=dice), facts)
    assert len(plain.model.auxiliary) == 0
    # without it the network is the same, and so is what it says
    assert torch.equal(plain.model(batch.x, batch.sizes), top)


@pytest.mark.parametrize("by", ["points", "sample"])
def test_deep_supervision_of_names(by, tmp_path):
    task = build(
        Classify(network=Network(hidden=(2, 3)), by=by, deep_supervision=0.5), Facts(classes=("a", "b", "c"))
    )
    batch = ClassifyBatch(torch.rand(2, 4, 5, 1), torch.tensor([2, 0]), torch.tensor([[4, 5], [3, 2]]))
    target = task.point_labels(batch) if by == "points" else batch.target
    low, top = (
        F.cross_entropy(scores.flatten(0, -2), target.flatten(), ignore_index=IGNORE)
        for scores in task.model.scores(batch.x, batch.sizes)
    )
    torch.testing.assert_close(task.loss(batch), top + 0.5 * low)
    checkpoint.save(task, tmp_path / "task.safetensors")
    again = checkpoint.load(tmp_path / "task.safetensors")
    torch.testing.assert_close(again.loss(batch), top + 0.5 * low)


@pytest.mark.parametrize("kind", [Label, Classify])
def test_deep_supervision_is_checked(kind):
    with pytest.raises(ValueError, match=r"deep_supervision must not be below 0, got -1"):
        kind(network=Network(hidden=(2, 2)), deep_supervision=-1.0)
    with pytest.raises(
        ValueError, match=r"deep_supervision needs at least two levels in hidden, got \(25,\)"
    ):
        kind(deep_supervision=0.1)


@pytest.mark.parametrize("by", ["points", "sample"])
def test_samples_are_named(tmp_path, by):
    generator = torch.Generator().manual_seed(0)
    x = torch.zeros(12, 5, 6, 1)
    target = torch.arange(12) % 2
    for index in range(12):
        place = int(torch.randint(0, 5, (), generator=generator))
        x[(index, place) if index % 2 else (index, slice(None), place)] = 1
    batch = ClassifyBatch(x, target, torch.tensor([[5, 6]] * 12))
    settings = Classify(
        network=Network(hidden=(4,)), by=by, training=quick(epochs=60, steps_between_checks=60)
    )
    found, task = learned(settings, Facts(classes=("standing", "lying")), [batch], tmp_path)
    assert found["sample_error"] == 0
    first = task.predict_step(batch)[0]
    assert first.label == 0
    assert first.probabilities.sum() == pytest.approx(1)
    assert (first.points is None) == (by == "sample")


def test_points_are_called_by_their_samples_class_where_there_is_ink():
    task = build(
        Classify(network=Network(hidden=(1,)), background=0.2), Facts(channels=2, classes=("a", "b", "c"))
    )
    x = torch.tensor([[[[0.0, 0.3], [0.2, 0.1], [0.0, 0.9]]]])
    labels = task.point_labels(ClassifyBatch(x, torch.tensor([1]), torch.tensor([[1, 2]])))
    assert labels.tolist() == [[[1, 3, IGNORE]]]


def test_the_probabilities_of_points_are_summed_to_a_name():
    scores = torch.tensor([[[[0.7, 0.2, 0.1], [0.1, 0.3, 0.6]], [[0.3, 0.5, 0.2], [0.0, 0.9, 0.1]]]]).log()
    expected = torch.tensor([0.7 + 0.1 + 0.3, 0.2 + 0.3 + 0.5 + 0.9])
    torch.testing.assert_close(name_samples(scores, 2)[0], expected / expected.sum())
    expected = torch.tensor([0.7 + 0.3, 0.2 + 0.5])
    torch.testing.assert_close(name_samples(scores, 2, torch.tensor([[2, 1]]))[0], expected / expected.sum())
    torch.testing.assert_close(name_samples(scores, 2, torch.tensor([[0, 0]]))[0], torch.tensor([0.5, 0.5]))


GLYPHS = {"a": (0, 1), "b": (2, 3), "c": (1, 4)}


def written(texts, width=40):
    """Every character as four columns with two bright rows, and a gap after it."""
    x = torch.zeros(len(texts), 6, width, 1)
    sizes = []
    for index, text in enumerate(texts):
        for place, character in enumerate(text):
            x[index, list(GLYPHS[character]), 6 * place + 1 : 6 * place + 5] = 1
        sizes.append([6, 6 * len(text) + 2])
    return TranscribeBatch(x, tuple(texts), torch.tensor(sizes), tuple(f"{text}.png" for text in texts))


def test_text_is_read(tmp_path):
    network = Network(hidden=(4, 8), subsample=(6,), blocks=("3x2", "2x1"))
    settings = Transcribe(network=network, training=quick(epochs=60, steps_between_checks=60))
    batches = [written(["abc", "cab", "aabb", "c"]), written(["bca", "cc", "baac", "b"])]
    found, task = learned(settings, Facts(alphabet="abc"), batches, tmp_path)
    assert found["cer"] < 0.05
    assert found["wer"] <= 0.25
    data = Batches(batches, task.facts)
    task.settings = replace(settings, beam=4)
    beamed = evaluate(task, data)
    assert beamed["cer"] < 0.05
    read = task.predict_step(batches[0])
    assert [line.name for line in read] == ["abc.png", "cab.png", "aabb.png", "c.png"]
    assert all(0 < line.confidence <= 1 for line in read)
    assert task.frames(torch.tensor([[6, 40], [6, 7], [3, 1]])).tolist() == [20, 4, 1]


def test_the_loss_of_a_text_is_the_sum_over_its_paths_a_character():
    task = build(Transcribe(network=Network(hidden=(2,))), Facts(alphabet="ab", ndim=1))
    x = torch.rand(1, 3, 1)
    with torch.no_grad():
        p = task.model(x).softmax(-1)[0].tolist()
        # the paths of three frames that give "ab"
        paths = [(1, 2, 0), (1, 0, 2), (0, 1, 2), (1, 1, 2), (1, 2, 2)]
        total = sum(p[0][i] * p[1][j] * p[2][k] for i, j, k in paths)
        assert task.loss(TranscribeBatch(x, ("ab",))).item() == pytest.approx(-log(total) / 2, rel=1e-5)


def test_what_cannot_be_transcribed_is_named():
    task = build(Transcribe(network=Network(hidden=(2,), blocks=("2x2",))), Facts(alphabet="ab"))
    x = torch.zeros(1, 4, 6, 1)
    with pytest.raises(
        ValueError, match=r"line7\.png: a text of 2 characters needs at least 3 frames, the network makes 2"
    ):
        task.loss(TranscribeBatch(x, ("aa",), torch.tensor([[4, 4]]), ("line7.png",)))
    with pytest.raises(ValueError, match="sample 0 of the batch: 'é' is not in the alphabet 'ab'"):
        task.loss(TranscribeBatch(x, ("é",)))


def test_a_language_model_can_be_plugged_into_beam_search():
    task = build(Transcribe(network=Network(hidden=(2,), blocks=("4x1",)), beam=8), Facts(alphabet="ab"))
    task.scorer = lambda text: [0.0, -100.0, 100.0 if len(text) < 2 else -100.0]
    assert task.predict_step(TranscribeBatch(torch.rand(1, 4, 9, 1), ("",)))[0].text == "bb"


def test_a_density_comes_down_to_the_entropy_of_its_source(tmp_path):
    # every pixel is 0.8 times its left neighbour and Gaussian noise, whose entropy is known
    generator = torch.Generator().manual_seed(0)
    x = 0.3 * torch.randn((18, 14, 12, 1), generator=generator)
    for column in range(1, 12):
        x[:, :, column] += 0.8 * x[:, :, column - 1]
    sizes = torch.tensor([[14, 12], [12, 12], [13, 10], [14, 9], [14, 12], [14, 12]]).repeat(3, 1)
    batch = DensityBatch(x.masked_fill(~inside(sizes, (14, 12))[..., None], 0), sizes)
    settings = Density(
        hidden=4, window=3, components=2, scales=2, features=2, patch=9, patches=3, levels=0, flip=False,
        training=quick(epochs=100, learning_rate=0.02, steps_between_checks=100),
    )  # fmt: skip
    found, task = learned(settings, Facts(), [batch], tmp_path)
    entropy = 0.5 * log(2 * np.pi * np.e * 0.3**2) / log(2)
    assert entropy - 0.12 < found["bits_per_pixel"] < entropy + 0.12
    # the metric is the mean over all predicted pixels, and the padding of a batch has no part in it
    images = task.predict_step(batch)
    assert images[2].bits.shape == (12, 8)  # less one row, and a column on each side
    assert found["bits_per_pixel"] == pytest.approx(
        float(torch.cat([i.bits.flatten() for i in images]).mean()), rel=1e-5
    )
    alone = task.predict_step(DensityBatch(batch.x[2:3, :13, :10]))[0]
    torch.testing.assert_close(alone.bits, images[2].bits)
    assert alone.bits_per_pixel == pytest.approx(float(alone.bits.mean()), rel=1e-5)


def test_levels_become_continuous_by_noise_within_a_level():
    task = build(Density(levels=4), Facts())
    x = torch.arange(4).repeat(1000).view(1, 40, 100, 1) / 3
    y = task._dequantized(x, torch.Generator().manual_seed(0))
    assert torch.equal((4 * y).floor(), (3 * x).round())
    assert (4 * y).frac().mean().item() == pytest.approx(0.5, abs=0.02)
    assert task.loss(DensityBatch(y)) == task.loss(DensityBatch(y))


def test_bits_are_of_levels_or_of_values_as_they_are():
    task = build(Density(levels=256), Facts(channels=3))
    assert float(task._bits(torch.tensor(0.0))) == pytest.approx(3 * 8)
    task = build(Density(levels=0), Facts())
    assert float(task._bits(torch.tensor(log(2)))) == pytest.approx(1)


@pytest.mark.parametrize(
    ("settings", "facts"),
    [
        (Label(network=Network(hidden=(2,), blocks=("2x3",))), Facts(classes=("a", "b"))),
        (Classify(network=Network(hidden=(2,), layer="MDGRU")), Facts(classes=("a", "b"))),
        (Transcribe(), Facts(alphabet="ab é")),
        (Density(hidden=3, components=2, window=3), Facts(channels=3)),
    ],
    ids=["label", "classify", "transcribe", "density"],
)
def test_a_task_is_saved_with_all_that_it_needs(tmp_path, settings, facts):
    task = build(settings, facts)
    with torch.no_grad():
        for weight in task.parameters():
            weight.add_(torch.rand_like(weight))
    checkpoint.save(task, tmp_path / "task.safetensors")
    found = checkpoint.load(tmp_path / "task.safetensors")
    assert type(found) is type(task)
    assert found.settings == settings
    assert found.facts == facts
    for name, value in task.state_dict().items():
        assert torch.equal(found.state_dict()[name], value)


def test_equal_seeds_give_equal_weights_and_leave_the_generator_alone():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, second, third = (
        build(Classify(training=Options(seed=seed)), Facts(classes=("a", "b"))) for seed in (0, 0, 1)
    )
    assert torch.rand(1) == expected
    assert torch.equal(first.model.output.weight, second.model.output.weight)
    assert not torch.equal(first.model.output.weight, third.model.output.weight)


def test_features_are_centred_and_scaled_by_the_training_data():
    task = build(Label(network=Network(hidden=(1,))), Facts(channels=2, classes=("a", "b")))
    sizes = torch.tensor([[2, 3], [3, 1]])
    x = torch.randn(2, 3, 3, 2) * torch.tensor([2.0, 0.0]) + torch.tensor([5.0, 0.1])
    task.prepare([LabelBatch(x, torch.zeros(2, 3, 3, dtype=torch.long), sizes)])
    own = torch.cat([x[0, :2, :3].reshape(-1, 2), x[1, :3, :1].reshape(-1, 2)])
    torch.testing.assert_close(task.model.mean, own.mean(0))
    torch.testing.assert_close(task.model.std, torch.stack([own.std(0, correction=0)[0], torch.tensor(1.0)]))


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build(Label(), Facts()), "facts must name at least two classes"),
        (lambda: build(Transcribe(), Facts()), "facts must have an alphabet"),
        (
            lambda: build(Density(), Facts(ndim=4)),
            "facts must be of signals, images or volumes, ndim 1 to 3, got 4",
        ),
        (
            lambda: build(Label(background=2), Facts(classes=("a", "b"))),
            r"background must lie in \[0, 1\], got 2",
        ),
        (lambda: Classify(by="pixel"), 'by must be "points" or "sample"'),
        (lambda: Network(blocks=("4by3",)), "blocks must look like 4x3, got '4by3'"),
        (lambda: Network(dropout=1.0), r"dropout must lie in \[0, 1\)"),
        (lambda: Density(window=4), "window must be odd"),
        (lambda: Facts(alphabet="aa"), "alphabet must name each character once"),
        (lambda: Facts(classes=("a", "a")), "classes must have different names"),
        (lambda: Facts(ndim=0), "ndim must be an int of at least 1"),
        (lambda: Facts(levels=1), "levels must be 0 or an int of at least 2, got 1"),
    ],
)
def test_bad_configurations_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_only_configurations_of_tasks_build_one():
    with pytest.raises(
        TypeError, match=r"settings must be one of Label, Classify, Transcribe, Density(, \w+)*, got Options"
    ):
        build(Options(), Facts())
    assert ndrnn.data.batches.IGNORE == IGNORE


def test_the_most_probable_label_and_its_probability():
    scores = torch.randn(2, 5, 4, 3, generator=torch.Generator().manual_seed(0)) * 20
    confidence, labels = most_probable(scores)
    expected, best = scores.softmax(-1).max(-1)
    torch.testing.assert_close(confidence, expected)
    assert torch.equal(labels, best)
    scores[1, 2, 3, 1] = torch.nan
    assert torch.equal(most_probable(scores)[0].isnan().nonzero(), torch.tensor([[1, 2, 3]]))


def test_lines_are_not_mirrored_in_training():
    x, sizes = torch.rand(2, 8, 16, 1), torch.tensor([[8, 16]] * 2)
    batch = TranscribeBatch(x, ("a", "b"), sizes)
    settings = Transcribe(network=Network(hidden=(3, 4), blocks=("2x2", "2x2")), augment=Augment(flip=True))
    with pytest.raises(ValueError, match=r"augment\.flip must be false for reading"):
        TranscribeTask(settings, Facts(2, 1, alphabet="ab")).prepare([batch])
