"""Texts as they are learned: in one Unicode form, with single spaces, without what cannot be seen."""

from __future__ import annotations

import unicodedata
from typing import Literal

Form = Literal["NFC", "NFD", "NFKC", "NFKD", "none"]
FORMS = ("NFC", "NFD", "NFKC", "NFKD", "none")

_UNSEEN = dict.fromkeys(
    (0xFEFF, 0x200B, 0x2060, 0x061C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
)  # marks of byte order, of places to break a line, and of direction, which the letters themselves have


def clean(text: str, form: Form = "NFC") -> str:
    """A line's text in a Unicode form, white space of all kinds as single spaces, none at the ends.

    Raises:
        ValueError: it holds a control character, or one that is none.
    """
    text = " ".join(text.translate(_UNSEEN).split())
    for place, character in enumerate(text):
        if unicodedata.category(character) in ("Cc", "Cs"):
            raise ValueError(f"its text holds the control character {called(character)}, number {place + 1}")
    return text if form == "none" else " ".join(unicodedata.normalize(form, text).split())


def called(character: str) -> str:
    """A character's number and name."""
    return f"U+{ord(character):04X} {unicodedata.name(character, '')}".rstrip()


def shown(character: str) -> str:
    """A character as it can be told from others: marks on a circle, and what leaves no ink by its name."""
    category = unicodedata.category(character)
    if category[0] == "M":
        return f"\u25cc{character}"
    return called(character) if category[0] in "CZ" else character
