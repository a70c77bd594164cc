"""Tasks choose their network by ``network.kind``; their losses heed rare classes; weights may be averaged."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from lightning import Callback, LightningDataModule
from torch.testing import assert_close
from torch.utils.data import DataLoader

import ndrnn
from ndrnn.app.options import Train
from ndrnn.app.recipe import parse
from ndrnn.app.searching import with_options
from ndrnn.data.sampler import BatchOrder, shuffled
from ndrnn.learn import Options, fit
from ndrnn.nn.networks import LineReader, ScanClassifier, ScanUNet
from ndrnn.saving.config import from_dict
from ndrnn.tasks import (
    IGNORE,
    Classify,
    ClassifyBatch,
    Facts,
    Label,
    LabelBatch,
    Network,
    Transcribe,
    TranscribeBatch,
    build,
)
from ndrnn.tasks.label import class_weights, label_loss

pytestmark = pytest.mark.filterwarnings("ignore:backend", "ignore:.*LeafSpec", "ignore:.*samples in targets")

SIZES = torch.tensor([[8, 9], [7, 8], [8, 7], [6, 9]])
SMALL = {"widths": (4, 6), "scans": (0, 1)}


def images():
    """A bar that stands (0) or lies (1), its points 1, in noise."""
    torch.manual_seed(3)
    x, points = 0.2 * torch.rand(4, 8, 9, 1), torch.zeros(4, 8, 9, dtype=torch.long)
    for index in range(4):
        where = (index, slice(1, 6), 3) if index % 2 == 0 else (index, 3, slice(1, 6))
        x[where], points[where] = 1, 1
    return x, points


X, POINTS = images()
TASKS = [
    pytest.param(
        Label(Network(kind="unet", **SMALL), class_balance=0.5, focal=1.0, dice=0.5),
        Facts(2, 1, ("paper", "ink")),
        LabelBatch(X, POINTS, SIZES),
        ScanUNet,
        id="label",
    ),
    pytest.param(
        Transcribe(
            Network(kind="reader", **SMALL, blocks=("1x1", "2x2"), collapse="attention", frame_scans=1)
        ),
        Facts(2, 1, alphabet="ab"),
        TranscribeBatch(X, ("a", "b", "a", "b"), SIZES),
        LineReader,
        id="transcribe",
    ),
    pytest.param(
        Classify(Network(kind="classifier", **SMALL), by="sample"),
        Facts(2, 1, ("stands", "lies")),
        ClassifyBatch(X, torch.arange(4) % 2, SIZES),
        ScanClassifier,
        id="classify samples",
    ),
    pytest.param(
        Classify(Network(kind="unet", **SMALL), background=0.3),
        Facts(2, 1, ("stands", "lies")),
        ClassifyBatch(X, torch.arange(4) % 2, SIZES),
        ScanUNet,
        id="classify points",
    ),
]


@pytest.mark.parametrize(("settings", "facts", "batch", "kind"), TASKS)
def test_a_task_with_its_network_learns_and_is_saved(settings, facts, batch, kind, tmp_path):
    task = build(settings, facts)
    assert type(task.model) is kind
    task.prepare([batch])
    assert task.model.input.std.item() != 1
    optimizer = torch.optim.Adam(task.parameters(), 0.02)
    losses = []
    for _ in range(80):
        optimizer.zero_grad()
        loss = task.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.4 * losses[0]
    task.eval()
    ndrnn.save(task, tmp_path / "task.safetensors")
    again = ndrnn.load(tmp_path / "task.safetensors")
    assert again.settings == settings
    with torch.no_grad():
        assert_close(again.model(X, SIZES), task.model(X, SIZES))
    assert len(task.predict_step(batch)) == 4


@pytest.mark.parametrize(
    ("settings", "facts", "message"),
    [
        (
            Label(Network(kind="reader")),
            Facts(2, 1, ("a", "b")),
            "network.kind must be 'hierarchy' or 'unet' for this task, got 'reader'",
        ),
        (
            Transcribe(Network(kind="unet")),
            Facts(2, 1, alphabet="ab"),
            "network.kind must be 'hierarchy' or 'reader' for this task, got 'unet'",
        ),
        (
            Classify(Network(kind="classifier"), by="points"),
            Facts(2, 1, ("a", "b")),
            "network.kind must be 'hierarchy' or 'unet' for this task, got 'classifier'",
        ),
    ],
)
def test_a_network_for_another_task_is_an_error(settings, facts, message):
    with pytest.raises(ValueError, match=message):
        build(settings, facts)


KINDS = {
    "label": ("hierarchy", "unet"),
    "classify": ("hierarchy", "unet", "classifier"),
    "transcribe": ("hierarchy", "reader"),
}


def from_words(*words):
    """The configuration that words of the command line give without a recipe."""
    recipe, _ = parse(("--data.format", "lines", "--data.path", "unused", *words), Train, "ndrnn train")
    return recipe.config


@pytest.mark.parametrize("task", KINDS)
@pytest.mark.parametrize("kind", ["hierarchy", "unet", "reader", "classifier"])
def test_every_kind_has_defaults_on_the_command_line(task, kind):
    settings = from_words("--task", task, f"--network.kind={kind}")
    facts = Facts(2, 1, ("a", "b"), alphabet="ab")
    if kind not in KINDS[task]:
        with pytest.raises(ValueError, match=f"for this task, got '{kind}'"):
            build(settings, facts)
        return
    trained = build(settings, facts)
    x, points = torch.rand(2, 48, 40, 1), torch.randint(2, (2, 48, 40))
    batch = {
        "label": LabelBatch(x, points),
        "classify": ClassifyBatch(x, torch.arange(2)),
        "transcribe": TranscribeBatch(x, ("a", "b")),
    }[task]
    trained.loss(batch).backward()
    for name, weight in trained.model.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
    assert len(trained.eval().predict_step(batch)) == 2


def test_another_kind_of_network_takes_what_both_have(tmp_path, capsys):
    published = from_words("--task", "transcribe").network
    assert from_words("--task", "transcribe", "--network.kind", "hierarchy").network == published
    assert published.hidden == (2, 10, 50)
    (tmp_path / "recipe.toml").write_text(
        'task = "transcribe"\n[data]\nformat = "lines"\npath = "unused"\n[training]\nepochs = 3\n'
        '[network]\nhidden = [3, 4]\nblocks = ["2x2", "2x2"]\nlayer = "MDLinearRNN"\ndropout = 0.5\n'
    )
    words = (str(tmp_path / "recipe.toml"), "--network.kind", "reader", "--network.widths", "4", "8")
    recipe, _ = parse(words, Train, "ndrnn train")
    assert recipe.config.network == Network(kind="reader", widths=(4, 8), layer="MDLinearRNN", dropout=0.5)
    assert recipe.config.training.epochs == 3
    searched = with_options(recipe, {"network.hidden": (7,), "network.kind": "hierarchy"})
    assert searched.config.network == Network(hidden=(7,), layer="MDLinearRNN", dropout=0.5)
    with pytest.raises(SystemExit):
        parse((*words, "--network.hidden", "3"), Train, "ndrnn train")
    assert "hidden must be left out for kind = 'reader'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"kind": "unet", "hidden": [4]}, r"hidden must be left out for kind = 'unet', got \(4,\)"),
        ({"kind": "unet", "collapse": "max"}, "collapse must be left out for kind = 'unet', got 'max'"),
        ({"widths": [4]}, r"widths must be left out for kind = 'hierarchy', got \(4,\)"),
        ({"kind": "net"}, "network.kind must be one of"),
    ],
)
def test_a_key_that_a_network_does_not_know_is_an_error(values, message):
    with pytest.raises(ValueError, match=message):
        from_dict(Network, values, "network")


def test_deep_supervision_is_for_hierarchies():
    with pytest.raises(ValueError, match=r"deep_supervision must be 0 for network\.kind = 'unet', got 0\.5"):
        Label(Network(kind="unet"), deep_supervision=0.5)


def test_weights_of_classes():
    points = torch.tensor([90.0, 10.0, 0.0])
    # every class that there is has the same part in the sum
    assert_close(class_weights(points, 1.0), torch.tensor([100 / 180, 100 / 20, 1.0]))
    half = class_weights(points, 0.5)
    assert_close(half[1] / half[0], torch.tensor(3.0))
    assert_close((half * points).sum() / 100, torch.tensor(1.0))
    assert_close(class_weights(torch.zeros(2), 1.0), torch.ones(2))


def test_a_task_counts_its_classes_within_the_samples():
    task = build(Label(Network(hidden=(2,)), class_balance=1.0), Facts(2, 1, ("paper", "ink")))
    target = torch.tensor([[[0, 0, 1], [0, IGNORE, 1]]])
    task.prepare([LabelBatch(torch.zeros(1, 2, 3, 1), target, torch.tensor([[2, 2]]))])
    assert task.class_weights.tolist() == pytest.approx([1, 1])  # three of paper, none of ink
    task.prepare([LabelBatch(torch.zeros(1, 2, 3, 1), target)])
    assert task.class_weights.tolist() == pytest.approx([5 / 6, 5 / 4])
    assert "class_weights" not in build(Label(Network(hidden=(2,))), task.facts).state_dict()


def test_the_focal_loss_is_that_of_its_definition():
    scores = torch.randn(2, 3, 4, 5, dtype=torch.float64, requires_grad=True)
    target = torch.randint(0, 5, (2, 3, 4))
    target[0, 1] = IGNORE
    weights = torch.rand(5, dtype=torch.float64)
    total, count = 0.0, 0
    for index in map(tuple, (target != IGNORE).nonzero().tolist()):
        p = scores.softmax(-1)[index][target[index]]
        total = total - weights[target[index]] * (1 - p) ** 2 * p.log()
        count += 1
    assert_close(label_loss(scores, target, weights=weights, focal=2.0), total / count)
    assert_close(
        label_loss(scores, target, focal=0.0), F.cross_entropy(scores.flatten(0, -2), target.flatten())
    )
    sure = torch.tensor([[[100.0, -100.0]]], requires_grad=True)
    label_loss(sure, torch.tensor([[0]]), focal=0.5).backward()
    assert torch.isfinite(sure.grad).all()


class Bars(LightningDataModule):
    """Two batches a pass, the first of them to watch by."""

    def __init__(self):
        super().__init__()
        self.batches = [LabelBatch(X[part], POINTS[part], SIZES[part]) for part in (slice(0, 2), slice(2, 4))]
        self.facts = Facts(2, 1, ("paper", "ink"))

    def train_dataloader(self):
        order = BatchOrder(shuffled(2, 0), 1, self.trainer)
        return DataLoader(self.batches, batch_sampler=order, collate_fn=lambda batch: batch[0])

    def val_dataloader(self):
        return DataLoader(self.batches[:1], batch_size=None, collate_fn=lambda batch: batch)


class Follow(Callback):
    """The weights and moments of every step, and those that a check sees."""

    def __init__(self):
        self.steps, self.checked = [], []

    def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
        self.steps.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})

    def on_validation_batch_start(self, trainer, pl_module, batch, batch_idx):
        self.checked.append({name: value.clone() for name, value in pl_module.model.state_dict().items()})


def averaged(folder, epochs=4, resume=False):
    settings = Label(
        Network(kind="unet", **SMALL), training=Options(epochs=epochs, average=0.6, steps_between_checks=2)
    )
    task, follow = build(settings, Bars().facts), Follow()
    fit(task, Bars(), folder, resume=resume, show=False, accelerator="cpu", callbacks=[follow])
    return task, follow


def test_averaged_weights_are_checked_saved_and_kept(tmp_path):
    task, follow = averaged(tmp_path / "a")
    fresh = build(task.settings, task.facts)
    fresh.prepare(Bars().batches)
    expected = {name: value.clone() for name, value in fresh.model.state_dict().items()}
    for step, state in enumerate(follow.steps, start=1):
        stays = min(0.6, (1 + step) / (10 + step))
        for name, value in state.items():
            expected[name] = stays * expected[name] + (1 - stays) * value
        if step % 2 == 0:
            assert_close(follow.checked[step // 2 - 1], expected)
    assert_close(dict(task.model.state_dict()), expected)
    assert any((expected[name] != value).any() for name, value in follow.steps[-1].items())
    best = ndrnn.load(tmp_path / "a" / "best.safetensors").model.state_dict()
    assert any(all(torch.equal(best[name], state[name]) for name in best) for state in follow.checked)


def test_an_average_goes_on_after_an_interruption(tmp_path):
    class Interrupt(Callback):
        def on_train_batch_end(self, trainer, pl_module, outputs, batch, batch_idx):
            trainer.should_stop = trainer.global_step == 4

    whole, _ = averaged(tmp_path / "whole")
    task = build(whole.settings, whole.facts)
    fit(task, Bars(), tmp_path / "parts", show=False, accelerator="cpu", callbacks=[Interrupt()])
    again, _ = averaged(tmp_path / "parts", resume=True)
    for name, value in whole.model.state_dict().items():
        assert torch.equal(again.model.state_dict()[name], value)


def test_an_average_has_a_share_below_1():
    with pytest.raises(ValueError, match=r"average must lie in \[0, 1\), got 1"):
        Options(average=1.0)
