"""The figures of a training as a table of comma-separated values."""

from __future__ import annotations

import csv
from argparse import Namespace
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers.logger import Logger
from lightning.pytorch.utilities import rank_zero_only

from ..saving.atomic import replacing

FILE = "metrics.csv"
"""A run's table in its folder."""


class Table(Logger):
    """A row a step; a training that is resumed goes on with the table that is there.

    Lightning's own logger would begin a new one.
    """

    def __init__(self, folder: Path, resume: bool) -> None:
        super().__init__()
        self.path = folder / FILE
        self._rows: dict[int, dict[str, str]] = {}
        self._started = False
        if resume and self.path.exists():
            with self.path.open(encoding="utf-8", newline="") as file:
                self._rows = {int(row["step"]): dict(row) for row in csv.DictReader(file)}

    @property
    def name(self) -> str:
        return ""

    @property
    def version(self) -> str:
        return ""

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None:
        step = step or 0
        if not self._started:
            # what came after the state from which the training goes on has been lost, and comes anew
            self._rows = {number: row for number, row in self._rows.items() if number < step}
            self._started = True
        row = self._rows.setdefault(step, {"step": str(step)})
        row.update({name: f"{float(value):.7g}" for name, value in metrics.items() if name != "epoch"})
        self.save()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any] | Namespace, *args: Any, **kwargs: Any) -> None:
        """The recipe beside the table has them."""

    @rank_zero_only
    def save(self) -> None:
        if not self._rows:
            return
        names = list(dict.fromkeys(name for row in self._rows.values() for name in row))
        with replacing(self.path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, names, restval="")
            writer.writeheader()
            writer.writerows(self._rows[step] for step in sorted(self._rows))
