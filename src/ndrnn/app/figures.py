"""Pictures of a labelling network at work, as matplotlib figures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ..data.digit_images import DigitImages
from ..learn.callbacks.record import Mark
from ..nn.hierarchy import Hierarchy
from ..tasks.reliability import Bins

try:
    from matplotlib import colormaps
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch
except ModuleNotFoundError as error:
    raise ImportError("pictures need matplotlib: pip install 'ndrnn[train]'") from error

_INK, _SOFT, _ACCENT = "#1d2430", "#5d6675", "#2458a6"
_WIDTH = 8.6
_DARK = (0.13, 0.19, 0.38)


def label_maps(digits: DigitImages, labels: Tensor, names: Tensor | None = None, columns: int = 10) -> Figure:
    """Every image with a map of its pixels' labels (N, H, W) under it, and a legend of the colours.

    With ``names`` (N,) each pair is headed by its digit and the name that it got.
    """
    colors = _colors(digits.num_classes)
    rows = -(-len(digits) // columns)
    figure = Figure(figsize=(_WIDTH, 0.55 + rows * 2.1 * _WIDTH / columns), layout="constrained")
    grid = figure.subplots(2 * rows, columns, squeeze=False)
    for axes in grid.flat:
        axes.set_axis_off()
    for index in range(len(digits)):
        row, column = divmod(index, columns)
        ink = digits.images[index, ..., 0].numpy()
        upper, lower = grid[2 * row, column], grid[2 * row + 1, column]
        upper.imshow(1 - ink, cmap="gray", vmin=0, vmax=1)
        lower.imshow(_colored(ink, labels[index].numpy(), colors))
        if names is not None:
            title = f"{int(digits.labels[index])} → {int(names[index])}"
            upper.set_title(title, fontsize=10, color=_INK, pad=3)
    handles = [Patch(color=color, label=str(digit)) for digit, color in enumerate(colors)]
    figure.legend(
        handles=handles,
        loc="outside lower center",
        ncols=len(handles),
        frameon=False,
        fontsize=9,
        handlelength=1,
    )
    return figure


@torch.no_grad()
def hidden_views(model: Hierarchy, image: Tensor, units: int = 6) -> Figure:
    """What the lowest layer's directions make of one image (H, W, 1): for each its most active hidden units.

    Blue is -1, white 0, red 1; the arrow starts at the corner where the direction starts.
    """
    directions: Sequence[Sequence[int]] = model.layers[0].directions  # type: ignore[assignment]
    views = model.hidden(image.unsqueeze(0))[0][0].unflatten(-1, (len(directions), -1)).numpy()
    units = min(units, views.shape[-1])
    height = (_WIDTH - 0.6) / (units + 1)
    figure = Figure(figsize=(_WIDTH, height * len(directions)), layout="constrained")
    grid = figure.subplots(len(directions), units + 1, squeeze=False)
    for row, direction in enumerate(directions):
        first = grid[row, 0]
        first.imshow(1 - image[..., 0].numpy(), cmap="gray", vmin=-1, vmax=1)
        _arrow(first, direction)
        activity = views[:, :, row].reshape(-1, views.shape[-1]).std(0)
        for column, unit in enumerate(np.argsort(-activity)[:units], start=1):
            grid[row, column].imshow(views[:, :, row, unit], cmap="RdBu_r", vmin=-1, vmax=1)
    for axes in grid.flat:
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_color("#c9ced6")
    return figure


def learning_curve(marks: Sequence[Mark]) -> Figure:
    """Loss and errors against passes over the training data."""
    figure = Figure(figsize=(_WIDTH, 3.1), layout="constrained")
    left, right = figure.subplots(1, 2)
    passes = [mark.passes for mark in marks]
    left.plot(passes, [mark.loss for mark in marks], color=_INK)
    left.set(title="loss in training, nats a pixel", yscale="log")
    for name, label, color in (
        ("sample_error", "image error", _ACCENT),
        ("point_error", "pixel error", "#d9902f"),
    ):
        percent = [100 * mark.metrics[name] for mark in marks]
        right.plot(passes, percent, color=color, label=label)
    right.set(title="errors on held-out digits, %", yscale="symlog")
    right.set_ylim(bottom=0)
    right.legend(frameon=False)
    for axes in (left, right):
        axes.set_xlabel("passes over the training data", color=_SOFT)
        axes.title.set(fontsize=11, color=_INK)
        axes.grid(color="#e3e6eb")
        axes.spines[["top", "right"]].set_visible(False)
        axes.yaxis.set_major_formatter("{x:g}")
    return figure


def reliability_diagram(columns: Mapping[str, Bins]) -> Figure:
    """The share of right predictions against their confidence, for each of several temperatures; below, of how many."""
    figure = Figure(figsize=(_WIDTH, 4.6), layout="constrained")
    shares, counts = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    shares.plot([0, 1], [0, 1], color=_SOFT, linewidth=0.8, linestyle="--")
    for (name, bins), color in zip(columns.items(), ("#d9902f", _ACCENT), strict=False):
        there = bins.counts > 0
        count, confidence, right = (part[there] for part in bins[:3])
        shares.plot(confidence / count, right / count, "o-", color=color, markersize=4, label=name)
        edges = np.linspace(0, 1, len(bins.counts) + 1)
        counts.stairs(bins.counts.numpy(), edges, color=color)
    shares.set(ylim=(0, 1), ylabel="share that is right")
    shares.legend(frameon=False, loc="upper left")
    counts.set(xlim=(0, 1), yscale="log", xlabel="confidence", ylabel="predictions")
    for axes in (shares, counts):
        axes.grid(color="#e3e6eb")
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def _colors(num_classes: int) -> list[tuple[float, float, float]]:
    if num_classes > 10:
        return [colormaps["turbo"](step)[:3] for step in np.linspace(0, 1, num_classes)]
    colors = [colormaps["tab10"](step)[:3] for step in range(num_classes)]
    # the eighth is a grey, which here stands for ink that is taken for background
    return [_DARK if index == 7 else color for index, color in enumerate(colors)]


def _colored(ink: np.ndarray, labels: np.ndarray, colors: Sequence[tuple[float, float, float]]) -> np.ndarray:
    """Ink in its label's colour on white, (H, W, 3); paper that is labelled a digit is tinted, and
    ink that is labelled background stays grey, so that both faults show."""
    palette = np.array([*colors, (0.45, 0.45, 0.45)])
    is_digit = labels < len(colors)
    strength = np.where(is_digit, 0.3 + 0.7 * ink, ink)
    return 1 - strength[..., None] * (1 - palette[np.minimum(labels, len(colors))])


def _arrow(axes: Axes, direction: Sequence[int]) -> None:
    """From the corner at which a direction starts towards the one where it ends."""
    down, right = direction
    start = (0.5 - 0.36 * right, 0.5 + 0.36 * down)
    end = (0.5 + 0.36 * right, 0.5 - 0.36 * down)
    style = {"arrowstyle": "-|>,head_width=.35,head_length=.6", "color": _ACCENT, "linewidth": 2.2}
    axes.annotate("", end, start, xycoords="axes fraction", textcoords="axes fraction", arrowprops=style)
