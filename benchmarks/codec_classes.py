"""Pictures of kinds that a density of photographs knows nothing of: drawn here, or made of photographs."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont

from ndrnn.density.lattices.images import dead_leaves

SIZE = 512, 768
_WORDS = [
    "the",
    "file",
    "could",
    "not",
    "be",
    "saved",
    "because",
    "its",
    "folder",
    "is",
    "full",
    "open",
    "recent",
    "edit",
    "view",
    "insert",
    "format",
    "tools",
    "window",
    "help",
    "a",
    "scan",
    "of",
    "lattices",
    "has",
    "as",
    "many",
    "wavefronts",
    "as",
    "its",
    "longest",
    "path",
    "and",
    "each",
    "of",
    "them",
    "is",
    "one",
    "product",
    "of",
    "matrices",
]


def drawn() -> Iterator[tuple[str, Image.Image]]:
    """Name and picture of each class."""
    height, width = SIZE
    rng = np.random.default_rng(0)
    yield "screenshot", _screenshot(rng)
    yield "page of text, 1 bit", _page(rng).convert("1", dither=Image.Dither.NONE)
    yield "page of text, grey", _page(rng)
    yield "line drawing", _lines(rng)
    yield "label map", _labels()
    yield "flat", Image.new("L", (width, height), 90)
    yield "gradient, colour", _gradient()
    tile = rng.integers(0, 256, (48, 64)).astype(np.uint8)
    yield (
        "tiles of one noise",
        Image.fromarray(np.tile(tile, (-(-height // 48), -(-width // 64)))[:height, :width]),
    )
    yield "noise, 8 bit", Image.fromarray(rng.integers(0, 256, SIZE).astype(np.uint8))
    yield "noise, colour", Image.fromarray(rng.integers(0, 256, (*SIZE, 3)).astype(np.uint8))
    yield "noise, 12 bit in 16", Image.fromarray((rng.integers(0, 4096, SIZE) << 4).astype(np.uint16))


def of_photograph(image: Image.Image) -> Iterator[tuple[str, Image.Image]]:
    """Name and picture of each class that is made of a photograph in colour."""
    height, width = SIZE
    left, top = max(0, (image.width - width) // 2), max(0, (image.height - height) // 2)
    colour = image.crop((left, top, left + width, top + height))
    grey = np.asarray(colour.convert("L"))
    levels = np.asarray(image.convert("L")).astype(int)
    rows, columns = levels.shape[0] // 4 * 4, levels.shape[1] // 4 * 4
    twelve = (
        levels[:rows, :columns].reshape(rows // 4, 4, columns // 4, 4).sum((1, 3))
    )  # 16 pixels: 0 ... 4080
    wide = colour.convert("L").point([min(255, max(0, round((v - 40) * 1.7))) for v in range(256)])
    low, high = np.percentile(grey, (1, 99))
    stretched = np.rint((grey - low) * (255 / max(high - low, 1))).clip(0, 255).astype(np.uint8)
    yield "photograph, colour", colour
    yield "photograph, grey", Image.fromarray(grey)
    yield "clipped", wide
    yield "contrast stretched", Image.fromarray(stretched)
    yield "few levels stretched", Image.fromarray((grey // 8 * 8.2258).round().astype(np.uint8))
    yield "12 bit", Image.fromarray(twelve.astype(np.uint16))
    yield "12 bit in 16", Image.fromarray((twelve << 4).astype(np.uint16))
    yield "dithered, 1 bit", colour.convert("1")
    yield "palette of 64", colour.quantize(64)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def _text(rng: np.random.Generator, words: int) -> str:
    return " ".join(rng.choice(_WORDS, words))


def _screenshot(rng: np.random.Generator) -> Image.Image:
    """A window with a title, a list with small pictures, text and buttons."""
    height, width = SIZE
    image = Image.new("RGB", (width, height), (236, 239, 241))
    draw = ImageDraw.Draw(image)
    for row in range(32):
        draw.line([(0, row), (width, row)], (40 + row, 80 + row, 140 + row))
    draw.text((12, 6), _text(rng, 5), (255, 255, 255), _font(17))
    for index, left in enumerate(range(10, 400, 70)):
        draw.text((left, 38), _WORDS[10 + index], (30, 30, 30), _font(14))
    for row, top in enumerate(range(62, height - 40, 26)):
        draw.rectangle(
            [8, top, 250, top + 25], (255, 255, 255) if row % 2 else (245, 248, 252), (210, 214, 220)
        )
        colour = tuple(int(c) for c in rng.integers(40, 220, 3))
        draw.ellipse([14, top + 5, 29, top + 20], colour, (60, 60, 60))
        draw.text((36, top + 4), _text(rng, 4)[:28], (20, 20, 20), _font(13))
    draw.rectangle([262, 62, width - 10, height - 14], (255, 255, 255), (180, 184, 190))
    for top in range(72, height - 60, 20):
        draw.text((272, top), _text(rng, 14)[:70], (33, 37, 41), _font(14))
    for left in (520, 630):
        draw.rounded_rectangle([left, height - 46, left + 96, height - 22], 6, (13, 110, 253))
        draw.text((left + 24, height - 43), _WORDS[left % 7], (255, 255, 255), _font(14))
    return image


def _page(rng: np.random.Generator) -> Image.Image:
    height, width = SIZE
    image = Image.new("L", (width, height), 255)
    draw = ImageDraw.Draw(image)
    for top in range(20, height - 30, 22):
        draw.text((30, top), _text(rng, 20)[:88], 0, _font(16))
    return image


def _lines(rng: np.random.Generator) -> Image.Image:
    """Curves, circles and straight lines, smoothed at their edges."""
    height, width = SIZE
    image = Image.new("L", (4 * width, 4 * height), 255)
    draw = ImageDraw.Draw(image)
    for _ in range(25):
        x, y = rng.integers(0, 4 * width), rng.integers(0, 4 * height)
        r = int(rng.integers(60, 700))
        draw.ellipse([x - r, y - r, x + r, y + r], outline=0, width=int(rng.integers(4, 12)))
        ends = [int(v) for v in (*rng.integers(0, 4 * width, 2), *rng.integers(0, 4 * height, 2))]
        draw.line([(ends[0], ends[2]), (ends[1], ends[3])], 40, int(rng.integers(4, 12)))
    return image.resize((width, height), Image.Resampling.BOX)


def _labels() -> Image.Image:
    """Leaves that cover each other, each of one of 21 labels, as masks have them."""
    leaves = dead_leaves(*SIZE, r_min=8, generator=torch.Generator().manual_seed(0))
    image = Image.fromarray((leaves.numpy() * 21).astype(np.uint8))
    image.putpalette(
        [channel for entry in range(21) for channel in (entry * 12, 255 - entry * 9, entry * 67 % 256)]
    )
    return image


def _gradient() -> Image.Image:
    height, width = SIZE
    rows, columns = np.mgrid[:height, :width]
    planes = [rows * 255 // height, columns * 255 // width, (rows + columns) * 255 // (height + width)]
    return Image.fromarray(np.stack(planes, -1).astype(np.uint8))
