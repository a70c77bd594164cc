"""``ndrnn export`` and ``card``: files that say how to use them, and give what the command ``predict`` gives."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from ndrnn import save
from ndrnn.app.recipe import Recipe
from ndrnn.data.readers.lines import Lines
from ndrnn.data.readers.pairs import Masks
from ndrnn.nn import MDGRU
from ndrnn.tasks import Classify, Density, Facts, Label, Network, Transcribe, build

pytestmark = pytest.mark.kernels
EXAMPLE = Path(__file__).parents[2] / "examples" / "onnx_predict.py"


def run_of(folder, task, settings, facts, data):
    """A run's folder with a network that nothing has taught, of weights large enough to say something."""
    folder.mkdir()
    model = build(settings, facts)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator))
    save(model, folder / "best.safetensors")
    Recipe(task, settings, data).save(folder)
    (folder / "metrics.csv").write_text(
        f"step,loss,{model.monitor},other\n1,0.5,0.5,0.1\n2,,0.25,0.2\n3,0.4,0.75,0.3\n4,0.1,nan,0\n"
    )
    return folder


@pytest.fixture
def labelling(tmp_path):
    settings = Label(network=Network(hidden=(3,), blocks=("2x2",), layer="MDLSTM"))
    return run_of(
        tmp_path / "run", "label", settings, Facts(classes=("a", "b", "c")), Masks(path="some/photos")
    )


@pytest.fixture
def reading(tmp_path):
    settings = Transcribe(network=Network(hidden=(3,), blocks=("4x2",)))
    data = Lines(path="lines", height=8, invert=True)
    return run_of(tmp_path / "run", "transcribe", settings, Facts(alphabet="aäb"), data)


def example(*words):
    """What the example prints, where neither torch nor this library can be imported."""
    program = (
        "import runpy, sys; sys.modules['torch'] = sys.modules['ndrnn'] = None; "
        f"sys.argv = sys.argv[:]; runpy.run_path({str(EXAMPLE)!r}, run_name='__main__')"
    )
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", program, *map(str, words)],
        capture_output=True,
        text=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def test_labels_without_torch(ndrnn, labelling, tmp_path):
    pytest.importorskip("onnxruntime")
    ran = ndrnn("export", labelling, "--out", tmp_path / "out/m.onnx", "--license", "CC0-1.0", "--json")
    assert ran.status == 0, ran.err
    told = ran.json
    assert told["opset"] == 18
    assert told["task"] == "label"
    assert told["classes"] == ["a", "b", "c"]
    assert told["license"] == "CC0-1.0"
    assert told["input"] == {"channels": 1, "scale": "type", "invert": False, "height": 0}
    assert told["metrics"] == {"miss": 0.25, "other": 0.2}
    generator = np.random.default_rng(0)
    for name, shape in (("grey", (11, 17)), ("colour", (6, 5, 3)), ("see", (7, 4, 4))):
        Image.fromarray(generator.integers(0, 256, shape, np.uint8)).save(tmp_path / f"{name}.png")
    files = [tmp_path / f"{name}.png" for name in ("grey", "colour", "see")]
    example(tmp_path / "out/m.onnx", *files, "--out", tmp_path)
    assert ndrnn("predict", labelling, *files, "--out", tmp_path / "maps").status == 0
    seen = set()
    for file in files:
        ours, theirs = (
            np.asarray(Image.open(path))
            for path in (tmp_path / "maps" / file.name, tmp_path / f"{file.stem}.labels.png")
        )
        np.testing.assert_array_equal(theirs, ours)
        seen |= set(ours.ravel().tolist())
    assert len(seen) > 1


