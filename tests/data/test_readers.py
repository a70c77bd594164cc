"""What each format gives, from folders and from zip archives, and how it says that something is wrong."""

from __future__ import annotations

import gzip
import struct

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile, Raw, Reader, Source, register
from ndrnn.data.formats.storage import open_storage
from ndrnn.data.readers.arrays import Arrays
from ndrnn.data.readers.digit_files import Idx
from ndrnn.data.readers.folders import Classes, Images
from ndrnn.data.readers.lines import Lines
from ndrnn.data.readers.pairs import Masks
from ndrnn.data.readers.place import locate
from ndrnn.registry import readers

nibabel = pytest.importorskip("nibabel")


def grey(path, array):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


@pytest.fixture(params=["folder", "archive"])
def packed(request, zip_folder):
    """The path of a folder's files, as they are or in an archive."""
    return (
        (lambda folder: str(folder))
        if request.param == "folder"
        else (lambda folder: str(zip_folder(folder)))
    )


def test_folders_name_classes_and_splits(tmp_path, packed):
    for name in ("train/cat/a.png", "train/dog/b.png", "val/cat/c.png", "test/dog/d.PNG", "train/loose.png"):
        grey(tmp_path / "set" / name, [[1, 2]])
    (tmp_path / "set/train/cat/notes.txt").write_text("no image")
    source = Classes(path=packed(tmp_path / "set")).open()
    assert source.classes == ("cat", "dog")
    found = {
        (name.rpartition("/")[2], split, source.read(index).target)
        for index, (name, split) in enumerate(zip(source.names, source.splits, strict=True))
    }
    assert found == {
        ("a.png", "train", 0),
        ("b.png", "train", 1),
        ("c.png", "validation", 0),
        ("d.PNG", "test", 1),
    }


def test_images_alone(tmp_path, packed):
    for name in ("a.png", "more/b.png"):
        grey(tmp_path / "set" / name, [[1, 2]])
    source = Images(path=packed(tmp_path / "set")).open()
    assert len(source) == 2
    assert source.read(0).target is None
    assert source.read(0).values.tolist() == [[[1], [2]]]


@pytest.mark.parametrize(
    ("layout", "split"),
    [
        ("images/a.png masks/a.png", ""),
        ("train/a.jpg trainannot/a.png", "train"),
        ("val/images/a.png val/masks/a.gif", "validation"),
        ("images/test/x/a.png labels/test/x/a.png", "test"),
    ],
)
def test_layouts_of_masks(layout, split, tmp_path, packed):
    image, mask = layout.split()
    grey(tmp_path / "set" / image, np.full((8, 8), 7))
    grey(tmp_path / "set" / mask, np.eye(8))
    source = Masks(path=packed(tmp_path / "set")).open()
    assert list(source.splits) == [split]
    raw = source.read(0)
    assert raw.values.shape[:2] == (8, 8)
    assert raw.values[0, 0, 0] == 7
    assert np.array_equal(raw.target, np.eye(8))


def test_labels_are_ignored_or_made_one(tmp_path):
    grey(tmp_path / "images/a.png", [[0, 0, 0]])
    grey(tmp_path / "masks/a.png", [[0, 7, 255]])
    assert Masks(path=str(tmp_path), ignore=(255,)).open().read(0).target.tolist() == [[0, 7, -100]]
    binary = Masks(path=str(tmp_path), ignore=(255,), binary=True).open()
    assert binary.read(0).target.tolist() == [[0, 1, -100]]
    assert binary.classes == ("background", "object")


def test_a_table_tells_the_split_of_masks(mask_folder):
    rows = [f"{index}\t{'test' if index < 2 else 'train'}" for index in range(5)]
    (mask_folder.parent / "index.tsv").write_text("\n".join(["name\tsplit", *rows]), encoding="utf-8")
    source = Masks(path=str(mask_folder), table="index.tsv").open()
    assert list(source.splits) == ["test", "test", "train", "train", "train", ""]


def test_a_missing_mask_and_one_of_another_size_are_named(mask_folder):
    (mask_folder / "masks/0.png").unlink()
    grey(mask_folder / "masks/1.png", np.zeros((3, 4)))
    source = Masks(path=str(mask_folder)).open()
    with pytest.raises(BadFile, match=r"images/0\.png: has no mask"):
        source.read(0)
    with pytest.raises(BadFile, match=r"masks/1\.png: mask must be 6 x 8 like its image, got 3 x 4"):
        source.read(1)
    assert source.read(2).target.shape == (7, 7)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_volumes_with_labels(ending, tmp_path, packed):
    generator = np.random.default_rng(0)
    values, labels = generator.normal(size=(4, 5, 6)).astype(np.float32), generator.integers(0, 3, (4, 5, 6))
    for folder, array in (("imagesTr", values), ("labelsTr", labels.astype(np.uint8))):
        (tmp_path / "set" / folder).mkdir(parents=True)
        nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), tmp_path / "set" / folder / f"v{ending}")
    raw = Masks(path=packed(tmp_path / "set")).open().read(0)
    assert np.array_equal(raw.values[..., 0], values)
    assert np.array_equal(raw.target, labels)


