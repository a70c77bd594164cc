"""What stands in a street: trees, poles, signs, cars, people. Each paints itself on a canvas, at its place."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .files import Array
from .scene import HEIGHT, WIDTH, Canvas, Label
from .textures import bars, leaves, smooth


def _body(canvas: Canvas, shade: float = 0.12) -> Array:
    """Fine noise that makes a plain colour uneven."""
    return 1 + shade * smooth(canvas.rng, (HEIGHT, WIDTH), 0.7)[..., None]


def tree(canvas: Canvas, side: float, far: float) -> None:
    """A crown of several balls on a trunk; a bare one is full of holes, through which the sky is seen."""
    rng, style = canvas.rng, canvas.style
    u, v, scale = canvas.box(side, far)
    tall, crown = rng.uniform(4, 9), rng.uniform(1.2, 2.8)
    trunk = (np.abs(u + 0.05 * np.sin(v * 2)) < max(0.14, 0.5 / scale)) & (v > 0) & (v < tall * 0.8)
    bark = np.array([0.22, 0.18, 0.14]) * (1 + 0.3 * smooth(rng, (HEIGHT, WIDTH), (2, 0.6))[..., None])
    canvas.paint(trunk, Label.TREE, bark, far)
    ball = np.zeros((HEIGHT, WIDTH), bool)
    for _ in range(6):
        a, b = rng.normal(0, crown * 0.5), tall - crown + rng.normal(0, crown * 0.5)
        ball |= (u - a) ** 2 + (v - b) ** 2 < (crown * rng.uniform(0.5, 0.9)) ** 2
    holes = smooth(rng, (HEIGHT, WIDTH), 0.8 if style.bare else 1.5)
    ball &= holes < (0.0 if style.bare else 1.3)
    colour = np.array([0.24, 0.2, 0.17]) if style.bare else style.leaf
    foliage = colour * (1 + 0.4 * leaves(rng, HEIGHT, WIDTH, 0.8, 6)[..., None])
    canvas.paint(ball, Label.TREE, foliage, far)
    # where crown and sky mix nobody tells them apart
    mixed = ball & (rng.random((HEIGHT, WIDTH)) < (0.12 if style.bare else 0.02))
    canvas.label[mixed] = Label.IGNORED


def pole(canvas: Canvas, side: float, far: float, sign: bool | None = None) -> None:
    """A lamp post, or a shorter one with a sign."""
    rng = canvas.rng
    u, v, scale = canvas.box(side, far)
    sign = rng.random() < 0.55 if sign is None else sign
    tall = rng.uniform(2.2, 3.2) if sign else rng.uniform(5, 8)
    grey = rng.uniform(0.12, 0.55)
    shaft = (np.abs(u) < max(0.07, 0.6 / scale)) & (v > 0) & (v < tall)
    if not sign and rng.random() < 0.6:
        shaft |= (np.abs(v - tall) < max(0.06, 0.5 / scale)) & (u * np.sign(-side) > 0) & (np.abs(u) < 1.5)
    canvas.paint(shaft, Label.POLE, grey * _body(canvas), far)
    if not sign:
        return
    size = rng.uniform(0.3, 0.55)
    w, h = u, v - tall
    shape = int(rng.integers(4))
    if shape == 0:
        plate, rim = np.hypot(w, h) < size, np.hypot(w, h) > 0.7 * size
    elif shape == 1:
        plate = (h > -size) & (np.abs(w) < (size - h) * 0.55)
        rim = (h < -0.7 * size) | (np.abs(w) > (size - h) * 0.35)
    else:
        wide = size * (1 if shape == 2 else 1.8)
        plate = (np.abs(w) < wide) & (np.abs(h) < size)
        rim = (np.abs(w) > 0.75 * wide) | (np.abs(h) > 0.75 * size)
    paints = np.array(
        [
            [0.8, 0.1, 0.1],
            [0.1, 0.2, 0.7],
            [0.9, 0.8, 0.1],
            [0.1, 0.45, 0.2],
            [0.9, 0.9, 0.9],
            [0.2, 0.2, 0.2],
        ]
    )
    first, second = paints[rng.choice(6, 2, replace=False)]
    canvas.paint(plate, Label.SIGN, np.where(rim[..., None], first, second) * _body(canvas), far)


def car(canvas: Canvas, side: float, far: float) -> None:
    """From behind or in front, or from the side where one comes out of a crossing."""
    rng = canvas.rng
    u, v, _ = canvas.box(side, far)
    across = rng.random() < 0.15
    half, tall = (rng.uniform(1.7, 2.3), rng.uniform(1.3, 1.6)) if across else (0.9, rng.uniform(1.35, 2.1))
    if rng.random() < 0.1:
        half, tall = half * 1.3, tall * 1.8  # vans and buses
    paint = rng.uniform(0.08, 0.9) + 0.22 * rng.standard_normal(3) * (rng.random() < 0.6)
    roof = half * (0.6 if across else 0.75)
    body = (np.abs(u) < half) & (v > 0.25) & (v < 0.6 * tall)
    cabin = (np.abs(u) < roof + (half - roof) * (tall - v) / (0.4 * tall)) & (v >= 0.6 * tall) & (v < tall)
    under = (np.abs(u) < half * 1.05) & (v > -0.1) & (v <= 0.25)
    canvas.colour[under] *= 0.4  # the shadow is the road's
    wheels = np.zeros_like(body)
    for place in (-0.62, 0.62) if across else (-0.8, 0.8):
        flat = 1.0 if across else 2.2
        wheels |= ((u - place * half) * flat) ** 2 + (v - 0.3) ** 2 < 0.32**2
    canvas.paint(
        body | cabin,
        Label.CAR,
        np.clip(paint, 0.03, 1) * (0.75 + 0.3 * v / tall)[..., None] * _body(canvas, 0.06),
        far,
    )
    glass = cabin & (np.abs(u) < roof * 0.95) & (v < 0.93 * tall) & (v > 0.63 * tall)
    canvas.paint(glass, Label.CAR, 0.15 + 0.12 * smooth(rng, (HEIGHT, WIDTH), 2)[..., None], far)
    canvas.paint(wheels, Label.CAR, 0.08 * _body(canvas), far)
    lamps = body & (np.abs(np.abs(u) - 0.8 * half) < 0.13) & (np.abs(v - 0.45 * tall) < 0.12)
    canvas.paint(lamps, Label.CAR, rng.choice(np.array([[0.7, 0.1, 0.08], [0.9, 0.9, 0.8]])), far)


def _person(canvas: Canvas, u: Array, v: Array, tall: float) -> tuple[Array, Array]:
    """Where somebody upright is, and in which colours."""
    rng = canvas.rng
    head = np.hypot(u, v - 0.93 * tall) < 0.13
    torso = (np.abs(u) < 0.24 - 0.05 * np.abs(v / tall - 0.65)) & (v > 0.45 * tall) & (v < 0.86 * tall)
    gait = rng.uniform(0.02, 0.2)
    legs = (np.abs(np.abs(u) - gait * (1 - 2 * v / tall)) < 0.1) & (v > 0) & (v <= 0.45 * tall)
    skin, coat, trousers = [0.65, 0.5, 0.42], rng.uniform(0.05, 0.8, 3), rng.uniform(0.05, 0.45, 3)
    colour = np.where(head[..., None], skin, np.where(torso[..., None], coat, trousers))
    return head | torso | legs, colour * _body(canvas)


def pedestrian(canvas: Canvas, side: float, far: float) -> None:
    """Somebody on foot."""
    u, v, _ = canvas.box(side, far)
    where, colour = _person(canvas, u, v, canvas.rng.uniform(1.5, 1.9))
    canvas.paint(where, Label.PEDESTRIAN, colour, far)


def bicyclist(canvas: Canvas, side: float, far: float) -> None:
    """Somebody on a bicycle, from the side or nearly so."""
    rng = canvas.rng
    u, v, scale = canvas.box(side, far)
    u = u / rng.uniform(0.35, 1.0)  # turned away
    thick = max(0.05, 0.7 / scale)
    rings = np.zeros_like(u, bool)
    for place in (-0.52, 0.52):
        rings |= np.abs(np.hypot(u - place, v - 0.34) - 0.3) < thick
    frame = (np.abs(v - 0.34 - 0.7 * (u + 0.52)) < thick) & (np.abs(u) < 0.55) & (v < 1.0)
    canvas.paint(rings | frame, Label.BICYCLIST, rng.uniform(0.05, 0.5, 3) * _body(canvas), far)
    where, colour = _person(canvas, u * 0.9 + 0.1 * (v - 1), v - 0.35, 1.45)
    canvas.paint(where & (v > 0.6), Label.BICYCLIST, colour, far)


def oddity(canvas: Canvas, side: float, far: float) -> None:
    """A bin, a stall or a heap, which has no class."""
    rng = canvas.rng
    u, v, _ = canvas.box(side, far)
    wide, tall = rng.uniform(0.3, 0.9), rng.uniform(0.6, 1.4)
    shade = rng.uniform(0.1, 0.7, 3) * (0.8 + 0.3 * bars(v + u * rng.normal(), 0.25, 0.5)[..., None])
    canvas.paint((np.abs(u) < wide) & (v > 0) & (v < tall), Label.IGNORED, shade * _body(canvas), far)


THINGS: tuple[tuple[Callable[[Canvas, float, float], None], float, tuple[float, float]], ...] = (
    (tree, 2.0, (0.75, 1.1)),
    (pole, 3.5, (0.05, 0.6)),
    (car, 2.2, (-0.9, -0.05)),
    (pedestrian, 1.8, (0.1, 0.95)),
    (bicyclist, 0.8, (-0.35, 0.05)),
    (oddity, 0.5, (0.1, 0.9)),
)
"""How many a scene there are, and where: 0 is the kerb, 1 the houses, -1 the middle of the road."""
