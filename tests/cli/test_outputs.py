"""Results go where they were asked to go, and over nothing that was there."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from ndrnn.app.outputs import Outputs
from ndrnn.data.faults import BadFile
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import Density, Facts, Label, Network, build


def picture(path: Path, seed: int = 0) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (14, 15), np.uint8)).save(path)
    return path.read_bytes()


@pytest.fixture
def labels(tmp_path):
    path = tmp_path / "labels.safetensors"
    task = build(Label(network=Network(hidden=(2,))), Facts(2, 1, ("a", "b", "c")))
    with torch.no_grad():
        task.model.output.weight.normal_(generator=torch.Generator().manual_seed(0))
    checkpoint.save(task, path)
    return path


@pytest.fixture
def density(tmp_path):
    path = tmp_path / "density.safetensors"
    task = build(Density(hidden=2, components=2, scales=1, features=2, patch=6), Facts())
    images = torch.rand(4, 12, 12, 1, generator=torch.Generator().manual_seed(0))
    task.model.fit_whitening(images, generator=torch.Generator().manual_seed(0))
    checkpoint.save(task, path)
    return path


def test_members_of_an_archive_stay_within_the_folder_of_the_results(ndrnn, labels, tmp_path):
    image = picture(tmp_path / "x.png")
    outside = tmp_path / "elsewhere.png"
    with zipfile.ZipFile(tmp_path / "foreign.zip", "w") as archive:
        for name in ("../../escaped/x.png", str(outside), "good/x.png", "deep/../../x.png"):
            archive.writestr(name, image)
        link = zipfile.ZipInfo("link.png")
        link.external_attr = 0o120777 << 16
        archive.writestr(link, str(outside))
    before = set(tmp_path.rglob("*"))
    ran = ndrnn("predict", labels, tmp_path / "foreign.zip", "--out", tmp_path / "a/b/out", "--overlay")
    assert ran.status == 1
    for name in ("../../escaped/x.png", str(outside), "deep/../../x.png"):
        assert f"left out: {tmp_path / 'foreign.zip'}/{name}: " in ran.err
    assert "foreign.zip/link.png" in ran.err
    new = set(tmp_path.rglob("*")) - before
    found = {str(path.relative_to(tmp_path / "a/b/out")) for path in new if path.is_file()}
    assert found == {"predictions.jsonl", "good/x.png", "good/x.overlay.png"}


def test_a_link_within_the_folder_does_not_lead_out(ndrnn, labels, tmp_path):
    picture(tmp_path / "in/sub/x.png")
    (tmp_path / "away").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out/sub").symlink_to(tmp_path / "away")
    ran = ndrnn("predict", labels, tmp_path / "in", "--out", tmp_path / "out")
    assert ran.status == 1
    assert "its result would be written outside of" in ran.err
    assert not list((tmp_path / "away").iterdir())


@pytest.mark.parametrize("force", [(), ("--force",)], ids=["", "force"])
def test_predictions_never_overwrite_the_pictures(force, ndrnn, labels, tmp_path):
    before = picture(tmp_path / "in/a.png")
    ran = ndrnn("predict", labels, tmp_path / "in", "--out", tmp_path / "in", *force)
    assert ran.status == 2
    assert "in/a.png is an original and would be overwritten" in ran.err
    assert (tmp_path / "in/a.png").read_bytes() == before
    assert [path.name for path in (tmp_path / "in").iterdir()] == ["a.png"]


def test_older_predictions_are_overwritten_only_by_force(ndrnn, labels, tmp_path):
    picture(tmp_path / "in/a.png")
    words = ("predict", labels, tmp_path / "in", "--out", tmp_path / "out")
    assert ndrnn(*words).status == 0
    (tmp_path / "out/a.png").write_text("mine")
    for present in ("predictions.jsonl", "a.png"):
        ran = ndrnn(*words)
        assert ran.status == 2
        assert f"{present} exists already; name another --out, or overwrite it by --force" in ran.err
        (tmp_path / "out/predictions.jsonl").unlink(missing_ok=True)
    assert (tmp_path / "out/a.png").read_text() == "mine"
    assert ndrnn(*words, "--force").status == 0
    assert (tmp_path / "out/a.png").read_bytes().startswith(b"\x89PNG")


def test_the_overlay_of_one_picture_is_not_the_map_of_another(ndrnn, labels, tmp_path):
    for name, size in (("a.png", (14, 15)), ("a.overlay.png", (9, 10))):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(np.zeros(size, np.uint8)).save(tmp_path / "in" / name)
    ran = ndrnn("predict", labels, tmp_path / "in", "--out", tmp_path / "out", "--overlay")
    assert ran.status == 0, ran.err
    written = []
    for path in (tmp_path / "out").glob("*.png"):
        with Image.open(path) as image:
            written.append((image.size, image.mode))
    # of each picture the map, with its palette, and the overlay, in colours
    assert sorted(written) == [((10, 9), "P"), ((10, 9), "RGB"), ((15, 14), "P"), ((15, 14), "RGB")]


def test_what_a_density_makes_overwrites_nothing(ndrnn, density, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    original = picture(tmp_path / "a.png")
    mask = np.zeros((14, 15), np.uint8)
    mask[7, 7] = 1
    Image.fromarray(mask).save("mask.png")
    assert ndrnn("compress", "a.png", "--model", density).status == 0
    for words, target, status in (
        (("decompress", "a.ndrnn", "--model", density), "a.png", 1),
        (("compress", "a.png", "--model", density), "a.ndrnn", 1),
        (("inpaint", density, "a.png", "mask.png", "--epochs", 1), "inpainted.png", 2),
        (("sample", density, "--n", 1, "--height", 3, "--width", 3, "--margin", 0), "samples/0.png", 2),
    ):
        Path("samples").mkdir(exist_ok=True)
        if not Path(target).exists():
            Path(target).write_text("mine")
        before = Path(target).read_bytes()
        ran = ndrnn(*words)
        assert ran.status == status
        assert f"{target} exists already; name another --out, or overwrite it by --force" in ran.err
        assert Path(target).read_bytes() == before
        assert ndrnn(*words, "--force").status == 0
    ran = ndrnn("inpaint", density, "a.png", "mask.png", "--out", "a.png", "--force")
    assert ran.status == 2
    assert "a.png is an original and would be overwritten" in ran.err
    with Image.open("a.png") as now:
        assert now.size == (15, 14)
    assert original.startswith(b"\x89PNG")


def test_a_training_goes_into_no_folder_of_other_things(ndrnn, square_folder, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run/last.safetensors").write_text("mine")
    words = (
        *("train", "--task", "label", "--data.format", "masks", "--data.path", square_folder),
        *("--network.hidden", 2, "--training.epochs", 1, "--out", tmp_path / "run"),
    )
    for more in ((), ("--resume",)):
        ran = ndrnn(*words, *more)
        assert ran.status == 2
        assert "holds files that are none of a run; name another --out" in ran.err
    assert (tmp_path / "run/last.safetensors").read_text() == "mine"
    assert ndrnn(*words, "--force").status == 0
    again = ndrnn(*words)
    assert again.status == 2
    assert "holds a run; --resume goes on with it, --force begins anew" in again.err
    anew = ndrnn(*words, "--force", "--network.hidden", 3)
    assert anew.status == 0
    assert checkpoint.load(tmp_path / "run/best.safetensors").settings.network.hidden == (3,)
    assert ndrnn(*words, "--force", "--resume").status == 2


@given(
    parts=st.lists(st.sampled_from(["..", "a", ".", "link", "/", "b\x00", "c" * 300]), min_size=1, max_size=6)
)
def test_no_name_leads_out(tmp_path_factory, parts):
    root = tmp_path_factory.mktemp("root")
    (root / "out").mkdir()
    (root / "out/link").symlink_to("..")
    outputs = Outputs(force=True, folder=root / "out")
    try:
        path = outputs.claim(root / "out" / "/".join(parts), "name")
    except (BadFile, ValueError):
        return
    assert path.resolve().is_relative_to((root / "out").resolve())
    assert path.resolve() != (root / "out").resolve()


def test_a_result_that_cannot_be_written_leaves_the_others(ndrnn, labels, tmp_path):
    picture = tmp_path / "p.png"
    Image.fromarray(np.zeros((12, 12), np.uint8)).save(picture)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("a.png", "a.png/b.png", "c/d.png", f"{'x' * 244}.png", "z.png"):
            archive.write(picture, name)
    ran = ndrnn("predict", labels, tmp_path / "a.zip", "--out", tmp_path / "out", "--overlay")
    assert ran.status == 1
    assert "a.png/b.png: its result would lie in" in ran.err
    assert "its name is too long for its result" in ran.err
    assert {path.name for path in (tmp_path / "out").rglob("*.png")} == {
        *("a.png", "a.overlay.png", "d.png", "d.overlay.png", "z.png", "z.overlay.png")
    }
