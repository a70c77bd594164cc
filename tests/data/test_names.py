"""Names of files: those that shadow others, those that cannot be printed, and those that lead elsewhere."""

from __future__ import annotations

import os
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from ndrnn.app.inputs import find
from ndrnn.data import BadFile
from ndrnn.data.faults import Faults, naming, printable
from ndrnn.data.formats.storage import open_storage
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.folders import Classes, Images
from ndrnn.data.readers.lines import Lines
from ndrnn.data.readers.pages import Pages
from ndrnn.data.readers.pairs import Masks

linux = pytest.mark.skipif(sys.platform != "linux", reason="file systems elsewhere refuse such names")


def picture(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((8, 8), value, np.uint8)).save(path)


def test_a_line_is_the_image_of_its_very_name(tmp_path):
    picture(tmp_path / "0.bin.png", 1)
    picture(tmp_path / "0.png", 2)
    picture(tmp_path / "1.bin.png", 3)
    for index in range(2):
        (tmp_path / f"{index}.gt.txt").write_text("a")
    found = gather(Lines(path=str(tmp_path), held_out=0.5), "transcribe")
    values = {round(255 * float(samples[0].x.mean())): samples.name(0) for samples in found.splits.values()}
    assert {value: os.path.basename(name) for value, name in values.items()} == {2: "0.png", 3: "1.bin.png"}
    (remark,) = found.remarks
    assert "1 images are not read" in remark
    assert "0.bin.png (instead " in remark


@pytest.mark.parametrize("names", [("0.png", "0.jpg"), ("0.bin.png", "0.nrm.png")])
def test_two_images_of_one_text_are_named(names, tmp_path):
    for name in names:
        picture(tmp_path / name, 1)
    (tmp_path / "0.gt.txt").write_text("a")
    source = Lines(path=str(tmp_path)).open()
    with pytest.raises(BadFile, match=r"0\.gt\.txt: the image of this line is not clear: ") as caught:
        source.read(0)
    assert all(name in caught.value.reason for name in names)


def test_a_table_that_names_two_images_at_once(tmp_path):
    for value, name in enumerate(("a/0.png", "b/0.png", "b/1.png")):
        picture(tmp_path / name, value)
    (tmp_path / "t.tsv").write_text("name\ttext\n0\tx\n0.png\tx\na/0\ty\n1\tz\n")
    source = Lines(path=str(tmp_path), table="t.tsv").open()
    for index in (0, 1):
        with pytest.raises(
            BadFile, match=r"0(\.png)?: the image of this line is not clear: a/0\.png, b/0\.png"
        ):
            source.read(index)
    assert [int(source.read(index).values[0, 0, 0]) for index in (2, 3)] == [0, 2]


def test_an_image_whose_name_is_taken_is_named(tmp_path):
    for name in ("images/a.png", "images/a.jpg", "masks/a.png"):
        picture(tmp_path / name, 1)
    found = gather(Masks(path=str(tmp_path)), "label")
    (fault,) = found.faults.found
    assert fault.file.endswith("images/a.png")
    assert fault.reason.startswith("goes by the same name as ")


def test_a_mask_without_an_image_is_named(tmp_path):
    for name in ("train/images/a.png", "train/masks/a.png", "train/masks/b.png", "val/masks/c.png"):
        picture(tmp_path / name, 1)
    found = gather(Masks(path=str(tmp_path)), "label")
    assert [(fault.file, fault.reason) for fault in found.faults.found] == [
        (str(tmp_path / name), "has no image of the same name")
        for name in ("train/masks/b.png", "val/masks/c.png")
    ]
    with pytest.raises(BadFile, match="has no image of the same name"):
        gather(Masks(path=str(tmp_path)), "label", strict=True)


COMPOSED, APART = "\u00e9", "e\u0301"  # as most write it, and as Macs do


@pytest.mark.parametrize(("one", "other"), [(COMPOSED, APART), (APART, COMPOSED)])
@pytest.mark.parametrize("packed", [False, True])
def test_names_are_the_same_however_their_letters_are_composed(one, other, packed, tmp_path, zip_folder):
    def place(folder):
        return str(zip_folder(folder)) if packed else str(folder)

    for name in (f"{one}/{one}.png", f"masks/{other}.png"):
        picture(tmp_path / "set" / name, 1)
    (tmp_path / "split.tsv").write_text(f"name\tsplit\n{other}\ttest\n", encoding="utf-8")
    options = {"images": other, "masks": "masks", "table": "split.tsv"}
    source = Masks(path=place(tmp_path / "set"), **options).open()
    assert not source.faults
    assert source.read(0).target.size
    assert list(source.splits) == ["test"]

    picture(tmp_path / "lines" / f"{one}.png", 1)
    (tmp_path / "lines" / f"{other}.gt.txt").write_text("a", encoding="utf-8")
    (tmp_path / "lines" / f"{other}.tsv").write_text(f"name\ttext\n{other}.png\tb\n", encoding="utf-8")
    lines = place(tmp_path / "lines")
    assert Lines(path=lines).open().read(0).target == "a"
    assert Lines(path=lines, table=f"{one}.tsv").open().read(0).target == "b"

    picture(tmp_path / "pages" / f"{one}.png", 1)
    content = (
        f'<PcGts><Page imageFilename="{other}.png"><TextLine><Coords points="0,0 1,0 1,1"/>'
        "<TextEquiv><Unicode>c</Unicode></TextEquiv></TextLine></Page></PcGts>"
    )
    (tmp_path / "pages" / "page.xml").write_text(content, encoding="utf-8")
    assert Pages(path=place(tmp_path / "pages")).open().read(0).target == "c"


