"""The data sets of our own making: the recipes read them, and a seed gives the same files whenever they are made."""

import csv
import io
import json
import sys
from collections import Counter
from zipfile import ZipFile

import numpy as np
import pytest

pytest.importorskip("scipy")
pytest.importorskip("matplotlib")

from benchmarks.made import hands, sentences
from benchmarks.made.__main__ import KINDS, main
from PIL import Image

from ndrnn.app import cli

SHARE = "0.005"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with the beginning of a set, made once."""
    folders = {}

    def make(kind):
        if kind not in folders:
            folders[kind] = tmp_path_factory.mktemp(kind)
            assert main([kind, "--seed", "3", "--out", str(folders[kind]), "--share", SHARE]) == 0
        return folders[kind]

    return make


def pixels(archive, name):
    return np.asarray(Image.open(io.BytesIO(archive.read(name))))


@pytest.mark.parametrize("kind", KINDS)
def test_a_seed_gives_the_same_bytes(kind, made, tmp_path):
    main([kind, "--seed", "3", "--out", str(tmp_path), "--share", SHARE])
    for name in KINDS[kind].FILES:
        assert (made(kind) / name).read_bytes() == (tmp_path / name).read_bytes()


@pytest.mark.parametrize("kind", KINDS)
def test_its_recipe_reads_all_of_it(kind, made, capsys):
    maker = KINDS[kind]
    made(kind)
    capsys.readouterr()
    file = str(made(kind) / maker.FILES[0])
    assert cli.main(["check", maker.RECIPE, "--data.path", file, "--strict", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["faults"] == []
    assert found["splits"].keys() == {"train", "validation", "test"}
    # so few of them have not all there is
    assert all("cannot be learned" in remark for remark in found["remarks"])


def test_other_seeds_give_other_samples():
    for kind in ("streets", "nuclei", "hippocampus"):
        maker = KINDS[kind]
        style = (maker.Style.draw(np.random.default_rng(0), False),) if kind == "streets" else ()
        draw = maker.scene if style else maker.sample
        first, second = (draw(np.random.default_rng(seed), *style)[1] for seed in (1, 2))
        assert first.shape != second.shape or (first != second).any()
    assert sentences.lines(np.random.default_rng(1), 3) != sentences.lines(np.random.default_rng(2), 3)


def test_a_share_is_the_beginning(made, tmp_path):
    assert main(["streets", "--seed", "3", "--out", str(tmp_path), "--share", "0.008"]) == 0
    with ZipFile(made("streets") / "streets.zip") as less, ZipFile(tmp_path / "streets.zip") as more:
        assert len(less.namelist()) < len(more.namelist())
        for name in less.namelist():
            assert less.read(name) == more.read(name)


def test_streets_have_the_classes_of_the_recipe_and_drives_of_their_own(made):
    with ZipFile(made("streets") / "streets.zip") as archive:
        labels = {name: pixels(archive, name) for name in archive.namelist() if "annot/" in name}
        for name, label in labels.items():
            image = pixels(archive, name.replace("annot/", "/").replace(".png", ".jpg"))
            assert (image.shape, label.shape) == ((90, 120, 3), (90, 120))
            assert label.max() <= 11
            # sky lies above and road below
            rows = [np.flatnonzero((label == number).any(1)).mean() for number in (0, 3)]
            assert rows[0] < rows[1]
    drives = {
        split: {name.split("_")[0] for name in labels if name.startswith(split)}
        for split in ("train", "test")
    }
    assert not {name.split("/")[1] for name in drives["train"]} & {
        name.split("/")[1] for name in drives["test"]
    }


def test_blobs_are_as_many_as_the_table_says_and_some_touch(made):
    rows = list(csv.DictReader((made("nuclei") / "index.tsv").read_text().splitlines(), delimiter="\t"))
    touching = 0
    with ZipFile(made("nuclei") / "nuclei.zip") as archive:
        for row in rows:
            numbers = pixels(archive, f"instance/{row['name']}.png")
            assert sorted(np.unique(numbers)) == list(range(int(row["nuclei"]) + 1))
            beside = numbers[:, :-1], numbers[:, 1:]
            touching += ((beside[0] != beside[1]) & (beside[0] > 0) & (beside[1] > 0)).sum()
    assert touching
    assert Counter(row["split"] for row in rows) == {"train": 4, "test": 1}


def test_the_front_lies_before_the_back(made):
    file = np.load(made("hippocampus") / "hippocampus.npz")
    start = 0
    for shape in file["shape"].astype(int):
        label = file["label"][start : start + shape.prod()].reshape(shape)
        start += shape.prod()
        front, back = (np.argwhere(label == number)[:, 1] for number in (1, 2))
        assert len(front) > 200
        assert len(back) > 200
        assert front.min() > back.max()


def test_no_hand_is_in_two_splits_and_lines_are_as_wide_as_the_table_says(made):
    with (made("lines") / "lines_h48.tsv").open(encoding="utf-8", newline="") as table:
        rows = list(csv.DictReader(table, delimiter="\t", quoting=csv.QUOTE_NONE))
    hands_of = {
        split: {row["hand"] for row in rows if row["split"] == split} for split in ("train", "val", "test")
    }
    assert sum(map(len, hands_of.values())) == len({row["hand"] for row in rows}) == 3
    with ZipFile(made("lines") / "lines.zip") as archive:
        for row in rows:
            line = pixels(archive, f"{row['name']}.jpg")
            assert line.shape == (48, int(row["width"]))
            assert line.min() < line.max() - 20
            assert line.shape[1] > 4 * len(row["text"])  # CTC needs a frame of four columns a letter


def test_every_letter_of_the_sentences_can_be_drawn():
    hand = hands.Hand(np.random.default_rng(0), hands.faces()[0])
    letters = set("".join(sentences.lines(np.random.default_rng(0), 2000))) - {" "}
    for letter in letters:
        assert hand._typeset(letter).max() > 0.5
    assert {"é", "è", "à", "ç", "ù", "ê", "ë", "’"} <= letters


def test_missing_fonts_are_named_with_what_brings_them(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"none of 0 fonts \(.ttf, .otf\) has all of"):
        hands.faces(tmp_path)
    monkeypatch.setattr(hands, "FACES", ["Nobody.ttf"])
    with pytest.raises(FileNotFoundError, match=r"Nobody\.ttf: pip install"):
        hands.faces()
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(FileNotFoundError, match=r"pip install 'ndrnn\[train\]'"):
        hands.faces()


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--share", "0"], "--share must be above 0"),
        (["--share", "1.5"], "--share must be above 0"),
        (["--seed", "-1"], "--seed must be at least 0"),
        (["--fonts", "here"], "--fonts goes with lines alone"),
    ],
)
def test_what_makes_no_sense_is_refused(words, told, tmp_path, capsys):
    with pytest.raises(SystemExit):
        main(["streets", "--out", str(tmp_path), *words])
    assert told in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_what_is_there_stays(tmp_path, capsys):
    (tmp_path / "index.tsv").write_text("mine")
    with pytest.raises(SystemExit):
        main(["nuclei", "--out", str(tmp_path), "--share", SHARE])
    assert "there already" in capsys.readouterr().err
    assert (tmp_path / "index.tsv").read_text() == "mine"
    assert len(list(tmp_path.iterdir())) == 1
