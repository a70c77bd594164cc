"""The density half of the demo: the RIDE that ships, beside an MCGSM, on photographs that come with scikit-image."""

from __future__ import annotations

import io
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import log

import numpy as np
import torch
from torch import Tensor

from ...density import MCGSM, RIDE, CausalNeighborhood, Modern, Whitening, dequantize, texture
from ...saving import models, shipped
from ..report import Report

try:
    from matplotlib.figure import Figure
    from PIL import Image
    from skimage import data as samples
except ModuleNotFoundError as error:
    raise ImportError(
        "photographs need Pillow, scikit-image and matplotlib: pip install 'ndrnn[train,vision]'"
    ) from error

TRAINING = ("camera", "moon", "coins", "chelsea", "brick", "gravel")
HELD_OUT = ("astronaut", "coffee", "grass")
MODEL = "photographs-grey"
"""The shipped model, which has learned from other photographs."""
_WIDTH = 8.6


@dataclass(frozen=True)
class Effort:
    """How much of it; the defaults take less than a minute on two cores."""

    texture_steps: int = 700
    """Of the training of a RIDE on one texture."""
    side: int = 224
    """Of the middle pieces of the held-out photographs that are judged."""
    mcgsm_pixels: int = 60_000
    mcgsm_iterations: int = 60
    tune_pixels: int = 40_000
    """On which L-BFGS fine-tunes the MCGSM at the end."""
    texture_side: int = 160
    hole: int = 22
    """Side of the square that is cut out and filled."""
    sweeps: int = 15
    """Of Metropolis-Hastings over the hole."""
    seed: int = 0


def photographs(report: Report, effort: Effort | None = None, *, progress: bool = True) -> dict[str, str]:
    """Print and report what both models make of photographs that they have not seen.

    Args:
        report: gets a section on rates, one on a synthesised texture, one on a filled hole.
        progress: whether to show how far the training on a texture is.

    Returns:
        What was printed: the name of each figure and the figure.
    """
    effort = effort or Effort()
    generator = torch.Generator().manual_seed(effort.seed)
    training, held_out = ([_grey(name) for name in names] for names in (TRAINING, HELD_OUT))
    pieces = [_middle(image, effort.side) for image in held_out]
    began = time.monotonic()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(effort.seed)
        mcgsm = _fit_mcgsm(training, effort, generator)
        seconds = time.monotonic() - began
        ride = models.load(MODEL)
        assert isinstance(ride, RIDE)
        rows = _rates(pieces, mcgsm, ride.requires_grad_(False))
        _report_rates(report, rows, pieces[0], ride, seconds)
        _report_texture(report, held_out[-1], effort, generator, progress)
        rows |= _report_hole(report, held_out[0], ride, effort, generator)
    for name, value in rows.items():
        print(f"  {name:<30}{value}")
    return rows


class _Baseline:
    """An MCGSM on the neighbourhoods that the RIDE reads too."""

    def __init__(self, neighborhood: CausalNeighborhood, whitening: Whitening, mcgsm: MCGSM) -> None:
        self.neighborhood, self.whitening, self.mcgsm = neighborhood, whitening, mcgsm

    @torch.no_grad()
    def log_prob_discrete(self, images: Tensor) -> Tensor:
        """As :meth:`RIDE.log_prob_discrete`."""
        inputs, middle = self.neighborhood.extract((images.float() + 0.5) / 256)
        values = self.neighborhood.targets(images.float().unsqueeze(-1)).reshape(-1, 1)
        x, low = self.whitening(inputs, middle - 0.5 / 256)
        _, high = self.whitening(inputs, middle + 0.5 / 256)
        low, high = low.masked_fill(values == 0, -torch.inf), high.masked_fill(values == 255, torch.inf)
        return self.mcgsm(x).log_prob_interval(low, high)


def _grey(name: str) -> Tensor:
    """A sample photograph as uint8 (H, W)."""
    picture = Image.fromarray(getattr(samples, name)())
    return torch.from_numpy(np.array(picture.convert("L")))