@pytest.mark.slow
def test_texts_without_torch(ndrnn, reading, text_folder, tmp_path):
    pytest.importorskip("onnxruntime")
    assert ndrnn("export", reading, "--out", tmp_path / "m.onnx").status == 0
    narrow = tmp_path / "low.png"  # of other rows than the network's
    Image.open(text_folder / "00.png").resize((40, 13)).save(narrow)
    files = [*sorted(text_folder.glob("*.png"))[:3], narrow]
    found = [line.rpartition(": ")[2] for line in example(tmp_path / "m.onnx", *files).splitlines()]
    ran = ndrnn("predict", reading, *files)
    assert found == [json.loads(line)["text"] for line in ran.out.splitlines()]
    assert any(found)


@pytest.mark.slow
@pytest.mark.parametrize("by", ["points", "sample"])
def test_classes(ndrnn, tmp_path, by):
    runtime = pytest.importorskip("onnxruntime")
    settings = Classify(network=Network(hidden=(3,)), by=by)
    run_of(tmp_path / "run", "classify", settings, Facts(classes=("x", "y")), Masks())
    assert ndrnn("export", tmp_path / "run", "--out", tmp_path / "m.onnx").status == 0
    session = runtime.InferenceSession(tmp_path / "m.onnx")
    assert json.loads(session.get_modelmeta().custom_metadata_map["ndrnn"])["classes"] == ["x", "y"]
    x = np.random.default_rng(0).random((1, 6, 7, 1), np.float32)
    (found,) = session.run(None, {"x": x, "sizes": np.array([[6, 7]])})
    Image.fromarray((x[0, ..., 0] * 255).astype(np.uint8)).save(tmp_path / "x.png")
    x = np.asarray(Image.open(tmp_path / "x.png"), np.float32)[None, ..., None] / 255
    (found,) = session.run(None, {"x": x, "sizes": np.array([[6, 7]])})
    told = json.loads(ndrnn("predict", tmp_path / "run", tmp_path / "x.png").out)
    np.testing.assert_allclose(found[0], list(told["probabilities"].values()), atol=1e-4)


def test_what_cannot_be_exported(ndrnn, tmp_path):
    task = build(Density(hidden=2, components=1, scales=1, features=1), Facts())
    save(task, tmp_path / "best.safetensors")
    ran = ndrnn("export", tmp_path / "best.safetensors", "--out", tmp_path / "m.onnx")
    assert ran.status == 2
    assert "best.safetensors: is a density model" in ran.err
    ran = ndrnn("export", tmp_path / "best.safetensors", "--out", tmp_path / "m.pt")
    assert ran.status == 2
    assert "--out must end in .onnx" in ran.err
    assert not (tmp_path / "m.onnx").exists()


def test_no_file_is_overwritten(ndrnn, labelling, tmp_path):
    (tmp_path / "m.onnx").write_bytes(b"mine")
    ran = ndrnn("export", labelling, "--out", tmp_path / "m.onnx")
    assert ran.status == 2
    assert "exists already" in ran.err
    assert (tmp_path / "m.onnx").read_bytes() == b"mine"


@pytest.mark.slow
def test_a_layer_alone(ndrnn, tmp_path):
    save(MDGRU(2, 3, ndim=1), tmp_path / "layer.safetensors")
    ran = ndrnn("export", tmp_path / "layer.safetensors", "--out", tmp_path / "m.onnx", "--json")
    assert ran.json["bytes"] == (tmp_path / "m.onnx").stat().st_size


def test_cards(ndrnn, labelling, tmp_path):
    ran = ndrnn("card", labelling, "--license", "cc-by-4.0", "--out", tmp_path / "README.md")
    assert ran.status == 0, ran.err
    text = (tmp_path / "README.md").read_text(encoding="utf-8")
    head, body = text.removeprefix("---\n").split("\n---\n", 1)
    assert head.splitlines() == [
        "license: cc-by-4.0",
        "library_name: ndrnn",
        "pipeline_tag: image-segmentation",
    ]
    assert "Classes: a, b, c." in body
    assert "| miss | 0.2500 |" in body
    assert "Data: photos, read as masks." in body
    assert "cc-by-4.0" in body
    assert ndrnn("card", labelling, "--out", tmp_path / "README.md").status == 2
