"""Files that unfold to more than they seem to: refused before memory is taken for what they announce."""

from __future__ import annotations

import gzip
import io
import re
import struct
import sys
import tracemalloc
import zipfile
import zlib

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.formats import idx, images, volumes
from ndrnn.data.formats.limits import VARIABLE, largest
from ndrnn.data.formats.storage import open_storage
from ndrnn.data.readers.arrays import Arrays
from ndrnn.data.readers.lines import Lines

nibabel = pytest.importorskip("nibabel")


@pytest.fixture(autouse=True)
def bounded():
    """No test takes more than 64 MiB by Python's and NumPy's means."""
    tracemalloc.start()
    yield
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 64 << 20


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setenv(VARIABLE, str(1 / 1024))  # a MiB


def header(*shape, dtype=np.uint8, kind=nibabel.Nifti2Image):
    """A volume's header alone, that announces a shape."""
    made = kind(np.zeros((1, 1, 1), dtype), np.eye(4), dtype=dtype).header
    made.set_data_shape(shape)
    made["vox_offset"] = 544 if kind is nibabel.Nifti2Image else 352
    return bytes(made.binaryblock) + bytes(4)


def test_the_limit_is_set_by_a_variable(monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    assert largest() == 4 << 30
    monkeypatch.setenv(VARIABLE, "0.5")
    assert largest() == 1 << 29
    for wrong in ("much", "0", "-1", "nan", "inf"):
        monkeypatch.setenv(VARIABLE, wrong)
        with pytest.raises(ValueError, match=f"{VARIABLE} must be a number of GiB above 0, got '{wrong}'"):
            largest()


def test_large_scans_are_read():
    """14,000 x 13,000 pixels of one bit, more than Pillow takes by itself."""
    rows = zlib.compress(bytes(1 + 13000 // 8) * 14000, 9)

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", 13000, 14000, 1, 0, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    assert len(data) < 30_000
    tracemalloc.stop()  # it has 182 million pixels
    before = Image.MAX_IMAGE_PIXELS
    assert images.decode(data).shape == (14000, 13000, 1)
    assert before == Image.MAX_IMAGE_PIXELS
    tracemalloc.start()


def test_more_pixels_than_may_be_read(small):
    buffer = io.BytesIO()
    Image.new("L", (2000, 2000)).save(buffer, "PNG")
    with pytest.raises(BadFile, match=rf"a\.png: .*{VARIABLE} sets the limit"):
        images.decode(buffer.getvalue(), "a.png")


@pytest.mark.parametrize("side", [60_000, 2**31 - 1])
def test_a_png_that_cannot_hold_what_it_announces(side):
    buffer = io.BytesIO()
    Image.new("RGB", (4, 4)).save(buffer, "PNG")
    data = bytearray(buffer.getvalue())
    data[16:24] = struct.pack(">II", side, side)
    data[29:33] = struct.pack(">I", zlib.crc32(data[12:29]))
    with pytest.raises(BadFile, match=r"announces .* cannot hold so many|more pixels than may be read"):
        images.decode(bytes(data))


def test_a_volume_that_unfolds_to_more_than_it_announces():
    array = np.arange(8, dtype=np.uint8).reshape(2, 2, 2)
    data = nibabel.Nifti1Image(array, np.eye(4)).to_bytes()
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(data)
    for _ in range(200):
        bomb += packer.compress(bytes(1 << 20))
    bomb += packer.flush()
    assert len(bomb) < 250_000
    assert np.array_equal(volumes.decode(bomb)[..., 0], array)


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(2**40, 1, 1), (2**20, 2**20, 2**10), (2**13, 2**10, 2**8)])
def test_a_volume_that_announces_more_than_there_is(shape, pack):
    with pytest.raises(BadFile, match=r"announces .* bytes, |truncated"):
        volumes.decode(pack(header(*shape)), "v.nii")


def test_a_volume_that_becomes_larger_than_it_is_stored(small):
    data = header(2**10, 2**8, 1, kind=nibabel.Nifti1Image)
    assert volumes.decode(data + bytes(2**18)).shape == (2**10, 2**8, 1, 1)
    with pytest.raises(BadFile, match="announces"):
        volumes.decode(header(2**10, 2**10, 2, kind=nibabel.Nifti1Image) + bytes(2**21))


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_idx_file_that_announces_more_than_there_is(pack, tmp_path):
    data = struct.pack(">HBB3I", 0, 8, 3, 60000, 2**16, 2**16) + bytes(100)
    (tmp_path / "x").write_bytes(pack(data))
    with pytest.raises(BadFile, match="announces"):
        idx.read(tmp_path / "x")


def test_an_idx_file_that_unfolds_to_more_than_it_announces(tmp_path):
    packer = zlib.compressobj(9, zlib.DEFLATED, 31)
    bomb = packer.compress(struct.pack(">HBB1I", 0, 8, 1, 4))
    for _ in range(100):
        bomb += packer.compress(bytes(1 << 20))
    (tmp_path / "x").write_bytes(bomb + packer.flush())
    with pytest.raises(BadFile, match=r"must hold 4 bytes of numbers for the shape \(4,\), got more"):
        idx.read(tmp_path / "x")


@pytest.mark.parametrize("axes", [65, 255])
def test_an_idx_file_of_many_axes(axes, tmp_path):
    (tmp_path / "x").write_bytes(
        struct.pack(">HBB", 0, 8, axes) + struct.pack(f">{axes}I", *[1] * axes) + b"1"
    )
    with pytest.raises(BadFile, match=rf"x: has {axes} axes, more than 64"):
        idx.read(tmp_path / "x")


def npz(path, **members):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in members.items():
            archive.writestr(f"{name}.npy", data)


def npy(shape, kind="|u1", data=b""):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode()
    text += b" " * (64 - (len(text) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + data


@pytest.mark.parametrize("shape", ["(1000000000000,)", f"({2**40}, {2**40})", "(-5, 3)", "(3,)"])
def test_arrays_that_announce_more_than_there_is(shape, tmp_path):
    npz(tmp_path / "a.npz", image=npy(shape, data=b"12"))
    with pytest.raises(BadFile, match=r"a\.npz: 'image' (announces|has the impossible shape)"):
        Arrays(path=str(tmp_path / "a.npz")).open()


def test_arrays_larger_than_may_be_read(small, tmp_path):
    np.savez_compressed(tmp_path / "a.npz", image=np.zeros((2, 2**10, 2**10), np.uint8))
    with pytest.raises(BadFile, match=rf"a\.npz: announces .*{VARIABLE}"):
        Arrays(path=str(tmp_path / "a.npz")).open()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"image": np.array(3)}, "'image' must hold numbers, got int64 of shape ()"),
        ({"image": np.zeros((2, 3)), "label": np.array(["a", "b"])}, "and hold numbers, got <U1"),
        ({"image": np.zeros((2, 3)), "label": np.array(1)}, "and hold numbers, got int64 of shape ()"),
        ({"image": np.zeros((2, 3)), "test": np.array(["True", "False"])}, "'test' must be truth values"),
        ({"image": np.zeros(4), "shape": np.array([[2**32, 2**32]])}, f"ask for {2**64} values, 4 are there"),
        ({"image": np.zeros(4), "shape": np.array([[-2, -2]])}, "ask for 4 values, 4 are there"),
        ({"image": np.zeros(4), "shape": np.zeros((1, 0), int)}, "flat values need their sizes"),
        ({"image": np.zeros(4), "shape": np.array([["2", "2"]])}, "flat values need their sizes"),
    ],
)
def test_arrays_of_no_use(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadFile, match=re.escape(message)):
        Arrays(path=str(tmp_path / "a.npz")).open()


