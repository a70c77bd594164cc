"""Whether a RIDE holds on large images: ``python -m benchmarks.extent MODEL... --picture FILE``.

The middle of a photograph, mirrored to both sides again and again, fills a large image whose every period shows the same
pixels. So what a period costs, by its distance from the corner at which the scan starts, depends on the place alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from math import log
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

import ndrnn
from ndrnn.density import RIDE, dequantize

from . import machine
from .table import Table, publish


@dataclass(frozen=True)
class Options:
    """What is measured, on what, and where the results go."""

    models: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Shipped models or files of weights, of grey images."""
    picture: Path
    size: tuple[int, int] = (3000, 4000)
    """Rows and columns."""
    period: int = 1000
    """Rows and columns after which the image repeats; both sizes are multiples of it."""
    seed: int = 0
    json: Path | None = None


def mosaic(picture: Path, size: tuple[int, int], period: int) -> Tensor:
    """Integers (H, W) of one channel."""
    half = period // 2
    with Image.open(picture) as image:
        grey = np.array(image.convert("L"))
    if min(grey.shape) < half or any(extent % period for extent in size):
        raise ValueError(
            f"{picture}: must be at least {half} x {half} and size a multiple of {period}, got {grey.shape}, {size}"
        )
    top, left = ((extent - half) // 2 for extent in grey.shape)
    piece = grey[top : top + half, left : left + half]
    row = np.concatenate([piece, piece[:, ::-1]], 1)
    whole = np.concatenate([row, row[::-1]], 0)
    return torch.from_numpy(np.tile(whole, (size[0] // period, size[1] // period)))


@torch.no_grad()
def bits_by_place(model: RIDE, image: Tensor, period: int, seed: int) -> tuple[list[float], float, int]:
    """Bits a pixel of the periods whose farther side is 1, 2, … periods from the corner; of the last ten rows less those
    of the same rows of the first period; and how many pixels are not finite."""
    noisy = dequantize(image, generator=torch.Generator().manual_seed(seed))
    values = -model.log_prob(noisy.unsqueeze(0))[0].double() / log(2) + 8
    above, _, left, _ = model.neighborhood.margins
    rows, columns = (torch.arange(extent) for extent in values.shape)
    ring = torch.maximum(((rows + above) // period)[:, None], ((columns + left) // period)[None])
    rings = [float(values[ring == number].mean()) for number in range(int(ring.max()) + 1)]
    first = values[period - above - 10 : period - above].mean()
    last = values[-10:].mean()
    return rings, float(last - first), int((~values.isfinite()).sum())


def tables(options: Options) -> Iterator[Table]:
    image = mosaic(options.picture, options.size, options.period)
    count = max(options.size) // options.period
    bands = {
        f"{number * options.period} to {(number + 1) * options.period}": ".4f" for number in range(count)
    }
    result = Table(
        f"Bits a pixel by distance from the corner, {options.size[1]} x {options.size[0]} pixels",
        {"model": "", "cell": "", **bands, "last ten rows, more": "+.4f", "not finite": ".0f"},
    )
    for name in options.models:
        model = ndrnn.load(name).eval()
        if not isinstance(model, RIDE) or model.ndim != 2 or model.channels != 1:
            raise ValueError(f"{name}: must be a RIDE of grey images")
        rings, more, bad = bits_by_place(model, image, options.period, options.seed)
        result.add(Path(name).stem, model.cell, *rings, more, bad)
    yield result


def main(options: Options) -> None:
    found = list(tables(options))
    publish(machine.describe(), found, options.json)


if __name__ == "__main__":
    main(tyro.cli(Options))
