"""Lines as people keep them: endings of texts, tables, Unicode forms, white space, and vertical writing."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.formats.texts import clean, shown
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.readers.lines import Lines


@pytest.fixture
def folder(tmp_path):
    """Images of lines without texts."""
    (tmp_path / "lines").mkdir()
    generator = np.random.default_rng(0)
    for name in "abc":
        Image.fromarray(generator.integers(0, 256, (8, 40), np.uint8)).save(tmp_path / f"lines/{name}.png")
    return tmp_path / "lines"


def write(folder, suffix=".gt.txt", **texts):
    for name, text in texts.items():
        (folder / f"{name}{suffix}").write_text(text, encoding="utf-8")


def test_texts_of_another_ending(folder, zip_folder):
    write(folder, ".txt", a="one", b="two", c="three")
    with pytest.raises(
        BadFile, match=r"no transcripts .*3 images have a text that ends in \.txt: data\.text_suffix"
    ):
        Lines(path=str(folder)).open()
    for path in (folder, zip_folder(folder)):
        source = Lines(path=str(path), text_suffix=".txt").open()
        assert [source.read(index).target for index in range(3)] == ["one", "two", "three"]
    write(folder, ".TXT", a="upper")
    assert Lines(path=str(folder), text_suffix=".txt").open().read(0).target == "upper"


def test_images_without_a_text_are_named(folder):
    write(folder, a="one", b="two")
    gathered = gather(Lines(path=str(folder)), "transcribe")
    assert [str(fault) for fault in gathered.faults.found] == [
        f"{folder}/c.png: has no transcript (c.gt.txt is not beside it)"
    ]
    (folder / "t.tsv").write_text("name\ttext\na\tone\nb\ttwo\n")
    gathered = gather(Lines(path=str(folder), table="t.tsv"), "transcribe")
    assert not gathered.faults
    assert gathered.remarks[0] == f"1 images are not named in t.tsv: {folder}/c.png"


@pytest.mark.parametrize(
    ("name", "content", "texts"),
    [
        ("t.csv", 'name,text\na,one\nb,"two, and"\nc.png,"a ""word"""\n', ["one", "two, and", 'a "word"']),
        (
            "t.csv",
            'text;name\r\nune;a\r\ndeux, trois;b\r\n"quatre;\r\ncinq";c\r\n',
            ["une", "deux, trois", "quatre; cinq"],
        ),
        ("t.tsv", 'name\ttext\na\tone, two\nb\t"two\nc\tthree;\n', ["one, two", '"two', "three;"]),
        ("t.tsv", "\ufeffname\ttext\na\tone\nb\ttwo\nc\tthree\n", ["one", "two", "three"]),
    ],
)
def test_tables_of_tabs_commas_and_semicolons(name, content, texts, folder):
    (folder / name).write_bytes(content.encode())
    source = Lines(path=str(folder), table=name).open()
    assert [source.read(index).target for index in range(len(source))] == texts


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ('name,text\na,"open\n', "not a CSV table"),
        ("name,text\na,b,c\n", "line 2 has 3 fields, the first line 2"),
        ("file;text\na;b\n", "must have the columns name, text, got file, text"),
    ],
)
def test_bad_csv_tables(content, message, folder):
    (folder / "t.csv").write_text(content)
    with pytest.raises(BadFile, match=rf"t\.csv: {message}"):
        Lines(path=str(folder), table="t.csv").open()


@pytest.mark.parametrize(
    ("form", "text", "expected"),
    [
        ("NFC", "e\u0301\ufb01", "\u00e9\ufb01"),
        ("NFD", "\u00e9", "e\u0301"),
        ("NFKC", "\ufb01\u00bd", "fi1\u20442"),
        ("none", "e\u0301\u00e9", "e\u0301\u00e9"),
        ("NFC", " a\tb\u00a0c\u2003\r\nd\u3000 ", "a b c d"),
        ("NFC", "\ufeff\u200fא\u200eב\u2067", "אב"),
        ("NFC", "a\u200db\u00ad", "a\u200db\u00ad"),  # a joiner and a soft hyphen are seen
    ],
)
def test_texts_are_brought_to_one_form(form, text, expected, folder):
    assert clean(text, form) == expected
    write(folder, a=text, b="x", c="x")
    assert Lines(path=str(folder), normalization=form).open().read(0).target == expected


def test_control_characters_are_named(folder):
    write(folder, a="on\x07e", b="two", c="three")
    gathered = gather(Lines(path=str(folder)), "transcribe")
    (fault,) = gathered.faults.found
    assert "a.png" in fault.file
    assert fault.reason == "its text holds the control character U+0007, number 3"


def test_options_that_make_no_sense():
    for options, message in [
        ({"normalization": "NFX"}, "normalization must be one of NFC, NFD"),
        ({"direction": "up"}, "direction must be one of auto, ltr, rtl"),
        ({"vertical": "yes"}, "vertical must be one of none, tall, all"),
        ({"text_suffix": ""}, "text_suffix must be an ending"),
    ]:
        with pytest.raises(ValueError, match=message):
            Lines(path="x", **options)


def test_vertical_lines_are_turned(folder):
    upright = np.zeros((8, 40), np.uint8)
    upright[1:3, 2:6] = 255  # the first letter's upper part
    downwards = upright.T[
        :, ::-1
    ]  # turned clockwise: the first letter is at the top, its upper part at the right
    Image.fromarray(downwards).save(folder / "a.png")
    upwards = upright.T[::-1]
    Image.fromarray(upwards).save(folder / "b.png")
    write(folder, a="abc", b="abc", c="abc")

    def read(index, **options):
        return Lines(path=str(folder), **options).open().read(index).values[..., 0]

    assert np.array_equal(read(0, vertical="tall"), upright)
    assert np.array_equal(read(1, vertical="tall", upwards=True), upright)
    assert read(0).shape == (40, 8)
    assert read(2, vertical="tall").shape == (8, 40)
    assert read(2, vertical="all").shape == (40, 8)
    assert read(0, vertical="tall", height=4).shape == (4, 20)
    (remark,) = gather(Lines(path=str(folder)), "transcribe").remarks
    assert remark.startswith("2 lines are at least twice as high as wide")
    (remark,) = gather(Lines(path=str(folder), vertical="tall"), "transcribe").remarks
    assert remark.startswith("2 of 3 lines are at least twice as high as wide and were turned")


def test_lines_from_right_to_left_are_said(folder):
    write(folder, a="אבג (ד)", b="אב 12", c="abc")
    gathered = gather(Lines(path=str(folder)), "transcribe")
    assert gathered.facts.direction == "auto"
    assert gathered.remarks[0].startswith(
        "6 of 9 letters run from right to left, so lines are learned in the order"
    )
    assert gathered.characters["א"] == (2, f"{folder}/a.png")
    assert gathered.characters["("][0] == gathered.characters[")"][0] == 1
    remark, *_ = gather(Lines(path=str(folder), direction="ltr"), "transcribe").remarks
    assert "but data.direction is ltr" in remark


def test_only_characters_that_are_used_are_in_the_alphabet(folder):
    write(folder, a="ab", b="ba", c="z")
    gathered = gather(
        Lines(path=str(folder)), "transcribe", accept=lambda raw: "no" if raw.target == "z" else None
    )
    assert gathered.facts.alphabet == "ab"


def test_characters_are_shown_so_that_they_can_be_told():
    assert [shown(character) for character in ("a", "\u0301", " ", "\u200d")] == [
        "a",
        "\u25cc\u0301",
        "U+0020 SPACE",
        "U+200D ZERO WIDTH JOINER",
    ]
