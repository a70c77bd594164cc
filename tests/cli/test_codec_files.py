"""What the commands that compress keep of a file beside its samples, and parts of volumes and signals."""

from __future__ import annotations

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from PIL.PngImagePlugin import PngInfo

import ndrnn as library
from ndrnn.app import samples
from ndrnn.density import RIDE, CausalNeighborhood
from ndrnn.density.use.codec import fingerprint, read_header, rescaled
from ndrnn.scan.operators import kernels

pytestmark = pytest.mark.skipif(kernels.refusal is not None, reason=str(kernels.refusal))


@pytest.fixture
def models(tmp_path: Path) -> list[Path]:
    """Of signals, images and volumes, by the number of their axes."""
    (tmp_path / "models").mkdir()
    paths = [tmp_path / "models" / f"{axes}.safetensors" for axes in range(4)]
    for axes in (1, 2, 3):
        torch.manual_seed(axes)
        window = CausalNeighborhood.window(3, ndim=axes)
        library.save(
            RIDE(3, neighborhood=window, num_components=2, num_scales=1, num_features=2), paths[axes]
        )
    return paths


def there_and_back(ndrnn, path: Path, model: Path, *options: object) -> Path:
    """The file that comes of one, in a folder beside it."""
    small, out = path.parent / "small", path.parent / "out"
    ran = ndrnn("compress", path, "--model", model, "--out", small, "--force")
    assert ran.status == 0, ran.err
    ran = ndrnn("decompress", small, "--model", model, "--out", out, "--force", *options)
    assert ran.status == 0, ran.err
    (small / f"{path.name.partition('.')[0]}.ndrnn").unlink()
    return next(out.glob(f"{path.name.partition('.')[0]}.*"))


def png_chunks(data: bytes) -> list[tuple[bytes, bytes]]:
    """Read without the code under test."""
    at, found = 8, []
    while at < len(data):
        (length,) = struct.unpack(">I", data[at : at + 4])
        body = data[at + 4 : at + 8 + length]
        assert struct.unpack(">I", data[at + 8 + length : at + 12 + length])[0] == zlib.crc32(body)
        found.append((body[:4], body[4:]))
        at += 12 + length
    return found


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "1", "I;16", "RGB;16"])
def test_texts_and_colours_of_a_png_are_kept(mode, models, ndrnn, tmp_path):
    values = np.random.default_rng(0).integers(0, 256, (5, 6, 3)).astype(np.uint8)
    path = tmp_path / "a.png"
    texts = PngInfo()
    texts.add_text("Author", "no one")
    texts.add_text("Description", "a long one " * 20, zip=True)
    texts.add_itxt("Title", "größer", "de", "Titel", zip=True)
    texts.add(b"gAMA", struct.pack(">I", 45455))
    texts.add(b"cHRM", struct.pack(">8I", *range(8)))
    texts.add(b"tIME", b"\x07\xea\x01\x02\x03\x04\x05")
    if mode == "RGB;16":
        deep = samples.Samples(values.astype(np.uint16) * 257, 16)
        path.write_bytes(samples.write(deep))
        with Image.open(path) as plain:
            plain.load()
        other = Image.new("L", (1, 1))
        other.save(tmp_path / "texts.png", pnginfo=texts, dpi=(300, 150))
        data = path.read_bytes()
        extra = [(k, c) for k, c in png_chunks((tmp_path / "texts.png").read_bytes()) if k not in (b"IHDR", b"IDAT", b"IEND")]  # fmt: skip
        packed = [struct.pack(">I", len(c)) + k + c + struct.pack(">I", zlib.crc32(k + c)) for k, c in extra]
        path.write_bytes(data[:33] + b"".join(packed) + data[33:])
    elif mode == "I;16":
        Image.fromarray(values[..., 0].astype(np.uint16) * 257).save(path, pnginfo=texts, dpi=(300, 150))
    else:
        Image.fromarray(values).convert(mode).save(path, pnginfo=texts, dpi=(300, 150))
    ours = (b"gAMA", b"cHRM", b"tIME", b"tEXt", b"zTXt", b"iTXt", b"pHYs")
    before = [one for one in png_chunks(path.read_bytes()) if one[0] in ours]
    assert {kind for kind, _ in before} == set(ours)
    back = there_and_back(ndrnn, path, models[2])
    after = png_chunks(back.read_bytes())
    assert sorted(one for one in after if one[0] in ours) == sorted(before)
    with Image.open(back) as image, Image.open(path) as original:
        assert np.array_equal(np.asarray(image), np.asarray(original))
        assert image.info["Title"] == "größer"
        assert image.info["dpi"] == original.info["dpi"]
    kinds = [kind for kind, _ in after]
    assert kinds.index(b"gAMA") < kinds.index(b"PLTE" if mode == "P" else b"IDAT")


