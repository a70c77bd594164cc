"""Hands: a font, bent letter by letter, slanted, stretched, thickened, joined, and written with failing ink."""

from __future__ import annotations

import string
import unicodedata
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont
from scipy.ndimage import gaussian_filter, grey_dilation, grey_erosion, map_coordinates

from .files import Array
from .textures import bend, clouds, smooth

LETTERS = string.ascii_letters + string.digits + ",.-():;'"
"""What a font must have; accents are drawn by the hand."""

FACES = [
    "DejaVuSans.ttf",
    "DejaVuSans-Bold.ttf",
    "DejaVuSans-Oblique.ttf",
    "DejaVuSans-BoldOblique.ttf",
    "DejaVuSerif.ttf",
    "DejaVuSerif-Bold.ttf",
    "DejaVuSerif-Italic.ttf",
    "DejaVuSerif-BoldItalic.ttf",
    "DejaVuSansMono.ttf",
    "DejaVuSansMono-Bold.ttf",
    "DejaVuSansMono-Oblique.ttf",
    "DejaVuSansMono-BoldOblique.ttf",
    "STIXGeneral.ttf",
    "STIXGeneralBol.ttf",
    "STIXGeneralItalic.ttf",
    "STIXGeneralBolIta.ttf",
    "cmr10.ttf",
    "cmb10.ttf",
    "cmss10.ttf",
    "cmti10.ttf",
    "cmtt10.ttf",
]
"""Of matplotlib, so that every machine makes the same lines."""

HEIGHT = 48
SCALE = 2  # letters are drawn larger, and made smaller at the end
TALL = SCALE * HEIGHT
BASE = 68  # the row on which letters stand
SIDE = 12  # empty columns on both sides of a letter


def faces(folder: Path | None = None) -> list[Path]:
    """Font files: those of ``folder`` that have all letters, or matplotlib's.

    Raises:
        FileNotFoundError: matplotlib's are missing, or the folder has none.
    """
    try:
        import matplotlib
        from matplotlib.ft2font import FT2Font
    except ModuleNotFoundError as error:
        raise FileNotFoundError("lines need the fonts of matplotlib: pip install 'ndrnn[train]'") from error
    if folder is None:
        known = [Path(matplotlib.get_data_path(), "fonts", "ttf", name) for name in FACES]
        if missing := [path for path in known if not path.is_file()]:
            raise FileNotFoundError(
                f"{len(missing)} fonts of matplotlib are missing, such as {missing[0]}: "
                "pip install --force-reinstall matplotlib brings them"
            )
        return known
    wanted = set(map(ord, LETTERS))
    files = sorted(path for path in folder.glob("*") if path.suffix.lower() in (".ttf", ".otf"))
    found = [path for path in files if wanted <= FT2Font(str(path)).get_charmap().keys()]
    if not found:
        raise FileNotFoundError(f"{folder}: none of {len(files)} fonts (.ttf, .otf) has all of {LETTERS}")
    return found


