"""``ndrnn predict``: label, classify or transcribe files, or tell how likely they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, contextmanager, nullcontext
from itertools import islice
from math import isfinite, prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.faults import BadFile, Faults
from ...data.pipeline.grouping import group_by_size
from ...data.readers.arrays import Arrays
from ...density.use.growth import AT_LIMIT
from ...learn.task import NOT_FINITE
from ...tasks.density import NOT_FINITE as NO_DENSITY
from ...tasks.use import CLASSIFY, LABEL, TRANSCRIBE, use_of
from ..counted import Counted
from ..density_model import as_task, in_colour
from ..inputs import Input, Loaded, Loader, find
from ..labelled import Labelling, refuse_others
from ..options import Predict
from ..output import Output
from ..outputs import Outputs
from ..overlap import ReadAhead
from ..prediction import label_tiles, predicted
from ..shards import LINES, OBJECTS, Shard, digest
from ..trained import load, reading_of, set_reading
from ..transcripts import Transcripts, key
from ..workers import Workers


def run(options: Predict) -> int:
    """Run the command; returns the exit status: 1 if a file could not be used."""
    out = Output(options.json)
    task, reader, weights = load(options.model)
    task = as_task(task, weights)
    task.to(options.device)
    purpose = use_of(task).purpose
    refuse_others(options, purpose)
    set_reading(task, beam=options.beam, views=options.views)
    if purpose == "label" and options.out is None:
        raise ValueError("--out must name a folder for the label maps, got none")
    if options.format != "jsonl" and purpose != "transcribe":
        raise ValueError(f"--format {options.format} is for networks that read, got one that does {purpose}")
    faults = Faults(options.strict)
    kind = options.format if options.format in ("page", "alto") else ""
    density = purpose == "density"
    learned = isinstance(reader, Arrays)
    taken = density or reader is None  # what weights alone have learned from is not known
    # beside pictures arrays are likely something else
    arrays = learned or (taken and task.facts.ndim != 2)
    everything = find(options.inputs, reader, faults, kind, out.warn, arrays=arrays)
    shard = Shard.of(options.shard)
    files = shard.share(everything, key)  # the lines of a page stay together
    places = {file.place: number for number, file in enumerate(everything)} if shard.count > 1 else {}
    counted = Counted.of(files, len(faults))
    loader = Loader(reader, task.facts, places=purpose == "transcribe", arrays=taken or learned)
    use = _Use(task, purpose, loader, options)
    usable = use.claim(files, faults, everything)
    done = 0
    with out.others(), _lines(options.out, shard) as lines, use.objects():
        shown = out.progress(usable, "reading", len(usable))
        for file, result in use.results(usable, faults, shown):
            use.reached(file, faults)
            if result.get("memory_at_limit"):
                out.warn(f"{file.where}: {AT_LIMIT}")
            at = {"at": places[file.place]} if places and lines is not None else {}
            told = {**at, "file": file.where, **file.described, **result}
            line = json.dumps(told, ensure_ascii=False, allow_nan=False)
            if lines is None:
                out.say(line)
            else:
                lines.write(line + "\n")
                lines.flush()
            use.tell(file)
            done += 1
        use.reached(None, faults)
        if lines is not None and shard.count > 1:  # by which it is known to be whole
            made = {"digest": digest(weights), "reading": reading_of(task)}
            end = {"predicted": done, **counted.described(), "left_out": _named(faults), **made}
            lines.write(json.dumps({"end": end}, ensure_ascii=False) + "\n")
    if use.greyed:
        others = f" and {len(use.greyed) - 1:,} more" if len(use.greyed) > 1 else ""
        out.warn(f"in colour: {use.greyed[0]}{others}; the model is of grey images, and measured their grey")
    for fault in faults.found:
        out.warn(f"left out: {fault}")
    if options.out is not None:
        out.say(f"{counted.done(done)}; results are in {options.out}")
    if options.instances:
        counts = ", ".join(f"{name}: {number:,}" for name, number in use.counts.items())
        out.say(f"objects of {counts}; each is a line of {options.out}/{shard.name(OBJECTS)}")
    if faults:
        out.warn(counted.missed(done, len(faults)))
    out.result(
        {
            "files": counted.files,
            **counted.described(),
            "predicted": done,
            "left_out": _named(faults),
            "out": None if options.out is None else str(options.out),
            **({"instances": use.counts} if options.instances else {}),
        }
    )
    return 1 if faults else 0


def _named(faults: Faults) -> list[dict[str, str]]:
    return [{"file": fault.file, "reason": fault.reason} for fault in faults.found]


def _lines(folder: Path | None, shard: Shard) -> Any:
    if folder is None:
        return nullcontext()
    folder.mkdir(parents=True, exist_ok=True)
    # written as results come, so that an interrupted run keeps what it has
    lines: IO[str] = (folder / shard.name(LINES)).open("w", encoding="utf-8")
    return lines


class _Read(NamedTuple):
    """A file that was read: its result if it was large, or what a batch is made of."""

    file: Input
    result: Future[dict[str, Any]] | None
    loaded: Any = None
    x: Any = None


def _taken(stream: Iterator[_Read], count: int) -> tuple[list[_Read], BadFile | None]:
    """The next ``count`` files, or those before the one at which a strict command stops, and why it does."""
    taken: list[_Read] = []
    try:
        taken.extend(islice(stream, count))
    except BadFile as fault:
        return taken, fault
    return taken, None


def _done(
    results: Iterable[tuple[Input, Future[dict[str, Any]]]], faults: Faults
) -> Iterator[tuple[Input, dict[str, Any]]]:
    for file, result in results:
        try:
            told = result.result()
        except BadFile as fault:
            faults.add(fault)
        else:
            yield file, told


class _Use:
    """A trained task applied to files: small ones of equal size together, large ones in tiles."""

    def __init__(self, task: Any, purpose: str, loader: Loader, options: Predict) -> None:
        self.task = task
        self.purpose = purpose
        self.loader = loader
        self.options = options
        self._labelling = Labelling(task.facts, options) if purpose == "label" else None
        self._transcripts = Transcripts(options.format, options.out, loader)
        self._large_one: Future[dict[str, Any]] | None = None
        # what predicts densities keeps notes of its batch
        self._workers = Workers(
            several=options.device == "cpu" and use_of(task) in (LABEL, CLASSIFY, TRANSCRIBE)
        )
        self.greyed: list[str] = []
        """Pictures in colour of which a density of grey ones was told the grey alone."""
        self.describe: Callable[[Input, Any, Loaded], dict[str, Any]] = {
            "label": self._label,
            "classify": self._classify,
            "transcribe": self._transcribe,
            "density": self._density,
        }[purpose]

    def claim(self, files: Sequence[Input], faults: Faults, everything: Sequence[Input]) -> list[Input]:
        """The files whose results may be written where they belong; the others go to ``faults``. Of ``everything`` that
        was found, also by other shards, nothing is overwritten.

        Raises:
            ValueError: a result would overwrite an original, or without ``--force`` an older result.
        """
        if self.options.out is None:
            return list(files)
        originals = {self.options.model, *(path for file in everything for path in file.paths)}
        outputs = Outputs(force=self.options.force, originals=originals, folder=self.options.out)
        shard = Shard.of(self.options.shard)
        outputs.claim(self.options.out / shard.name(LINES))
        if self.options.instances:
            outputs.claim(self.options.out / shard.name(OBJECTS))
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

    def results(
        self, files: Sequence[Input], faults: Faults, shown: Iterable[Input] | None = None
    ) -> Iterator[tuple[Input, dict[str, Any]]]:
        """Each file with what to tell of it, in order; files that cannot be used go to ``faults``.

        Files are read ahead by a thread, and results are written by two, while the network computes.

        Args:
            files: what is read.
            faults: gets what cannot be used.
            shown: the same files, taken one by one as they are used, so that the progress can be seen.
        """
        ahead = ReadAhead(files, self.loader.read, lambda found: found.values.nbytes + len(found.data))
        stream = zip(files if shown is None else shown, ahead, strict=True)
        before: list[tuple[Input, Future[dict[str, Any]]]] = []
        with closing(ahead), ThreadPoolExecutor(2, "write") as writers, self._workers:
            stopped: BadFile | None = None
            while stopped is None:
                chunk, stopped = _taken(self._read(stream, faults, writers), 4 * self.options.batch_size)
                ready = self._together(chunk, writers)
                # by now what is written of the chunk before is done, or nearly
                yield from _done(before, faults)
                before = ready
                if not chunk:
                    break
            yield from _done(before, faults)
            if stopped is not None:  # what came before it is told
                raise stopped

    def _read(
        self,
        stream: Iterator[tuple[Input, Loaded | BaseException]],
        faults: Faults,
        writers: ThreadPoolExecutor,
    ) -> Iterator[_Read]:
        """What was read and is small; of what is large, the result, which is computed at once."""
        for file, found in stream:
            try:
                if isinstance(found, BaseException):
                    raise found
                if self._greys(file, found):
                    self.greyed.append(file.where)
                if prod(found.values.shape[:-1]) > self.options.tile**2:
                    yield _Read(file, self._large(file, found, writers))
                else:
                    yield _Read(file, None, found, self.loader.features(found.values, file))
            except BadFile as fault:
                faults.add(fault)

    def _greys(self, file: Input, found: Loaded) -> bool:
        """Whether colours of a picture are more than the density sees."""
        grey = self.purpose == "density" and self.task.facts.channels < 3
        return grey and file.in_colour and in_colour(found.values)

    def _together(
        self, chunk: Sequence[_Read], writers: ThreadPoolExecutor
    ) -> list[tuple[Input, Future[dict[str, Any]]]]:
        """Files with what comes to be told of them, in order."""
        found = {index: one.result for index, one in enumerate(chunk) if one.result is not None}
        small = [index for index, one in enumerate(chunk) if one.result is None]
        sizes = [chunk[index].x.shape[:-1] for index in small]
        parts = [
            [small[position] for position in part]
            for batch in group_by_size(sizes, self.options.batch_size)
            for part in self._workers.divided(batch)
        ]
        predictions = self._workers.each(
            self._predict, [[chunk[index].x for index in part] for part in parts]
        )
        for part, ones in zip(parts, predictions, strict=True):
            for index, one in zip(part, ones, strict=True):
                file, _, loaded, _ = chunk[index]
                found[index] = writers.submit(self.describe, file, one, loaded)
        return [(chunk[index].file, found[index]) for index in sorted(found)]

    def _large(self, file: Input, loaded: Loaded, writers: ThreadPoolExecutor) -> Future[dict[str, Any]]:
        values = loaded.values
        if self._labelling is None:
            (one,) = self._predict([self.loader.features(values, file)])
            return writers.submit(self.describe, file, one, loaded)
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
        if self._large_one is not None:
            wait([self._large_one])  # so that no more than one such is in memory beside the next
        self._large_one = writers.submit(self._labelling.write, file, labels, mean, each, loaded)
        return self._large_one

    def _predict(self, xs: Sequence[Tensor]) -> list[Any]:
        ones = predicted(self.task, xs, self.options.device)
        if self.purpose != "label":
            return ones
        # they wait for their writing in less memory
        kind = torch.uint8 if len(self.task.facts.classes) <= 256 else torch.int32
        return [one._replace(labels=one.labels.to(kind)) for one in ones]

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
