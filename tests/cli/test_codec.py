"""The commands that compress, with a model that was not trained."""

from __future__ import annotations

import gzip
import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

import ndrnn as library
from ndrnn.app import codec_model, samples, trained
from ndrnn.density import RIDE, CausalNeighborhood, PlaneModel
from ndrnn.density.use.codec import fingerprint, read_header
from ndrnn.saving import shipped
from ndrnn.scan.operators import kernels

pytestmark = pytest.mark.skipif(kernels.refusal is not None, reason=str(kernels.refusal))


@pytest.fixture
def model(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    path = tmp_path / "models" / "small.safetensors"
    path.parent.mkdir()
    library.save(RIDE(3, num_components=2, num_scales=1, num_features=2), path)
    return path


def write_pictures(folder: Path) -> dict[str, Image.Image]:
    """One of every kind."""
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, (7, 9, 4)).astype(np.uint8)
    colour = Image.fromarray(values[..., :3])
    pictures = {
        "grey": Image.fromarray(values[..., 0]),
        "deep/sixteen": Image.fromarray(values[..., 0].astype(np.uint16) * 257),
        "deep/colour": colour,
        "opacity": Image.fromarray(values),
        "grey opacity": Image.fromarray(values[..., :2]),
        "palette": colour.quantize(5),
        "lines": Image.fromarray(values[..., 0] > 100),
    }
    for name, image in pictures.items():
        path = folder / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        image.save(path, icc_profile=b"profile" if name == "opacity" else None)
    return pictures


def test_pictures_of_all_kinds_come_back(model, ndrnn, tmp_path):
    pictures = write_pictures(tmp_path / "in")
    words = (tmp_path / "in", tmp_path / "in/grey.png", "--model", model)
    ran = ndrnn("compress", *words, "--out", tmp_path / "small", "--json")
    assert ran.status == 0, ran.err
    assert f"note: {tmp_path}/in/grey.png: named before, and used once" in ran.err
    assert ran.json["model"] == "small"
    assert len(ran.json["files"]) == len(pictures)
    assert (tmp_path / "small" / "deep" / "colour.ndrnn").exists()
    size = (tmp_path / "small" / "grey.ndrnn").stat().st_size
    row = next(row for row in ran.json["files"] if row["file"].endswith("/grey.ndrnn"))
    assert (row["bytes"], row["bits"]) == (size, 8 * size / 63)
    assert row["ratio"] == size / (tmp_path / "in" / "grey.png").stat().st_size
    words = (tmp_path / "small/deep", tmp_path / "small", "--model", model)
    ran = ndrnn("decompress", *words, "--out", tmp_path / "out")
    assert ran.status == 0, ran.err
    assert f"note: {tmp_path}/small: 2 of its 7 files: named before, and used once" in ran.err
    for name in ("colour", "sixteen"):  # they lie where the first of the words has them
        (tmp_path / "out/deep").mkdir(exist_ok=True)
        (tmp_path / f"out/{name}.png").rename(tmp_path / f"out/deep/{name}.png")
    for name, image in pictures.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as back:
            assert back.mode == image.mode
            assert np.array_equal(np.asarray(back), np.asarray(image))
            assert back.getpalette() == image.getpalette()
            assert back.info.get("icc_profile") == (b"profile" if name == "opacity" else None)


def test_sixteen_bits_in_colour(model, ndrnn, tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 6, 3)).astype(np.uint16)
    (tmp_path / "deep.png").write_bytes(samples.write(samples.Samples(values, 16)))
    assert ndrnn("compress", tmp_path / "deep.png", "--model", model).status == 0
    (tmp_path / "deep.png").unlink()
    assert ndrnn("decompress", tmp_path / "deep.ndrnn", "--model", model).status == 0
    back = samples.read((tmp_path / "deep.png").read_bytes(), "deep.png", "deep.png")
    assert np.array_equal(back.values, values)


def test_volumes_are_the_same_file_again():
    nibabel = pytest.importorskip("nibabel")
    rng = np.random.default_rng(0)
    for kind in ("<i2", ">i2", "u1", "i1", "<u2"):
        values = rng.integers(-100, 100, (4, 5, 6)).astype(kind)
        image = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0]))
        image.set_data_dtype(kind)
        data = image.to_bytes()
        read = samples.read(gzip.compress(data), "v.nii.gz", "v.nii.gz")
        assert read.values.shape == (4, 5, 6)
        assert read.values.dtype == (np.uint8 if kind.endswith("1") else np.uint16)
        assert samples.write(read) == data
        order = np.argsort(read.values.reshape(-1), kind="stable")
        assert (np.diff(values.reshape(-1)[order].astype(int)) >= 0).all()


