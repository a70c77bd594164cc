"""The convolutional networks that the recipes are compared with. No time and no figure of a benchmark is asserted."""

import json
from shutil import rmtree

import pytest
import torch
from benchmarks.baselines import LabelCNN, LabelCNNTask, TranscribeCNN, TranscribeCNNTask
from benchmarks.baselines import __main__ as command
from benchmarks.baselines.parts import nearest, weights
from benchmarks.baselines.reader import LineReader, _Both
from benchmarks.baselines.unet import UNet
from PIL import Image
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from ndrnn.learn import Options
from ndrnn.tasks import Facts, LabelBatch, LabelTask, Network, TranscribeBatch, TranscribeTask

LABELS = Facts(2, 1, ("ground", "square"))
LETTERS = Facts(2, 1, alphabet="ab")


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def used(model):
    """A network in evaluation mode whose batch norms have seen something."""
    with torch.no_grad():
        for norm in (part for part in model.modules() if hasattr(part, "running_mean")):
            norm.running_mean.normal_()
            norm.running_var.uniform_(0.5, 2)
            norm.bias.normal_()
    return model.eval()


@pytest.mark.parametrize("lattice", [(1, 1), (7, 10), (5, 4, 9)])
@pytest.mark.parametrize("levels", [1, 3])
def test_a_unet_covers_any_lattice(lattice, levels):
    model = UNet(2, 3, width=2, ndim=len(lattice), levels=levels).eval()
    assert model(torch.randn(2, *lattice, 2)).shape == (2, *lattice, 3)


@pytest.mark.parametrize("sizes", [[[7, 10], [4, 3]], [[5, 4, 3], [2, 3, 5]]])
def test_a_unet_gives_a_padded_sample_what_it_gives_it_alone(sizes):
    extents = torch.tensor(sizes)
    lattice = extents.amax(0).tolist()
    model = used(UNet(1, 3, width=2, ndim=len(lattice)))
    model.standardize(torch.tensor([0.3]), torch.tensor([2.0]))
    x = torch.randn(2, *lattice, 1)
    for index, own in enumerate(sizes):
        inner = (index, *(slice(extent) for extent in own))
        together = model(x, extents)[inner]
        torch.testing.assert_close(together, model(x[inner][None])[0])


def test_batch_norm_does_not_count_what_lies_outside():
    extents = torch.tensor([[7, 10], [4, 3]])
    model = UNet(1, 3, width=2).train()
    x = torch.randn(2, 7, 10, 1)
    first = model(x, extents)
    x[1, 4:] = 100
    x[1, :, 3:] = -100
    second = model(x, extents)
    torch.testing.assert_close(first[0], second[0])
    torch.testing.assert_close(first[1, :4, :3], second[1, :4, :3])


def test_a_reader_gives_a_padded_line_what_it_gives_it_alone():
    extents = torch.tensor([[20, 31], [13, 18], [20, 5]])
    model = used(LineReader(1, 4, width=2, steps=(2, 2, 1)))
    x = torch.randn(3, 20, 31, 1)
    frames = model.output_sizes(extents)[:, 0].tolist()
    assert frames == [8, 5, 2]
    together = model(x, extents)
    assert together.shape == (3, 8, 4)
    for index, (height, width) in enumerate(extents.tolist()):
        alone = model(x[index : index + 1, :height, :width])
        torch.testing.assert_close(together[index, : frames[index]], alone[0])


def test_both_directions_are_those_of_torch():
    ours, theirs = _Both(3, 4), nn.LSTM(3, 4, batch_first=True, bidirectional=True)
    for name, weight in theirs.named_parameters():
        own = ours.against if name.endswith("_reverse") else ours.along
        own.get_parameter(name.removesuffix("_reverse")).data = weight.data
    x, counts = torch.randn(2, 6, 3), torch.tensor([6, 4])
    packed, _ = theirs(pack_padded_sequence(x, counts, batch_first=True))
    expected, _ = pad_packed_sequence(packed, batch_first=True)
    found = ours(x, counts)
    torch.testing.assert_close(found[0], expected[0])
    torch.testing.assert_close(found[1, :4], expected[1, :4])


def test_a_baseline_has_nearly_as_many_weights():
    def make(width):
        return UNet(1, 2, width=width)

    four, five = weights(make(4)), weights(make(5))
    assert weights(nearest(make, five)) == five
    assert weights(nearest(make, five - 1)) == five
    assert weights(nearest(make, four + 1)) == four
    assert weights(nearest(make, 10)) == weights(make(1))


