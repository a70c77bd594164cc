"""What a density makes of a picture: bits where they are spent, a hole filled; and pictures that it draws."""

from __future__ import annotations

from collections.abc import Mapping
from math import log2
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data.faults import BadFile
from ...data.formats import images
from ...data.formats.channels import to_channels
from ...density.ride.model import RideModel
from ...density.use.growth import AT_LIMIT, Growth
from ...nn.tiled import tiles
from ...tasks.density import NOT_FINITE
from ..density_model import around, as_continuous, as_values, kept, overflow_of
from .pictures import Picture, eight_bits
from .served import Served
from .work import Job, View

TILE, OVERLAP = 512, 64
"""Larger pictures than TILE x TILE are looked at in tiles, each with OVERLAP pixels around it that count for another."""
HOLE = 160
"""Pixels that a hole, with all its parts, may be high and wide."""
AROUND = 64
"""Pixels around a hole that the filling sees."""
SIDE = 512
"""Pixels that a drawn picture may be high and wide."""
SWEEPS = 1000
"""Sweeps over a hole that may be asked for at a time."""
_AT_ONCE = 2  # sweeps between two looks at the filling


def surprise(served: Served, picture: Picture, wanted: Mapping[str, Any], job: Job) -> View:
    """The bits that each pixel costs, all channels together; NaN where it lacks its neighbourhood."""
    values = served.loader.read(picture.file).values
    features = served.loader.features(values, picture.file)
    known = as_continuous(features, served.task.levels, torch.Generator().manual_seed(0))
    lattice = tuple(known.shape[:-1])
    bits = np.full(lattice, np.nan, np.float32)
    done, model = 0, _Bits(served.model, served.task.levels)
    with torch.no_grad(), Growth(served.model) as growth:
        for place, found in tiles(
            model, lattice, lambda part: known[part].unsqueeze(0).to(served.device), TILE**2, overlap=OVERLAP
        ):
            bits[place] = found[0, ..., 0].cpu().numpy()
            done += found.numel()
            job.report(done / bits.size, f"{done:,} of {bits.size:,} pixels")
    looked = _predicted(served.model, lattice)
    if not np.isfinite(bits[looked]).all():
        raise BadFile(picture.name, NOT_FINITE)
    spent = bits[looked].astype(np.float64)
    told = {
        "bits_per_pixel": float(spent.mean()) / served.task.facts.channels,
        "channels": served.task.facts.channels,
        "bits": float(spent.sum()),
        "range": np.percentile(spent, [1, 99]).tolist(),
        "remark": AT_LIMIT if growth.reached else "",
    }
    return View(told, {"bits": bits})


def fill(served: Served, picture: Picture, wanted: Mapping[str, Any], job: Job) -> View:
    """A hole filled by Metropolis-Hastings, shown as it goes on; only what is near the hole is looked at."""
    mask = hole_of(wanted.get("hole"), picture.height, picture.width)
    sweeps, seed = _whole(wanted, "sweeps", 50, 1, SWEEPS), _whole(wanted, "seed", 0, 0, 2**31)
    window = _around(mask)
    values, data, _ = served.loader.read(picture.file)
    # a grey model sees a picture in colour as a grey one, and so does who looks at the page
    pixels = to_channels(images.decode(data, picture.name), served.task.facts.channels)
    generator = torch.Generator().manual_seed(seed)
    span = served.loader.span(values, picture.file)
    features = served.loader.features(values, picture.file, span)[window].unsqueeze(0)
    known = as_continuous(features, served.task.levels, generator).to(served.device)
    hidden = torch.from_numpy(mask[window]).to(served.device)
    corner = [window[0].start, window[1].start]
    start: Tensor | None = None
    done = 0

    def shown(found: Any) -> View:
        filled = as_values(found.best[0], served.task.levels, served.loader.intensities, pixels.dtype, span)
        patch = eight_bits(kept(filled, pixels[window], mask[window]), picture.span)
        told = {"corner": corner, "sweeps": done, "pixels": int(mask.sum())}
        return View(told, {"patch": patch, "hole": mask[window].astype(np.uint8)})

    job.report(0.0, "drawing a first filling")
    with overflow_of(picture.name):
        while True:
            step = min(_AT_ONCE, sweeps - done) if start is not None else 0
            found = served.model.inpaint(known, hidden, epochs=step, start=start, generator=generator)
            start, done = found.images, done + step
            view = shown(found)
            if done >= sweeps:
                return view
            job.report(done / sweeps, f"sweep {done} of {sweeps}", view)


def draw(served: Served, wanted: Mapping[str, Any], job: Job) -> View:
    """A picture that the density draws by itself."""
    height, width = _whole(wanted, "height", 128, 8, SIDE), _whole(wanted, "width", 128, 8, SIDE)
    seed = _whole(wanted, "seed", 0, 0, 2**31)
    with torch.no_grad(), overflow_of(served.name):
        drawn = served.model.sample(1, height, width, generator=torch.Generator().manual_seed(seed))
        pixels = as_values(drawn[0], served.task.levels, served.loader.intensities, np.uint8)
    return View({"seed": seed}, {"picture": eight_bits(pixels)})


def hole_of(runs: Any, height: int, width: int) -> np.ndarray:
    """The mask (height, width) that is True in runs of pixels: first pixel, length, first pixel, length, ..., row by row.

    Raises:
        ValueError: the runs are no such list, leave the picture, or there are none.
    """
    if not isinstance(runs, list) or not all(type(run) is int for run in runs) or len(runs) % 2:
        raise ValueError("hole must be a list of whole numbers, first pixel and length in turn")
    if not runs:
        raise ValueError("there is no hole: paint over what is to be filled")
    mask = np.zeros(height * width, bool)
    for begin, length in zip(runs[::2], runs[1::2], strict=True):
        if begin < 0 or length < 1 or begin + length > mask.size:
            raise ValueError(
                f"hole must lie within {height} x {width} pixels, got {length} from number {begin} on"
            )
        mask[begin : begin + length] = True
    return mask.reshape(height, width)


def _around(mask: np.ndarray) -> tuple[slice, ...]:
    """The part of the picture around a hole that its filling sees."""
    sides = [part.stop - part.start for part in around(mask, 0)]
    if max(sides) > HOLE:
        raise ValueError(
            f"a hole may be {HOLE} x {HOLE} pixels large, all its parts together, got {sides[0]} x {sides[1]}"
        )
    return around(mask, AROUND)


def _whole(wanted: Mapping[str, Any], name: str, default: int, least: int, most: int) -> int:
    value = wanted.get(name, default)
    if type(value) is not int or not least <= value <= most:
        raise ValueError(f"{name} must be a whole number from {least} to {most}, got {value!r}")
    return value


def _predicted(ride: RideModel, lattice: tuple[int, ...]) -> np.ndarray:
    """Which pixels (H, W) have a whole neighbourhood."""
    mask = torch.zeros(1, *lattice, dtype=torch.bool)
    ride.predicted(mask).fill_(True)
    return mask[0].numpy()


class _Bits(nn.Module):
    """-log2 of the probability of each pixel (N, H, W, 1), NaN where it lacks its neighbourhood."""

    def __init__(self, ride: RideModel, levels: int) -> None:
        super().__init__()
        self.ndim, self.ride = ride.ndim, ride
        # from a density of values in [0, 1) to that of levels
        self.offset = ride.channels * log2(levels) if levels else 0.0

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        bits = x.new_full(x.shape[:-1], torch.nan)
        self.ride.predicted(bits).copy_(self.ride.surprise(x) + self.offset)
        return bits.unsqueeze(-1)
