"""Models to disk and back, and every way in which a file can be wrong."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors import safe_open
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
    """A saved layer."""
    path = tmp_path / "layer.safetensors"
    checkpoint.save(ndrnn.MDLSTM(2, 3), path)
    return path


def header(path):
    with safe_open(path, "pt") as file:
        return file.metadata()


def change(path, **changes):
    """Write other things into the header of a file; the weights stay."""
    content = header(path) | {
        key: value if isinstance(value, str) else json.dumps(value) for key, value in changes.items()
    }
    save_file(load_file(path), path, content)


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


def test_a_model_is_one_file_that_says_what_it_is(saved):
    assert [entry.name for entry in saved.parent.iterdir()] == ["layer.safetensors"]
    assert set(load_file(saved)) == {"weight_ih", "weight_hh", "bias"}
    assert header(saved)["model"] == "MDLSTM"
    assert json.loads(header(saved)["config"])["hidden_size"] == 3


def test_a_stranger_beside_it_is_neither_read_nor_replaced(saved):
    beside = saved.with_suffix(".json")
    beside.write_text("not ours")
    checkpoint.save(ndrnn.MDLSTM(2, 3), saved)
    assert beside.read_text() == "not ours"
    assert isinstance(checkpoint.load(saved), ndrnn.MDLSTM)


def test_no_weights_are_drawn_and_no_memory_is_taken_for_a_file_that_does_not_fit(saved, monkeypatch):
    def drawn(*args, **options):
        raise AssertionError("a model with weights was made")

    monkeypatch.setattr(torch.random, "fork_rng", drawn)
    assert isinstance(checkpoint.load(saved), ndrnn.MDLSTM)
    change(saved, config={"input_size": 2, "hidden_size": 10**7})  # 8 PB of weights
    with pytest.raises(ValueError, match=r"layer.safetensors: tensor 'bias' must have shape"):
        checkpoint.load(saved)


@pytest.mark.parametrize("name", ["lstm", "hierarchy", "ride", "label"])
@pytest.mark.parametrize("folder", ["saved_0_1", "saved_0_2"])
def test_files_of_earlier_versions_give_the_numbers_of_the_first(folder, name):
    """Files that were written once are read for ever: a new format adds a folder, and nothing here is written anew."""
    kept = Path(__file__).parent
    expected = json.loads((kept / "saved_0_1/expected.json").read_text())[name]
    model = checkpoint.load(kept / folder / f"{name}.safetensors")
    x = torch.sin(torch.arange(20, dtype=torch.float32) * 0.7).reshape(1, 4, 5, 1) * 0.5 + 0.5
    with torch.no_grad():
        found = model.log_prob(x) if name == "ride" else getattr(model, "model", model)(x)
    assert list(found.shape) == expected["shape"]
    torch.testing.assert_close(found.flatten(), torch.tensor(expected["values"]), rtol=1e-4, atol=1e-5)


def test_a_pair_of_0_1_becomes_one_file_when_it_is_saved_again(tmp_path):
    folder = Path(__file__).parent / "saved_0_1"
    for name in ("lstm.safetensors", "lstm.json"):
        shutil.copy(folder / name, tmp_path / name)
    before = checkpoint.load(tmp_path / "lstm.safetensors")
    checkpoint.save(before, tmp_path / "lstm.safetensors")
    (tmp_path / "lstm.json").unlink()
    found = checkpoint.load(tmp_path / "lstm.safetensors")
    assert repr(found) == repr(before)
    assert all(torch.equal(a, b) for a, b in zip(found.parameters(), before.parameters(), strict=True))


def test_loading_a_layer_needs_no_training_library(saved):
    program = (
        "import sys; import ndrnn; ndrnn.load(sys.argv[1]); "
        "assert not {'lightning', 'matplotlib', 'torchmetrics', 'triton'} & sys.modules.keys()"
    )
    subprocess.run([sys.executable, "-c", program, str(saved)], check=True, timeout=120)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"extra": "1"}, "unknown key 'extra'"),
        ({"format": "other-1"}, "format must be ndrnn-model-2, got 'other-1'"),
        ({"model": "MDLTSM"}, r"no registered model has the name 'MDLTSM'; did you mean 'MDLSTM'\?"),
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
        ({"config": "{"}, "config: not whole JSON"),
        ({"config": '{"input_size": NaN}'}, "config: not whole JSON .NaN is no number"),
        ({"config": "[" * 100_000}, "config: not whole JSON"),
        (
            {"config": {"input_size": 2, "hidden_size": 4}},
            r"tensor 'bias' must have shape \(4, 20\), got \(4, 15\)",
        ),
        ({"config": {"input_size": 2, "hidden_size": 3, "bias": False}}, "unexpected tensor 'bias'"),
        (
            {"config": {"input_size": 2, "hidden_size": 3, "peepholes": True}},
            "tensor 'weight_peephole' is missing",
        ),
        ({"model": "RIDE", "config": {"hidden_size": 2, "num_layers": 10**9}}, "does not make a RIDE"),
        ({"model": "LabelTask", "config": {}}, "config does not make a LabelTask: key 'settings' is missing"),
        ({"model": "LabelTask", "config": {"settings": 3, "facts": None}}, "does not make a LabelTask"),
    ],
)
def test_a_header_that_does_not_fit_is_named(saved, changes, message):
    change(saved, **changes)
    with pytest.raises(ValueError, match=f"layer.safetensors: .*{message}|layer.safetensors: {message}"):
        checkpoint.load(saved)


def test_files_that_are_none_are_named(saved, tmp_path):
    save_file(load_file(saved), tmp_path / "foreign.safetensors")
    with pytest.raises(ValueError, match=r"foreign.safetensors: must name the class .* in foreign.json"):
        checkpoint.load(tmp_path / "foreign.safetensors")
    for content, message in (
        ("[]", "must hold an object, got list"),
        ("{", "not whole JSON"),
        ("", "not whole"),
    ):
        (tmp_path / "foreign.json").write_text(content)
        with pytest.raises(ValueError, match=f"foreign.json: {message}"):
            checkpoint.load(tmp_path / "foreign.safetensors")
    saved.unlink()
    with pytest.raises(FileNotFoundError, match=r"layer\.safetensors"):
        checkpoint.load(saved)
    saved.mkdir()
    with pytest.raises(FileNotFoundError, match=r"layer\.safetensors: no folder with weights"):
        checkpoint.load(saved)
    with pytest.raises(
        ValueError,
        match=r"path must end in .safetensors, or be one of the models that ship: [\w, -]+, got 'model.pt'",
    ):
        checkpoint.load("model.pt")


def test_weights_of_another_type_are_refused(saved):
    tensors = load_file(saved)
    save_file(tensors | {"bias": tensors["bias"].long()}, saved, header(saved))
    with pytest.raises(ValueError, match=r"tensor 'bias' must be of torch.float32, got torch.int64"):
        checkpoint.load(saved)


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=6),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=4),
    max_leaves=12,
)
OWN = ["MDLSTM", "MDRNN", "SpatialLSTM", "Hierarchy", "RIDE", "MultiscaleRIDE", "LabelTask", "DensityTask"]

KNOWN = {name: sorted(checkpoint._arguments(models[name])) for name in OWN}


def arguments(name):
    nested = st.dictionaries(
        st.sampled_from(["network", "training", "ndim", "hidden", "channels"]), JSON, max_size=3
    )
    return st.tuples(
        st.just(name),
        st.dictionaries(st.sampled_from(KNOWN[name]), st.one_of(JSON, st.integers(1, 3), nested)),
    )


@given(model=st.sampled_from(OWN).flatmap(arguments), as_pair=st.booleans())
def test_whatever_a_configuration_says_only_a_value_error_comes_of_it(tmp_path_factory, model, as_pair):
    folder = tmp_path_factory.mktemp("hostile")
    path, (name, config) = folder / "layer.safetensors", model
    if as_pair:
        save_file({"w": torch.zeros(1)}, path)
        content = {"format": 1, "ndrnn": "0.1.0", "model": name, "config": config}
        path.with_suffix(".json").write_text(json.dumps(content))
    else:
        text = json.dumps(config)
        save_file(
            {"w": torch.zeros(1)},
            path,
            {"format": "ndrnn-model-2", "ndrnn": "0", "model": name, "config": text},
        )
    with pytest.raises(ValueError, match=r"layer\."):
        checkpoint.load(path)


@given(content=JSON)
def test_whatever_stands_beside_foreign_weights(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("beside") / "layer.safetensors"
    save_file({"w": torch.zeros(1)}, path)
    for entry in (content, {"format": 1, "ndrnn": "0.1.0", "model": content, "config": content}):
        path.with_suffix(".json").write_text(json.dumps(entry))
        with pytest.raises(ValueError, match=r"layer\."):
            checkpoint.load(path)


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
    path = saved
    tensors = load_file(path)
    tensors["bias"][1, 2] = value
    save_file(tensors, path, header(path))
    with pytest.raises(
        ValueError, match=r"layer.safetensors: tensor 'bias' has values that are NaN or infinite"
    ):
        checkpoint.load(path)
    layer = ndrnn.MDLSTM(2, 3)
    layer.bias.data[0, 0] = value
    with pytest.raises(ValueError, match="MDLSTM: tensor 'bias' has values"):
        checkpoint.save(layer, path)


def test_a_failed_save_leaves_the_old_files(saved, monkeypatch):
    path = saved
    before = path.read_bytes()

    def fail(tensors, target, metadata):
        target.write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "save_file", fail)
    with pytest.raises(OSError, match="No space left"):
        checkpoint.save(ndrnn.MDLSTM(5, 7), path)
    assert path.read_bytes() == before
    assert sorted(entry.name for entry in path.parent.iterdir()) == ["layer.safetensors"]


def test_only_what_a_killed_process_of_ones_own_left_is_swept_up(tmp_path):
    program = (
        "import os, sys\nfrom ndrnn.saving.atomic import replacing\n"
        "with replacing(sys.argv[1]) as temporary:\n"
        "    temporary.write_text('half')\n    os._exit(1)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "last.ckpt")], check=False)
    (left,) = tmp_path.iterdir()
    machine, process, part = left.name.split(".")[-3:]
    assert part == "part"
    others = [
        f".last.ckpt.{process}.part",  # of another program
        f".last.ckpt.{int(machine, 16) ^ 1:08x}.{process}.part",  # of another machine
        f".last.ckpt.{machine}.download.part",
        f"{left.name}.txt",
    ]
    for name in others:
        (tmp_path / name).touch()
    with replacing(tmp_path / "file") as temporary:
        temporary.touch()
        sweep(tmp_path)
        assert temporary.exists()  # its process is alive
    assert sorted(entry.name for entry in tmp_path.iterdir()) == sorted([*others, "file"])


def test_a_file_may_have_as_long_a_name_as_the_disk_takes(tmp_path):
    with replacing(tmp_path / ("n" * 255)) as temporary:
        temporary.write_text("whole")
    (found,) = tmp_path.iterdir()
    assert found.read_text() == "whole"


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


@pytest.mark.skipif(sys.platform != "linux", reason="limits the size of files")
@pytest.mark.parametrize(
    "write",
    [
        lambda path: save_file({"w": torch.zeros(3000)}, path),
        lambda path: torch.save(torch.zeros(3000), path),
        lambda path: path.write_bytes(b"\0" * 12000),
    ],
    ids=["safetensors", "torch", "bytes"],
)
def test_a_full_disk_is_an_error_of_the_system_that_names_the_file(write, tmp_path):
    import resource
    import signal

    path = tmp_path / "w.safetensors"
    path.write_text("before")
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
        with pytest.raises(OSError, match=r"w\.safetensors"), replacing(path) as temporary:
            write(temporary)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert [file.name for file in tmp_path.iterdir()] == ["w.safetensors"]
    assert path.read_text() == "before"
