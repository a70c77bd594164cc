"""Every kind of layer at equal weight counts on one task: ``python -m benchmarks.which_cell --json FILE --weights DIR``.

Every pixel of MNIST's digits is labelled, as in ``recipes/mnist.toml``, by one level on blocks of 2 x 2 pixels, learned
from a part of the digits. For each kind the better of the learning rates at the first seed, by the validation digits,
is trained with the other seeds too; so are, with the kind that the validation digits prefer and at its rate, fewer
directions, and an image as a sequence of its rows, n = 1. What FILE holds already is not trained again.
"""

from __future__ import annotations

import json
import time
from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
import tyro
from torch import Tensor

from ndrnn.app.recipe import read
from ndrnn.data.pipeline.gather import Gathered, gather
from ndrnn.data.pipeline.module import DataModule
from ndrnn.learn import DivergedError, evaluate, fit
from ndrnn.nn.hierarchy import Hierarchy
from ndrnn.registry import layers
from ndrnn.saving import models as checkpoint
from ndrnn.saving.atomic import replacing
from ndrnn.tasks import Classify, ClassifyTask, Facts

from . import machine
from .baselines.parts import weights
from .table import Table

RECIPE = Path(__file__).parent.parent / "recipes" / "mnist.toml"
CHOICE = "point_error"
"""The metric of the validation digits that decides."""
DIRECTIONS = {4: (), 2: ("ff", "bb"), 1: ("ff",)}


@dataclass(frozen=True)
class Options:
    """What is trained, and where the results go."""

    units: int = 16
    """Units a direction of an MDLSTM from four corners; its weight count is everybody's."""
    digits: int = 3_000
    """To learn from; the validation has half as many others, and the test as many of MNIST's test digits."""
    epochs: int = 6
    rates: tuple[float, ...] = (0.01, 0.03)
    seeds: tuple[int, ...] = (0, 1, 2)
    json: Path = Path("which_cell.json")
    """Where the results go."""
    weights: Path | None = None
    """Folder for the trained networks of the first seed."""


@dataclass(frozen=True)
class Kind:
    """A network: the kind of its layer, the directions, and whether an image is a sequence of its rows (n = 1)."""

    layer: str
    directions: int = 4
    rows: bool = False

    @property
    def name(self) -> str:
        ways = (
            ""
            if self.directions == 4
            else f", {self.directions} directions"[: None if self.directions > 1 else -1]
        )
        return f"{self.layer}, rows as a sequence" if self.rows else self.layer + ways


class Rows(Hierarchy):
    """A hierarchy with n = 1 along the rows of an image, whose features are the row's pixels (N, rows, columns, 1)."""

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        return super().forward(x.squeeze(-1), sizes).unflatten(-1, (x.shape[2], -1))


class RowsTask(ClassifyTask):
    """Labels the pixels of images that are read row by row, from both ends."""

    def make_model(self) -> Hierarchy:
        network, columns = self.settings.network, 28
        labels = len(self.facts.classes) + 1
        return Rows(columns, columns * labels, hidden=network.hidden, ndim=1, layer=network.layer)