@dataclass
class Hand:
    """One writer; ``draw`` gives a line as an image of height 48, ink dark on paper."""

    rng: np.random.Generator
    face: Path
    _shapes: dict[str, list[Array]] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        rng = self.rng
        self.font = ImageFont.truetype(
            str(self.face), int(rng.integers(44, 60)), layout_engine=ImageFont.Layout.BASIC
        )
        self.stretch = rng.uniform(0.8, 1.25)
        self.slant = rng.uniform(-0.15, 0.6)
        self.bent = rng.uniform(3, 7)  # how far letters are from the font's, in points
        self.shaky = rng.uniform(1.2, 3.2)  # and from each other
        # thin to bold; already bold faces only lose
        self.weight = int(rng.integers(-2, 1) if "Bold" in self.face.stem else rng.integers(0, 4))
        self.gap, self.space = rng.uniform(-3, 3), rng.uniform(16, 40)
        self.joined = rng.random() < 0.5
        self.drift = rng.uniform(0, 5)
        self.breaks = rng.uniform(0.2, 1.1)
        self.paper, self.ink = rng.uniform(175, 235), rng.uniform(60, 150)
        self.grain, self.ruled = rng.uniform(2, 9), rng.random() < 0.3
        self.blur = rng.uniform(0.2, 0.8)
        self.through = rng.uniform(0, 0.25) if rng.random() < 0.4 else 0.0

    def draw(self, text: str) -> Array:
        """A line (48, W) of values from 0 to 255."""
        ink = self._written(text)
        height, width = ink.shape
        rng, margin = self.rng, SCALE * self.rng.integers(1, 8)
        ink = np.pad(ink, ((0, 0), (margin, margin + (width % SCALE))))
        for_bend = [self.shaky * smooth(rng, ink.shape, 11) for _ in range(2)]
        ink = bend(ink, for_bend)
        # the pen's pressure, and where it fails
        flow = smooth(rng, ink.shape, (6, 14))
        ink *= np.clip(2.6 - self.breaks * np.maximum(flow - 0.4, 0) * 2.2, 0, 1)
        ink *= 1 + 0.15 * smooth(rng, ink.shape, 2)
        if self.through:
            ink = np.maximum(ink, self.through * gaussian_filter(ink[:, ::-1], 2))
        ink = self._neighbours(ink)
        ink = ink.reshape(height // SCALE, SCALE, -1, SCALE).mean((1, 3))
        paper = self.paper + self.grain * clouds(rng, ink.shape, 1.2)
        if self.ruled:
            paper[BASE // SCALE + 1 + rng.integers(-1, 2)] -= rng.uniform(10, 40)
        page = paper - gaussian_filter(np.clip(ink, 0, 1), self.blur) * self.ink
        return np.clip(page + rng.normal(0, 3, page.shape), 0, 255)

    def _written(self, text: str) -> Array:
        """The ink of a line, 0 to 1, twice as large."""
        rng, x, places = self.rng, 0.0, list[tuple[Array, int, int]]()
        strokes = list[tuple[float, float, float, float]]()
        slope, phase = rng.normal(0, 0.004), rng.uniform(0, 6.3)
        before: tuple[float, float] | None = None
        for letter in text:
            if letter == " ":
                x += self.space * rng.uniform(0.7, 1.4)
                before = None
                continue
            shapes = self._known(letter)
            shape = shapes[rng.integers(len(shapes))]
            rise = round(slope * x + self.drift * np.sin(phase + x / 130) / 2 + rng.normal(0, 0.8))
            places.append((shape, round(x), rise))
            end = x + shape.shape[1] - 2 * SIDE
            if letter.islower():
                if self.joined and before:
                    strokes.append((*before, x + SIDE + 4, BASE - 12 + rise))
                before = (end + SIDE - 3, BASE - 3 + rise)
            else:
                before = None
            x = end + self.gap + rng.normal(0, 1)
        ink = np.zeros((TALL, int(x) + 2 * SIDE + 60))
        for shape, left, rise in places:
            left = max(left, 0)
            box = ink[:, left : left + shape.shape[1]]
            np.maximum(box, np.roll(shape, rise, 0), out=box)
        if strokes:
            image = Image.new("L", ink.shape[::-1])
            pen = ImageDraw.Draw(image)
            for stroke in strokes:
                pen.line(stroke, fill=230, width=2)
            ink = np.maximum(ink, np.asarray(image) / 255)
        written = np.flatnonzero(ink.max(0) > 0.2)
        return ink[:, written[0] : written[-1] + 1]

    def _known(self, letter: str) -> list[Array]:
        """The two or so ways in which this hand writes a letter."""
        if letter not in self._shapes:
            plain = self._typeset(letter)
            self._shapes[letter] = [self._own(plain) for _ in range(2)]
        return self._shapes[letter]

    def _typeset(self, letter: str) -> Array:
        """A letter as the font has it, an accent above it drawn by hand, on a canvas with empty sides."""
        base, *marks = unicodedata.normalize("NFD", letter.replace("’", "'"))
        left, _, right, _ = self.font.getbbox(base, anchor="ls")
        image = Image.new("L", (int(right - left) + 2 * SIDE, TALL))
        pen = ImageDraw.Draw(image)
        pen.text((SIDE - left, BASE), base, fill=255, font=self.font, anchor="ls")
        for mark in marks:
            _mark(pen, mark, image.getbbox())
        return np.asarray(image) / 255

    def _own(self, plain: Array) -> Array:
        """Slanted, stretched, bent and with another weight."""
        width = int(plain.shape[1] * self.stretch)
        lean = int(abs(self.slant) * TALL)
        y, x = np.mgrid[:TALL, -lean : width + lean].astype(float)
        source = [y, (x + self.slant * (y - BASE + 15)) / self.stretch]
        for axis in range(2):
            source[axis] += self.bent * smooth(self.rng, y.shape, 12) * (0.7 if axis else 0.5)
        own = map_coordinates(plain, source, order=1)
        if self.weight > 0:
            own = grey_dilation(own, footprint=np.tri(1 + self.weight // 2, 1 + self.weight)[::-1] > 0)
        elif self.weight < 0:
            own = grey_erosion(own, size=(1 - self.weight // 2, 1 - self.weight))
        inked = np.flatnonzero(own.max(0) > 0.2)
        if not len(inked):
            return own
        return np.pad(own[:, inked[0] : inked[-1] + 1], ((0, 0), (SIDE, SIDE)))

    def _neighbours(self, ink: Array) -> Array:
        """Pieces of the lines above and below reach in."""
        for rows, source in ((slice(0, 10), slice(60, 70)), (slice(TALL - 10, TALL), slice(30, 40))):
            if self.rng.random() < 0.3:
                left, length = self.rng.integers(ink.shape[1]), self.rng.integers(20, 200)
                piece = np.roll(ink, self.rng.integers(ink.shape[1]), 1)[source, left : left + length]
                target = ink[rows, left : left + length]
                np.maximum(target, piece, out=target)
        return ink


def _mark(pen: ImageDraw.ImageDraw, mark: str, box: tuple[int, int, int, int] | None) -> None:
    """An accent above, or a cedilla below, what stands in ``box``."""
    left, top, right, bottom = box or (SIDE, 40, SIDE + 20, BASE)
    x, y = (left + right) / 2, max(top - 5, 11)
    match unicodedata.name(mark):
        case "COMBINING ACUTE ACCENT":
            points = [(x - 2, y), (x + 7, y - 9)]
        case "COMBINING GRAVE ACCENT":
            points = [(x + 2, y), (x - 7, y - 9)]
        case "COMBINING CIRCUMFLEX ACCENT":
            points = [(x - 7, y), (x, y - 8), (x + 7, y)]
        case "COMBINING DIAERESIS":
            for offset in (-6, 4):
                pen.ellipse((x + offset, y - 6, x + offset + 4, y - 2), fill=255)
            return
        case "COMBINING CEDILLA":
            points = [(x, bottom - 1), (x + 3, bottom + 4), (x - 3, bottom + 9)]
        case name:
            raise ValueError(f"no hand draws a {name.lower()}")
    pen.line(points, fill=255, width=4)