@pytest.mark.parametrize(
    ("cnn", "settings", "ours", "facts"),
    [
        (LabelCNNTask, LabelCNN, LabelTask, LABELS),
        (TranscribeCNNTask, TranscribeCNN, TranscribeTask, LETTERS),
    ],
)
def test_equal_weights(cnn, settings, ours, facts):
    network = Network(hidden=(4, 12), blocks=("2x2", "3x2"), layer="StableMDLSTM")
    own = ours(ours.settings_class(network=network), facts).model
    other = cnn(settings(network=network), facts).model
    assert abs(weights(other) / weights(own) - 1) < 0.25
    if facts is LETTERS:
        extents = torch.tensor([[48, 61], [30, 4]])
        assert torch.equal(own.output_sizes(extents), other.output_sizes(extents))


def learned(task, batch, steps):
    """The loss before and after so many steps on a batch."""
    task.prepare([batch])
    optimizer = torch.optim.Adam(task.parameters(), 0.01)
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = task.loss(batch)
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses[0], losses[-1]


def test_a_unet_learns():
    x = 0.1 * torch.randn(4, 12, 11, 1)
    target = torch.zeros(4, 12, 11, dtype=torch.long)
    for index in range(4):
        target[index, 2 * index : 2 * index + 4, index + 2 : index + 6] = 1
    x[..., 0] += 0.3 * target
    sizes = torch.tensor([[12, 11], [11, 11], [12, 10], [10, 11]])
    task = LabelCNNTask(LabelCNN(network=Network(hidden=(20,)), training=Options(seed=1)), LABELS)
    before, after = learned(task, LabelBatch(x, target, sizes), 50)
    assert after < 0.25 * before
    assert task.model.input.std.item() != 1  # features are standardized


def test_a_reader_learns():
    # a: a bar in the upper half; b: one in the lower half
    texts = ("ab", "ba", "a", "bb")
    x = 0.1 * torch.rand(4, 12, 24, 1)
    for index, text in enumerate(texts):
        for place, letter in enumerate(text):
            rows = slice(1, 6) if letter == "a" else slice(7, 12)
            x[index, rows, 4 + 10 * place : 8 + 10 * place] = 1
    batch = TranscribeBatch(x, texts, torch.tensor([[12, 24]] * 4))
    network = Network(hidden=(10, 20), blocks=("2x2", "2x1"))
    task = TranscribeCNNTask(TranscribeCNN(network=network), LETTERS)
    before, after = learned(task, batch, 120)
    assert after < 0.25 * before
    task.eval()
    with torch.no_grad():
        task.check(batch)
    assert task.results()["cer"] <= 0.5


RECIPE = """
task = "label"

[data]
format = "masks"
path = "{folder}"
images = "{{split}}"
masks = "{{split}}-masks"

[network]
hidden = [4]

[training]
epochs = 2
batch_size = 2
"""


@pytest.fixture
def recipe(tmp_path):
    for split, count in (("train", 4), ("val", 2), ("test", 2)):
        for folder in (split, f"{split}-masks"):
            (tmp_path / folder).mkdir()
        for number in range(count):
            mask = Image.new("L", (9, 8), 0)
            mask.paste(1, (number, 2, number + 4, 6))
            mask.save(tmp_path / f"{split}-masks" / f"{number}.png")
            mask.point(lambda value: 200 * value + 20).save(tmp_path / split / f"{number}.png")
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE.format(folder=tmp_path))
    return path


def test_the_command_trains_measures_and_writes(recipe, tmp_path, capsys):
    found = {}
    for name, more in (("cnn", []), ("ours", ["--ours"])):
        words = [str(recipe), "--out", str(tmp_path / name), "--training.learning-rate", "0.005", *more]
        assert command.main(words) == 0
        found[name] = json.loads((tmp_path / name / "result.json").read_text())
        assert found[name]["passes"] == 2
        assert 0 <= found[name]["test"]["point_error"] <= 1
    assert found["cnn"]["network"] == "UNet"
    assert found["ours"]["network"] == "Hierarchy"
    assert found["cnn"]["weights"] <= found["ours"]["weights"]
    assert "--training.learning-rate 0.005" in found["cnn"]["command"]
    capsys.readouterr()


