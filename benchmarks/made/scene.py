"""A street in perspective: what lies where, and the canvas that far and near things are painted on.

Lengths are metres. The camera looks along the street from ``EYE`` above the ground; a point lies ``side`` to the right of
it, ``up`` above the ground and ``far`` ahead.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from .files import Array
from .textures import bars, clouds, smooth

HEIGHT, WIDTH = 90, 120
EYE, LENS = 1.5, 95.0
END = 90.0  # of the street


class Label(IntEnum):
    """The classes in the order of the recipe."""

    SKY = 0
    BUILDING = 1
    POLE = 2
    ROAD = 3
    PAVEMENT = 4
    TREE = 5
    SIGN = 6
    FENCE = 7
    CAR = 8
    PEDESTRIAN = 9
    BICYCLIST = 10
    IGNORED = 11


@dataclass(frozen=True)
class Style:
    """What the scenes of one drive have in common; ``strange`` ones are drawn from wider ranges."""

    walls: Array
    """Colours (K, 3) of houses."""
    road: Array
    pavement: Array
    leaf: Array
    sky: Array
    cloud: float
    bare: bool
    """Whether trees have no leaves."""
    light: float
    tint: Array
    haze: float
    sun: bool
    tiles: float
    windows: float
    bonnet: float
    """Rows of the car with the camera that are seen."""
    blur: float
    noise: float

    @classmethod
    def draw(cls, rng: np.random.Generator, strange: bool) -> Style:
        wide = 1.6 if strange else 1.0
        hues = np.array(
            [[0.55, 0.33, 0.25], [0.72, 0.66, 0.52], [0.5, 0.5, 0.52], [0.82, 0.8, 0.78], [0.42, 0.3, 0.22]]
        )
        walls = hues[rng.choice(5, 3, replace=False)] + 0.05 * wide * rng.standard_normal((3, 3))
        grey = rng.uniform(0.28, 0.45) + (rng.choice([-0.08, 0.1]) if strange else 0)
        return cls(
            walls=walls,
            road=grey + 0.02 * wide * rng.standard_normal(3),
            pavement=grey + rng.uniform(0.0, 0.18) + 0.03 * wide * rng.standard_normal(3),
            leaf=np.array([0.25, 0.33, 0.14]) + 0.06 * wide * rng.standard_normal(3),
            sky=rng.choice(np.array([[0.85, 0.87, 0.9], [0.55, 0.68, 0.9], [0.62, 0.63, 0.66]])),
            cloud=rng.uniform(0.02, 0.09 * wide),
            bare=rng.random() < (0.5 if strange else 0.25),
            light=rng.uniform(0.45, 1.2) if strange else rng.uniform(0.6, 1.1),
            tint=1 + 0.05 * wide * rng.standard_normal(3),
            haze=rng.uniform(0.0, 0.008 * wide),
            sun=rng.random() < 0.5,
            tiles=rng.uniform(0.5, 1.2),
            windows=rng.uniform(2.0, 3.6) * (rng.choice([0.75, 1.3]) if strange else 1),
            bonnet=rng.uniform(3, 9) if rng.random() < 0.4 else 0.0,
            blur=rng.uniform(0.25, 0.6 * wide),
            noise=rng.uniform(0.008, 0.02 * wide),
        )


class Canvas:
    """Colours, labels and distances of the points, painted from far to near."""

    def __init__(self, rng: np.random.Generator, style: Style) -> None:
        self.rng, self.style = rng, style
        self.x0, self.y0 = WIDTH * rng.uniform(0.3, 0.7), HEIGHT * rng.uniform(0.4, 0.52)
        self.road, self.kerb = rng.uniform(2.8, 5.0), rng.uniform(5.5, 10.0)
        """Half widths of the road, and from its middle to the houses."""
        self.middle = rng.uniform(-1.5, 1.5)
        """Where the middle of the road lies, beside the camera."""
        self.y, self.x = np.mgrid[:HEIGHT, :WIDTH] + 0.5
        self.colour = np.zeros((HEIGHT, WIDTH, 3))
        self.label = np.full((HEIGHT, WIDTH), int(Label.SKY), np.uint8)
        self.far = np.full((HEIGHT, WIDTH), 400.0)
        self._noise = clouds(rng, (256, 256), 1.0)

    def noise(self, a: Array, b: Array, size: float) -> Array:
        """Noise that depends on two lengths, with details of ``size``."""
        rows, columns = (np.floor(np.clip(v / size, -1e6, 1e6)).astype(int) % 256 for v in (a, b))
        return self._noise[rows, columns]

    def paint(self, where: Array, label: Label, colour: Array, far: Array | float) -> None:
        """Cover the points ``where``; colours (3,) or (H, W, 3), or greys (H, W, 1)."""
        self.colour[where] = np.broadcast_to(colour, self.colour.shape)[where]
        self.label[where] = label
        self.far[where] = np.broadcast_to(far, self.far.shape)[where]

    def box(self, side: float, far: float) -> tuple[Array, Array, float]:
        """Lengths to the right of and above the place on the ground, and points a metre, for what stands there upright."""
        scale = LENS / far
        return (
            (self.x - self.x0) / scale - (side + self.middle),
            EYE - (self.y - self.y0) / scale,
            scale,
        )

    def sky(self) -> None:
        style = self.style
        fade = np.clip((self.y0 - self.y) / self.y0, 0, 1)[..., None]
        shade = style.sky * (0.9 + 0.1 * (1 - fade)) + (1 - fade) * 0.08
        shade = shade + style.cloud * clouds(self.rng, (HEIGHT, WIDTH), 1.6)[..., None]
        self.paint(np.ones((HEIGHT, WIDTH), bool), Label.SKY, shade, 400.0)

    def ground(self) -> None:
        style, rng = self.style, self.rng
        below = self.y > self.y0 + 0.5
        far = LENS * EYE / np.maximum(self.y - self.y0, 0.4)
        side = (self.x - self.x0) * far / LENS - self.middle
        shade = style.pavement + 0.05 * self.noise(side, far, 0.08)[..., None]
        seams = np.maximum(bars(side, style.tiles, 0.1), bars(far, style.tiles * 1.3, 0.1))
        shade = shade * (1 - 0.16 * seams * (far < 18))[..., None]
        self.paint(below, Label.PAVEMENT, shade, far)
        asphalt = style.road + 0.045 * self.noise(side, far, 0.05)[..., None]
        asphalt = asphalt + 0.03 * self.noise(side * 4, far * 0.5, 0.4)[..., None]  # tracks of tyres
        stripe = (np.abs(side) < 0.09) * bars(far + rng.uniform(0, 6), 6, 0.5)
        if rng.random() < 0.4:
            stripe = np.maximum(stripe, np.abs(np.abs(side) - self.road + 0.35) < 0.07)
        asphalt = asphalt + 0.4 * stripe[..., None]
        self.paint(below & (np.abs(side) < self.road), Label.ROAD, asphalt, far)
        kerb = below & (np.abs(np.abs(side) - self.road - 0.12) < 0.12)
        self.colour[kerb] += 0.1
        if style.sun:  # the shadow of one row of houses
            edge = rng.uniform(-0.8, 0.8) * self.kerb + 0.5 * self.noise(far, far * 0, 0.5)
            shadow = below & ((side > edge) if rng.random() < 0.5 else (side < edge))
            self.colour[shadow] *= 0.55

    def row(self, right: bool) -> None:
        """The houses on one side, with fences, hedges and trees between them."""
        style, rng, sign = self.style, self.rng, 1 if right else -1
        lateral = sign * (self.x - self.x0) / LENS
        offset = self.kerb + sign * self.middle
        far = np.where(lateral > 1e-3, offset / np.maximum(lateral, 1e-3), 1e4)
        up = EYE - (self.y - self.y0) * far / LENS
        ends = np.cumsum(rng.uniform(5, 14, 40))
        house = np.searchsorted(ends, np.minimum(far, END))
        begin = np.concatenate([[0], ends])
        within = (far - begin[house]) / (begin[house + 1] - begin[house])
        standing = (far < END) & (up > 0)
        open_plot = rng.random(41) < 0.28
        height = rng.uniform(4.5, 13, 41)
        gable = rng.uniform(0, 3, 41) * (rng.random(41) < 0.5)
        top = height[house] + gable[house] * (1 - np.abs(2 * within - 1))
        wall = style.walls[rng.integers(3, size=41)][house] + 0.05 * rng.standard_normal((41, 3))[house]
        wall = wall + 0.05 * self.noise(far, up, 0.15)[..., None]
        rows = rng.uniform(2.4, 3.2, 41)[house]
        panes = bars(far, style.windows, 0.45) * bars(up + 2, rows, 0.5) * (up < height[house] - 0.4)
        glass = np.where(rng.random(41) < 0.7, 0.16, 0.7)[house][..., None]
        wall = (
            wall * (1 - panes[..., None])
            + (glass + 0.1 * self.noise(far, up, 0.6)[..., None]) * panes[..., None]
        )
        roof = (up > height[house])[..., None]
        wall = np.where(roof, [0.34, 0.24, 0.22] + 0.06 * self.noise(far, up, 0.1)[..., None], wall)
        shops = (up < 2.9) & (rng.random(41) < 0.3)[house]
        wall = np.where(shops[..., None], wall * 0.6 + 0.25 * rng.random((41, 3))[house], wall)
        self.paint(
            standing & ~open_plot[house] & (up < top), Label.BUILDING, wall * (0.85 if right else 1.0), far
        )
        # what shows where there is no house
        ragged = rng.uniform(2.5, 8, 41)[house] + 0.8 * self.noise(far, far * 0, 0.4)
        green = (
            standing & open_plot[house] & (up < ragged) & (self.noise(far, up, 0.3) < 1.2 - 0.9 * style.bare)
        )
        self.paint(
            green, Label.TREE, style.leaf * (1 + 0.35 * self.noise(far * 1.7, up, 0.12)[..., None]), far
        )
        low = (
            standing & (open_plot | (rng.random(41) < 0.15))[house] & (up < rng.uniform(0.9, 2.0, 41)[house])
        )
        kind = (rng.random(41) < 0.6)[house]
        pickets = bars(far, rng.uniform(0.25, 0.8), 0.5)[..., None]
        fence = np.where(
            kind[..., None], 0.2 + 0.3 * pickets, style.walls[0] * (0.7 + 0.2 * bars(up, 0.3, 0.8)[..., None])
        )
        self.paint(low, Label.FENCE, fence + 0.04 * self.noise(far, up, 0.1)[..., None], far)

    def backdrop(self) -> None:
        """What closes the street, far away."""
        outline = self.y0 - 2.5 - 2.0 * smooth(self.rng, (WIDTH,), 3) - self.rng.uniform(0, 5)
        inside = (self.y > outline) & (self.y <= self.y0 + 0.8)
        tree = self.rng.random() < 0.5
        colour = self.style.leaf if tree else self.style.walls[0]
        shade = colour * (1 + 0.2 * smooth(self.rng, (HEIGHT, WIDTH), 0.8)[..., None])
        self.paint(inside, Label.TREE if tree else Label.BUILDING, shade, END)