def test_scaled_volumes_channels_and_damage(tmp_path):
    from ndrnn.data.formats import volumes

    stored = np.arange(24, dtype=np.int16).reshape(2, 3, 4)
    image = nibabel.Nifti1Image(stored, np.diag([2, 3, 4, 1]))
    image.header.set_slope_inter(0.5, 10)
    data = image.to_bytes()
    assert volumes.decode(data)[..., 0] == pytest.approx(stored * 0.5 + 10)
    assert volumes.affine(data).diagonal().tolist() == [2, 3, 4, 1]
    two = nibabel.Nifti1Image(np.zeros((2, 3, 4, 2), np.float32), np.eye(4)).to_bytes()
    assert volumes.decode(two).shape == (2, 3, 4, 2)
    for damaged in (data[:380], b"", b"nothing", gzip.compress(data)[:60]):
        with pytest.raises(BadFile, match=r"^v\.nii: "):
            volumes.decode(damaged, "v.nii")
    halves = nibabel.Nifti1Image(np.full((2, 2, 2), 0.5, np.float32), np.eye(4)).to_bytes()
    with pytest.raises(BadFile, match="labels must be integers"):
        volumes.decode_mask(halves)


@pytest.mark.parametrize("ending", [".nii", ".nii.gz"])
def test_written_volumes_are_read_by_nibabel(ending, tmp_path):
    from ndrnn.data.formats import volumes

    labels = np.random.default_rng(0).integers(0, 300, (3, 4, 5))
    volumes.write(labels, tmp_path / f"v{ending}", np.diag([2, 3, 4, 1]))
    image = nibabel.load(tmp_path / f"v{ending}")
    assert np.array_equal(np.asarray(image.dataobj), labels)
    assert image.affine.diagonal().tolist() == [2, 3, 4, 1]


def test_lines_beside_their_texts(line_folder, packed):
    (line_folder / "4.gt.txt").write_text("no image", encoding="utf-8")
    source = Lines(path=packed(line_folder)).open()
    texts = [source.read(index).target for index in range(4)]
    assert texts == ["ab", "ba a", "áb", "bb"]  # composed, without the end of the line
    assert source.read(1).values.shape == (8, 26, 1)
    with pytest.raises(BadFile, match=r"4\.gt\.txt: the image of this line is missing"):
        source.read(4)


def test_lines_in_a_table(line_folder, packed):
    rows = ["name\tsplit\ttext", '0\ttrain\t"a" b', "1.png\tval\tb", "gone\ttest\tc", "3\ttest\t "]
    path = packed(line_folder)
    (line_folder.parent / "lines.tsv").write_text("\r\n".join(rows), encoding="utf-8")
    source = Lines(path=path, table="lines.tsv").open()
    assert list(source.splits) == ["train", "validation", "test", "test"]
    assert source.read(0).target == '"a" b'
    assert source.read(1).values.shape == (8, 26, 1)
    with pytest.raises(BadFile, match="gone: the image of this line is missing"):
        source.read(2)
    with pytest.raises(BadFile, match=r"3\.png: its transcript is empty"):
        source.read(3)


def test_lines_are_scaled_to_a_height(line_folder):
    source = Lines(path=str(line_folder), height=4).open()
    values = source.read(0).values
    assert values.shape == (4, 10, 1)
    with Image.open(line_folder / "0.png") as image:
        assert values.mean() == pytest.approx(np.asarray(image).mean(), abs=3)


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("", "is empty"),
        ("name\tfoo\n0\tx", "must have the columns name, text, got name, foo"),
        ("name\ttext\n0\ta\tb", "line 2 has 3 fields, the first line 2"),
        ("name\ttext\n", "has no lines but the first"),
    ],
)
def test_bad_tables(table, message, line_folder):
    (line_folder / "t.tsv").write_text(table, encoding="utf-8")
    with pytest.raises(BadFile, match=rf"t\.tsv: {message}"):
        Lines(path=str(line_folder), table="t.tsv").open()


def test_arrays_flat_and_stacked(tmp_path):
    shapes = np.array([[2, 3, 1], [1, 2, 4]])
    values, labels = np.arange(14, dtype=np.uint8), np.arange(14, dtype=np.uint8) % 3
    np.savez(tmp_path / "flat.npz", image=values, label=labels, shape=shapes, test=np.array([False, True]))
    source = Arrays(path=str(tmp_path / "flat.npz")).open()
    assert list(source.splits) == ["", "test"]
    raw = source.read(1)
    assert raw.values[..., 0].tolist() == np.arange(6, 14).reshape(1, 2, 4).tolist()
    assert raw.target.tolist() == (np.arange(6, 14) % 3).reshape(1, 2, 4).tolist()
    np.savez(tmp_path / "stack.npz", x=np.zeros((3, 4, 5, 2), np.float32), y=np.array([0, 2, 1]))
    options = {"values": "x", "targets": "y", "channels_last": True}
    stacked = Arrays(path=str(tmp_path / "stack.npz"), **options).open()
    assert stacked.read(1).target == 2
    assert stacked.read(1).values.shape == (4, 5, 2)


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros(3)}, "must hold an array 'image', got picture"),
        ({"image": np.zeros(3)}, "flat values need their sizes"),
        ({"image": np.zeros(5), "shape": np.array([[2, 2]])}, "its sizes ask for 4 values, 5 are there"),
        (
            {"image": np.zeros((3, 2, 2)), "label": np.zeros((3, 2))},
            r"'label' must have shape \(3, 2, 2\) or \(3,\)",
        ),
        ({"image": np.array(["a"])}, "must hold numbers"),
        ({"image": np.array([{}], dtype=object)}, "not a whole .npz file of plain arrays"),
    ],
)
def test_bad_arrays(arrays, message, tmp_path):
    np.savez(tmp_path / "a.npz", **arrays)
    with pytest.raises(BadFile, match=message):
        Arrays(path=str(tmp_path / "a.npz")).open()


