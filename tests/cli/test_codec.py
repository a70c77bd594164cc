"""The commands that compress, with a model that was not trained."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn.app.commands import compress, decompress
from ndrnn.density import RIDE
from ndrnn.density import compress as to_bytes

pytest.importorskip("constriction")


@pytest.fixture
def model(monkeypatch):
    """Stands for the run of a task; its options can be changed."""
    torch.manual_seed(0)
    ride = RIDE(3, num_components=2, num_scales=1, num_features=2)
    task, reader = (
        SimpleNamespace(model=ride, levels=256),
        SimpleNamespace(invert=False),
    )
    for command in (compress, decompress):
        monkeypatch.setattr(command, "load_density", lambda path: (task, reader))
    return task, reader


@pytest.fixture
def picture(tmp_path):
    array = np.random.default_rng(0).integers(0, 256, (7, 9)).astype(np.uint8)
    Image.fromarray(array).save(tmp_path / "picture.png")
    return array


@pytest.mark.parametrize("invert", [False, True])
def test_a_model_of_negatives_codes_negatives(invert, model, picture, ndrnn, tmp_path):
    task, reader = model
    reader.invert = invert
    ran = ndrnn("compress", "run", tmp_path / "picture.png")
    assert ran.status == 0, ran.err
    data = (tmp_path / "picture.ndrnn").read_bytes()
    assert data == to_bytes(task.model, torch.from_numpy(255 - picture if invert else picture))
    assert f"{len(data)} bytes, {8 * len(data) / 63:.3f} bits per pixel" in ran.out
    (tmp_path / "picture.png").unlink()
    ran = ndrnn("decompress", "run", tmp_path / "picture.ndrnn")
    assert ran.status == 0, ran.err
    assert "7 x 9 pixels" in ran.out
    with Image.open(tmp_path / "picture.png") as image:
        assert np.array_equal(np.asarray(image), picture)


def test_other_levels_are_refused(model, picture, ndrnn, tmp_path):
    model[0].levels = 16
    ran = ndrnn("compress", "run", tmp_path / "picture.png")
    assert ran.status == 2
    assert "run: must be a model of 256 levels, got levels 16" in ran.err


def test_a_foreign_file_and_another_model_are_named(model, picture, ndrnn, tmp_path):
    ran = ndrnn("decompress", "run", tmp_path / "picture.png", "--out", tmp_path / "back.png")
    assert ran.status == 1
    assert "picture.png: data must be a compressed image" in ran.err
    assert ndrnn("compress", "run", tmp_path / "picture.png").status == 0
    with torch.no_grad():
        model[0].model.mcgsm.means += 1
    ran = ndrnn("decompress", "run", tmp_path / "picture.ndrnn", "--force")
    assert ran.status == 1
    assert "picture.ndrnn: data were compressed with another model" in ran.err
