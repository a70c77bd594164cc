"""Lines of typeset handwriting, in the form of ``recipes/handwriting_fr_reader.toml``."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

from . import hands, sentences
from .files import part, picture, stream, write_table, write_zip

FILES = ("lines.zip", "lines_h48.tsv")
RECIPE = "recipes/handwriting_fr_reader.toml"
SPLITS = {"train": (98, 1121), "val": (19, 202), "test": (19, 220)}
"""How many hands and lines."""
SPACING = 7
"""Steps through the faces from hand to hand, so that a share of a set has all kinds of faces."""


def make(
    folder: Path, seed: int, share: float, progress: Callable[[str], None], fonts: Path | None = None
) -> None:
    """Write the images and the table; no hand is in two splits."""
    faces = hands.faces(fonts)
    table = [("name", "split", "hand", "width", "text")]

    def entries() -> Iterator[tuple[str, bytes]]:
        first = 0
        for split, (writers, lines) in SPLITS.items():
            there = part(writers, share)
            for index in range(there):
                rng = stream(seed, 3, first + index)
                hand = hands.Hand(rng, faces[(first + index) * SPACING % len(faces)])
                # the lines are shared out as evenly as can be, whatever share of the hands is made
                count = lines * (index + 1) // writers - lines * index // writers
                for number, text in enumerate(sentences.lines(rng, count)):
                    image = hand.draw(text)
                    name = f"hand{first + index:03}_{number:02}"
                    table.append((name, split, f"hand{first + index:03}", str(image.shape[1]), text))
                    yield f"{name}.jpg", picture(image, "JPEG")
                progress(f"{split}: hand {index + 1} of {there}")
            first += writers

    write_zip(folder / FILES[0], entries())
    write_table(folder / FILES[1], table)
