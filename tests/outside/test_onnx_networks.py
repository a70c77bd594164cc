"""Networks in ONNX Runtime give what they give in PyTorch, at other sizes than those of the export."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

import ndrnn
from ndrnn.app.recipe import read
from ndrnn.nn.networks import LineReader, ScanClassifier, ScanUNet
from ndrnn.tasks import Facts, build

from .conftest import assert_same, drawn

pytest.importorskip("onnxscript")
pytestmark = pytest.mark.kernels
RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))


def assert_network(exported, model, *, tolerance=1e-5):
    session = exported(model)
    generator = torch.Generator().manual_seed(2)
    ndim, features = model.ndim, model.input_size
    for batch, lattice in ((1, (5, 7, 4)), (3, (13, 8, 6)), (2, (1, 9, 3)), (2, (4, 4, 4))):
        lattice = lattice[:ndim]
        x = torch.randn(batch, *lattice, features, generator=generator)
        assert_same(session, model, x, torch.tensor([lattice] * batch), tolerance)
        extents = [torch.randint(1, size + 1, (batch, 1), generator=generator) for size in lattice]
        sizes = torch.cat(extents, 1)
        assert_same(session, model, x, sizes, tolerance)
        *_, told = session.run(None, {"x": x.numpy(), "sizes": sizes.numpy()})
        assert told.tolist() == model.output_sizes(sizes).tolist()


@pytest.mark.slow
def test_hierarchy(exported):
    options = {"hidden": (2, 3), "subsample": (4,), "blocks": ((2, 3), (2, 1)), "collapse": (0,)}
    assert_network(exported, drawn(ndrnn.Hierarchy(1, 3, **options)))


def test_unet(exported):
    model = ScanUNet(2, 3, widths=(2, 3), scans=(0, 1), blocks=((1, 1), (2, 3)), norm="rms")
    assert_network(exported, drawn(model))


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"hidden": (2,), "blocks": ((2, 3),), "collapse": (0, 1), "how": "mean"},
        {"hidden": (2,), "collapse": (1,), "how": "max"},
        {"hidden": (2, 2), "blocks": ((2, 2), (1, 2)), "expand": True, "auxiliary": True},
        {"hidden": (2,), "blocks": ((3, 2),), "dct": 3, "layer": "MDLinearRNN"},
    ],
)
def test_other_hierarchies(exported, options):
    assert_network(exported, drawn(ndrnn.Hierarchy(2, 3, **options)))


FEW = {"widths": (2, 3), "scans": (0, 1)}


@pytest.mark.slow
@pytest.mark.parametrize(
    "model",
    [
        ScanUNet(1, 3, ndim=1, **FEW),
        ScanUNet(1, 3, ndim=3, **FEW),
        ScanUNet(2, 3, **FEW, blocks=((2, 3), (2, 2)), separable=True),
        LineReader(1, 4, **FEW, blocks=((1, 1), (2, 2)), frame_scans=1, collapse="attention", norm="layer"),
        LineReader(1, 4, **FEW, blocks=((2, 1), (2, 2)), collapse="mean"),
        ScanClassifier(2, 4, **FEW),
        ScanClassifier(2, 4, **FEW, collapse="attention", layer="MDLSTM"),
    ],
    ids=lambda model: f"{type(model).__name__}-{model.ndim}",
)
def test_other_networks(exported, model):
    assert_network(exported, drawn(model))


@pytest.mark.slow
@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_networks_of_the_recipes(exported, path, tmp_path):
    recipe = read(path)
    ndim = 3 if "hippocampus" in path.stem else 2
    facts = Facts(
        ndim=ndim, channels=3 if "camvid" in path.stem else 1, classes=("a", "b", "c"), alphabet="abc"
    )
    model = build(recipe.config, facts).model.eval()
    if recipe.purpose == "density":
        with pytest.raises(TypeError, match="RIDE is a density model"):
            ndrnn.onnx.export(model, tmp_path / "model.onnx")
        return
    assert_network(exported, model)