def write_idx(path, array):
    data = (
        struct.pack(f">HBB{array.ndim}I", 0, 8, array.ndim, *array.shape) + array.astype(np.uint8).tobytes()
    )
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)


def test_digits_in_idx_files(tmp_path):
    images = np.array([[[0, 9]], [[8, 0]]])
    for part in ("train", "t10k"):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images)
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte", np.array([1, 0]))
    source = Idx(path=str(tmp_path)).open()
    assert list(source.splits) == ["", "", "test", "test"]
    assert source.classes == ("0", "1")
    assert source.read(2).target == 1
    pixels = Idx(path=str(tmp_path), pixels=True).open()
    assert pixels.classes == ("0", "1", "background")
    assert pixels.read(0).target.tolist() == [[2, 1]]


def test_damaged_archives_are_named(mask_folder, zip_folder, tmp_path):
    archive = zip_folder(mask_folder)
    whole = archive.read_bytes()
    archive.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(BadFile, match=r"set\.zip: not a whole zip archive"):
        Masks(path=str(archive)).open()
    # one member is spoilt, its neighbours are not
    start = whole.index(b"images/2.png") + 60
    archive.write_bytes(whole[:start] + bytes(8) + whole[start + 8 :])
    source = Masks(path=str(archive)).open()
    with pytest.raises(BadFile, match=r"set\.zip/images/2\.png: damaged member"):
        source.read(2)
    assert source.read(3).values.size


@pytest.mark.parametrize(
    ("reader", "message"),
    [
        (Classes, "no images in folders that name their class"),
        (Images, "no images"),
        (Masks, "no images with masks; looked for images with masks"),
        (Lines, "no transcripts"),
    ],
)
def test_empty_folders_are_named(reader, message, tmp_path):
    with pytest.raises(BadFile, match=message) as caught:
        reader(path=str(tmp_path)).open()
    assert caught.value.file == str(tmp_path)


def test_places(tmp_path, monkeypatch):
    (tmp_path / "set").mkdir()
    assert locate(str(tmp_path / "set")) == tmp_path / "set"
    assert locate("set", str(tmp_path)) == tmp_path / "set"
    monkeypatch.setenv("NDRNN_DATA", str(tmp_path))
    assert locate("set") == tmp_path / "set"
    with pytest.raises(FileNotFoundError, match="NDRNN_DATA tells where data is"):
        locate("other")
    with pytest.raises(ValueError, match=r"data\.path must name"):
        locate("")


def test_storage_hides_what_is_hidden(tmp_path, zip_folder):
    for name in ("a.png", ".hidden.png", ".git/b.png", "sub/c.png"):
        grey(tmp_path / "set" / name, [[0]])
    assert open_storage(tmp_path / "set").names == ["a.png", "sub/c.png"]
    archive = open_storage(zip_folder(tmp_path / "set"))
    assert "a.png" in archive.names
    assert ".hidden.png" not in archive.names
    with pytest.raises(BadFile, match=r"set\.zip/z\.png: is not in the archive"):
        archive.read("z.png")


def test_a_format_of_ones_own():
    from dataclasses import dataclass

    class Dots(Source):
        names, splits = ("dot",), ("train",)

        def read(self, index):
            return Raw(np.zeros((2, 2, 1)), index)

    @dataclass(frozen=True)
    class DotReader(Reader):
        def open(self):
            return Dots()

    register(DotReader, "dots")
    register(DotReader, "dots")
    assert readers["dots"] is DotReader
    assert readers.name_of(DotReader) == "dots"
    with pytest.raises(ValueError, match="format 'masks' already stands for another"):
        register(DotReader, "masks")
    with pytest.raises(TypeError, match="derived from ndrnn"):
        register(dict, "dicts")
    with pytest.raises(ValueError, match="'mask' is not known; did you mean 'masks'"):
        readers.find("mask")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"held_out": 1.0}, "held_out must lie between 0 and 1, got 1.0"),
        ({"memory": -1.0}, "memory must not be negative"),
        ({"channels": -1}, "channels must be at least 0"),
        ({"images": "a"}, "images and masks must be given together"),
    ],
)
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        Masks(path="x", **options)
