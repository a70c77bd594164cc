"""Drawing and filling in volumes, signals and images of all types by the command line."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import ndrnn as library
from ndrnn.app.density_model import as_values
from ndrnn.app.options import Train
from ndrnn.app.recipe import parse
from ndrnn.app.samples import Samples, write
from ndrnn.app.samples import read as read_samples
from ndrnn.data.formats.intensities import Intensities
from ndrnn.density.rides import RIDE
from ndrnn.density.use.inpainting import Inpainting
from ndrnn.tasks import Facts, build

nibabel = pytest.importorskip("nibabel")

SMALL = ("--hidden", "2", "--components", "2", "--scales", "2", "--features", "2", "--window", "3")


def make_run(folder: Path, facts: Facts, *options: str) -> Path:
    """A run's folder whose weights are as they were drawn."""
    folder.mkdir()
    words = ("--task", "density", "--data.format", "images", "--data.path", "unused", *SMALL, "--patch", "6")
    recipe, _ = parse((*words, *options), Train, "ndrnn train")
    recipe.save(folder)
    torch.manual_seed(0)
    task = build(recipe.config, facts)
    with torch.no_grad():
        task.model.marginal.uniform_(0.4, 0.6)
    library.save(task, folder / "best.safetensors")
    return folder


@pytest.fixture
def seen(monkeypatch: pytest.MonkeyPatch) -> list[torch.Tensor]:
    """What the density is shown; it fills in the number of each point along the first axis of what it sees, as
    hundredths, in the middle of a level of 100."""
    shown: list[torch.Tensor] = []

    def inpaint(self: RIDE, images: torch.Tensor, mask: torch.Tensor, **options: object) -> Inpainting:
        shown.append(images.clone())
        rows = torch.arange(images.shape[1]).view(1, -1, *[1] * (images.dim() - 2))
        filled = torch.where(mask[None, ..., None], (rows + 0.5) / 100, images)
        nothing = torch.zeros(1, len(images), dtype=torch.float64)
        return Inpainting(filled[None], nothing, None, nothing[None])

    monkeypatch.setattr(RIDE, "inpaint", inpaint)
    return shown


def save_volume(path: Path, values: np.ndarray, affine: np.ndarray, slope: float | None = None) -> None:
    image = nibabel.Nifti1Image(values, affine)
    image.header.set_slope_inter(slope, 3 if slope else None)
    image.header["descrip"] = b"a scan"
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    data = bytearray(image.to_bytes())
    if slope:  # which nibabel leaves out with numbers that are stored as they are
        header = nibabel.Nifti1Header(bytes(data[:348]))
        header["scl_slope"], header["scl_inter"] = slope, 3
        data[:348] = header.binaryblock
    path.write_bytes(gzip.compress(bytes(data)) if path.suffix == ".gz" else bytes(data))


TURNED = np.array([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 3.0, 1], [0, 0, 0, 1]])
"""To the front, to the left, up."""


@pytest.mark.parametrize("slope", [None, 0.001], ids=["stored", "scaled"])
def test_a_volume_is_filled_where_it_lies(slope, seen, ndrnn, tmp_path):
    """Of a file whose axes are turned everything but the hidden voxels stays, to the last bit."""
    run = make_run(
        tmp_path / "run", Facts(3, 1, levels=0 if slope else 32768), "--levels", "0" if slope else "100"
    )
    values = np.random.default_rng(0).integers(-30000, 30000, (6, 7, 8)).astype(np.int16)
    save_volume(tmp_path / "v.nii.gz", values, TURNED, slope)
    mask = np.zeros(values.shape, np.uint8)
    mask[2:4, 1:4, 5] = 9
    save_volume(tmp_path / "mask.nii", mask, TURNED)
    out = tmp_path / "filled.nii.gz"
    words = ("inpaint", run, tmp_path / "v.nii.gz", tmp_path / "mask.nii", "--out", out, "--json")
    ran = ndrnn(*words)
    assert ran.status == 0, ran.err
    assert ran.json["filled"] == 6
    before, after = (
        np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8) for path in (tmp_path / "v.nii.gz", out)
    )
    back = nibabel.load(out)
    start = int(back.dataobj.offset)
    assert np.array_equal(before[:start], after[:start])
    stored = after[start:].view(back.get_data_dtype()).reshape(values.shape, order="F")
    assert np.array_equal(stored[mask == 0], values[mask == 0])
    # the sample's first axis runs to the right: against the file's second
    row = np.broadcast_to(6 - np.arange(7)[None, :, None], values.shape)[mask != 0]
    expected = row / 99 * 32767 if slope is None else ((row + 0.5) / 100 - 3) / slope
    assert np.array_equal(stored[mask != 0], np.rint(expected))
    assert seen[0].shape == (1, 7, 6, 8, 1)
    assert (tmp_path / "v.nii.gz").read_bytes()[:2] == out.read_bytes()[:2] == b"\x1f\x8b"