def test_members_of_an_archive(small, tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(2 << 20))
        archive.writestr("b.txt", bytes(1 << 17))
    storage = open_storage(tmp_path / "a.zip")
    with pytest.raises(BadFile, match=r"a\.zip/a\.png: announces 2,097,152 bytes"):
        storage.read("a.png")
    assert storage.read("b.txt") == bytes(1 << 17)
    with pytest.raises(BadFile, match=r"b\.txt: announces 131,072 bytes, more than 65,536"):
        storage.read("b.txt", text=True)


def test_a_member_that_cannot_hold_what_it_announces(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.png", bytes(100))
    data = bytearray((tmp_path / "a.zip").read_bytes())
    place = data.index(b"PK\x01\x02") + 24
    data[place : place + 4] = struct.pack("<I", 3 << 30)
    (tmp_path / "a.zip").write_bytes(data)
    with pytest.raises(BadFile, match=r"a\.png: damaged: announces 3,221,225,472 bytes"):
        open_storage(tmp_path / "a.zip").read("a.png")


@pytest.mark.skipif(sys.platform != "linux", reason="needs a file that seems to be large")
def test_large_files_are_not_read(small, tmp_path):
    with (tmp_path / "a.png").open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(BadFile, match=r"a\.png: announces 1,099,511,627,776 bytes"):
        open_storage(tmp_path).read("a.png")


def test_a_row_that_would_become_too_wide(small, tmp_path):
    Image.new("L", (20_000, 1)).save(tmp_path / "a.png")
    (tmp_path / "a.gt.txt").write_text("a")
    with pytest.raises(BadFile, match=r"a\.png: .*scaled to 48 rows it would be 960,000 wide"):
        Lines(path=str(tmp_path), height=48).open().read(0)