def test_samples_beyond_the_palette_stay(models, ndrnn, tmp_path):
    """Pillow reads such a file, and writes it with as many bits as the palette needs."""
    samples = np.arange(20, dtype=np.uint8).repeat(20).reshape(20, 20)
    image = Image.fromarray(samples)
    image.putpalette(bytes(range(60)), "RGB")
    image.save(tmp_path / "p.png")
    # the palette of 20 colours is cut to 10
    data = (tmp_path / "p.png").read_bytes()
    parts = [(kind, body[:30] if kind == b"PLTE" else body) for kind, body in png_chunks(data)]
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    (tmp_path / "p.png").write_bytes(data[:8] + b"".join(chunks))
    with Image.open(there_and_back(ndrnn, tmp_path / "p.png", models[2])) as back:
        assert np.array_equal(np.array(back), samples)


def test_damaged_chunks_of_a_png_make_no_file():
    values = np.zeros((2, 2), np.uint8)
    whole = samples.write(samples.Samples(values, 8, chunks={"PNGC": b""}))
    for wrong in (b"junk", whole[8:33], b"\0\0\0\x01tEXta\0\0\0\0"):  # no chunk; IHDR; a false checksum
        with pytest.raises(ValueError, match="chunks of PNG"):
            samples.write(samples.Samples(values, 8, chunks={"PNGC": wrong}))


def test_a_tiff_of_16_bits_keeps_its_resolution(models, ndrnn, tmp_path):
    values = np.random.default_rng(0).integers(0, 65536, (5, 6)).astype(np.uint16)
    Image.fromarray(values).save(tmp_path / "a.tif", dpi=(600, 300))
    back = there_and_back(ndrnn, tmp_path / "a.tif", models[2])
    with Image.open(back) as image:
        assert np.array_equal(np.asarray(image), values)
        assert image.info["dpi"] == pytest.approx((600, 300), abs=0.02)


@pytest.mark.parametrize(
    ("tags", "info"),
    [
        ({}, {}),
        ({282: 1.0, 283: 1.0}, {}),
        ({282: 1.0, 283: 1.0, 296: 1}, {}),
        ({282: 3.0, 283: 2.0, 296: 1}, {"aspect": (3, 2)}),
        ({282: 300.0, 283: 150.0}, {"dpi": (300, 150)}),
        ({282: 100.0, 283: 100.0, 296: 3}, {"dpi": (254, 254)}),
    ],
)
def test_a_tiff_has_the_resolution_that_it_had(tags, info, models, ndrnn, tmp_path):
    """None where it tells none; without a unit the form of a pixel, or as the format has it inches."""
    Image.new("L", (3, 2)).save(tmp_path / "a.tif", tiffinfo=tags)
    with Image.open(there_and_back(ndrnn, tmp_path / "a.tif", models[2])) as image:
        found = {key: image.info[key] for key in ("dpi", "aspect") if key in image.info}
    assert found == {key: pytest.approx(value, abs=0.02) for key, value in info.items()}


@pytest.mark.parametrize("mode", ["L", "RGB", "P", "I;16"])
def test_a_tiff_keeps_its_exif_data_and_is_turned_once(mode, models, ndrnn, tmp_path):
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    exif[0x8769] = {0x829A: 0.25, 0x9003: "2020:01:02 03:04:05"}
    exif[0x8825] = {1: "N", 2: (1.0, 2.0, 3.5)}
    picture = (
        Image.fromarray(values.astype(np.uint16)) if mode == "I;16" else Image.fromarray(values).convert(mode)
    )
    written = Image.Exif()
    written.load(exif.tobytes())
    written[270] = "größer".encode()
    picture.save(tmp_path / "a.tif", exif=written)
    with (
        Image.open(there_and_back(ndrnn, tmp_path / "a.tif", models[2])) as image,
        Image.open(tmp_path / "a.tif") as before,
    ):
        # to be seen it is turned by a quarter, to the right
        assert np.array_equal(
            np.asarray(image.convert("RGB" if mode in "RGB" else image.mode)),
            np.rot90(np.asarray(picture), -1),
        )
        assert before.size == (4, 3) or before.size == (3, 4)
        found = image.getexif()
        assert 0x0112 not in found
        assert found[0x010F] == "a maker"
        assert dict(found.get_ifd(0x8769)) == dict(exif[0x8769])
        assert dict(found.get_ifd(0x8825)) == dict(exif[0x8825])
        assert found[270] == before.getexif()[270]
        assert not {256, 257, 258, 259, 262, 273, 279} & set(found)  # of how its pixels are stored


