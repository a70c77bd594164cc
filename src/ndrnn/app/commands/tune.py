"""``ndrnn tune``: search for good options by trainings, most of which end early (successive halving)."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from math import ceil, inf, isfinite
from pathlib import Path
from typing import Any

from lightning import Callback, Trainer

from ...data import BadFile
from ...data.pipeline.gather import Gathered
from ...learn import DivergedError, standing_of
from ...registry import tasks
from ...saving.atomic import replacing
from ..collect import collect, tell
from ..comparing import as_values, columns, describe
from ..options import Tune
from ..output import Output
from ..recipe import FILE as RECIPE
from ..recipe import Recipe
from ..searching import trials, with_options
from ..training import finish, train_in

FILE = "tune.json"
"""What is tried, in the folder of a search."""

SHARES = (1 / 9, 1 / 3, 1.0)
"""How far the trials of each round are trained; a third of them go on to the next."""


def run(recipe: Recipe, options: Tune) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    search = _Search(recipe, options, out)
    with out.others():
        tell(search.gathered(recipe), out)
        search.run()
        order = search.order()
        runs = [describe(search.folder(number)) for number in order]
    if runs:
        head, rows = columns(runs)
        out.table(rows, head)
    best = search.folder(order[0]) if order else None
    if search.ended:
        out.say(f"{search.ended}; the same command with --resume goes on")
    if best is not None:
        out.say(f"the best so far: {best}")
    out.result(
        {"best": None if best is None else str(best), "ended": search.ended or None, "runs": as_values(runs)}
    )
    return 1 if search.interrupted or not runs else 0


class _Search:
    """Trials in folders of their own: trainings as by ``train``, paused and gone on with."""

    def __init__(self, recipe: Recipe, options: Tune, out: Output) -> None:
        self.recipe, self.options, self.out = recipe, options, out
        self.monitor = tasks.find(recipe.task).task.monitor
        self.deadline = inf if options.minutes is None else time.monotonic() + 60 * options.minutes
        self.interrupted = False
        self.ended = ""
        self.diverged: dict[str, str] = {}
        self.trials = self._begin()
        self.recipes = [with_options(recipe, one) for one in self.trials]
        self._gathered: tuple[Any, Gathered] | None = None

    def folder(self, number: int) -> Path:
        """Of a trial."""
        return self.options.out / f"{number:03}"

    def gathered(self, recipe: Recipe) -> Gathered:
        """The samples for a trial, without those of the test."""
        # which can be used depends on the network that reads them, or on the patches taken
        config = recipe.config
        key = {"transcribe": getattr(config, "network", None), "density": getattr(config, "patch", None)}.get(
            recipe.purpose
        )
        if self._gathered is None or self._gathered[0] != key:
            found = collect(recipe, self.out, strict=self.options.strict, seed=config.training.seed)
            splits = {name: own for name, own in found.splits.items() if name != "test"}
            if len(splits) < 2:
                raise BadFile(
                    recipe.data.path, "has no samples to learn from and others to watch the training"
                )
            self._gathered = key, replace(found, splits=splits)
        return self._gathered[1]

    def run(self) -> None:
        """All rounds, or as many as there is time for."""
        alive = list(range(len(self.trials)))
        for turn, share in enumerate(SHARES):
            for position, number in enumerate(alive):
                started, had = time.monotonic(), self._reached(number)
                if not self._advance(number, share):
                    return
                self._say(number, share)
                if turn == position == 0 and had == 0 and len(alive) > 1:
                    second, third = _kept(len(alive)), _kept(_kept(len(alive)))
                    minutes = (time.monotonic() - started) * (len(alive) + 2 * second + 6 * third) / 60
                    self.out.say(f"about {minutes:.1f} minutes for all {len(alive)} trials")
            alive = sorted(alive, key=lambda number: (self._figure(number, share), number))[
                : _kept(len(alive))
            ]

    def order(self) -> list[int]:
        """The trials that have a check, the best of those that came farthest first."""
        begun = [number for number in range(len(self.trials)) if self._reached(number) > 0]
        return sorted(begun, key=lambda number: (-self._round(number), self._figure(number, 1.0), number))

    def _begin(self) -> list[dict[str, Any]]:
        """What is tried: as it was when the search began, if it goes on."""
        options, file = self.options, self.options.out / FILE
        if options.out.is_dir() and any(options.out.iterdir()) and not options.resume:
            kind = "a search; --resume goes on with it" if file.exists() else "other files"
            raise ValueError(f"out: {options.out} holds {kind}; another --out begins a new one")
        meant = trials(self.recipe, options.search, options.trials, options.seed)
        base = with_options(self.recipe, {}).dumps()
        if file.exists():
            try:
                kept = json.loads(file.read_text(encoding="utf-8"))
                before, tried, diverged = kept["recipe"], list(kept["trials"]), dict(kept["diverged"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{file}: is no list of trials ({error})") from error
            if before != base or tried != meant:
                raise ValueError(
                    f"{file}: recipe and search must be as when the search began; another --out begins a new one"
                )
            self.diverged = diverged
        options.out.mkdir(parents=True, exist_ok=True)
        self._keep(meant, base)
        return meant

    def _keep(self, meant: list[dict[str, Any]], base: str) -> None:
        content = {"recipe": base, "trials": meant, "diverged": self.diverged}
        with replacing(self.options.out / FILE) as temporary:
            temporary.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")

    def _advance(self, number: int, share: float) -> bool:
        """Train so far; whether the search may go on."""
        recipe, folder = self.recipes[number], self.folder(number)
        state = standing_of(folder)
        over = state is not None and (state.over(recipe.config.training) or self._reached(number) >= share)
        if str(number) in self.diverged or over:
            return True
        if time.monotonic() >= self.deadline:
            self.ended = f"the {self.options.minutes:g} minutes are over"
            return False
        pause = _Pause(share, self.deadline)
        gathered = self.gathered(recipe)
        try:
            task, record = train_in(
                folder, recipe, gathered, Output(True), resume=True, show=False, callbacks=[pause]
            )
        except DivergedError as error:
            self.diverged[str(number)] = str(error)
            self._keep(self.trials, with_options(self.recipe, {}).dumps())
            return True
        if record.interrupted:
            self.interrupted, self.ended = True, "interrupted"
            return False
        if pause.late:
            self.ended = f"the {self.options.minutes:g} minutes are over"
            return False
        if share == 1:
            finish(folder, recipe, task, gathered, record, Output(True))
        return True

    def _reached(self, number: int) -> float:
        """Share of the training of a trial that is done."""
        state = standing_of(self.folder(number)) if (self.folder(number) / RECIPE).exists() else None
        return state.marks[-1].progress if state is not None and state.marks else 0.0

    def _round(self, number: int) -> int:
        return sum(self._reached(number) >= share for share in SHARES)

    def _figure(self, number: int, share: float) -> float:
        """The best figure of a trial until it had come so far; infinite if it has none."""
        state = standing_of(self.folder(number))
        if state is None or str(number) in self.diverged:
            return inf
        found = inf
        for mark in state.marks:
            value = mark.metrics.get(self.monitor, inf)
            found = min(found, value) if isfinite(value) else found
            if mark.progress >= share:
                break
        return found

    def _say(self, number: int, share: float) -> None:
        told = ", ".join(f"{name} {value}" for name, value in self.trials[number].items())
        if str(number) in self.diverged:
            self.out.warn(f"note: {self.folder(number)} ({told}) diverged: {self.diverged[str(number)]}")
            return
        figure = self._figure(number, share)
        self.out.say(f"{self.folder(number)} at {100 * share:.0f} %: {self.monitor} {figure:.4f} ({told})")


def _kept(count: int) -> int:
    return ceil(count / 3)


class _Pause(Callback):
    """Ends a training at its first check after this share, from which it goes on as if nothing had been; or after its
    step when the time is over."""

    def __init__(self, share: float, deadline: float) -> None:
        self.share, self.deadline = share, deadline
        self.late = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if time.monotonic() >= self.deadline:
            self.late = trainer.should_stop = True

    def on_train_epoch_end(self, trainer: Trainer, pl_module: Any) -> None:
        if pl_module.progress >= self.share:
            trainer.should_stop = True
