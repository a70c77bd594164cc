"""What is wrong with data is found before any training, and told with the file and the reason."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
from PIL import Image

LABEL = ("--task", "label", "--data.format", "masks", "--data.path")


@pytest.fixture
def copy(square_folder, tmp_path):
    return shutil.copytree(square_folder, tmp_path / "copy")


def test_good_data_passes(ndrnn, square_folder):
    ran = ndrnn("check", *LABEL, square_folder)
    assert ran.status == 0, ran.err
    assert "all 12 samples can be used" in ran.out
    assert "12 x 12 to 12 x 14" in ran.out
    told = ndrnn("check", *LABEL, square_folder, "--json").json
    assert told["splits"]["train"]["samples"] == 11
    assert told["faults"] == []


def test_faults_are_named_and_counted(ndrnn, copy):
    (copy / "images/000.png").write_bytes((copy / "images/000.png").read_bytes()[:70])
    Image.fromarray(np.zeros((3, 3), np.uint8)).save(copy / "masks/001.png")
    (copy / "masks/002.png").unlink()
    Image.fromarray(np.full((12, 12), 5, np.uint8)).save(copy / "masks/003.png")
    ran = ndrnn("check", *LABEL, copy, "--data.classes", "no", "yes")
    assert ran.status == 1
    for text in (
        "images/000.png: damaged image",
        "masks/001.png: mask must be 12 x 13 like its image, got 3 x 3",
        "images/002.png: has no mask of the same name",
        "images/003.png: label 5 is out of range, it must be [0, 2)",
        "4 of 12 samples are left out",
    ):
        assert text in ran.err
    told = ndrnn("check", *LABEL, copy, "--data.classes", "no", "yes", "--json")
    assert told.status == 1
    assert len(told.json["faults"]) == 4


def test_strict_stops_at_the_first(ndrnn, copy, tmp_path):
    (copy / "images/004.png").write_bytes(b"")
    for command in (("check",), ("train", "--out", tmp_path / "run")):
        ran = ndrnn(command[0], *LABEL, copy, "--strict", *command[1:])
        assert ran.status == 1
        assert ran.err.startswith("error: ")
        assert "images/004.png: not an image" in ran.err
    assert not (tmp_path / "run").exists()


def test_an_empty_folder(ndrnn, tmp_path):
    ran = ndrnn("check", *LABEL, tmp_path)
    assert ran.status == 1
    assert f"{tmp_path}: no images with masks" in ran.err


def test_a_text_that_cannot_be_aligned(ndrnn, text_folder, tmp_path):
    folder = shutil.copytree(text_folder, tmp_path / "copy")
    words = ("check", "--task", "transcribe", "--data.format", "lines", "--data.path", folder)
    network = ("--network.hidden", 2, "--network.subsample", "--network.blocks", "4x4")
    assert ndrnn(*words, *network).status == 0  # two frames a letter
    (folder / "00.gt.txt").write_text("abab", encoding="utf-8")
    Image.fromarray(np.zeros((8, 12), np.uint8)).save(folder / "00.png")
    ran = ndrnn(*words, *network)
    assert ran.status == 1
    assert "00.png: cannot be aligned: its 4 characters need 4 frames" in ran.err
    assert "the network makes 3 of 12 columns" in ran.err


def test_images_smaller_than_a_patch(ndrnn, wave_folder):
    ran = ndrnn(
        "check", "--task", "density", "--data.format", "images", "--data.path", wave_folder, "--patch", 18
    )
    assert ran.status == 1
    assert "must be at least as large as a patch, 18, got 16 x 20" in ran.err


def test_a_run_is_not_overwritten(ndrnn, square_folder, tmp_path):
    (tmp_path / "config.toml").write_text("", encoding="utf-8")
    ran = ndrnn("train", *LABEL, square_folder, "--out", tmp_path)
    assert ran.status == 2
    assert "holds a run; --resume goes on with it" in ran.err


def test_the_network_is_made_before_any_training(ndrnn, square_folder):
    words = (*LABEL, square_folder, "--network.kind", "unet", "--network.scans", "0", "1")
    ran = ndrnn("check", *words, "--network.widths", "4", "8")
    assert ran.status == 0, ran.err
    told = ndrnn("check", *words, "--network.widths", "4", "8", "--json").json["weights"]
    assert f"a network of {told:,} weights" in ran.out
    larger = ndrnn("check", *words, "--network.widths", "4", "9", "--json").json["weights"]
    assert 0 < told < larger
    ran = ndrnn("check", *words, "--network.widths", "4")
    assert ran.status != 0
    assert "scans must have one number for each of the 1 widths, got (0, 1)" in ran.err
    ran = ndrnn("check", *words, "--network.widths", "4", "8", "--training.freeze", "nothing")
    assert ran.status != 0
    assert "'nothing'" in ran.err
    ran = ndrnn("check", *words, "--network.widths", "4", "--json")
    assert ran.status != 0
    assert ran.json["weights"] is None  # what was found of the data is told all the same
    assert ran.json["splits"].keys() == {"train", "validation"}


def test_what_should_be_known_of_good_data_is_told(ndrnn, tmp_path):
    nibabel = pytest.importorskip("nibabel")
    values = np.indices((3, 4, 5)).sum(0).astype(np.uint8) % 2
    for part in ("imagesTr", "labelsTr"):
        (tmp_path / part).mkdir()
        for index, axis in enumerate((1, 1, -1)):
            volume = nibabel.Nifti1Image(values, np.diag([axis, 1, 1, 1]))
            nibabel.save(volume, tmp_path / f"{part}/{index}.nii")
    stored = (*LABEL, tmp_path, "--data.orientation", "stored", "--data.classes", "a", "b")
    ran = ndrnn("check", *stored)
    assert ran.status == 0
    assert "note: the axes of the volumes point in 2 ways (2 RAS, 1 LAS; LAS: " in ran.err
    assert "all 3 samples can be used" in ran.out
    assert len(ndrnn("check", *stored, "--json").json["remarks"]) == 1
    assert ndrnn("check", *LABEL, tmp_path, "--data.classes", "a", "b").err == ""  # they are turned


def test_the_labels_that_occur_are_listed_and_what_to_type_is_said(ndrnn, square_folder, tmp_path):
    copy = shutil.copytree(square_folder, tmp_path / "set")
    for path in (copy / "masks").iterdir():
        with Image.open(path) as mask:
            bright = np.asarray(mask) * 255
        Image.fromarray(bright).save(path)
    ran = ndrnn("check", *LABEL, copy)
    assert ran.status == 0
    assert "2 labels occur (0, 255), and every number up to 255 becomes a class, 256 of them" in ran.err
    assert "data.classes 0=NAME 255=NAME" in ran.err
    assert "data.binary" in ran.err
    for words in (("--data.classes", "0=dark", "255=bright"), ("--data.binary",)):
        typed = ndrnn("check", *LABEL, copy, *words, "--json")
        assert typed.status == 0
        assert typed.err == ""
        entries = typed.json["labels"]
        # of 12 squares of 5 x 5 points
        assert [(entry["label"], entry["samples"]) for entry in entries] == [(0, 12), (1, 12)]
        assert entries[1]["points"] == 12 * 25
    assert "1      bright  300" in ndrnn("check", *LABEL, copy, "--data.classes", "0=dark", "255=bright").out


def test_labels_with_gaps_are_named_by_a_map(ndrnn, tmp_path):
    for part, values in (("images", [7] * 5), ("masks", [0, 1, 2, 100, 201])):
        (tmp_path / part).mkdir()
        for name in ("a.png", "b.png"):
            Image.fromarray(np.array([values] * 2, np.uint8)).save(tmp_path / part / name)
    ran = ndrnn("check", *LABEL, tmp_path)
    assert (
        "5 labels occur (0, 1, 2, 100, 201), and every number up to 201 becomes a class, 202 of them"
        in ran.err
    )
    (tmp_path / "classes.toml").write_text('0 = "none"\n1 = "a"\n2 = "b"\n100 = "b"\n201 = "ignore"\n')
    typed = ndrnn("check", *LABEL, tmp_path, "--data.classes", "classes.toml", "--json")
    assert (typed.status, typed.err) == (0, "")
    counted = [(entry["name"], entry["points"]) for entry in typed.json["labels"]]
    assert counted == [("none", 4), ("a", 4), ("b", 8)]
