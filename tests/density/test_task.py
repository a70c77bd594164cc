"""The task of density: its settings, its noise, and what it says of numbers that are not finite."""

import copy
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ndrnn
from ndrnn.app.cli import main
from ndrnn.app.commands import inpaint, predict, sample
from ndrnn.data.batches import DensityBatch, Facts
from ndrnn.data.faults import BadFile
from ndrnn.density import RIDE, LumaChromaRIDE, MultiscaleRIDE
from ndrnn.tasks import Density
from ndrnn.tasks.density import DensityTask

SMALL = {"hidden": 3, "components": 2, "scales": 2, "features": 2, "window": 3, "patch": 6, "patches": 2}


def small_task(channels: int = 1, **options: object) -> DensityTask:
    return DensityTask(Density(**SMALL, **options), Facts(channels=channels, ndim=2))


def batch(count: int = 3) -> DensityBatch:
    x = torch.rand(count, 9, 10, 1, generator=torch.Generator().manual_seed(0))
    return DensityBatch(x, names=tuple(f"{number}.png" for number in range(count)))


@pytest.mark.parametrize(
    ("cell", "layer"), [("spatial", "SpatialLSTM"), ("gru", "MDGRU"), ("LeakyMDLSTM", "LeakyMDLSTM")]
)
def test_the_cell_is_chosen_by_name(cell: str, layer: str) -> None:
    assert [type(each).__name__ for each in small_task(cell=cell, layers=2).model.layers] == [layer, layer]


def test_an_unknown_cell_is_refused_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"cell must be one of .* did you mean 'leaky'"):
        small_task(cell="leeky")


@torch.no_grad()
def test_the_first_test_adds_the_noise_of_every_other_one() -> None:
    task, figures = small_task(), []
    for _ in range(3):
        task.check(batch())
        figures.append(float(task.results()["bits_per_pixel"]))
    task.check(batch())  # one that was interrupted
    task.on_test_epoch_start()
    task.check(batch())
    assert figures[0] == figures[1] == figures[2]
    assert figures[0] == pytest.approx(float(task.results()["bits_per_pixel"]), abs=1)


def break_(task: DensityTask) -> None:
    """Let the density be no number wherever a pixel is nearly white."""
    forward = task.model.log_prob

    def log_prob(images: torch.Tensor) -> torch.Tensor:
        value = forward(images)
        return value.masked_fill((images > 0.999).flatten(1).any(1)[:, None, None], math.nan)

    task.model.log_prob = log_prob  # type: ignore[method-assign]


@torch.no_grad()
def test_a_check_names_the_image() -> None:
    task, given = small_task(levels=0), batch()
    break_(task)
    given.x[1, 3, 3] = 1.0
    with pytest.raises(BadFile, match=r"1\.png: its log-density is not finite: .* --cell leaky"):
        task.check(given)
    found = task.predict_step(given)
    assert [math.isfinite(one.bits_per_pixel) for one in found] == [True, False, True]


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DensityTask:
    """A task that stands for any saved one."""
    task = small_task(levels=0)
    for command in (sample, inpaint):
        monkeypatch.setattr(command, "load_density", lambda path: (task, None))
    monkeypatch.setattr(predict, "load", lambda path: (task, None, path))
    monkeypatch.chdir(tmp_path)
    generator = np.random.default_rng(0)
    for number in range(3):
        grey = generator.integers(0, 250, (12, 14)).astype(np.uint8)
        Image.fromarray(grey).save(f"{number}.png")
    return task


def test_predictions_leave_out_and_name_an_image_without_a_density(
    run: DensityTask, capsys: pytest.CaptureFixture[str]
) -> None:
    break_(run)
    white = np.asarray(Image.open("1.png")).copy()
    white[4, 4] = 255
    Image.fromarray(white).save("1.png")
    assert main(["predict", "model", "0.png", "1.png", "2.png"]) == 1
    shown = capsys.readouterr()
    assert [json.loads(line)["file"] for line in shown.out.splitlines()[:2]] == ["0.png", "2.png"]
    assert "1.png: its log-density is not finite" in shown.err