def test_seeds_are_trained_once_each_and_summed_up(recipe, tmp_path, capsys):
    words = [str(recipe), "--ours", "--seeds", "2", "--out", str(tmp_path / "both")]
    assert command.main(words) == 0
    both = json.loads((tmp_path / "both" / "result.json").read_text())
    runs = [json.loads((tmp_path / "both" / f"seed{seed}" / "result.json").read_text()) for seed in (0, 1)]
    assert both["runs"] == runs
    assert runs[0]["loss"] != runs[1]["loss"]
    first, second = (run["test"]["point_error"] for run in runs)
    assert both["test"]["point_error"]["mean"] == pytest.approx((first + second) / 2)
    assert both["test"]["point_error"]["stdev"] == pytest.approx(abs(first - second) / 2**0.5)
    marks = [tmp_path / "both" / f"seed{seed}" / "last.ckpt" for seed in (0, 1)]
    written = [mark.stat().st_mtime_ns for mark in marks]
    assert command.main(words) == 0
    assert [mark.stat().st_mtime_ns for mark in marks] == written
    with pytest.raises(ValueError, match="at least 2"):
        command.main([*words[:3], "1", *words[4:]])
    for changed, what in (
        (["--training.epochs", "3"], "options"),
        (["--training.learning-rate=0.5"], "options"),
        (["--beams", "4"], "beams"),
    ):
        with pytest.raises(ValueError, match=f"other {what}"):
            command.main([*words, *changed])
    with pytest.raises(ValueError, match=r"training\.seed and --seeds"):
        command.main([*words, "--training.seed", "7"])
    with pytest.raises(ValueError, match="at least 2, got 'x'"):
        command.main([*words[:3], "x", *words[4:]])
    assert json.loads((tmp_path / "both" / "result.json").read_text())["runs"] == runs
    capsys.readouterr()


def test_what_has_no_test_part_is_measured_on_what_was_watched(recipe, tmp_path, capsys):
    for folder in ("test", "test-masks"):
        rmtree(tmp_path / folder)
    words = [str(recipe), "--ours", f"--out={tmp_path / 'run'}", "--training.epochs=1"]
    assert command.main(words) == 0
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert "test" not in found
    assert found["watched"]["point_error"] == pytest.approx(found["validation"]["point_error"], rel=1e-5)
    capsys.readouterr()


def test_a_task_without_a_convolutional_network_is_told(tmp_path):
    path = tmp_path / "digits.toml"
    path.write_text('task = "classify"\n[data]\nformat = "idx"\npath = "mnist"\n')
    with pytest.raises(ValueError, match="task must be label or transcribe, got classify"):
        command.main([str(path), "--out", str(tmp_path / "run")])


def test_what_reads_lines_in_several_ways_is_measured_without_too(tmp_path, capsys, monkeypatch):
    names = [f"{number}.png" for number in range(4)]
    for name in names:
        Image.new("L", (24, 8), 200).save(tmp_path / name)
    rows = [
        f"{name}\tab\t{split}" for name, split in zip(names, ("train", "train", "val", "test"), strict=True)
    ]
    (tmp_path / "lines.tsv").write_text("\n".join(["name\ttext\tsplit", *rows]) + "\n", encoding="utf-8")
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(
        f'task = "transcribe"\nviews = true\n[data]\nformat = "lines"\npath = "{tmp_path}"\ntable = "lines.tsv"\n'
        '[network]\nhidden = [4]\nsubsample = []\nblocks = ["4x2"]\n[training]\nepochs = 1\nbatch_size = 2\n',
        encoding="utf-8",
    )
    asked = []
    seen_well = TranscribeTask._seen_well

    def noted(task, *args):
        asked.append((task.settings.views, task.settings.beam))
        return seen_well(task, *args)

    monkeypatch.setattr(TranscribeTask, "_seen_well", noted)
    assert command.main([str(recipe), "--ours", "--beams", "3", "--out", str(tmp_path / "run")]) == 0
    assert asked[-3:] == [(True, 0), (False, 0), (True, 3)]
    found = json.loads((tmp_path / "run" / "result.json").read_text())
    assert found["test_with_beam"]["beam"] == 3
    assert set(found["test_without_views"]) == {"cer", "wer"}
    capsys.readouterr()
