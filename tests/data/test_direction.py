"""Right-to-left scripts: the order of letters on the image, and back.

Capitals stand for Hebrew letters in the tables; a line is written as it is read, and as its letters stand from left to right.
"""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ndrnn.data.formats.direction import letters, levels, logical, mirrored, visual

HEBREW = dict(zip(map(ord, "ABCDEFGH"), "אבגדהוזח", strict=True))
ARABIC = dict(zip(map(ord, "ABCDEFGH"), "ابتثجحخد", strict=True))

# worked by hand with the rules of UAX #9; for the numbers' classes W2 to W7 tell, for brackets N0
RTL = [
    ("ABC", "CBA"),
    ("ABC DEF", "FED CBA"),
    ("ABC abc DEF", "FED abc CBA"),
    ("ABC 123 DEF", "FED 123 CBA"),
    ("ABC, DEF.", ".FED ,CBA"),
    ("ABC (DEF) G", "G (FED) CBA"),
    ("ABC (abc) D", "D (abc) CBA"),
    ("ABC abc def G", "G abc def CBA"),
    ("A 1.5 B", "B 1.5 A"),
    ("A 1,234-5 B", "B 1,234-5 A"),
    ("A 10% B", "B 10% A"),
    ("A 1, 2 B", "B 2 ,1 A"),
    ("abc", "abc"),
    ("abc ABC", "CBA abc"),
    ("A «B» C", "C «B» A"),
]
LTR = [
    ("abc", "abc"),
    ("abc ABC def", "abc CBA def"),
    ("abc ABC DEF ghi", "abc FED CBA ghi"),
    ("(a) b", "(a) b"),
    ("a (AB) b", "a (BA) b"),
]


@pytest.mark.parametrize(("read", "seen"), RTL)
def test_hebrew_lines(read, seen):
    read, seen = read.translate(HEBREW), seen.translate(HEBREW)
    assert visual(read, "rtl") == seen
    assert logical(seen, "rtl")[0] == read


@pytest.mark.parametrize(("read", "seen"), LTR)
def test_lines_that_run_from_left_to_right(read, seen):
    read, seen = read.translate(HEBREW), seen.translate(HEBREW)
    assert visual(read, "ltr") == seen
    assert logical(seen, "ltr")[0] == read


@pytest.mark.parametrize(
    ("read", "seen"),
    [
        ("AB 123 CD", "DC 123 BA"),
        ("AB 1-2 CD", "DC 2-1 BA"),  # after Arabic letters numbers are Arabic, which a hyphen does not join
        ("AB 1.2 CD", "DC 1.2 BA"),
        ("AB 12% CD", "DC %12 BA"),
        ("AB \u0661\u0662 CD", "DC \u0661\u0662 BA"),
        ("AB \u0661/\u0662 CD", "DC \u0661/\u0662 BA"),
        ("AB abc 12 CD", "DC abc 12 BA"),
    ],
)
def test_arabic_lines_with_numbers(read, seen):
    read, seen = read.translate(ARABIC), seen.translate(ARABIC)
    assert visual(read, "rtl") == seen
    assert logical(seen, "rtl")[0] == read


def test_of_texts_that_look_alike_one_comes_back():
    one, other = "abc אב 12 def", "abc 12 אב def"
    assert visual(one, "ltr") == visual(other, "ltr") == "abc 12 בא def"
    assert logical("abc 12 בא def", "ltr")[0] == other
    assert visual("א [b] c", "rtl") == visual("א c [b]", "rtl") == "c [b] א"


def test_marks_stay_behind_their_letters():
    # bet with dagesh and qamats, resh, alef with qamats
    read = "\u05d1\u05bc\u05b8\u05e8\u05d0\u05b8"
    assert visual(read) == "\u05d0\u05b8\u05e8\u05d1\u05bc\u05b8"
    seen = visual("\u0643\u064e\u062a\u064e\u0628\u064e 12")  # kataba with its vowels, and a number
    assert seen == "12 \u0628\u064e\u062a\u064e\u0643\u064e"
    assert logical(seen)[0] == "\u0643\u064e\u062a\u064e\u0628\u064e 12"


def test_where_each_character_was_seen():
    text, order = logical("ג12א b", "rtl")
    assert text == "b א12ג"
    assert order == (5, 4, 3, 1, 2, 0)
    seen = "ב\u05b8א"
    text, order = logical(seen)
    assert text == "אב\u05b8"
    assert "".join(seen[place] for place in order) == text


def test_the_direction_of_a_line_is_that_of_most_of_its_letters():
    assert letters("abc אב 12") == (3, 2)
    assert visual("abc אב") == "abc בא"
    assert visual("ab אבג") == "גבא ab"
    assert visual("ab אבג", "ltr") == "ab גבא"
    assert visual("12 - 3") == "12 - 3"
    assert visual("12 - 3", "rtl") == "3 - 12"


def test_brackets_are_those_that_are_seen():
    assert [mirrored(character) for character in "()[]{}<>«»‹›⟨⟩a-"] == list(")(][}{><»«›‹⟩⟨a-")
    assert levels("א(b)", 1) == [1, 1, 2, 1]
    assert levels("a(א)b", 0) == [0, 0, 1, 0, 0]


@given(
    st.lists(st.sampled_from(["אבג", "דה", "abc", "de", "ابت", "ثج"]), min_size=1, max_size=6), st.booleans()
)
def test_words_of_any_mixture_come_back(words, right):
    direction = "rtl" if right else "ltr"
    read = " ".join(words)
    seen = visual(read, direction)
    assert logical(seen, direction)[0] == read
    assert sorted(seen) == sorted(read)


@given(
    st.text(st.characters(exclude_categories=["Cc", "Cs", "Cn"]), max_size=20),
    st.sampled_from(["auto", "ltr", "rtl"]),
)
def test_nothing_is_lost_whatever_the_text(read, direction):
    seen, (text, order) = visual(read, direction), logical(read, direction)
    assert len(seen) == len(text) == len(read)
    assert sorted(order) == list(range(len(read)))
    if all(unicodedata.bidirectional(character) == "L" for character in read):
        assert seen == text == read or direction == "rtl"
