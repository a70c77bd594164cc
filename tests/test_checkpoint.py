"""Models to disk and back, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

import ndrnn
from ndrnn.nn.hierarchy import Hierarchy
from ndrnn.registry import models
from ndrnn.saving import models as checkpoint
from ndrnn.saving.atomic import replacing, sweep

LAYERS = [
    ndrnn.MDRNN(2, 3, nonlinearity="relu"),
    ndrnn.MDLSTM(2, 3, peepholes=True, directions=[(1, -1), (-1, 1)], merge="sum"),
    ndrnn.StableMDLSTM(2, 3, 3, bias=False),
    ndrnn.LeakyMDLSTM(1, 2, 1, recompute=True),
    ndrnn.SpatialLSTM(2, 3, extended=True),
    ndrnn.MDGRU(2, 3).double(),
    Hierarchy(2, 3, hidden=(2, 3), subsample=(2,), blocks=((2, 1), (1, 2)), collapse=(0,), how="mean"),
]


@pytest.fixture
def saved(tmp_path):
    """A saved layer: its path, and the config beside it."""
    path = tmp_path / "layer.safetensors"
    checkpoint.save(ndrnn.MDLSTM(2, 3), path)
    return path, tmp_path / "layer.json"


@pytest.mark.parametrize("model", LAYERS, ids=lambda model: type(model).__name__)
def test_a_model_comes_back_as_it_was(tmp_path, model):
    checkpoint.save(model, tmp_path / "model.safetensors")
    before = torch.get_rng_state()
    found = ndrnn.load(tmp_path / "model.safetensors")
    assert torch.equal(torch.get_rng_state(), before)
    assert repr(found) == repr(model)
    assert not found.training
    assert found.state_dict().keys() == model.state_dict().keys()
    for name, value in model.state_dict().items():
        assert found.state_dict()[name].dtype == value.dtype
        assert torch.equal(found.state_dict()[name], value)


def test_the_files_are_safetensors_and_json(saved):
    path, config = saved
    assert set(load_file(path)) == {"weight_ih", "weight_hh", "bias"}
    content = json.loads(config.read_text())
    assert content["model"] == "MDLSTM"
    assert content["config"]["hidden_size"] == 3


def test_loading_a_layer_needs_no_training_library(saved):
    program = (
        "import sys; import ndrnn; ndrnn.load(sys.argv[1]); "
        "assert not {'lightning', 'matplotlib', 'torchmetrics', 'triton'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program, str(saved[0])], check=True, timeout=120)


def change(config, changes):
    config.write_text(json.dumps(json.loads(config.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": 1}, r"layer.json: unknown key 'extra'"),
        ({"format": 99}, r"format must be 1, got 99"),
        ({"model": "MDLTSM"}, r"no registered model has the name 'MDLTSM'; did you mean 'MDLSTM'\?"),
        ({"model": 3}, "no registered model has the name 3"),
        (
            {"config": {"input_size": 2, "hiden_size": 3}},
            r"unknown key 'hiden_size'; did you mean 'hidden_size'\?",
        ),
        (
            {"config": {"input_size": 2, "hidden_size": "3"}},
            "config does not make a MDLSTM: hidden_size must be an int",
        ),
        ({"config": {"input_size": 2}}, "config does not make a MDLSTM.*hidden_size"),
        ({"config": []}, "config must be an object, got list"),
        (
            {"config": {"input_size": 2, "hidden_size": 4}},
            r"tensor 'bias' must have shape \(4, 20\), got \(4, 15\)",
        ),
        ({"config": {"input_size": 2, "hidden_size": 3, "bias": False}}, "unexpected tensor 'bias'"),
        (
            {"config": {"input_size": 2, "hidden_size": 3, "peepholes": True}},
            "tensor 'weight_peephole' is missing",
        ),
    ],
)
def test_a_config_that_does_not_fit_is_named(saved, changes, message):
    path, config = saved
    change(config, changes)
    with pytest.raises(ValueError, match=message):
        checkpoint.load(path)


def test_files_that_are_none_are_named(saved):
    path, config = saved
    text = config.read_text()
    for content, message in (
        ("[]", "must hold an object, got list"),
        (text[:40], "not a whole JSON file"),
        ("", "not a whole"),
    ):
        config.write_text(content)
        with pytest.raises(ValueError, match=f"layer.json: {message}"):
            checkpoint.load(path)
    config.unlink()
    with pytest.raises(FileNotFoundError):
        checkpoint.load(path)
    config.write_text(text)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        checkpoint.load(path)
    with pytest.raises(ValueError, match=r"path must end in .safetensors, got 'model.pt'"):
        checkpoint.load("model.pt")


@given(cut=st.integers(0, 2000), noise=st.binary(max_size=64))
def test_truncated_and_foreign_weights_never_load(tmp_path_factory, cut, noise):
    folder = tmp_path_factory.mktemp("damaged")
    path = folder / "layer.safetensors"
    checkpoint.save(ndrnn.MDLSTM(2, 3), path)
    content = path.read_bytes()
    for damaged in (content[: min(cut, len(content) - 1)], noise, b"\x80\x04K\x01." + noise):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"layer\.safetensors"):
            checkpoint.load(path)


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_neither_saved_nor_loaded(saved, value):
    path, _ = saved
    tensors = load_file(path)
    tensors["bias"][1, 2] = value
    save_file(tensors, path)
    with pytest.raises(
        ValueError, match=r"layer.safetensors: tensor 'bias' has values that are NaN or infinite"
    ):
        checkpoint.load(path)
    layer = ndrnn.MDLSTM(2, 3)
    layer.bias.data[0, 0] = value
    with pytest.raises(ValueError, match="MDLSTM: tensor 'bias' has values"):
        checkpoint.save(layer, path)


def test_a_failed_save_leaves_the_old_files(saved, monkeypatch):
    path, config = saved
    before = path.read_bytes(), config.read_bytes()

    def fail(tensors, target):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(ndrnn.MDLSTM(5, 7), path)
    assert (path.read_bytes(), config.read_bytes()) == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["layer.json", "layer.safetensors"]


def test_what_a_killed_process_left_is_swept_up(tmp_path):
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = tmp_path / f".last.ckpt.{gone.pid}.part"
    left.touch()
    with replacing(tmp_path / "file") as temporary:
        temporary.touch()
        sweep(tmp_path)
        assert temporary.exists()  # its process is alive
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]
    assert os.path.exists(tmp_path / "file")


class Own(torch.nn.Module):
    def __init__(self, size):
        super().__init__()
        self.size, self.weight = size, torch.nn.Parameter(torch.randn(size))

    def config(self):
        return {"size": self.size}


def test_a_class_of_ones_own_takes_part_once_it_is_registered(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_objects", {})
    with pytest.raises(TypeError, match="Own is not registered"):
        checkpoint.save(Own(3), tmp_path / "own.safetensors")
    checkpoint.register(Own)
    model = Own(3)
    checkpoint.save(model, tmp_path / "own.safetensors")
    assert torch.equal(checkpoint.load(tmp_path / "own.safetensors").weight, model.weight)
    with pytest.raises(ValueError, match="already stands for another"):
        checkpoint.register(type("MDLSTM", (Own,), {}))


def test_a_config_that_json_cannot_hold_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(models, "_objects", {"Own": Own})
    model = Own(3)
    model.size = {1, 2}
    with pytest.raises(TypeError, match=r"Own.config\(\) must hold what JSON can"):
        checkpoint.save(model, tmp_path / "own.safetensors")
    assert not list(tmp_path.iterdir())