def test_samples_that_overflow_are_no_black_pictures(
    run: DensityTask, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    with torch.no_grad():
        run.model.mcgsm.means[:] = math.nan
    assert main(["sample", "model", "--height", "5", "--width", "5"]) == 1
    assert "model: what is drawn is not finite" in capsys.readouterr().err
    assert not list(tmp_path.glob("samples/*.png"))


def test_a_colour_picture_does_not_come_back_grey(
    run: DensityTask, capsys: pytest.CaptureFixture[str]
) -> None:
    mask = np.zeros((12, 14), np.uint8)
    mask[0:2, 5:7] = 255  # at the border
    Image.fromarray(mask).save("mask.png")
    grey = np.asarray(Image.open("0.png"))
    Image.fromarray(np.stack([grey, grey, grey // 2], -1)).save("colour.png")
    assert main(["inpaint", "model", "colour.png", "mask.png"]) == 1
    assert "colour.png: is in colour and the model is of grey images" in capsys.readouterr().err
    assert main(["inpaint", "model", "0.png", "mask.png", "--epochs", "1"]) == 0
    filled = np.asarray(Image.open("inpainted.png"))
    assert np.array_equal(filled[mask == 0], grey[mask == 0])


def test_a_colour_model_fills_colour_and_keeps_the_rest(
    run: DensityTask, monkeypatch: pytest.MonkeyPatch
) -> None:
    task = small_task(channels=3, levels=16)
    monkeypatch.setattr(inpaint, "load_density", lambda path: (task, None))
    colours = np.random.default_rng(1).integers(0, 256, (12, 14, 3)).astype(np.uint8)
    Image.fromarray(colours).save("colour.png")
    mask = np.zeros((12, 14), np.uint8)
    mask[4:6, 5:7] = 1
    Image.fromarray(mask).save("mask.png")
    assert main(["inpaint", "model", "colour.png", "mask.png", "--epochs", "1"]) == 0
    filled = np.asarray(Image.open("inpainted.png"))
    assert filled.shape == (12, 14, 3)
    assert np.array_equal(filled[mask == 0], colours[mask == 0])


def test_a_model_of_an_earlier_version_has_the_published_cell(tmp_path: Path) -> None:
    config = small_task().config()
    del config["settings"]["cell"]
    task = DensityTask.from_config(config)
    assert isinstance(task, DensityTask)
    assert isinstance(task.model, ndrnn.RIDE)
    assert task.model.cell == "spatial"


def test_a_training_of_an_earlier_version_does_not_go_on_with_another_cell() -> None:
    """The weights of both cells have equal shapes, so that nothing else would tell."""
    task, before = small_task(), small_task(cell="spatial")
    state: dict[str, object] = {"ndrnn": {"seconds": 0.0, **before.config()}}
    del state["ndrnn"]["settings"]["cell"]  # type: ignore[index]
    before.on_load_checkpoint(copy.deepcopy(state))
    with pytest.raises(ValueError, match="cell must be 'spatial' as when the training began, got 'leaky'"):
        task.on_load_checkpoint(state)


def test_the_cell_of_a_new_model_is_bounded() -> None:
    assert small_task().model.cell == RIDE().cell == "leaky"
    assert {
        part.cell for pair in (MultiscaleRIDE(), LumaChromaRIDE()) for part in (pair.first, pair.second)
    } == {"leaky"}


def test_channels_that_are_apart_are_images_of_their_own() -> None:
    """With equal weights an image costs the mean of what its channels cost alone."""
    many, one = small_task(3, levels=0, apart=True), small_task(1, levels=0)
    one.load_state_dict(many.state_dict())
    x, sizes = torch.rand(2, 9, 8, 3), torch.tensor([[9, 8], [7, 6]])
    each = [one.predict_step(DensityBatch(x[..., [c]], sizes=sizes)) for c in range(3)]
    for index, found in enumerate(many.predict_step(DensityBatch(x, sizes=sizes))):
        assert found.bits_per_pixel == pytest.approx(sum(alone[index].bits_per_pixel for alone in each) / 3)
        assert found.bits.shape == each[0][index].bits.shape
    patches = many.augmented(DensityBatch(x, sizes=sizes)).x
    assert patches.shape == (2 * many.settings.patches * 3, *[many.settings.patch] * 2, 1)
    assert all(float((x[..., c] == patches[c, 0, 0, 0]).sum()) for c in range(3))