def test_a_volume_is_filled_by_the_density_itself(ndrnn, tmp_path):
    run = make_run(tmp_path / "run", Facts(3, 1))
    values = np.random.default_rng(0).integers(0, 256, (7, 8, 9)).astype(np.uint8)
    save_volume(tmp_path / "v.nii", values, np.eye(4))
    mask = np.zeros(values.shape, bool)
    mask[0:2, 3:5, 4] = True  # at the border
    np.save(tmp_path / "mask.npy", mask)
    found = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        words = ("--epochs", 1, "--seed", seed, "--out", tmp_path / f"{name}.nii")
        ran = ndrnn("inpaint", run, tmp_path / "v.nii", tmp_path / "mask.npy", *words)
        assert ran.status == 0, ran.err
        found.append(np.asanyarray(nibabel.load(tmp_path / f"{name}.nii").dataobj))
    assert found[0].dtype == np.uint8
    assert all(np.array_equal(one[~mask], values[~mask]) for one in found)
    assert np.array_equal(found[0], found[1])
    assert not np.array_equal(found[0], found[2])


@pytest.mark.parametrize("scale", ["sample", "channel"])
def test_a_scale_of_its_own_is_that_of_what_is_known(scale, seen, ndrnn, tmp_path):
    """What lies under the mask plays no part in it, and what is filled in has it."""
    run = make_run(tmp_path / "run", Facts(3, 1), "--levels", "0", "--data.scale", scale)
    values = np.full((5, 6, 7), 1000, np.int16)
    values[0], values[4] = 600, 2600
    mask = np.zeros(values.shape, np.uint8)
    mask[2, 2:4, 3] = 1
    hidden = np.where(mask, -20000, values).astype(np.int16)
    save_volume(tmp_path / "v.nii", hidden, np.eye(4))
    save_volume(tmp_path / "m.nii", mask, np.eye(4))
    ran = ndrnn("inpaint", run, tmp_path / "v.nii", tmp_path / "m.nii", "--out", tmp_path / "f.nii")
    assert ran.status == 0, ran.err
    assert torch.allclose(seen[0][0, 1][~torch.from_numpy(mask[1] != 0)], torch.tensor(0.2))
    filled = np.asanyarray(nibabel.load(tmp_path / "f.nii").dataobj)
    assert np.array_equal(filled, np.where(mask, 600 + 2000 * 2.5 // 100, values))


def test_only_what_is_near_is_seen(seen, ndrnn, tmp_path):
    run = make_run(tmp_path / "run", Facts(3, 1))
    mask = np.zeros((60, 40, 9), np.uint8)
    mask[20:23, 39, 4] = 1
    np.save(tmp_path / "m.npy", mask)
    np.save(tmp_path / "v.npy", np.zeros(mask.shape, np.uint8))
    for words, shape in (((), (35, 17, 9)), (("--around", 2), (7, 3, 5)), (("--around", 99), mask.shape)):
        out = ("--out", tmp_path / "f.npy", "--force")
        assert ndrnn("inpaint", run, tmp_path / "v.npy", tmp_path / "m.npy", *out, *words).status == 0
        assert seen.pop().shape == (1, *shape, 1)
        filled = np.load(tmp_path / "f.npy")
        assert set(filled[mask == 0]) == {0}
        assert len(set(filled[mask != 0])) == 3


@pytest.mark.parametrize("kind", ["u1", ">u2", "<i2", "<f4", "bool"])
def test_signals_are_filled_and_drawn_in_their_own_type(kind, ndrnn, tmp_path):
    dtype = np.dtype(kind)
    levels = {"u1": 256, "u2": 65536, "i2": 32768, "f4": 0, "bool": 2}[kind.lstrip("<>")]
    run = make_run(tmp_path / "run", Facts(1, 2, levels=levels))
    values = np.asfortranarray(np.random.default_rng(0).uniform(0, 1.9, (50, 2)).astype(dtype))
    if dtype.kind in "iu":
        values = np.asfortranarray(values + dtype.type(100))
    if kind == "<i2":
        values[::3] *= -1
    np.save(tmp_path / "s.npy", values)
    mask = np.arange(50) // 4 == 5
    np.save(tmp_path / "m.npy", mask)
    out = tmp_path / "f.npy"
    ran = ndrnn("inpaint", run, tmp_path / "s.npy", tmp_path / "m.npy", "--epochs", 1, "--out", out)
    assert ran.status == 0, ran.err
    filled = np.load(out)
    assert (filled.dtype, filled.flags.f_contiguous) == (values.dtype, True)
    assert np.array_equal(filled[~mask], values[~mask])
    ran = ndrnn("sample", run, "--n", 2, "--size", 30, "--out", tmp_path / "drawn", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["images"] == [f"{tmp_path}/drawn/{number}.npy" for number in range(2)]
    drawn = [np.load(path) for path in ran.json["images"]]
    assert [(one.shape, one.dtype) for one in drawn] == [((30, 2), dtype.newbyteorder("="))] * 2
    assert not np.array_equal(*drawn)
    # two lines of a folder, and the file by itself
    for where in (tmp_path / "drawn", tmp_path / "s.npy"):
        ran = ndrnn("predict", run, where)
        assert ran.status == 0, ran.err
        assert all(np.isfinite(json.loads(line)["bits_per_pixel"]) for line in ran.out.splitlines())


def test_volumes_are_drawn_as_the_files_are(ndrnn, tmp_path):
    run = make_run(tmp_path / "run", Facts(3, 1, levels=32768), "--data.spacing", "1", "2", "3")
    for name in ("a", "b"):
        ran = ndrnn("sample", run, "--n", 2, "--size", 4, 5, 6, "--margin", 1, "--out", tmp_path / name)
        assert ran.status == 0, ran.err
    assert (tmp_path / "a/1.nii.gz").read_bytes() == (tmp_path / "b/1.nii.gz").read_bytes()
    drawn = nibabel.load(tmp_path / "a/0.nii.gz")
    assert (drawn.shape, drawn.get_data_dtype()) == ((4, 5, 6), np.int16)
    assert drawn.header.get_zooms() == (1, 2, 3)
    values = np.asanyarray(drawn.dataobj)
    assert len(np.unique(values)) > 10
    assert not np.array_equal(values, np.asanyarray(nibabel.load(tmp_path / "a/1.nii.gz").dataobj))
    ran = ndrnn(
        "sample", run, "--n", 2, "--size", 4, 5, 6, "--margin", 1, "--format", "npy", "--out", tmp_path
    )
    assert ran.status == 0, ran.err
    assert np.array_equal(np.load(tmp_path / "0.npy"), values)


def test_sizes_and_formats_that_do_not_fit(ndrnn, tmp_path):
    runs = {axes: make_run(tmp_path / str(axes), Facts(axes, 1)) for axes in (1, 2, 3)}
    for axes, words, message in (
        (3, ("--size", 8, 9), "size must have 3 extents for a model of volumes, got 2: 8 9"),
        (2, ("--size", 8), "size must have 2 extents for a model of images, got 1: 8"),
        (1, ("--size", 8, 9, 9), "size must have 1 extent for a model of signals"),
        (3, ("--height", 8), "height and width are of images, the model is of volumes: give --size"),
        (2, ("--size", 8, 9, "--width", 9), "size and height or width say the same"),
        (2, ("--size", 8, 0), "size must be at least 1 along each axis, got 8 0"),
        (3, ("--format", "png"), "--format must be nii.gz or nii or npy for volumes of 1 channel, got png"),
        (1, ("--format", "nii"), "--format must be npy for signals of 1 channel, got nii"),
    ):
        ran = ndrnn("sample", runs[axes], *words, "--out", tmp_path / "none")
        assert ran.status == 2
        assert message in ran.err
    assert not (tmp_path / "none").exists()


def test_masks_and_outputs_that_do_not_fit(ndrnn, tmp_path):
    run = make_run(tmp_path / "run", Facts(3, 1))
    resampled = make_run(tmp_path / "resampled", Facts(3, 1), "--data.spacing", "2")
    values = np.zeros((6, 7, 8), np.uint8)
    save_volume(tmp_path / "v.nii", values, np.eye(4))
    save_volume(tmp_path / "none.nii", values, np.eye(4))
    save_volume(tmp_path / "moved.nii", values + 1, np.diag([1.0, 1, 1.2, 1]))
    save_volume(tmp_path / "short.nii", values[1:] + 1, np.eye(4))
    np.save(tmp_path / "short.npy", values[0])
    Image.fromarray(values[0]).save(tmp_path / "flat.png")
    for model, mask, out, message in (
        (run, "none.nii", "f.nii", "none.nii: is 0 everywhere: there is nothing to fill in"),
        (run, "moved.nii", "f.nii", "moved.nii: its affine differs from that of its image"),
        (run, "short.nii", "f.nii", "short.nii: mask must be 6 x 7 x 8 like its image, got 5 x 7 x 8"),
        (run, "short.npy", "f.nii", "short.npy: must have 3 axes"),
        (run, "flat.png", "f.nii", "flat.png: mask must be 6 x 7 x 8 like its image, got 7 x 8"),
        (run, "moved.nii", "f.png", "--out must end in .nii.gz or .nii for"),
        (run, "moved.nii", "v.nii", "v.nii is an original and would be overwritten"),
        (resampled, "moved.nii", "f.nii", "v.nii: has 6 x 7 x 8 voxels, and data.spacing"),
    ):
        ran = ndrnn("inpaint", model, tmp_path / "v.nii", tmp_path / mask, "--out", tmp_path / out, "--force")
        assert ran.status in (1, 2)
        assert message in ran.err
    assert not list(tmp_path.glob("f.*"))
    ran = ndrnn("inpaint", run, tmp_path / "flat.png", tmp_path / "flat.png")
    assert ran.status == 1
    assert "flat.png: has 2 axes, the model is for 3" in ran.err


def test_a_volume_that_overflows_is_named(ndrnn, tmp_path, monkeypatch):
    run = make_run(tmp_path / "run", Facts(3, 1))
    np.save(tmp_path / "v.npy", np.zeros((5, 6, 7), np.uint8))
    np.save(tmp_path / "m.npy", np.ones((5, 6, 7), np.uint8))

    def overflowing(self: RIDE, *given: object, **options: object) -> None:
        raise FloatingPointError("what is drawn is not finite")

    monkeypatch.setattr(RIDE, "inpaint", overflowing)
    monkeypatch.setattr(RIDE, "sample", overflowing)
    ran = ndrnn("inpaint", run, tmp_path / "v.npy", tmp_path / "m.npy", "--out", tmp_path / "f.npy")
    assert ran.status == 1
    assert "v.npy: what is drawn is not finite" in ran.err
    assert ndrnn("sample", run, "--out", tmp_path / "drawn").status == 1
    assert not (tmp_path / "f.npy").exists()


def test_stacks_of_slices_stay_stacks(seen, ndrnn, tmp_path):
    run = make_run(tmp_path / "run", Facts(3, 1, levels=65536), "--data.stacked", "--levels", "100")
    values = np.random.default_rng(0).integers(0, 200, (4, 5, 6)).astype(np.uint16)
    mask = np.zeros(values.shape, np.uint8)
    mask[1, 2:4, 3] = 1
    for name, slices in (("v", values), ("m", mask)):
        first, *others = (Image.fromarray(one) for one in slices)
        first.save(tmp_path / f"{name}.tif", save_all=True, append_images=others)
    ran = ndrnn("inpaint", run, tmp_path / "v.tif", tmp_path / "m.tif", "--out", tmp_path / "f.tif")
    assert ran.status == 0, ran.err
    with Image.open(tmp_path / "f.tif") as image:
        filled = []
        for number in range(4):
            image.seek(number)
            filled.append(np.asarray(image))
    assert {one.dtype for one in filled} == {np.dtype(np.uint16)}
    assert np.array_equal(filled, np.where(mask, round(1 / 99 * 65535), values))


@pytest.mark.parametrize("kind", [np.uint8, np.uint16, np.float32])
def test_pictures_keep_their_type(kind, seen, ndrnn, tmp_path, monkeypatch):
    """Channels that the model learned apart are filled by themselves; a picture of 16 bits stays one."""
    channels = 1 if kind is np.float32 else 3
    monkeypatch.chdir(tmp_path)
    run = make_run(
        tmp_path / "run",
        Facts(2, channels, levels=256),
        "--levels",
        "100",
        "--apart",
        "--data.channels",
        str(channels),
    )
    values = np.random.default_rng(0).uniform(0, 1, (8, 9, channels)).astype(np.float32)
    if kind is np.float32:
        Image.fromarray(values[..., 0]).save("a.tif")
    else:
        values = (values * np.iinfo(kind).max).astype(kind)
        from ndrnn.app import samples

        Path("a.png").write_bytes(samples.write(samples.Samples(values, 8 * values.dtype.itemsize)))
    name = "a.tif" if kind is np.float32 else "a.png"
    mask = np.zeros((8, 9), np.uint8)
    mask[3, 4:6] = 1
    Image.fromarray(mask).save("m.png")
    ran = ndrnn("inpaint", run, name, "m.png")
    assert ran.status == 0, ran.err
    assert seen[0].shape == (channels, 8, 9, 1)
    from ndrnn.data.formats import images

    filled = images.decode(Path(f"inpainted{Path(name).suffix}").read_bytes())
    full = 1 if kind is np.float32 else np.iinfo(kind).max
    wanted = (3 / 99 * full) if kind is np.float32 else round(3 / 99 * full)
    assert filled.dtype == kind
    assert np.allclose(filled, np.where(mask[..., None], wanted, values), rtol=1e-6)


def test_a_density_of_grey_says_that_it_saw_no_colour(ndrnn, tmp_path):
    run = make_run(tmp_path / "run", Facts(2, 1), "--data.channels", "1")
    grey = np.random.default_rng(0).integers(0, 256, (9, 10)).astype(np.uint8)
    (tmp_path / "in").mkdir()
    for name, last in (("a", grey), ("b", 255 - grey), ("c", 255 - grey), ("d", grey)):
        Image.fromarray(np.stack([grey, grey, last], -1)).save(tmp_path / f"in/{name}.png")
    ran = ndrnn("predict", run, tmp_path / "in")
    assert ran.status == 0
    assert ran.err.splitlines() == [
        f"in colour: {tmp_path}/in/b.png and 1 more; the model is of grey images, and measured their grey"
    ]
    assert len(ran.out.splitlines()) == 4
    assert ndrnn("predict", run, tmp_path / "in/a.png").err == ""


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [2, 3, 4])
def test_pictures_of_grey_keep_their_channels(kind, channels, ndrnn, seen, tmp_path):
    """Greys in all colours, and opacity, come back as they are; only the hidden points change."""
    run = make_run(tmp_path / "run", Facts(2, 1, levels=256))
    top = np.iinfo(kind).max
    grey = np.random.default_rng(0).integers(0, top, (12, 12, 1), kind)
    picture = np.concatenate([grey] * (channels - (channels in (2, 4))), -1)
    if channels in (2, 4):
        picture = np.concatenate([picture, np.full_like(grey, top)], -1)
    path = tmp_path / "picture.png"
    path.write_bytes(write(Samples(picture, 8 * picture.itemsize, channels in (2, 4))))
    mask = np.zeros((12, 12), np.uint8)
    mask[4:6, 4:6] = 1
    Image.fromarray(mask).save(tmp_path / "mask.png")
    ran = ndrnn("inpaint", run, path, tmp_path / "mask.png", "--out", tmp_path / "out.png")
    assert ran.status == 0, ran.err
    assert ("it sees these values rounded" in ran.err) == (kind is np.uint16)
    found = read_samples((tmp_path / "out.png").read_bytes(), "out.png", "out.png").values
    assert np.array_equal(found[mask == 0], picture[mask == 0])
    assert (found[mask == 1] != picture[mask == 1]).any()
    if channels in (2, 4):
        assert (found[..., -1] == top).all()
        picture[0, 0, -1] = 0
        path.write_bytes(write(Samples(picture, 8 * picture.itemsize, True)))
        ran = ndrnn("inpaint", run, path, tmp_path / "mask.png", "--out", tmp_path / "other.png")
        assert ran.status != 0
        assert f"{path}: is not opaque everywhere" in ran.err


def test_the_ending_of_a_packed_volume_may_be_in_capitals(ndrnn, seen, tmp_path):
    run = make_run(tmp_path / "run", Facts(3, 1, levels=256))
    values = np.random.default_rng(0).integers(0, 255, (8, 9, 7), np.uint8)
    save_volume(tmp_path / "a.nii.gz", values, TURNED)
    mask = np.zeros(values.shape, np.uint8)
    mask[3:5, 3:5, 3:5] = 1
    save_volume(tmp_path / "m.nii.gz", mask, TURNED)
    ran = ndrnn("inpaint", run, tmp_path / "a.nii.gz", tmp_path / "m.nii.gz", "--out", tmp_path / "B.NII.GZ")
    assert ran.status == 0, ran.err
    packed = gzip.decompress((tmp_path / "B.NII.GZ").read_bytes())
    found = np.asarray(nibabel.Nifti1Image.from_bytes(packed).dataobj)
    assert np.array_equal(found[mask == 0], values[mask == 0])


@pytest.mark.parametrize("wrong", [np.nan, 0.2])
def test_an_array_of_no_integers_is_no_mask(wrong, ndrnn, seen, tmp_path):
    run = make_run(tmp_path / "run", Facts(1, 1, levels=0))
    np.save(tmp_path / "a.npy", np.linspace(0, 1, 40, dtype=np.float32))
    mask = np.zeros(40, np.float32)
    mask[10:12] = 1
    mask[0] = wrong
    np.save(tmp_path / "m.npy", mask)
    ran = ndrnn("inpaint", run, tmp_path / "a.npy", tmp_path / "m.npy", "--out", tmp_path / "b.npy")
    assert ran.status != 0
    assert "m.npy: labels must be integers" in ran.err
    assert not (tmp_path / "b.npy").exists()


def test_what_is_drawn_stays_within_the_levels():
    drawn = torch.tensor([-0.2, 0.0, 0.999, 1.3])[:, None]
    plain = as_values(drawn, 256, Intensities(), np.float32)
    assert plain.min() == 0
    assert plain.max() == 1
    signed = as_values(drawn, 128, Intensities(), np.int8)
    assert signed.min() < 0


def test_models_that_ship_refuse_what_is_no_picture_of_their_scale(ndrnn, tmp_path):
    values = np.random.default_rng(0).random((6, 7), np.float32)
    Image.fromarray(values).save(tmp_path / "a.tif")
    Image.fromarray(255 * values).save(tmp_path / "b.tif")
    ran = ndrnn("predict", "photographs-grey", tmp_path / "a.tif", tmp_path / "b.tif")
    assert ran.status == 1
    assert "b.tif: has floating-point values of up to 2" in ran.err
    assert [json.loads(line)["file"] for line in ran.out.splitlines()[:1]] == [str(tmp_path / "a.tif")]
