"""``ndrnn predict``: label, classify or transcribe files, or tell how likely they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from itertools import islice
from math import isfinite, prod
from pathlib import Path
from typing import IO, Any

import numpy as np
from torch import Tensor

from ...data.faults import BadFile, Faults
from ...data.pipeline.grouping import group_by_size
from ...density.use.growth import AT_LIMIT
from ...learn.task import NOT_FINITE
from ...tasks.density import NOT_FINITE as NO_DENSITY
from ...tasks.use import use_of
from ..density_model import as_task
from ..inputs import Input, Loaded, Loader, find
from ..labelled import TABLE, Labelling, refuse_others
from ..options import Predict
from ..output import Output
from ..outputs import Outputs
from ..prediction import label_tiles, predicted
from ..trained import load
from ..transcripts import Transcripts

LINES = "predictions.jsonl"
"""The table of all predictions, a JSON object a line, in the order of the files."""


def run(options: Predict) -> int:
    """Run the command; returns the exit status: 1 if a file could not be used."""
    out = Output(options.json)
    task, reader, weights = load(options.model)
    task = as_task(task, weights)
    task.to(options.device)
    purpose = use_of(task).purpose
    refuse_others(options, purpose)
    if purpose == "label" and options.out is None:
        raise ValueError("--out must name a folder for the label maps, got none")
    if options.format != "jsonl" and purpose != "transcribe":
        raise ValueError(f"--format {options.format} is for networks that read, got one that does {purpose}")
    faults = Faults(options.strict)
    kind = options.format if options.format in ("page", "alto") else ""
    files = find(options.inputs, reader, faults, kind)
    count = len(files) + len(faults)
    loader = Loader(reader, task.facts.channels, task.facts.ndim, places=purpose == "transcribe")
    use = _Use(task, purpose, loader, options)
    usable = use.claim(files, faults)
    done = 0
    with out.others(), _lines(options.out) as lines, use.objects():
        for file, result in use.results(out.progress(usable, "reading", len(usable)), faults):
            use.reached(file, faults)
            if result.get("memory_at_limit"):
                out.warn(f"{file.where}: {AT_LIMIT}")
            told = {"file": file.where, **file.described, **result}
            line = json.dumps(told, ensure_ascii=False, allow_nan=False)
            if lines is None:
                out.say(line)
            else:
                lines.write(line + "\n")
                lines.flush()
            use.tell(file)
            done += 1
        use.reached(None, faults)
    for fault in faults.found:
        out.warn(f"left out: {fault}")
    if options.out is not None:
        out.say(f"{done:,} of {count:,} files; results are in {options.out}")
    if options.instances:
        counts = ", ".join(f"{number:,} {name}" for name, number in use.counts.items())
        out.say(f"objects: {counts}; each is a line of {options.out}/{TABLE}")
    if faults:
        out.warn(f"{len(faults):,} of {count:,} files could not be used")
    out.result(
        {
            "files": count,
            "predicted": done,
            "left_out": [{"file": fault.file, "reason": fault.reason} for fault in faults.found],
            "out": None if options.out is None else str(options.out),
            **({"instances": use.counts} if options.instances else {}),
        }
    )
    return 1 if faults else 0


def _lines(folder: Path | None) -> Any:
    if folder is None:
        return nullcontext()
    folder.mkdir(parents=True, exist_ok=True)
    # written as results come, so that an interrupted run keeps what it has
    lines: IO[str] = (folder / LINES).open("w", encoding="utf-8")
    return lines


class _Use:
    """A trained task applied to files: small ones of equal size together, large ones in tiles."""

    def __init__(self, task: Any, purpose: str, loader: Loader, options: Predict) -> None:
        self.task = task
        self.purpose = purpose
        self.loader = loader
        self.options = options
        self._labelling = Labelling(task.facts, options) if purpose == "label" else None
        self._transcripts = Transcripts(options.format, options.out, loader)
        self.describe: Callable[[Input, Any, Loaded], dict[str, Any]] = {
            "label": self._label,
            "classify": self._classify,
            "transcribe": self._transcribe,
            "density": self._density,
        }[purpose]

    def claim(self, files: Sequence[Input], faults: Faults) -> list[Input]:
        """The files whose results may be written where they belong; the others go to ``faults``.

        Raises:
            ValueError: a result would overwrite an original, or without ``--force`` an older result.
        """
        if self.options.out is None:
            return list(files)
        originals = {self.options.model, *(path for file in files for path in file.paths)}
        outputs = Outputs(force=self.options.force, originals=originals, folder=self.options.out)
        outputs.claim(self.options.out / LINES)
        if self.options.instances:
            outputs.claim(self.options.out / TABLE)
        usable = []
        for file in files:
            try:
                if self._labelling is not None:
                    self._labelling.claim(file, outputs)
                if self.purpose == "transcribe":
                    self._transcripts.claim(outputs, file)
                usable.append(file)
            except BadFile as fault:
                faults.add(fault)
        return usable

    @property
    def counts(self) -> dict[str, int]:
        """The objects of each class that were found."""
        found = self._labelling.counts if self._labelling is not None else {}
        return {name: found.get(name, 0) for name in self.options.instances}

    @contextmanager
    def objects(self) -> Iterator[None]:
        """Within the block, objects can be told."""
        if self._labelling is None:
            yield
            return
        self._labelling.open()
        try:
            yield
        finally:
            self._labelling.close()

    def tell(self, file: Input) -> None:
        """Write down the objects of a file."""
        if self._labelling is not None:
            self._labelling.tell(file)

    def reached(self, file: Input | None, faults: Faults) -> None:
        """Write the pages before this file, or with None all; what cannot be written goes to ``faults``."""
        try:
            self._transcripts.reached(file)
        except BadFile as fault:
            faults.add(fault)

    def results(self, files: Iterable[Input], faults: Faults) -> Iterator[tuple[Input, dict[str, Any]]]:
        """Each file with what to tell of it, in order; files that cannot be used go to ``faults``."""
        stream = iter(files)
        while chunk := list(islice(stream, 4 * self.options.batch_size)):
            found: dict[int, dict[str, Any]] = {}
            small: list[tuple[int, Loaded]] = []
            for index, file in enumerate(chunk):
                try:
                    loaded = self.loader.read(file)
                    if prod(loaded.values.shape[:-1]) <= self.options.tile**2:
                        small.append((index, loaded))
                    else:
                        found[index] = self._large(file, loaded)
                except BadFile as fault:
                    faults.add(fault)
            self._together(chunk, small, found, faults)
            for index in sorted(found):
                yield chunk[index], found[index]

    def _together(
        self,
        chunk: Sequence[Input],
        small: Sequence[tuple[int, Loaded]],
        found: dict[int, dict[str, Any]],
        faults: Faults,
    ) -> None:
        ready = []
        for index, loaded in small:
            try:
                ready.append((index, loaded, self.loader.features(loaded.values, chunk[index])))
            except BadFile as fault:
                faults.add(fault)
        for batch in group_by_size([x.shape[:-1] for *_, x in ready], self.options.batch_size):
            members = [ready[position] for position in batch]
            for (index, loaded, _), one in zip(members, self._predict([x for *_, x in members]), strict=True):
                try:
                    found[index] = self.describe(chunk[index], one, loaded)
                except BadFile as fault:
                    faults.add(fault)

    def _large(self, file: Input, loaded: Loaded) -> dict[str, Any]:
        values = loaded.values
        if self._labelling is None:
            (one,) = self._predict([self.loader.features(values, file)])
            return self.describe(file, one, loaded)
        lattice = values.shape[:-1]
        kind = np.uint8 if len(self.task.facts.classes) <= 256 else np.uint16
        labels, sure = np.zeros(lattice, kind), 0.0
        each = np.zeros(lattice, np.float32) if self._labelling.whole_confidence else None
        for place, best, confidence in label_tiles(
            self.task,
            lattice,
            self.loader.window(values, file),
            self.options.tile**2,
            overlap=self.options.overlap,
            device=self.options.device,
        ):
            labels[place] = best.numpy()
            sure += float(confidence.sum())
            if each is not None:
                each[place] = confidence.numpy()
        mean = sure / labels.size
        _check_finite(file, mean)
        return self._labelling.write(file, labels, mean, each, loaded)

    def _predict(self, xs: Sequence[Tensor]) -> list[Any]:
        return predicted(self.task, xs, self.options.device)

    def _label(self, file: Input, one: Any, loaded: Loaded) -> dict[str, Any]:
        assert self._labelling is not None
        mean = float(one.confidence.mean())
        _check_finite(file, mean)
        return self._labelling.write(file, one.labels.numpy(), mean, one.confidence.numpy(), loaded)

    def _classify(self, file: Input, one: Any, loaded: Loaded) -> dict[str, Any]:
        classes = self.task.facts.classes
        probabilities = one.probabilities.tolist()
        _check_finite(file, *probabilities)
        return {
            "class": classes[one.label],
            "confidence": round(probabilities[one.label], 4),
            "probabilities": {
                name: round(value, 4) for name, value in zip(classes, probabilities, strict=True)
            },
        }

    def _transcribe(self, file: Input, one: Any, loaded: Loaded) -> dict[str, Any]:
        _check_finite(file, float(one.confidence))
        return self._transcripts.read(file, one)

    def _density(self, file: Input, one: Any, loaded: Loaded) -> dict[str, Any]:
        if not bool(one.bits.isfinite().all()):
            raise BadFile(file.where, NO_DENSITY)
        told: dict[str, Any] = {"bits_per_pixel": round(float(one.bits_per_pixel), 4)}
        return {**told, "memory_at_limit": True} if one.saturated else told


def _check_finite(file: Input, *values: float) -> None:
    if not all(map(isfinite, values)):
        raise BadFile(file.where, NOT_FINITE)
