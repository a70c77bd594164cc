"""Memories and gradients of trained layers: ``python -m benchmarks.trained_stability WEIGHTS... --picture FILE``.

Every scan layer of every model is given what it is given in use, real images of growing size, and ``ndrnn.diagnose``
says what it does with them; once as it was trained, once with fresh weights. Networks of digits read test digits of
MNIST side by side; densities read a picture, WEIGHTS=PICTURE or camera.png of scikit-image, mirrored where it ends.
Extents are those of the layers' own lattices.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch
import tyro
from matplotlib import colormaps
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor, nn

import ndrnn
from ndrnn.data.formats import idx
from ndrnn.data.readers.place import locate
from ndrnn.density import RIDE
from ndrnn.inspect.diagnose import DirectionReport
from ndrnn.nn.layers import ScanLayer
from ndrnn.saving.atomic import replacing

from . import machine
from .table import Table, Value, publish


@dataclass(frozen=True)
class Options:
    """What is measured, on what, and where the results go."""

    weights: Annotated[tuple[str, ...], tyro.conf.Positional]
    """Trained models (.safetensors), a density's with =PICTURE if it shall read another than camera.png."""
    extents: tuple[int, ...] = (16, 64, 256, 1024)
    """Points an axis of a layer's lattice."""
    seed: int = 0
    json: Path | None = None
    picture: Path | None = None


@dataclass
class Curve:
    """A layer at growing extents."""

    name: str
    largest: list[float] = field(default_factory=list)
    reach: list[int] = field(default_factory=list)
    kept: list[float | None] = field(default_factory=list)
    """Mean sum of the forget gates."""
    most_kept: list[float | None] = field(default_factory=list)
    """Its largest value at a point."""

    def add(self, directions: Sequence[DirectionReport]) -> None:
        """The worst direction of each."""
        sums = [(d.forget_sum_mean, d.forget_sum_max) for d in directions if d.forget_sum_mean is not None]
        self.largest.append(max(d.largest_state for d in directions))
        self.reach.append(min(max(d.reach) for d in directions))
        self.kept.append(max((mean for mean, _ in sums), default=None))
        self.most_kept.append(max((most for _, most in sums if most is not None), default=None))


