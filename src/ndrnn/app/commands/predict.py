"""``ndrnn predict``: label, classify or transcribe files, or tell how likely they are."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import islice
from math import prod
from pathlib import Path
from typing import IO, Annotated, Any

import numpy as np
import torch
import tyro
from torch import Tensor

from ...data.batches import ClassifyBatch, DensityBatch, LabelBatch, TranscribeBatch
from ...data.faults import BadFile, Faults
from ...data.formats import volumes
from ...data.formats.labelmaps import write_map, write_overlay
from ...data.pipeline.grouping import group_by_size
from ...data.pipeline.samples import pad
from ...nn.tiled import tiles
from ...tasks.density import NOT_FINITE
from ...tasks.use import use_of
from ..inputs import Input, Loader, find
from ..output import Output
from ..recipe import load_plugin
from ..trained import load

LINES = "predictions.jsonl"
"""The table of all predictions, a JSON object a line, in the order of the files."""


@dataclass(frozen=True)
class Predict:
    """Use a trained model on files. MODEL is a run's folder or weights; INPUT an image, a volume, a folder or a zip
    archive. Labels become PNG maps with a palette, or NIfTI volumes; of everything predictions.jsonl tells, a JSON
    object a line: labels and their confidence, class and probabilities, text and confidence, or bits per pixel."""

    model: Annotated[Path, tyro.conf.Positional]
    """A run's folder, or weights (.safetensors)."""
    inputs: Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="INPUT [INPUT ...]")]
    """Images, volumes, folders, zip archives."""
    out: Path | None = None
    """Folder for the results; without it the lines are printed, and maps cannot be had."""
    overlay: bool = False
    """Also draw the labels over the images, as NAME.overlay.png."""
    tile: int = 512
    """Label images with more than TILE x TILE points in tiles of about so many, so that memory stays bounded."""
    overlap: int = 64
    """Points by which tiles overlap where states cannot be handed from one to the next."""
    batch_size: int = 16
    """Files at a time; large ones are taken singly."""
    strict: bool = False
    """Stop at the first file that cannot be used."""
    plugin: str = ""
    """Module with the model's class, where the run's recipe does not name it."""
    device: str = "cpu"
    """Where the network runs."""
    json: bool = False
    """Print nothing but one JSON object at the end."""

    def __post_init__(self) -> None:
        for name in ("tile", "batch_size"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not self.inputs:
            raise ValueError("INPUT must name at least one image, volume, folder or zip archive, got none")
        if self.overlap < 0:
            raise ValueError(f"overlap must not be negative, got {self.overlap}")


def run(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status: 1 if a file could not be used."""
    options = tyro.cli(Predict, prog="ndrnn predict", args=argv)
    out = Output(options.json)
    if options.plugin:
        load_plugin(options.plugin)
    task, reader, _ = load(options.model)
    task.to(options.device)
    purpose = use_of(task).purpose
    if purpose == "label" and options.out is None:
        raise ValueError("--out must name a folder for the label maps, got none")
    files = find(options.inputs)
    use = _Use(task, purpose, Loader(reader, task.facts.channels, task.facts.ndim), options)
    faults = Faults(options.strict)
    done = 0
    with out.others(), _lines(options.out) as lines:
        for file, result in use.results(out.progress(files, "reading", len(files)), faults):
            line = json.dumps({"file": file.where, **result}, ensure_ascii=False)
            if lines is None:
                out.say(line)
            else:
                lines.write(line + "\n")
                lines.flush()
            done += 1
    for fault in faults.found:
        out.warn(f"left out: {fault}")
    if options.out is not None:
        out.say(f"{done:,} of {len(files):,} files; results are in {options.out}")
    if faults:
        out.warn(f"{len(faults):,} of {len(files):,} files could not be used")
    out.result(
        {
            "files": len(files),
            "predicted": done,
            "left_out": [{"file": fault.file, "reason": fault.reason} for fault in faults.found],
            "out": None if options.out is None else str(options.out),
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
        self.describe: Callable[[Input, Any, np.ndarray, bytes], dict[str, Any]] = {
            "label": self._label,
            "classify": self._classify,
            "transcribe": self._transcribe,
            "density": self._density,
        }[purpose]

    def results(self, files: Iterable[Input], faults: Faults) -> Iterator[tuple[Input, dict[str, Any]]]:
        """Each file with what to tell of it, in order; files that cannot be used go to ``faults``."""
        stream = iter(files)
        while chunk := list(islice(stream, 4 * self.options.batch_size)):
            found: dict[int, dict[str, Any]] = {}
            small: list[tuple[int, np.ndarray, bytes]] = []
            for index, file in enumerate(chunk):
                try:
                    values, data = self.loader.read(file)
                    if prod(values.shape[:-1]) <= self.options.tile**2:
                        small.append((index, values, data))
                    else:
                        found[index] = self._large(file, values, data)
                except BadFile as fault:
                    faults.add(fault)
            self._together(chunk, small, found, faults)
            for index in sorted(found):
                yield chunk[index], found[index]

    def _together(
        self,
        chunk: Sequence[Input],
        small: Sequence[tuple[int, np.ndarray, bytes]],
        found: dict[int, dict[str, Any]],
        faults: Faults,
    ) -> None:
        ready = []
        for index, values, data in small:
            try:
                ready.append((index, values, data, self.loader.features(values, chunk[index])))
            except BadFile as fault:
                faults.add(fault)
        for batch in group_by_size([x.shape[:-1] for *_, x in ready], self.options.batch_size):
            members = [ready[position] for position in batch]
            for (index, values, data, _), one in zip(
                members, self._predict([x for *_, x in members]), strict=True
            ):
                try:
                    found[index] = self.describe(chunk[index], one, values, data)
                except BadFile as fault:
                    faults.add(fault)

    def _large(self, file: Input, values: np.ndarray, data: bytes) -> dict[str, Any]:
        if self.purpose != "label":
            (one,) = self._predict([self.loader.features(values, file)])
            return self.describe(file, one, values, data)
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
                confidence, best = scores[0].softmax(-1).max(-1)
                labels[place] = best.cpu().numpy()
                sure += float(confidence.sum())
        return self._write(file, labels, sure / labels.size, values, data)

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
        assert self.options.out is not None  # run() has seen to it
        place = self.options.out / file.place
        place.parent.mkdir(parents=True, exist_ok=True)
        classes = self.task.facts.classes
        ending = ".nii.gz" if labels.ndim == 3 else ".png"
        path = place.with_name(place.name + ending)
        if labels.ndim == 3:
            volumes.write(labels, path, volumes.affine(data) if file.is_volume else None)
        else:
            write_map(labels, path, len(classes))
            if self.options.overlay:
                write_overlay(values, labels, place.with_name(place.name + ".overlay.png"), len(classes))
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
        return {
            "class": classes[one.label],
            "confidence": round(probabilities[one.label], 4),
            "probabilities": {
                name: round(value, 4) for name, value in zip(classes, probabilities, strict=True)
            },
        }

    def _transcribe(self, file: Input, one: Any, values: np.ndarray, data: bytes) -> dict[str, Any]:
        return {"text": one.text, "confidence": round(float(one.confidence), 4)}

    def _density(self, file: Input, one: Any, values: np.ndarray, data: bytes) -> dict[str, Any]:
        if not bool(one.bits.isfinite().all()):
            raise BadFile(file.where, NOT_FINITE)
        return {"bits_per_pixel": round(float(one.bits_per_pixel), 4)}
