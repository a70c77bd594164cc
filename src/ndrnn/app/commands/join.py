"""``ndrnn join``: what several jobs have each found of their share of the files, as one."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from heapq import merge
from math import isfinite
from pathlib import Path
from typing import Any

from ...learn.tally import add
from ...saving import models
from ...saving.atomic import replacing
from ...tasks.reliability import NAMES
from ..counted import Counted
from ..options import Join
from ..output import Output
from ..outputs import Outputs
from ..shards import FIGURES, LINES, OBJECTS, check_whole, digest, parts


def run(options: Join) -> int:
    """Run the command; returns the exit status: 1 if a file could not be used."""
    out = Output(options.json)
    folder = options.folder
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: no such folder")
    lines, figures, objects = (parts(folder, file) for file in (LINES, FIGURES, OBJECTS))
    if not lines and not figures:
        raise ValueError(
            f"{folder}: holds no parts of {LINES} or {FIGURES}, such as predict and evaluate write by --shard"
        )
    outputs = Outputs(force=options.force, originals=[*lines, *figures, *objects], folder=folder)
    result: dict[str, Any] = {}
    status = 0
    if lines:
        found = _predictions(lines, outputs.claim(folder / LINES))
        for fault in found["left_out"]:
            out.warn(f"left out: {fault['file']}: {fault['reason']}")
        counted = Counted(found["lines"], found["pages"]) if "pages" in found else Counted(found["files"])
        out.say(f"{counted.done(found['predicted'])}; the table is {folder / LINES}")
        result["predictions"], status = found, int(bool(found["left_out"]))
        if objects:
            count = _objects(objects, folder / LINES, outputs.claim(folder / OBJECTS))
            out.say(f"{count:,} objects; each is a line of {folder / OBJECTS}")
    if figures:
        with out.others():
            found = _evaluation(figures, outputs.claim(folder / FIGURES))
        count = found["samples"]
        out.say(f"{found['weights']} on {count:,} sample{'s' if count != 1 else ''} ({found['split']})")
        out.table((f"  {name.replace('_', ' ')}", f"{value:.4f}") for name, value in found["metrics"].items())
        if (reliability := found.get("reliability")) is not None:
            out.table((f"  {called}", f"{reliability[name]:.4f}") for name, called in NAMES.items())
        result["evaluation"] = found
        if not all(isfinite(value) for name, value in found["metrics"].items() if "/" not in name):
            out.warn("error: not all figures are finite numbers")
            status = 1
    out.result(result)
    return status


def _predictions(files: list[Path], target: Path) -> dict[str, Any]:
    """Put the lines of all parts into the order of the files."""
    ends: dict[int, dict[str, Any]] = {}
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as joined:
        for entry in merge(*(_lines(file, number, ends) for number, file in enumerate(files)), key=_place):
            del entry["at"]
            joined.write(json.dumps(entry, ensure_ascii=False, allow_nan=False) + "\n")
        missing = [number for number in range(len(files)) if number not in ends]
        check_whole(target.parent, LINES, missing, len(files))
        for key in ("digest", "reading"):
            told = [(file, ends[number][key]) for number, file in enumerate(files) if key in ends[number]]
            for file, own in told[1:]:
                _check_same(key, own, told[0][1], file, told[0][0])
    faults = {(fault["file"], fault["reason"]): fault for end in ends.values() for fault in end["left_out"]}
    predicted, pages, lines = (
        sum(end.get(what, 0) for end in ends.values()) for what in ("predicted", "pages", "lines")
    )
    others = len(faults) - (lines - predicted if pages else 0)
    counted = Counted(lines if pages else predicted, pages, max(others, 0))
    return {
        "files": counted.files,
        **counted.described(),
        "predicted": predicted,
        "left_out": list(faults.values()),
        "out": str(target),
    }


def _lines(file: Path, number: int, ends: dict[int, dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """The lines of a part, but for the one that says that it is whole."""
    with file.open(encoding="utf-8") as lines:
        for count, line in enumerate(lines, start=1):
            try:
                entry = json.loads(line)
                if "end" in entry:
                    ends[number] = entry["end"]
                    continue
                int(entry["at"])
            except (ValueError, KeyError, TypeError) as error:
                raise ValueError(f"{file}: line {count} is none of a prediction ({error})") from error
            yield entry


def _objects(files: list[Path], lines: Path, target: Path) -> int:
    """Put the objects of all parts into the order of the joined lines; gives how many they are."""
    with lines.open(encoding="utf-8") as found:
        order = {json.loads(line)["file"]: place for place, line in enumerate(found)}
    tables = []
    for file in files:
        with file.open(encoding="utf-8", newline="") as table:
            tables.append(list(csv.reader(table)))
    rows = [row for _, *own in tables for row in own]
    rows.sort(key=lambda row: order.get(row[0], len(order)))  # stable: those of a file stay as they are
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as joined:
        csv.writer(joined).writerows([tables[0][0], *rows])
    return len(rows)


def _check_same(key: str, own: Any, wanted: Any, file: Path, first: Path) -> None:
    if own != wanted:
        raise ValueError(f"{file}: {key} must be {wanted!r} as in {first.name}, got {own!r}")


def _place(entry: dict[str, Any]) -> int:
    return int(entry["at"])


def _evaluation(files: list[Path], target: Path) -> dict[str, Any]:
    """Add up what all parts have counted."""
    found = []
    for file in files:
        try:
            found.append(dict(json.loads(file.read_text(encoding="utf-8"))))
        except (ValueError, TypeError) as error:
            raise ValueError(f"{file}: is no part of an evaluation ({error})") from error
    same = ("digest", "split", "data", "total", "reading")
    for file, part in zip(files, found, strict=True):
        for key in same:
            _check_same(key, part.get(key), found[0].get(key), file, files[0])
    weights = Path(str(found[0].get("weights")))
    if not weights.is_file() or digest(weights) != found[0]["digest"]:
        raise ValueError(f"{files[0]}: the weights that were measured are no more in {weights}")
    task: Any = models.load(weights)
    for file, part in zip(files, found, strict=True):
        try:
            if part["samples"]:
                add(task, part["counts"])
        except (ValueError, KeyError, TypeError) as error:
            raise ValueError(f"{file}: its counts are none of these weights ({error})") from error
    result = {
        "weights": str(weights),
        "split": found[0]["split"],
        "samples": sum(int(part["samples"]) for part in found),
        "left_out": found[0]["left_out"],
        "metrics": {name: float(value) for name, value in task.results().items()},
    }
    if (judged := getattr(task, "judged", None)) is not None:
        result["reliability"] = judged.told()
    with replacing(target) as temporary:
        temporary.write_text(json.dumps(result, ensure_ascii=False) + "\n", encoding="utf-8")
    return result