def _middle(image: Tensor, side: int) -> Tensor:
    top, left = (max(0, (size - side) // 2) for size in image.shape)
    return image[top : top + side, left : left + side].contiguous()


def _fit_mcgsm(training: Sequence[Tensor], effort: Effort, generator: torch.Generator) -> _Baseline:
    neighborhood = CausalNeighborhood.window(5)
    inputs, outputs = [], []
    for image in training:
        noisy = dequantize(image, generator=generator).unsqueeze(0)
        x, y = neighborhood.sample(noisy, effort.mcgsm_pixels // len(training), generator=generator)
        inputs.append(x)
        outputs.append(y)
    x, y = torch.cat(inputs), torch.cat(outputs)
    whitening = Whitening(neighborhood.size).fit(x, y)
    mcgsm = MCGSM(neighborhood.size, num_components=32, num_scales=4, num_features=32)
    mcgsm.fit(*whitening(x, y), initialize=True, max_iter=effort.mcgsm_iterations, progress=False)
    return _Baseline(neighborhood, whitening, mcgsm)


def _fit_texture(image: Tensor, effort: Effort, progress: bool) -> RIDE:
    ride = RIDE()
    schedule = Modern(
        steps=effort.texture_steps,
        batch_size=16,
        crop=36,
        learning_rate=8e-3,
        averaging=0.99,
        tune_iterations=20,
        tune_pixels=effort.tune_pixels,
        validate_every=None,
    )
    ride.fit([image], levels=256, schedule=schedule, seed=effort.seed, progress=progress)
    return ride.eval().requires_grad_(False)


def _rates(held_out: Sequence[Tensor], mcgsm: _Baseline, ride: RIDE) -> dict[str, str]:
    """Bits per pixel of all pixels of the held-out photographs, those at the border at 8 bits each."""
    pixels = sum(image.numel() for image in held_out)
    totals = {"PNG": 0.0, "WebP": 0.0, "MCGSM": 0.0, "RIDE": 0.0}
    for image in held_out:
        totals["PNG"] += 8 * _size(image, "PNG", optimize=True)
        totals["WebP"] += 8 * _size(image, "WEBP", lossless=True, quality=100, method=6)
        for name, model in (("MCGSM", mcgsm), ("RIDE", ride)):
            value = model.log_prob_discrete(image.unsqueeze(0))
            border = image.numel() - value.numel()
            totals[name] += 8 * border - float(value.double().sum()) / log(2.0)
    return {f"{name}, bits a pixel": f"{bits / pixels:.3f}" for name, bits in totals.items()}


def _size(image: Tensor, kind: str, **options: bool | int) -> int:
    """Bytes of a grey picture in a file."""
    buffer = io.BytesIO()
    Image.fromarray(image.numpy()).save(buffer, kind, **options)
    return buffer.tell()


def _report_rates(
    report: Report,
    rows: Mapping[str, str],
    image: Tensor,
    ride: RIDE,
    seconds: float,
) -> None:
    surprise = -ride.log_prob_discrete(image.unsqueeze(0))[0] / log(2.0)
    card = shipped.card(MODEL)
    section = report.section("How much a photograph surprises it").numbers(
        {name.removesuffix(", bits a pixel"): value for name, value in rows.items()}
    )
    side = image.shape[0]
    section.text(
        "A model of images gives every grey value of a pixel a probability, from the pixels above and to its left. The "
        "MCGSM looks at 12 neighbours; RIDE carries along, in recurrent units, what it has seen so far. The better the "
        "model, the fewer bits a pixel costs: the numbers are bits a pixel that storing three grey photographs "
        f"takes, of each the middle {side} x {side} pixels ({', '.join(HELD_OUT)}). Neither model has seen them. The "
        f"MCGSM learned from six others ({', '.join(TRAINING)}) in {seconds:.0f} seconds just now. The RIDE is the model "
        f"{MODEL} that comes with the package: {card['weights']:,} weights that have learned, once and for all, from "
        f"{card['data']}.",
        "The models' figures are ideal code lengths, -log2 of the probability of the 8-bit values; an arithmetic coder "
        "comes within a fraction of a percent. PNG and WebP (lossless) are sizes of whole files. All four count all "
        "pixels: the rows and columns at the border, which the models do not predict, are counted at 8 bits each.",
    ).figure(
        _in_a_row(
            {
                "a photograph it has not seen": (image.numpy(), "gray", 0, 255),
                f"surprise, {float(surprise.mean()):.2f} bits a pixel": (surprise.numpy(), "magma", 0, 10),
            }
        ),
        "Left a held-out photograph, right how many bits each of its pixels costs: dark 0, bright 10 or more. Smooth "
        "regions are cheap; edges that nothing announced are dear.",
    )


def _report_texture(
    report: Report, image: Tensor, effort: Effort, generator: torch.Generator, progress: bool
) -> None:
    ride = _fit_texture(image, effort, progress)
    began = time.monotonic()
    side = effort.texture_side
    drawn = texture(ride, dequantize(image, generator=generator), side, side, generator=generator)
    seconds = time.monotonic() - began
    report.section("What it imagines").text(
        f"A RIDE of its own has learned one picture, {HELD_OUT[-1]}, and then drew this, pixel after pixel, each from "
        f"its probability given those before. Pixels that do not depend on each other are drawn together, so that "
        f"{side} x {side} of them took {seconds:.1f} seconds.",
    ).figure(
        _in_a_row(
            {
                "a piece of the original": (image[:side, :side].numpy(), "gray", 0, 255),
                "drawn by the model": (256 * drawn[0, ..., 0].numpy(), "gray", 0, 255),
            }
        ),
        "A texture and a sample of the model that learned it.",
    )


def _report_hole(
    report: Report, image: Tensor, ride: RIDE, effort: Effort, generator: torch.Generator
) -> dict[str, str]:
    side, around = effort.hole, 40
    piece = _middle(image, side + 2 * around)
    mask = torch.zeros(piece.shape, dtype=torch.bool)
    mask[around : around + side, around : around + side] = True
    noisy = dequantize(piece, generator=generator).unsqueeze(0)
    filled = ride.inpaint(noisy, mask, epochs=effort.sweeps, generator=generator)
    acceptance = float(filled.acceptance.mean()) if filled.acceptance is not None else 0.0
    report.section("What it puts into a hole").text(
        f"A square of {side} x {side} pixels was cut out of the photograph above. The model fills it so that the whole "
        f"becomes probable: small blocks are drawn anew again and again and kept or not by the rule of Metropolis and "
        f"Hastings, which took {100 * acceptance:.0f} % of {effort.sweeps} sweeps' proposals.",
    ).figure(
        _in_a_row(
            {
                "cut out": (piece.masked_fill(mask, 255).numpy(), "gray", 0, 255),
                "filled": (256 * filled.best[0, ..., 0].numpy(), "gray", 0, 255),
                "as it was": (piece.numpy(), "gray", 0, 255),
            }
        ),
        "A hole, what the model puts into it, and what was there.",
    )
    return {"proposals taken in a hole": f"{100 * acceptance:.0f} %"}


def _in_a_row(pictures: Mapping[str, tuple[np.ndarray, str, float, float]]) -> Figure:
    """Pictures (values, colours, lowest, highest) side by side under their titles."""
    shapes = [values.shape for values, *_ in pictures.values()]
    widths = [columns / rows for rows, columns in shapes]
    figure = Figure(figsize=(_WIDTH, _WIDTH / sum(widths) + 0.35), layout="constrained")
    grid = figure.subplots(1, len(pictures), squeeze=False, width_ratios=widths)
    for axes, (title, (values, colours, low, high)) in zip(grid[0], pictures.items(), strict=True):
        axes.imshow(values, cmap=colours, vmin=low, vmax=high, interpolation="nearest")
        axes.set_title(title, fontsize=10, color="#1d2430")
        axes.set_axis_off()
    return figure