@pytest.mark.parametrize("bits", [2, 4])
@pytest.mark.parametrize("width", [1, 7, 8])
def test_a_few_bits_of_grey_stay_as_few(bits, width, models, ndrnn, tmp_path):
    """A PNG that is put together here, byte by byte, comes back with the same rows."""
    values = np.random.default_rng(0).integers(0, 1 << bits, (5, width))
    rows = b""
    for row in values:
        text = "".join(f"{value:0{bits}b}" for value in row)
        text += "0" * (-len(text) % 8)
        rows += bytes([0, *(int(text[at : at + 8], 2) for at in range(0, len(text), 8))])
    parts = (
        (b"IHDR", struct.pack(">IIBBBBB", width, 5, bits, 0, 0, 0, 0)),
        (b"tEXt", b"Author\0no one"),
        (b"IDAT", zlib.compress(rows)),
        (b"IEND", b""),
    )
    chunks = (
        struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        for kind, body in parts
    )
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(chunks))
    back = png_chunks(there_and_back(ndrnn, tmp_path / "a.png", models[2]).read_bytes())
    assert [(kind, body if kind != b"IDAT" else zlib.decompress(body)) for kind, body in back] == [
        (kind, body if kind != b"IDAT" else rows) for kind, body in parts
    ]


@pytest.mark.parametrize("turn", range(1, 9))
def test_a_picture_is_turned_once(turn, models, ndrnn, tmp_path):
    """By its EXIF data, which are kept: the pixels lie as they did."""
    values = np.arange(12, dtype=np.uint8).reshape(3, 4) * 20
    exif = Image.Exif()
    exif[0x0112] = turn
    Image.fromarray(values).save(tmp_path / "a.png", exif=exif.tobytes())
    with Image.open(there_and_back(ndrnn, tmp_path / "a.png", models[2])) as image:
        assert np.array_equal(np.asarray(image), values)
        assert image.getexif()[0x0112] == turn


@pytest.mark.parametrize("count", [1, 2, 19])
@pytest.mark.parametrize("negative", [False, True], ids=["positive", "signed"])
def test_several_volumes_and_parts_of_them(count, negative, models, ndrnn, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.random.default_rng(0).integers(-900 * negative, 900, (4, 6, 5, count)).astype(">i2")
    affine = np.array([[0, -2.0, 0, 7], [1.5, 0, 0, -3], [0, 0, 3.0, 1], [0, 0, 0, 1]])
    image = nibabel.Nifti1Image(values[..., 0] if count == 1 else values, affine)
    image.set_qform(affine, 1)
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", b"kept"))
    data = image.to_bytes()
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(data))
    assert there_and_back(ndrnn, tmp_path / "scan.nii.gz", models[3]).read_bytes() == data
    part = there_and_back(ndrnn, tmp_path / "scan.nii.gz", models[3], "--region", "1:3,2:6,0:4")
    back, wanted = nibabel.load(part), image.slicer[1:3, 2:6, 0:4]
    assert np.array_equal(np.asanyarray(back.dataobj), np.asanyarray(wanted.dataobj))
    assert back.get_data_dtype() == image.get_data_dtype()
    for stored in (back.get_sform(coded=True), back.get_qform(coded=True)):
        assert np.allclose(stored[0], wanted.affine, atol=1e-5)
        assert stored[1] > 0
    assert back.header.extensions[0].get_content() == b"kept"


