"""What the values and colours of masks are called: in words, and in the files that people have."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.formats.classmap import parse
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.arrays import Arrays
from ndrnn.data.readers.pairs import Masks

RED, GREEN, BLACK = 0xFF0000, 0x00FF00, 0


def known(*words, files=None):
    def read(name):
        return (files or {})[name].encode(), name

    return parse(words, read)


def file(name, text):
    return known(name, files={name: text})


def test_names_alone_are_those_of_0_and_so_on():
    found = known("sky", "road")
    assert found.names == ("sky", "road")
    numbers = np.array([[0, 1]])
    assert found.apply(numbers, "m") is numbers


def test_values_are_classes_in_their_order():
    found = known("255=nucleus", "0=background", "7 = ignore", "3=nucleus")
    assert found.names == ("background", "nucleus")
    assert found.apply(np.array([[0, 255], [7, 3]]), "m").tolist() == [[0, 1], [-100, 1]]
    assert found.apply(np.array([[-100, 255]]), "m").tolist() == [[-100, 1]]
    wide = known("0=a", f"{2**40}=b")
    assert wide.apply(np.array([2**40, 0]), "m").tolist() == [1, 0]
    with pytest.raises(
        BadFile, match=r"^m: labels 1, 9: no name in data\.classes; leave it out by data\.ignore"
    ):
        found.apply(np.array([9, 0, 1]), "m")


def test_colours_are_classes_as_they_were_written():
    found = known("#ff0000=road", "#000000=ignore", "#00FF00=sky")
    assert found.names == ("road", "sky")
    assert found.colours
    assert found.apply(np.array([GREEN, RED, BLACK]), "m").tolist() == [1, 0, -100]
    with pytest.raises(BadFile, match=r"m: colour #fe0000: no name in data\.classes; call it ignore"):
        found.apply(np.array([0xFE0000]), "m")


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", '0 = "a"\n255 = "b"\n'),
        ("c.toml", "[classes]\nb = 255\na = 0\n"),
        ("c.TOML", "a = [0]\nb = [255]\n"),
        ("c.json", json.dumps({"labels": {"0": "a", "255": "b"}, "modality": {"0": "MRI"}})),
        ("dataset.json", json.dumps({"labels": {"b": 255, "a": 0}, "channel_names": {"0": "CT"}})),
        ("c.csv", "name,value\na,0\nb,255\n"),
        ("c.csv", "id;name\n0;a\n255;b\n"),
        ("c.tsv", "\ufeffvalue\tname\n255\tb\n0\ta\n"),
        ("c.txt", "# what they mean\n0 = a\n255 = b\n"),
    ],
)
def test_files_of_values(name, text):
    found = file(name, text)
    assert found.names == ("a", "b")
    assert found.apply(np.array([255, 0]), "m").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.toml", 'road = "#ff0000"\nsky = "#00ff00"\n'),
        ("c.toml", '"#ff0000" = "road"\n"#00ff00" = "sky"\n'),
        ("class_dict.csv", "name, r, g, b\nroad, 255, 0, 0\nsky, 0, 255, 0\n"),
        ("c.csv", "class,color\nroad,#ff0000\nsky,#00ff00\n"),
        ("labelmap.txt", "# label:color_rgb:parts:actions\nroad:255,0,0::\nsky:0,255,0::\n"),
        ("label_colors.txt", "255 0 0\troad\n0 255 0\t\tsky\n"),
    ],
)
def test_files_of_colours(name, text):
    found = file(name, text)
    assert found.names == ("road", "sky")
    assert found.apply(np.array([GREEN, RED]), "m").tolist() == [1, 0]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("0=a", "b"), "VALUE=NAME or #rrggbb=NAME each, got 'b' among such"),
        (("0=a", "#ff0000=b"), "numbers or colours, got both"),
        (("0=ignore",), "names nothing but ignore"),
        (("0=a", "0=b"), "0 is called both 'a' and 'b'; regions that overlap"),
    ],
)
def test_words_that_say_nothing(words, message):
    with pytest.raises(ValueError, match=message):
        known(*words)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("c.toml", "a = ", "c.toml: tells no classes"),
        ("c.toml", "a = 0.5", "a = 0.5 is no number and no colour"),
        ("c.toml", "", "holds no number and no colour"),
        ("c.json", "[1]", "must be a table of names"),
        ("c.json", '{"labels": {"whole": [1, 2], "core": [2]}}', "2 is called both 'whole' and 'core'"),
        ("c.csv", "title,value\na,0\n", "must have the columns name and value, .* got title, value"),
        ("c.csv", "name,value\na,x\n", "line 2 tells no number or colour"),
        ("c.txt", "what\n", "line 1 is not VALUE = NAME"),
        ("c.csv", "name,r,g,b\na,300,0,0\n", "line 2 tells no number or colour"),
    ],
)
def test_files_that_say_nothing(name, text, message):
    with pytest.raises(BadFile, match=message):
        file(name, text)


def pair(folder, mask, **options):
    for part in ("images", "masks"):
        (folder / part).mkdir(exist_ok=True, parents=True)
    height, width = mask.size[::-1]
    Image.fromarray(np.zeros((height, width), np.uint8)).save(folder / "images/a.png")
    mask.save(folder / "masks/a.png", **options)
    return str(folder)


def painted():
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[0, 1], colours[1, 2] = (255, 0, 0), (0, 255, 0)
    return colours, [[0, 1, 0], [0, 0, 2]]


WORDS = ("#000000=background", "#ff0000=road", "#00ff00=sky")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "P"])
def test_masks_in_colour(mode, tmp_path):
    colours, labels = painted()
    path = pair(tmp_path, Image.fromarray(colours).convert(mode))
    found = gather(Masks(path=path, classes=WORDS), "label")
    assert found.facts.classes == ("background", "road", "sky")
    assert found.samples("train")[0].target.tolist() == labels
    assert {label: tuple(count) for label, count in found.labels.items()} == {0: (4, 1), 1: (1, 1), 2: (1, 1)}
    if mode == "RGB":
        source = Masks(path=path).open()
        with pytest.raises(
            BadFile, match=r"of 3 colours; data\.classes '#000000=NAME' '#00ff00=NAME' '#ff0000=NAME'"
        ):
            source.read(0)


def test_grey_masks_have_colours_too_and_deep_or_transparent_ones_not(tmp_path):
    grey = np.array([[0, 255]], np.uint8)
    words = ("#ffffff=ink", "#000000=paper")
    path = pair(tmp_path / "a", Image.fromarray(grey))
    assert Masks(path=path, classes=words).open().read(0).target.tolist() == [[1, 0]]
    for name, mask, message in (
        ("b", Image.fromarray(grey.astype(np.uint16) * 256), "colours of masks have 8 bits"),
        ("c", Image.fromarray(np.zeros((1, 2, 4), np.uint8)), "has transparent points"),
    ):
        source = Masks(path=pair(tmp_path / name, mask), classes=words).open()
        with pytest.raises(BadFile, match=message):
            source.read(0)


@pytest.mark.parametrize("place", ["set/classes.toml", "classes.toml"])
def test_a_file_of_classes_lies_among_the_data_or_beside_it(place, tmp_path):
    path = pair(tmp_path / "set", Image.fromarray(np.array([[0, 255]], np.uint8)))
    (tmp_path / place).write_text('0 = "ignore"\n255 = "nucleus"\n', encoding="utf-8")
    source = Masks(path=path, classes=("classes.toml",)).open()
    assert source.classes == ("nucleus",)
    assert source.read(0).target.tolist() == [[-100, 0]]


def test_options_that_contradict_each_other(tmp_path):
    path = pair(tmp_path, Image.fromarray(np.array([[0, 255]], np.uint8)))
    with pytest.raises(ValueError, match=r"data\.binary must be left out"):
        Masks(path=path, classes=("0=a", "255=b"), binary=True).open()
    with pytest.raises(ValueError, match=r"call a colour ignore in data\.classes"):
        Masks(path=path, classes=("#000000=a",), ignore=(3,)).open()
    with pytest.raises(FileNotFoundError, match=r"classes\.toml"):
        Masks(path=path, classes=("classes.toml",)).open()


def test_arrays_have_values_with_names_too(tmp_path):
    np.savez(tmp_path / "points.npz", image=np.zeros((1, 2, 2)), label=np.array([[[0, 9], [9, 4]]]))
    words = ("0=a", "9=b")
    source = Arrays(path=str(tmp_path / "points.npz"), classes=words, ignore=(4,)).open()
    assert source.read(0).target.tolist() == [[0, 1], [1, -100]]
    np.savez(tmp_path / "whole.npz", image=np.zeros((2, 2, 2)), label=np.array([9, 0]))
    whole = Arrays(path=str(tmp_path / "whole.npz"), classes=words).open()
    assert [whole.read(index).target for index in range(2)] == [1, 0]


def test_colours_of_every_page_of_a_stack(tmp_path):
    colours, labels = painted()
    buffer = io.BytesIO()
    one, other = Image.fromarray(colours), Image.fromarray(colours[::-1].copy())
    one.save(buffer, "TIFF", save_all=True, append_images=[other])
    for part in ("images", "masks"):
        (tmp_path / part).mkdir()
        (tmp_path / part / "a.tif").write_bytes(buffer.getvalue())
    raw = Masks(path=str(tmp_path), stacked=True, classes=WORDS).open().read(0)
    assert raw.target.tolist() == [labels, labels[::-1]]