def images_for(model: nn.Module, extent: int, picture_of: str, seed: int) -> Tensor:
    """Real images (N, D, D, 1) on which a layer of the model has a lattice of so many points an axis."""
    count = max(1, min(8, (128 // extent) ** 2))
    if isinstance(model, RIDE):
        with Image.open(picture_of or locate("skimage_cc0") / "camera.png") as picture:
            values = np.array(picture.convert("L"))
        side = extent + 4  # a window of 5 leaves out two columns at each side and two rows
        while min(values.shape) < side:
            values = np.block([[values, values[:, ::-1]], [values[::-1], values[::-1, ::-1]]])
        rows, columns = (np.linspace(0, length - side, count).astype(int) for length in values.shape)
        cut = [
            values[row : row + side - 2, column : column + side]
            for row, column in zip(rows, columns, strict=True)
        ]
        generator = torch.Generator().manual_seed(seed)
        return ndrnn.density.dequantize(torch.from_numpy(np.stack(cut)), generator=generator).unsqueeze(-1)
    _, (digits, _) = idx.read_splits(locate("mnist"))
    side = 2 * extent  # blocks of 2 x 2
    across = -(-side // digits.shape[1])
    pick = torch.randint(len(digits), (count * across**2,), generator=torch.Generator().manual_seed(seed))
    mosaic = torch.from_numpy(digits)[pick].unflatten(0, (count, across, across)).transpose(2, 3)
    whole = mosaic.reshape(count, across * digits.shape[1], across * digits.shape[2])
    return whole[:, :side, :side, None].float() / 255


@torch.no_grad()
def inputs_of(model: nn.Module, images: Tensor) -> Iterator[tuple[str, ScanLayer, Tensor]]:
    """Every scan layer of a model with its input (N, d1, d2, C) as the model reads the images."""
    seen: dict[str, Tensor] = {}
    layers = {name: layer for name, layer in model.named_modules() if isinstance(layer, ScanLayer)}

    def keep(name: str) -> Any:
        return lambda layer, given: seen.update({name: given[0].detach()})

    hooks = [layer.register_forward_pre_hook(keep(name)) for name, layer in layers.items()]
    try:
        if isinstance(model, RIDE):
            model.hidden_and_outputs(images)
        else:
            model(images)
    finally:
        for hook in hooks:
            hook.remove()
    for name, layer in layers.items():
        yield name, layer, seen[name]


def not_finite(model: nn.Module, images: Tensor) -> list[float]:
    """Shares of the model's outputs, and of their gradients by the pixels, that are infinite or NaN."""
    x = images.clone().requires_grad_()
    y = model.log_prob(x) if isinstance(model, RIDE) else model(x)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    return [1 - float(values.isfinite().float().mean()) for values in (y, gradient)]


def measure(options: Options) -> tuple[list[Table], list[tuple[Curve, Curve]]]:
    """The tables, and of every layer the curves as trained and with fresh weights."""
    table = Table(
        "Trained layers on real images",
        {
            "layer": "",
            **{f"largest state, {extent}²": ".3g" for extent in options.extents},
            "sum of f, mean": ".3f",
            "at most": ".3f",
            **{f"reach, {extent}²": "d" for extent in options.extents},
        },
    )
    broken = Table(
        "Models, share of outputs / of gradients by the pixels that are infinite or NaN",
        {"model": "", **{f"{extent}²": ".0%" for extent in options.extents}},
    )
    curves: list[tuple[Curve, Curve]] = []
    for given in options.weights:
        weights, _, picture_of = given.partition("=")
        loaded: Any = ndrnn.load(weights)
        model: nn.Module = getattr(loaded, "model", loaded).eval().requires_grad_(False)
        task = Path(weights).stem if isinstance(model, RIDE) else "digits"
        found: dict[str, tuple[Curve, Curve]] = {}
        shares: list[Value] = []
        for extent in options.extents:
            images = images_for(model, extent, picture_of, options.seed)
            shares.append(not_finite(model, images))
            for name, layer, x in inputs_of(model, images):
                level = "" if name.endswith(".0") else f", layer {int(name.rpartition('.')[2]) + 1}"
                label = f"{type(layer).__name__}, {task}{level}"
                pair = found.setdefault(name, (Curve(label), Curve(f"{label}, fresh")))
                torch.manual_seed(options.seed)
                fresh = copy.deepcopy(layer)
                fresh.reset_parameters()
                for curve, one in zip(pair, (layer, fresh), strict=True):
                    curve.add(ndrnn.diagnose(one, x).directions)
                    print(
                        f"{curve.name}, {extent}²: state {curve.largest[-1]:.4g}, sum of f {curve.kept[-1]} "
                        f"at most {curve.most_kept[-1]}, reach {curve.reach[-1]}",
                        flush=True,
                    )
        curves += found.values()
        broken.add(Path(weights).stem, *shares)
    for pair in curves:
        for curve in pair:
            table.add(curve.name, *curve.largest, curve.kept[-1], curve.most_kept[-1], *curve.reach)
    table.notes.append(
        "Of several directions the largest state, the largest sum of the forget gates, and the shortest reach along "
        f"the better axis; the sums are of the lattice of {options.extents[-1]}² points."
    )
    return [table, broken], curves


def draw(extents: Sequence[int], curves: Sequence[tuple[Curve, Curve]]) -> Figure:
    """The largest states and the reaches against the extent, as trained and, dashed, with fresh weights."""
    figure = Figure(figsize=(9, 4.4), layout="constrained")
    left, right = figure.subplots(1, 2)
    overflow = torch.finfo(torch.float32).max
    left.axhline(overflow, color="0.7", linewidth=1)
    left.text(extents[0], overflow / 30, "float32 overflows", fontsize=7, color="0.4", va="top")
    colours = colormaps["tab20"].colors  # type: ignore[attr-defined]
    for number, pair in enumerate(curves):
        for curve, line, width in zip(pair, ("-", "--"), (1.5, 0.7), strict=True):
            look: dict[str, Any] = {
                "color": colours[(2 * number + number // 10) % 20],
                "linestyle": line,
                "linewidth": width,
                "marker": "o" if line == "-" else None,
                "markersize": 3,
            }
            states = [min(state, overflow) for state in curve.largest]
            left.plot(extents, states, label=curve.name if line == "-" else None, **look)
            right.plot(extents, [max(reach, 0.8) for reach in curve.reach], **look)
    for axes, label in ((left, "largest |c| (|h| without memory)"), (right, "reach of the gradient, points")):
        axes.set_xscale("log", base=2)
        axes.set(yscale="log", xlabel="points an axis", ylabel=label)
        axes.set_xticks(extents, [str(extent) for extent in extents])
    figure.legend(
        loc="outside lower center",
        ncols=3,
        fontsize=7,
        title="solid: trained, dashed: fresh",
        title_fontsize=7,
    )
    return figure


def main(options: Options) -> None:
    torch.set_num_threads(1)
    tables, curves = measure(options)
    publish(machine.describe(), tables, options.json)
    if options.picture:
        with replacing(options.picture) as part:
            draw(options.extents, curves).savefig(part, dpi=110, format="png")


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m benchmarks.trained_stability", description=__doc__))