def test_a_model_of_negatives_codes_negatives(model, ndrnn, tmp_path, monkeypatch):
    whole = codec_model.load
    monkeypatch.setattr(
        codec_model, "load", lambda path: (whole(path)[0], SimpleNamespace(invert=True, scale="type"), path)
    )
    pictures = write_pictures(tmp_path / "in")
    assert ndrnn("compress", tmp_path / "in", "--model", model, "--out", tmp_path / "small").status == 0
    data = (tmp_path / "small" / "grey.ndrnn").read_bytes()
    values = library.density.decompress(library.load(model), data).numpy()
    assert np.array_equal(255 - values, np.asarray(pictures["grey"]))
    assert ndrnn("decompress", tmp_path / "small", "--model", model, "--out", tmp_path / "out").status == 0
    for name, image in pictures.items():
        with Image.open(tmp_path / "out" / f"{name}.png") as back:
            assert np.array_equal(np.asarray(back), np.asarray(image))


def test_a_volume_is_the_same_file_again(ndrnn, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    torch.manual_seed(0)
    window = CausalNeighborhood.window(3, ndim=3)
    library.save(
        RIDE(3, neighborhood=window, num_components=2, num_scales=1, num_features=2),
        tmp_path / "v.safetensors",
    )
    values = np.random.default_rng(0).integers(-900, 900, (4, 6, 5)).astype(np.int16)
    data = nibabel.Nifti1Image(values, np.diag([1.0, 2.0, 3.0, 1.0])).to_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data))
    ran = ndrnn("compress", tmp_path / "scan.nii.gz", "--model", tmp_path / "v.safetensors")
    assert ran.status == 0, ran.err
    ran = ndrnn("decompress", tmp_path / "scan.ndrnn", "--model", tmp_path / "v.safetensors")
    assert ran.status == 0, ran.err
    assert (tmp_path / "scan.nii").read_bytes() == data


def test_nothing_is_written_over(model, ndrnn, tmp_path):
    pictures = write_pictures(tmp_path / "in")
    grey = tmp_path / "in" / "grey.png"
    assert ndrnn("compress", grey, "--model", model).status == 0
    target = grey.with_suffix(".ndrnn")
    before = target.read_bytes()
    target.write_bytes(b"mine")
    ran = ndrnn("compress", grey, "--model", model)
    assert ran.status == 1
    assert "grey.ndrnn exists already" in ran.err
    assert target.read_bytes() == b"mine"
    assert ndrnn("compress", grey, "--model", model, "--force").status == 0
    assert target.read_bytes() == before
    ran = ndrnn("decompress", target, "--model", model)
    assert ran.status == 1
    assert "grey.png exists" in ran.err
    assert np.array_equal(np.asarray(Image.open(grey)), np.asarray(pictures["grey"]))


