"""Images larger than those of the training: ``python -m benchmarks.larger recipes/nuclei.toml --json FILE``.

Networks of equal weights, one for each kind of layer, learn from random crops of a labelling recipe's images for an equal
processor time. Then the test images are labelled in pieces of growing sides, each piece alone.
"""

from __future__ import annotations

import time
from bisect import bisect_left
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import torch
import tyro
from torch import Tensor, nn

from ndrnn.app.recipe import read
from ndrnn.data.pipeline.gather import Gathered, gather
from ndrnn.tasks import Label, LabelBatch, LabelTask

from . import machine
from .baselines.parts import weights
from .table import Table, publish


@dataclass(frozen=True)
class Options:
    """What learns from what, and where the results go."""

    recipe: Annotated[Path, tyro.conf.Positional]
    """Of images of one size, to label."""
    layers: tuple[str, ...] = ("MDLinearRNN", "MDGRU", "LeakyMDLSTM")
    crop: int = 32
    """Rows and columns of what is learned from."""
    sides: tuple[int, ...] = (32, 64, 128, 256)
    """Rows and columns of what is labelled; each divides the images' own."""
    seconds: float = 75.0
    """Of the processor, for each training."""
    batch_size: int = 16
    rate: float = 0.01
    seed: int = 0
    json: Path | None = None
    """Where the table goes."""


def fitting(config: Label, layer: str, data: Gathered, target: int) -> LabelTask:
    """The recipe's network with another layer, its levels widened alike until its weights come nearest to the target."""
    hidden = config.network.hidden

    def task(share: int) -> LabelTask:
        units = tuple(max(1, round(each * share / hidden[-1])) for each in hidden)
        network = replace(config.network, layer=layer, hidden=units)
        return LabelTask(replace(config, network=network), data.facts)

    above = bisect_left(range(100), target, key=lambda share: weights(task(max(share, 1)).model))
    return min(map(task, (above - 1, above)), key=lambda found: abs(weights(found.model) - target))


def crops(x: Tensor, target: Tensor, count: int, side: int, generator: torch.Generator) -> LabelBatch:
    """Random ones of images (N, H, W, C) and their labels (N, H, W), half of them mirrored."""
    pick = torch.randint(len(x), (count,), generator=generator).tolist()
    top, left = (
        torch.randint(extent - side + 1, (count,), generator=generator).tolist() for extent in x.shape[1:3]
    )
    mirrored = (torch.rand(count, generator=generator) < 0.5).tolist()
    images, labels = [], []
    for i, y0, x0, flip in zip(pick, top, left, mirrored, strict=True):
        place = i, slice(y0, y0 + side), slice(x0, x0 + side)
        images.append(x[place].flip(1) if flip else x[place])
        labels.append(target[place].flip(1) if flip else target[place])
    return LabelBatch(torch.stack(images), torch.stack(labels))


def train(task: LabelTask, x: Tensor, target: Tensor, options: Options) -> int:
    """Adam for so many seconds, the rate as in any training of the library; how many steps it made."""
    generator = torch.Generator().manual_seed(options.seed)

    def batch() -> LabelBatch:
        return crops(x, target, options.batch_size, options.crop, generator)

    task.prepare([batch() for _ in range(50)])
    optimizer = torch.optim.Adam(task.model.parameters(), options.rate)
    task.train()
    steps, began = 0, time.process_time()
    while (progress := (time.process_time() - began) / options.seconds) < 1:
        optimizer.param_groups[0]["lr"] = options.rate * task.options.rate(progress)
        loss = task.loss(batch())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(task.model.parameters(), task.options.clip)
        optimizer.step()
        steps += 1
    return steps


def pieces(values: Tensor, side: int) -> Tensor:
    """Images (N, H, W, ...) cut into squares, (M, side, side, ...)."""
    rows, columns = (extent // side for extent in values.shape[1:3])
    cut = values.unflatten(2, (columns, side)).unflatten(1, (rows, side))
    return cut.movedim(3, 2).flatten(0, 2)


@torch.no_grad()
def measured(task: LabelTask, x: Tensor, target: Tensor, side: int) -> tuple[float, float]:
    """The share of points with a wrong label, and the mean intersection over union."""
    task.eval()
    size = max(1, 256**2 // side**2)
    for images, labels in zip(pieces(x, side).split(size), pieces(target, side).split(size), strict=True):
        task.check(LabelBatch(images, labels))
    found = task.results()
    return float(found["point_error"]), float(found["mean_iou"])


def tables(options: Options) -> Iterator[Table]:
    torch.manual_seed(options.seed)
    found = read(options.recipe)
    config = found.config
    if not isinstance(config, Label):
        raise ValueError(f"{options.recipe}: must be a recipe of the task label, got {found.task}")
    data = gather(found.data, "label")
    parts = {}
    for part in ("train", "test"):
        samples = data.samples(part)
        each = [samples[number] for number in range(len(samples))]
        parts[part] = tuple(torch.stack([one[field] for one in each]) for field in (1, 2))
    target = weights(LabelTask(config, data.facts).model)
    result = Table(
        f"{options.recipe.stem}: learned from crops of {options.crop} x {options.crop}, "
        f"{options.seconds:g} processor seconds each; test images in pieces of a side: points wrong / mean IoU",
        {
            "layer": "",
            "units": "",
            "weights": ",d",
            "steps": ",d",
            **{f"{side}": ".1%" for side in options.sides},
        },
    )
    for layer in options.layers:
        torch.manual_seed(options.seed)
        task = fitting(config, layer, data, target)
        steps = train(task, *parts["train"], options)
        figures = [list(measured(task, *parts["test"], side)) for side in options.sides]
        units = ", ".join(map(str, task.settings.network.hidden))
        result.add(layer, units, weights(task.model), steps, *figures)
        print(result.rows[-1], flush=True)
    yield result


def main(options: Options) -> None:
    torch.set_num_threads(1)
    described = machine.describe()
    found = list(tables(options))
    publish(described, found, options.json)


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m benchmarks.larger", description=__doc__))