def settings(kind: Kind, units: int, rate: float, seed: int, options: Options) -> Classify:
    """The recipe's configuration with what is different here."""
    config: Classify = read(RECIPE).config
    steps = options.epochs * -(-options.digits // config.training.batch_size)
    network = replace(
        config.network,
        layer=kind.layer,
        hidden=(units,),
        blocks=("2x2",),
        directions=DIRECTIONS.get(kind.directions, ()),
    )
    training = replace(
        config.training, epochs=options.epochs, learning_rate=rate, seed=seed, steps_between_checks=steps
    )
    return replace(config, network=network, training=training)


def make(kind: Kind, config: Classify, facts: Facts) -> ClassifyTask:
    return (RowsTask if kind.rows else ClassifyTask)(config, facts)


def weights_of(task: ClassifyTask) -> int:
    return weights(task.model)


def fitting_units(kind: Kind, target: int, options: Options, facts: Facts) -> int:
    """The units with which the number of weights comes nearest to the target."""

    def count(units: int) -> int:
        return weights_of(make(kind, settings(kind, units, 0.01, 0, options), facts))

    above = bisect_left(range(100), target, key=lambda units: count(max(units, 1)))
    return min(above - 1, above, key=lambda units: abs(count(units) - target))


def digits(options: Options) -> Gathered:
    """Digits to learn from and to watch by, drawn from MNIST's training digits, and some of its test digits."""
    found = gather(read(RECIPE).data, "classify")
    splits = dict(found.splits)
    counts = {"train": options.digits, "validation": options.digits // 2, "test": options.digits}
    for split, count in counts.items():
        order = torch.randperm(len(splits[split]), generator=torch.Generator().manual_seed(0)).tolist()
        splits[split] = splits[split].part(order[:count])
    return replace(found, splits=splits)


class Study:
    """The trainings, each done once and kept."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.gathered = digits(options)
        self.done: list[dict[str, Any]] = []
        if options.json.exists():
            self.done = json.loads(options.json.read_text())["trainings"]
        self.target = weights_of(self._task(Kind("MDLSTM"), options.units, 0.01, 0))

    def _task(self, kind: Kind, units: int, rate: float, seed: int) -> ClassifyTask:
        return make(kind, settings(kind, units, rate, seed, self.options), self.gathered.facts)

    def trained(self, kind: Kind, rate: float, seed: int) -> dict[str, Any]:
        """The figures of a training, which is run unless it is among those that are done."""
        options = self.options
        key = {**asdict(kind), "rate": rate, "seed": seed, "epochs": options.epochs, "digits": options.digits}
        for result in self.done:
            if key.items() <= result.items():
                return result
        units = fitting_units(kind, self.target, options, self.gathered.facts)
        task = self._task(kind, units, rate, seed)
        data = DataModule(self.gathered, "classify", task.options.batch_size, seed=seed)
        before = time.process_time()
        found: dict[str, Any] = {**key, "units": units, "weights": weights_of(task)}
        try:
            record = fit(task, data, show=False)
            found |= {
                "seconds_per_pass": (time.process_time() - before) / options.epochs,
                "loss": record.marks[-1].loss,
                "validation": record.marks[-1].metrics,
                "test": evaluate(task, data, "test"),
            }
        except DivergedError as error:
            found["diverged"] = str(error)
        if options.weights is not None and seed == options.seeds[0] and not kind.rows:
            options.weights.mkdir(parents=True, exist_ok=True)
            ways = "" if kind.directions == 4 else f"-{kind.directions}"
            checkpoint.save(task, options.weights / f"{kind.layer}{ways}-{rate:g}.safetensors")
        print(json.dumps(found), flush=True)
        self.done.append(found)
        self.keep()
        return found

    def keep(self, **more: Any) -> None:
        """Write what is done."""
        config = json.loads(json.dumps(asdict(self.options), default=str))
        content = {"machine": machine.describe(), "options": config, "trainings": self.done, **more}
        with replacing(self.options.json) as part:
            part.write_text(json.dumps(content, indent=1) + "\n")

    def rate(self, layer: str) -> float:
        """The rate that is best for a kind of layer from four corners, at the first seed."""
        first = self.options.seeds[0]
        return min(self.options.rates, key=lambda rate: error_of([self.trained(Kind(layer), rate, first)]))

    def chosen(self, kind: Kind) -> list[dict[str, Any]]:
        """The trainings of a kind, all seeds, at the rate of its layer."""
        return [self.trained(kind, self.rate(kind.layer), seed) for seed in self.options.seeds]


def error_of(results: Iterable[dict[str, Any]]) -> float:
    """The validation error, mean over trainings."""
    return fmean(result["validation"][CHOICE] if "validation" in result else 1.0 for result in results)


def tabulate(study: Study, kinds: Iterable[Kind]) -> Table:
    table = Table(
        f"MNIST, every pixel labelled: {study.options.digits:,} digits to learn from, {study.options.epochs} passes",
        {
            "network": "",
            "units": "d",
            "weights": ",d",
            "rate": "g",
            "validation: pixels wrong, %, at each rate, first seed": ".2f",
            "test: pixels wrong, %, mean": ".2f",
            "lowest and highest": ".2f",
            "test: images misnamed, %, mean": ".2f",
            "processor seconds a pass": ".1f",
        },
    )
    for kind in kinds:
        results = study.chosen(kind)
        full = kind.directions == 4
        first, rates = study.options.seeds[0], study.options.rates if full else (study.rate(kind.layer),)
        tried = [100 * error_of([study.trained(kind, rate, first)]) for rate in rates]
        wrong = [100 * result["test"]["point_error"] for result in results if "test" in result]
        named = [100 * result["test"]["sample_error"] for result in results if "test" in result]
        seconds = [result["seconds_per_pass"] for result in results if "test" in result]
        row = results[0]
        spread = [min(wrong), max(wrong)]
        table.add(
            kind.name,
            row["units"],
            row["weights"],
            row["rate"],
            tried,
            fmean(wrong),
            spread,
            fmean(named),
            min(seconds),
        )
    seeds = ", ".join(map(str, study.options.seeds))
    table.notes.append(f"Rates {study.options.rates}; seeds {seeds}; the test digits chose nothing.")
    return table


def main(options: Options) -> None:
    torch.set_num_threads(1)
    study = Study(options)
    kinds = [Kind(layer) for layer in layers]
    first = options.seeds[0]
    for kind in kinds:  # all kinds once before any kind again
        for rate in options.rates:
            study.trained(kind, rate, first)
    for kind in kinds:
        study.chosen(kind)
    best = min(kinds, key=lambda kind: error_of(study.chosen(kind)))
    kinds += [
        replace(best, directions=2),
        replace(best, directions=1),
        replace(best, directions=2, rows=True),
    ]
    table = tabulate(study, kinds)
    study.keep(tables=[asdict(table)])
    print(table.markdown())


if __name__ == "__main__":
    main(tyro.cli(Options, prog="python -m benchmarks.which_cell", description=__doc__))