def test_parts_and_what_is_left_of_a_damaged_file(model, ndrnn, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (20, 10)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    assert ndrnn("compress", tmp_path / "a.png", "--model", model, "--block", "10").status == 0
    file = tmp_path / "a.ndrnn"
    where = ["--model", model, "--out", tmp_path / "out", "--force"]
    assert ndrnn("decompress", file, *where, "--region", "3:7,2:9").status == 0
    assert np.array_equal(np.asarray(Image.open(tmp_path / "out" / "a.png")), values[3:7, 2:9])
    data = bytearray(file.read_bytes())
    data[-1] ^= 1
    file.write_bytes(data)
    ran = ndrnn("decompress", file, *where)
    assert ran.status == 1
    assert "a.ndrnn: block 1 at (10, 0): damaged" in ran.err
    ran = ndrnn("decompress", file, *where, "--salvage")
    assert ran.status == 1
    assert "damaged: " in ran.err
    back = np.asarray(Image.open(tmp_path / "out" / "a.png"))
    assert np.array_equal(back[:10], values[:10])
    assert not back[10:].any()
    assert ndrnn("decompress", file, "--region", "1-2").status == 2


def test_models_by_name(model, ndrnn, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", model.parent)
    write_pictures(tmp_path / "in")
    grey = tmp_path / "in" / "grey.png"
    ran = ndrnn("compress", grey, "--model", "smal")
    assert ran.status == 2
    assert "'small'" in ran.err
    assert ndrnn("compress", grey, "--model", "small").status == 0
    # the file says which model it needs
    assert ndrnn("decompress", grey.with_suffix(".ndrnn"), "--out", tmp_path / "out").status == 0
    with torch.no_grad():
        changed = library.load(model)
        changed.mcgsm.means += 1
    library.save(changed, model)
    ran = ndrnn("decompress", grey.with_suffix(".ndrnn"), "--out", tmp_path / "out", "--force")
    assert ran.status == 1
    assert "grey.ndrnn: data were compressed with another model, small" in ran.err


def ship(folder: Path, name: str, model: torch.nn.Module, channels: list[int]) -> None:
    """As one that comes with the package."""
    folder.mkdir(exist_ok=True)
    library.save(model, folder / f"{name}.safetensors")
    (folder / f"{name}.toml").write_text(f'summary = "tiny"\nchannels = {channels}\n', encoding="utf-8")


def small_ride(seed: int, seen: int = 0) -> RIDE:
    torch.manual_seed(seed)
    window = CausalNeighborhood.window(3, observed=seen > 0)
    return RIDE(3, 1, window, num_components=2, num_scales=1, num_features=2, observed_channels=seen)


def test_each_image_has_the_model_for_its_channels(ndrnn, tmp_path, monkeypatch):
    """Opacity is none of them; without one for colour, it is that of grey images."""
    folder = tmp_path / "ship"
    monkeypatch.setattr(shipped, "FOLDER", folder)
    ship(folder, "greys", small_ride(0), [1])
    ship(folder, "labels", small_ride(3), [])
    pictures = write_pictures(tmp_path / "in")
    colour = {"deep/colour", "opacity"}
    for name in ("greys", "colours"):
        if name == "colours":
            ship(folder, name, PlaneModel([small_ride(plane, plane) for plane in range(3)]), [3, 4])
        ran = ndrnn("compress", tmp_path / "in", "--out", tmp_path / "small", "--json", "--force")
        assert ran.status == 0, ran.err
        for row in ran.json["files"]:
            stem = str(Path(row["file"]).relative_to(tmp_path / "small").with_suffix(""))
            assert row["model"] == (name if stem in colour else "greys"), stem
        ran = ndrnn("decompress", tmp_path / "small", "--out", tmp_path / "out", "--force")
        assert ran.status == 0, ran.err
        for stem, image in pictures.items():
            with Image.open(tmp_path / "out" / f"{stem}.png") as back:
                assert np.array_equal(np.asarray(back), np.asarray(image))


def test_a_model_of_samples_on_their_own_scale_is_told_of(model, ndrnn, tmp_path, monkeypatch):
    whole = codec_model.load
    reader = SimpleNamespace(invert=False, scale="sample")
    monkeypatch.setattr(codec_model, "load", lambda path: (whole(path)[0], reader, path))
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "a.png")
    ran = ndrnn("compress", tmp_path / "a.png", "--model", model)
    assert ran.status == 0
    assert "learned each sample on a scale of its own" in ran.err


def test_few_bits_of_sixteen_are_all_of_them_to_a_model_that_ships(ndrnn, tmp_path, monkeypatch):
    """To one's own they are what it has learned."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "ship")
    ship(tmp_path / "ship", "greys", small_ride(0), [1])
    library.save(small_ride(0), tmp_path / "own.safetensors")
    for name, most, words, bits in (
        ("twelve", 4095, (), 12),
        ("dark", 3, (), 9),
        ("whole", 65535, (), 16),
        ("own", 4095, ("--model", tmp_path / "own.safetensors"), 16),
    ):
        values = np.random.default_rng(0).integers(0, most, (5, 6)).astype(np.uint16)
        values[0, 0] = most
        Image.fromarray(values).save(tmp_path / f"{name}.png")
        assert ndrnn("compress", tmp_path / f"{name}.png", *words).status == 0
        assert read_header((tmp_path / f"{name}.ndrnn").read_bytes()).bits == bits
        out = tmp_path / "out"
        assert ndrnn("decompress", tmp_path / f"{name}.ndrnn", "--out", out, *words).status == 0
        with Image.open(out / f"{name}.png") as back:
            assert back.mode == "I;16"
            assert np.array_equal(np.asarray(back), values)


def test_models_of_planes_are_for_compression_alone(ndrnn, tmp_path, monkeypatch):
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "ship")
    ship(tmp_path / "ship", "colours", PlaneModel([small_ride(plane, plane) for plane in range(3)]), [3])
    Image.fromarray(np.zeros((9, 9), np.uint8)).save(tmp_path / "a.png")
    assert ndrnn("info", "colours").status == 0
    for words in (
        ("sample", "colours", "--out", tmp_path / "drawn"),
        ("predict", "colours", tmp_path / "a.png"),
    ):
        ran = ndrnn(*words)
        assert ran.status == 2
        assert "is a model of planes, for compress and decompress alone" in ran.err


def test_a_model_alone_predicts(ndrnn, tmp_path):
    """As many bits as its own log-density says, with noise within the levels."""
    library.save(small_ride(0), tmp_path / "own.safetensors")
    values = np.random.default_rng(0).integers(0, 256, (9, 8)).astype(np.uint8)
    Image.fromarray(values).save(tmp_path / "a.png")
    ran = ndrnn("predict", tmp_path / "own.safetensors", tmp_path / "a.png")
    assert ran.status == 0, ran.err
    floats = torch.from_numpy((values + 0.5) / 256).float()[None, ..., None]
    with torch.no_grad():
        bits = 8 - float(library.load(tmp_path / "own.safetensors").log_prob(floats).mean()) / np.log(2)
    assert json.loads(ran.out)["bits_per_pixel"] == pytest.approx(bits, abs=0.05)


def test_no_model_that_ships_is_for_volumes_and_signals(ndrnn, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    nibabel.save(nibabel.Nifti1Image(np.zeros((3, 4, 5), np.uint8), np.eye(4)), tmp_path / "v.nii")
    np.save(tmp_path / "s.npy", np.zeros(9, np.uint8))
    ran = ndrnn("compress", tmp_path / "v.nii", tmp_path / "s.npy")
    assert ran.status == 1
    assert "v.nii: no model that ships codes volumes: train one by ndrnn train --task density" in ran.err
    assert "s.npy: no model that ships codes signals" in ran.err
    ran = ndrnn("compress", tmp_path / "v.nii", "--model", "photographs-grey")
    assert ran.status == 1
    assert "v.nii: has 3 axes, the model photographs-grey is for 2" in ran.err


def test_a_name_that_ships_means_that_model_everywhere(ndrnn, tmp_path, monkeypatch):
    """Whatever lies in the current folder; a longer path means what lies there."""
    monkeypatch.setattr(shipped, "FOLDER", tmp_path / "ship")
    ship(tmp_path / "ship", "small", small_ride(0), [1])
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    (here / "small").mkdir()
    library.save(small_ride(1).double(), here / "small" / "best.safetensors")
    for name, wanted in (
        ("small", tmp_path / "ship" / "small.safetensors"),
        ("small/best.safetensors", here / "small" / "best.safetensors"),
        (str(here / "small"), here / "small" / "best.safetensors"),
    ):
        assert trained.weights_of(Path(name)).resolve() == wanted
    ran = ndrnn("info", "small", "--json")
    assert Path(ran.json["file"]) == tmp_path / "ship" / "small.safetensors"
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(here / "a.png")
    for words in ((), ("--model", "small"), ("--model", here / "small")):
        assert ndrnn("compress", "a.png", "--force", *words).status == 0
        mine = library.load(here / "small" / "best.safetensors")
        used = read_header((here / "a.ndrnn").read_bytes())
        assert used.model == "small"
        assert (used.fingerprint == fingerprint(mine)) == (len(words) == 2 and words[1] != "small")


def test_files_that_cannot_be_compressed_are_named_and_the_others_done(model, ndrnn, tmp_path):
    write_pictures(tmp_path / "in")
    (tmp_path / "in" / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    Image.fromarray(np.zeros((3, 4), np.float32)).save(tmp_path / "in" / "float.tif")
    ran = ndrnn("compress", tmp_path / "in", "--model", model, "--out", tmp_path / "small", "--json")
    assert ran.status == 1
    assert sorted(Path(left["file"]).name for left in ran.json["left_out"]) == ["broken.png", "float.tif"]
    assert len(ran.json["files"]) == 7
    ran = ndrnn("decompress", tmp_path / "in" / "grey.png", "--model", model)
    assert ran.status == 1
    assert "grey.png: data must be a compressed image" in ran.err


def test_a_file_does_not_choose_a_model_on_the_disk(tmp_path, model, ndrnn, monkeypatch):
    """A folder called as the model in the file is not looked at, and the message says what to do."""
    Image.fromarray(np.zeros((4, 5), np.uint8)).save(tmp_path / "grey.png")
    assert ndrnn("compress", tmp_path / "grey.png", "--model", model).status == 0
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small").mkdir()
    ran = ndrnn("decompress", tmp_path / "grey.ndrnn", "--out", tmp_path / "out")
    assert ran.status == 1
    assert "'small', which does not come with the package: name it by --model" in ran.err