def test_a_class_called_test_is_named(tmp_path):
    for name in ("cat/a.png", "test/b.png", "loose.png"):
        picture(tmp_path / name, 1)
    found = gather(Classes(path=str(tmp_path)), "classify")
    loose, test = sorted(found.faults.found, key=lambda fault: fault.file)
    assert "its folder 'test' is taken for a part of the data, not for a class" in test.reason
    assert loose.reason == "lies in no folder that names its class"
    assert found.facts.classes == ("cat",)
    within = Classes(path=str(tmp_path)).open()
    assert len(within) == 1


def test_names_that_can_be_printed():
    assert printable("a b\u00e9\u05d0\u200d.png") == "a b\u00e9\u05d0\u200d.png"
    assert printable(os.fsdecode(b"a\xff\n\x1b[2J.png")) == r"a\xff\x0a\x1b[2J.png"


@linux
def test_names_that_are_no_text(tmp_path):
    name = os.fsdecode(b"a\xff.png")
    picture(tmp_path / "b.png", 1)
    (tmp_path / "b.png").rename(tmp_path / name)
    source = Images(path=str(tmp_path)).open()
    assert source.names[0].endswith(r"a\xff.png")
    source.names[0].encode()
    assert source.read(0).values.shape == (8, 8, 1)
    (file,) = find([tmp_path])
    assert (file.place, file.where) == (r"a\xff", source.names[0])


@pytest.mark.skipif(not hasattr(os, "symlink"), reason="there are no links")
def test_links_back_end(tmp_path):
    picture(tmp_path / "sub/a.png", 1)
    for name in ("x", "y"):
        (tmp_path / name).symlink_to(".")
        (tmp_path / f"sub/{name}").symlink_to("..")
    (tmp_path / "other").symlink_to("sub")
    assert open_storage(tmp_path).names == ["other/a.png", "sub/a.png"]


@linux
def test_pipes_are_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    with pytest.raises(BadFile, match=r"a\.png: is no plain file"):
        Images(path=str(tmp_path)).open().read(0)


def test_members_that_lead_out_are_named(tmp_path):
    picture(tmp_path / "good.png", 1)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in ("../../up.png", "/root.png", "in/../../x.png", "C:\\x.png", "..\\x.png", "in/good.png"):
            archive.write(tmp_path / "good.png", name)
            archive.filelist[-1].filename = name
    storage = open_storage(tmp_path / "a.zip")
    assert storage.names == ["in/good.png"]
    assert len(storage.faults) == 5
    assert all("leads out of the archive" in fault.reason for fault in storage.faults)
    faults = Faults()
    assert [file.place for file in find([tmp_path / "a.zip"], faults=faults)] == ["in/good"]
    assert len(faults) == 5
    assert len(gather(Images(path=str(tmp_path / "a.zip")), "density").faults) == 5


def test_hidden_folders_are_passed_over_in_archives_as_elsewhere(tmp_path):
    picture(tmp_path / "p.png", 1)
    names = (".git/a.png", "b/.thumbnails/b.png", "c/__MACOSX/._c.png", "./d.png", "e/e.png", ".f.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for name in names:
            archive.write(tmp_path / "p.png", name)
    assert open_storage(tmp_path / "a.zip").names == ["d.png", "e/e.png"]


def test_a_member_that_is_there_twice_is_named(tmp_path):
    picture(tmp_path / "one.png", 1)
    picture(tmp_path / "two.png", 2)
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "one.png", "a.png")
        with pytest.warns(UserWarning, match="Duplicate name"):
            archive.write(tmp_path / "two.png", "a.png")
    source = Images(path=str(tmp_path / "a.zip")).open()
    assert len(source) == 1
    assert source.read(0).values[0, 0, 0] == 2
    assert "is in the archive 2 times, only the last is read" in source.faults[0].reason


def test_whatever_is_raised_names_the_file():
    for error in (KeyError("x"), MemoryError(), RecursionError("deep"), OverflowError("far")):
        with pytest.raises(BadFile, match=r"^f\.png: "), naming("f.png"):
            raise error
    with pytest.raises(ImportError), naming("f.png"):
        raise ImportError("nibabel")


def test_the_extension_does_not_matter(tmp_path):
    from ndrnn.data.formats import images

    picture(tmp_path / "a.png", 7)
    picture(tmp_path / "a.gif", 7)
    (tmp_path / "b.jpg").write_bytes((tmp_path / "a.gif").read_bytes())
    assert images.decode((tmp_path / "b.jpg").read_bytes())[0, 0, 0] == 7
    for data in (
        b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n",
        b"%PDF-1.4\n",
        b"\xc5\xd0\xd3\xc6" + bytes(40),
    ):
        with pytest.raises(
            BadFile, match=r"x\.png: not an image, or of a kind that is not read .formats: PNG, JPEG"
        ):
            images.decode(data, "x.png")


def test_a_reader_that_fails_leaves_the_others(tmp_path):
    from ndrnn.data import Raw, Source

    class Odd(Source):
        names, splits = ("0", "1", "2"), ("", "", "")

        def read(self, index):
            if index == 1:
                raise ZeroDivisionError("of one's own")
            return Raw(np.zeros((2, 2, 1)))

    class OddImages(Images):
        def open(self):
            return Odd()

    found = gather(OddImages(path="x"), "density")
    assert [str(fault) for fault in found.faults.found] == [
        "1: cannot be read (ZeroDivisionError: of one's own)"
    ]
