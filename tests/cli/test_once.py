"""What several words of a command line name is found once."""

from __future__ import annotations

import zipfile

import numpy as np
import pytest
from PIL import Image

from ndrnn.app.inputs import find
from ndrnn.data import BadFile
from ndrnn.data.faults import Faults
from ndrnn.data.readers.nnunet import NnUnet


@pytest.fixture
def folder(tmp_path):
    for name in ("a_0000.png", "a_0001.png", "below/b_0000.png"):
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.zeros((4, 4), np.uint8)).save(path)
    return tmp_path / "in"


def found(*paths, reader=None):
    told: list[str] = []
    files = find(paths, reader, tell=told.append)
    assert len({file.place for file in files}) == len(files)
    return [file.name.rpartition("/")[2] for file in files], told


def test_folders_and_files_within_them(folder):
    everything = ["a_0000.png", "a_0001.png", "b_0000.png"]
    assert found(folder) == (everything, [])
    assert found(folder, folder / "below/b_0000.png")[0] == everything
    names, told = found(folder / "below", folder)
    assert names == ["b_0000.png", "a_0000.png", "a_0001.png"]
    assert told == [f"note: {folder}: 1 of its 3 files: named before, and used once"]


def test_links_to_folders_are_the_folders_and_links_to_files_are_files(folder, monkeypatch):
    (folder.parent / "link").symlink_to(folder)
    (folder / "c.png").symlink_to("a_0000.png")
    assert found(folder, folder.parent / "link")[0] == ["a_0000.png", "a_0001.png", "b_0000.png", "c.png"]
    assert found(folder / "a_0000.png", folder / "c.png") == (["a_0000.png", "c.png"], [])
    monkeypatch.chdir(folder)
    assert len(found(folder, folder.relative_to(folder))[1]) == 1


def test_files_of_one_name_are_not_one(folder):
    (folder / "below/a_0000.png").write_bytes((folder / "a_0000.png").read_bytes())
    assert found(folder / "a_0000.png", folder / "below/a_0000.png") == (["a_0000.png"] * 2, [])


def test_members_of_an_archive(folder, tmp_path):
    for name in ("x.zip", "y.zip"):
        with zipfile.ZipFile(tmp_path / name, "w") as archive:
            archive.write(folder / "a_0000.png", "a.png")
    assert found(tmp_path / "x.zip", tmp_path / "y.zip") == (["a.png"] * 2, [])
    assert len(found(tmp_path / "x.zip", tmp_path / "in/../x.zip")[0]) == 1


def test_a_case_of_several_channels(folder):
    names, told = found(folder, folder / "a_0001.png", reader=NnUnet(str(folder)))
    assert names == ["a_0000.png", "b_0000.png"]
    assert len(told) == 1


def test_what_is_wrong_is_told_once(tmp_path):
    with zipfile.ZipFile(tmp_path / "x.zip", "w") as archive:
        archive.writestr("../a.png", b"")
        archive.writestr("b.png", b"")
    faults = Faults()
    find([tmp_path / "x.zip"] * 2, faults=faults)
    assert len(faults) == 1
    with pytest.raises(BadFile):
        find([tmp_path / "x.zip"] * 2, faults=Faults(strict=True))