def test_values_of_a_signed_type_are_coded_as_they_were_learned(models, ndrnn, tmp_path):
    """From -1 to 1 with 0 in the middle, or without a bit for the sign; files of before said otherwise, and are read."""
    nibabel = pytest.importorskip("nibabel")
    model = library.load(models[3])
    for low, bits, coder in ((0, 15, model), (-900, 16, rescaled(model, 2, -1))):
        values = np.random.default_rng(0).integers(low, 900, (4, 6, 5)).astype(np.int16)
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / "v.nii")
        assert ndrnn("compress", tmp_path / "v.nii", "--model", models[3], "--force").status == 0
        header = read_header((tmp_path / "v.ndrnn").read_bytes())
        assert (header.bits, header.fingerprint) == (bits, fingerprint(coder))
    moved = library.density.compress(
        model, (values.astype(int) + 32768).astype(np.uint16), chunks=dict(header.chunks)
    )
    (tmp_path / "v.ndrnn").write_bytes(moved)
    out = tmp_path / "out"
    assert ndrnn("decompress", tmp_path / "v.ndrnn", "--model", models[3], "--out", out).status == 0
    assert (out / "v.nii").read_bytes() == (tmp_path / "v.nii").read_bytes()


def test_a_rescaled_model_is_the_same_density():
    ride = RIDE(3, num_components=2, num_scales=2, num_features=2).double()
    ride.fit_whitening(torch.rand(2, 20, 20, dtype=torch.float64))
    y = torch.rand(1, 9, 8, 1, dtype=torch.float64)
    wanted = ride.log_prob(2 * y - 1) + np.log(2)
    assert torch.allclose(rescaled(ride, 2, -1).log_prob(y), wanted)
    with pytest.raises(ValueError, match="observe no channels"):
        rescaled(RIDE(3, 1, CausalNeighborhood.window(3, observed=True), observed_channels=1), 2, 0)


@pytest.mark.parametrize("kind", ["u1", ">u2", "<i2", "bool"])
def test_arrays(kind, models, ndrnn, tmp_path):
    """A signal, one of two channels, and an image in Fortran's order are the same files again."""
    rng = np.random.default_rng(0)
    for name, shape, axes in (("signal", (50,), 1), ("two", (50, 2), 1), ("image", (6, 7), 2)):
        values = np.asfortranarray(rng.integers(0, 2 if kind == "bool" else 200, shape).astype(kind))
        if kind == "<i2":
            values -= 100
        path = tmp_path / f"{name}.npy"
        np.save(path, values)
        assert there_and_back(ndrnn, path, models[axes]).read_bytes() == path.read_bytes()
        region = ",".join(["2:5"] * axes)
        part = np.load(there_and_back(ndrnn, path, models[axes], "--region", region))
        assert part.dtype == values.dtype
        assert np.array_equal(part, values[(slice(2, 5),) * axes])


def test_samples_without_a_file_of_their_own_become_arrays(models, ndrnn, tmp_path):
    values = np.random.default_rng(0).integers(0, 200, (6, 5, 7)).astype(np.uint8)
    (tmp_path / "a.ndrnn").write_bytes(library.density.compress(library.load(models[3]), values))
    assert ndrnn("decompress", tmp_path / "a.ndrnn", "--model", models[3]).status == 0
    assert np.array_equal(np.load(tmp_path / "a.npy"), values)


def test_regions_that_do_not_fit(models, ndrnn, tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((9, 8), np.uint8))
    assert ndrnn("compress", tmp_path / "a.npy", "--model", models[2]).status == 0
    for region, message in (
        ("0:3", "--region must have 2 ranges for 9 x 8 points, got 0:3"),
        ("0:3,0:3,0:3", "must have 2 ranges"),
        ("0:3,2:9", "--region must lie within 9 x 8 points"),
        ("3:3,0:8", "hold some along each axis"),
    ):
        out = ("--out", tmp_path / "out")
        ran = ndrnn("decompress", tmp_path / "a.ndrnn", "--model", models[2], *out, "--region", region)
        assert ran.status == 1
        assert message in ran.err


def test_arrays_that_cannot_be_compressed(models, ndrnn, tmp_path):
    np.save(tmp_path / "float.npy", np.zeros(5))
    np.save(tmp_path / "objects.npy", np.array([{}], object), allow_pickle=True)
    (tmp_path / "none.npy").write_bytes(b"\x93NUMPY")
    np.save(tmp_path / "cut.npy", np.zeros(50, np.uint8))
    (tmp_path / "cut.npy").write_bytes((tmp_path / "cut.npy").read_bytes()[:-1])
    ran = ndrnn("compress", *sorted(tmp_path.glob("*.npy")), "--model", models[1])
    assert ran.status == 1
    for message in (
        "float.npy: numbers must be integers of at most 16 bits, got float64",
        "objects.npy: numbers must be integers",
        "none.npy: damaged array",
        "cut.npy: must have 178 bytes by its header, got 177",
    ):
        assert message in ran.err
