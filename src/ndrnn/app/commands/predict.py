"""``ndrnn predict``: label, classify or transcribe files, or tell how likely they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import closing, nullcontext
from itertools import islice
from math import isfinite, prod
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data.batches import ClassifyBatch, DensityBatch, LabelBatch, TranscribeBatch
from ...data.faults import BadFile, Faults
from ...data.formats import volumes
from ...data.formats.labelmaps import write_map, write_overlay
from ...data.pipeline.grouping import group_by_size
from ...data.pipeline.samples import pad
from ...density.use.growth import AT_LIMIT
from ...learn.task import NOT_FINITE
from ...nn.tiled import tiles
from ...tasks.density import NOT_FINITE as NO_DENSITY
from ...tasks.label import most_probable
from ...tasks.use import use_of
from ..inputs import OVERLAY, Input, Loader, find
from ..options import Predict
from ..output import Output
from ..outputs import Outputs
from ..overlap import ReadAhead
from ..shards import LINES, Shard
from ..trained import load


def run(options: Predict) -> int:
    """Run the command; returns the exit status: 1 if a file could not be used."""
    out = Output(options.json)
    task, reader, _ = load(options.model)
    task.to(options.device)
    purpose = use_of(task).purpose
    if purpose == "label" and options.out is None:
        raise ValueError("--out must name a folder for the label maps, got none")
    faults = Faults(options.strict)
    everything = find(options.inputs, reader, faults)
    shard = Shard.of(options.shard)
    files = shard.share(everything)
    places = {file.place: number for number, file in enumerate(everything)} if shard.count > 1 else {}
    count = len(files) + len(faults)
    use = _Use(task, purpose, Loader(reader, task.facts.channels, task.facts.ndim), options)
    usable = use.claim(files, faults, everything)
    done = 0
    with out.others(), _lines(options.out, shard) as lines:
        shown = out.progress(usable, "reading", len(usable))
        for file, result in use.results(usable, faults, shown):
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
            done += 1
        if lines is not None and shard.count > 1:  # by which it is known to be whole
            end = {"predicted": done, "left_out": _named(faults)}
            lines.write(json.dumps({"end": end}, ensure_ascii=False) + "\n")
    for fault in faults.found:
        out.warn(f"left out: {fault}")
    if options.out is not None:
        out.say(f"{done:,} of {count:,} files; results are in {options.out}")
    if faults:
        out.warn(f"{len(faults):,} of {count:,} files could not be used")
    out.result(
        {
            "files": count,
            "predicted": done,
            "left_out": _named(faults),
            "out": None if options.out is None else str(options.out),
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
    values: Any = None
    data: bytes = b""
    x: Any = None


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
        self._large_one: Future[dict[str, Any]] | None = None
        self.describe: Callable[[Input, Any, np.ndarray, bytes], dict[str, Any]] = {
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
        originals = [self.options.model, *(file.path for file in everything)]
        outputs = Outputs(force=self.options.force, originals=originals, folder=self.options.out)
        outputs.claim(self.options.out / Shard.of(self.options.shard).name(LINES))
        usable = []
        for file in files:
            try:
                for path in self._paths(file) if self.purpose == "label" else ():
                    outputs.claim(path, file.where)
                usable.append(file)
            except BadFile as fault:
                faults.add(fault)
        return usable

    def _paths(self, file: Input) -> tuple[Path, ...]:
        """Where the labels of a file go, and the picture with them laid over it where there is one."""
        assert self.options.out is not None  # run() has seen to it
        if self.task.facts.ndim == 3:
            return (self.options.out / f"{file.place}.nii.gz",)
        overlay = self.options.out / f"{file.place}{OVERLAY}.png"
        return (self.options.out / f"{file.place}.png", *([overlay] if self.options.overlay else []))

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
        ahead = ReadAhead(files, self.loader.read, lambda found: found[0].nbytes + len(found[1]))
        stream = zip(files if shown is None else shown, ahead, strict=True)
        before: list[tuple[Input, Future[dict[str, Any]]]] = []
        with closing(ahead), ThreadPoolExecutor(2, "write") as writers:
            while chunk := list(islice(self._read(stream, faults, writers), 4 * self.options.batch_size)):
                ready = self._together(chunk, faults, writers)
                # by now what is written of the chunk before is done, or nearly
                yield from _done(before, faults)
                before = ready
            yield from _done(before, faults)

    def _read(
        self, stream: Iterator[tuple[Input, Any]], faults: Faults, writers: ThreadPoolExecutor
    ) -> Iterator[_Read]:
        """What was read and is small; of what is large, the result, which is computed at once."""
        for file, found in stream:
            try:
                if isinstance(found, BaseException):
                    raise found
                values, data = found
                if prod(values.shape[:-1]) > self.options.tile**2:
                    yield _Read(file, self._large(file, values, data, writers))
                else:
                    yield _Read(file, None, values, data, self.loader.features(values, file))
            except BadFile as fault:
                faults.add(fault)

    def _together(
        self, chunk: Sequence[_Read], faults: Faults, writers: ThreadPoolExecutor
    ) -> list[tuple[Input, Future[dict[str, Any]]]]:
        """Files with what comes to be told of them, in order."""
        found = {index: one.result for index, one in enumerate(chunk) if one.result is not None}
        small = [index for index, one in enumerate(chunk) if one.result is None]
        sizes = [chunk[index].x.shape[:-1] for index in small]
        for batch in group_by_size(sizes, self.options.batch_size):
            members = [small[position] for position in batch]
            for index, one in zip(members, self._predict([chunk[index].x for index in members]), strict=True):
                file, _, values, data, _ = chunk[index]
                found[index] = writers.submit(self.describe, file, self._lean(one), values, data)
        return [(chunk[index].file, found[index]) for index in sorted(found)]

    def _lean(self, one: Any) -> Any:
        """A result that waits for its writing, in less memory."""
        if self.purpose != "label":
            return one
        kind = torch.uint8 if len(self.task.facts.classes) <= 256 else torch.int32
        return one._replace(labels=one.labels.to(kind))

    def _large(
        self, file: Input, values: np.ndarray, data: bytes, writers: ThreadPoolExecutor
    ) -> Future[dict[str, Any]]:
        if self.purpose != "label":
            (one,) = self._predict([self.loader.features(values, file)])
            return writers.submit(self.describe, file, one, values, data)
        lattice = values.shape[:-1]
        kind = np.uint8 if len(self.task.facts.classes) <= 256 else np.uint16
        labels, sure = np.zeros(lattice, kind), 0.0
        window = self.loader.window(values, file)
        with torch.no_grad():
            for place, scores in tiles(
                self.task.model,
                lattice,
                lambda part: window(part).unsqueeze(0).to(self.options.device),
                self.options.tile**2,
                overlap=self.options.overlap,
            ):
                confidence, best = most_probable(scores[0])
                labels[place] = best.cpu().numpy()
                sure += float(confidence.sum())
        if self._large_one is not None:
            wait([self._large_one])  # so that no more than one such is in memory beside the next
        self._large_one = writers.submit(self._write, file, labels, sure / labels.size, values, data)
        return self._large_one

    def _predict(self, xs: Sequence[Tensor]) -> list[Any]:
        x, sizes = pad(xs, self.task.facts.ndim)
        x = x.to(self.options.device)
        sizes = None if sizes is None else sizes.to(self.options.device)
        count, nothing = len(xs), x.new_zeros(0)
        if self.purpose == "label":
            return self.task.predict_step(LabelBatch(x, nothing, sizes))
        if self.purpose == "classify":
            return self.task.predict_step(ClassifyBatch(x, nothing, sizes))
        if self.purpose == "transcribe":
            return self.task.predict_step(TranscribeBatch(x, ("",) * count, sizes))
        return self.task.predict_step(DensityBatch(x, sizes))

    def _label(self, file: Input, one: Any, values: np.ndarray, data: bytes) -> dict[str, Any]:
        return self._write(file, one.labels.numpy(), float(one.confidence.mean()), values, data)

    def _write(
        self, file: Input, labels: np.ndarray, confidence: float, values: np.ndarray, data: bytes
    ) -> dict[str, Any]:
        _check_finite(file, confidence)
        path, *overlay = self._paths(file)
        path.parent.mkdir(parents=True, exist_ok=True)
        classes = self.task.facts.classes
        if labels.ndim == 3:
            volumes.write(labels, path, volumes.affine(data) if file.is_volume else None)
        else:
            write_map(labels, path, len(classes))
            if overlay:
                write_overlay(values, labels, overlay[0], len(classes))
        # in parts: bincount makes eight bytes of every label
        parts = np.array_split(labels.reshape(-1), labels.size // 2**20 + 1)
        counts = np.sum([np.bincount(part, minlength=len(classes)) for part in parts], axis=0)
        return {
            "labels": str(path),
            "confidence": round(confidence, 4),
            "shares": {
                name: round(int(count) / labels.size, 6) for name, count in zip(classes, counts, strict=True)
            },
        }

    def _classify(self, file: Input, one: Any, values: np.ndarray, data: bytes) -> dict[str, Any]:
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

    def _transcribe(self, file: Input, one: Any, values: np.ndarray, data: bytes) -> dict[str, Any]:
        _check_finite(file, float(one.confidence))
        return {"text": one.text, "confidence": round(float(one.confidence), 4)}

    def _density(self, file: Input, one: Any, values: np.ndarray, data: bytes) -> dict[str, Any]:
        if not bool(one.bits.isfinite().all()):
            raise BadFile(file.where, NO_DENSITY)
        told: dict[str, Any] = {"bits_per_pixel": round(float(one.bits_per_pixel), 4)}
        return {**told, "memory_at_limit": True} if one.saturated else told


def _check_finite(file: Input, *values: float) -> None:
    if not all(map(isfinite, values)):
        raise BadFile(file.where, NOT_FINITE)
