"""What labelling a file gives: a map of its labels, their confidence, objects, and what to tell of them."""

from __future__ import annotations

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..data.formats import npy, volumes
from ..data.formats.labelmaps import SCALE, write_array, write_map, write_overlay, write_shares, write_stack
from ..registry import nearest
from ..tasks import Facts
from ..tasks.instances import measured, separate
from .inputs import CONFIDENCE, INSTANCES, OVERLAY, Input, Loaded
from .options import Predict
from .outputs import Outputs
from .shards import OBJECTS, Shard

_MOST = 65535  # objects that 16 bits number


class Labelling:
    """Writes results of labelling.

    Args:
        facts: of the trained task.
        options: of the command.

    Raises:
        ValueError: an object's class is none of the task's.
    """

    def __init__(self, facts: Facts, options: Predict) -> None:
        self.facts = facts
        self.options = options
        names = facts.classes
        for name in options.instances:
            if name not in names:
                raise ValueError(f"instances: no class {name!r}{nearest(name, names)}")
        self._wanted = [names.index(name) for name in options.instances]
        if options.overlay and facts.ndim != 2:
            raise ValueError(f"overlay is for images, this network labels samples of {facts.ndim} axes")
        if options.instances and facts.ndim > 3:
            raise ValueError(
                f"instances are told apart along up to 3 axes, this network labels samples of {facts.ndim}"
            )
        self.counts: Counter[str] = Counter()
        """Objects of each class in all files so far."""
        self._objects: dict[str, list[list[Any]]] = {}
        self._table: IO[str] | None = None

    @property
    def whole_confidence(self) -> bool:
        """Whether the confidence of every point is needed, not only its mean."""
        return self.options.confidence or bool(self._wanted)

    def claim(self, file: Input, outputs: Outputs) -> None:
        """Claim all files that may be written for one."""
        for path in self._paths(file).values():
            outputs.claim(path, file.where)

    def open(self) -> None:
        """Begin the table of objects, if there is to be one."""
        if not self._wanted:
            return
        assert self.options.out is not None
        self.options.out.mkdir(parents=True, exist_ok=True)
        self._table = (self.options.out / Shard.of(self.options.shard).name(OBJECTS)).open(
            "w", encoding="utf-8", newline=""
        )
        axes = range(self.facts.ndim)
        head = ["file", "instance", "class", "area", *(f"centroid-{axis}" for axis in axes)]
        head += [*(f"bbox-{axis}" for axis in range(2 * self.facts.ndim)), "confidence"]
        csv.writer(self._table).writerow([*head, *(["volume_mm3"] if self.facts.ndim == 3 else [])])

    def close(self) -> None:
        if self._table is not None:
            self._table.close()

    def tell(self, file: Input) -> None:
        """Write the objects of a file into the table."""
        if self._table is None:
            return
        rows = self._objects.pop(file.place, [])
        csv.writer(self._table).writerows([file.where, *row] for row in rows)
        self._table.flush()
        self.counts.update(row[1] for row in rows)

    def write(
        self, file: Input, labels: np.ndarray, mean: float, confidence: np.ndarray | None, loaded: Loaded
    ) -> dict[str, Any]:
        """Write the results of a file, and give what to tell of it.

        Args:
            file: the file.
            labels: of the points of its sample.
            mean: of the confidence.
            confidence: of each point, where it is needed.
            loaded: the sample.
        """
        paths, classes = self._paths(file), self.facts.classes
        paths["labels"].parent.mkdir(parents=True, exist_ok=True)
        if "overlay" in paths:
            write_overlay(_image(file, loaded.values), labels, paths["overlay"], len(classes))
        if loaded.grid is not None:
            labels = loaded.grid.back(labels)
            confidence = None if confidence is None else loaded.grid.back(confidence)
        kind = np.uint8 if len(classes) <= 256 else np.uint16
        if not _as_its_file(labels, paths["labels"], kind, file, loaded):
            write_map(labels, paths["labels"], len(classes))
        # in parts: bincount makes eight bytes of every label
        parts = np.array_split(labels.reshape(-1), labels.size // 2**20 + 1)
        counts = np.sum([np.bincount(part, minlength=len(classes)) for part in parts], axis=0)
        told: dict[str, Any] = {
            "labels": str(paths["labels"]),
            "confidence": round(mean, 4),
            "shares": {
                name: round(int(count) / labels.size, 6) for name, count in zip(classes, counts, strict=True)
            },
        }
        if self._wanted:
            told |= self._instances(file, labels, confidence, loaded, paths)
        if self.options.confidence and confidence is not None:
            told |= self._confidence(file, confidence, loaded, paths)
        return told

    def _paths(self, file: Input) -> dict[str, Path]:
        """Where the results of a file may go."""
        assert self.options.out is not None  # the command has seen to it
        place = self.options.out / file.place
        ending = ".tif" if self.facts.ndim == 3 else ".png"
        if file.is_volume or file.is_array:
            ending = ".nii.gz" if file.is_volume else npy.SUFFIX
        paths = {"labels": _with(place, ending)}
        if self.options.overlay:
            paths["overlay"] = _with(place, f"{OVERLAY}.png")
        if self.options.instances:
            paths["instances"] = _with(place, f"{INSTANCES}{ending}")
            if ending == ".png":
                paths["more instances"] = _with(place, f"{INSTANCES}.tif")
        if self.options.confidence:
            paths["confidence"] = _with(place, f"{CONFIDENCE}{ending}")
        return paths

    def _instances(
        self,
        file: Input,
        labels: np.ndarray,
        confidence: np.ndarray | None,
        loaded: Loaded,
        paths: dict[str, Path],
    ) -> dict[str, Any]:
        objects = separate(
            labels,
            self._wanted,
            apart=self.options.instances_apart,
            smallest=self.options.instances_smallest,
        )
        table = measured(objects, labels, confidence)
        path = paths["instances"]
        if not _as_its_file(objects, path, np.int32, file, loaded):
            if len(table["instance"]) > _MOST:
                path = paths["more instances"]
                write_stack(objects[None], path)
            else:
                write_map(objects, path, _MOST)
        self._objects[file.place] = self._rows(table, file, loaded)
        found = Counter(row[1] for row in self._objects[file.place])
        return {
            "instances": str(path),
            "counts": {name: found[name] for name in self.options.instances},
        }

    def _rows(self, table: dict[str, np.ndarray], file: Input, loaded: Loaded) -> list[list[Any]]:
        cube = 0.0  # millimetres
        if self.facts.ndim == 3 and file.is_volume:
            cube = float(np.prod(volumes.space(loaded.data, file.where).spacing))
        rows = []
        for values in zip(*(column.tolist() for column in table.values()), strict=True):
            number, label, area, *rest = values
            rest = [round(value, 4) if isinstance(value, float) else value for value in rest]
            row = [number, self.facts.classes[label], area, *rest]
            if self.facts.ndim == 3:
                row.append(f"{area * cube:.6g}" if cube > 0 else "")
            rows.append(row)
        return rows

    def _confidence(
        self, file: Input, confidence: np.ndarray, loaded: Loaded, paths: dict[str, Path]
    ) -> dict[str, Any]:
        path, scale = paths["confidence"], 1
        if not _as_its_file(confidence, path, np.float32, file, loaded):
            write_shares(confidence, path)
            scale = SCALE
        return {"confidence_map": str(path), "confidence_scale": scale}


def refuse_others(options: Predict, purpose: str) -> None:
    """Options that have a meaning for labels alone.

    Raises:
        ValueError: one is given for another task.
    """
    given: Sequence[str] = [name for name in ("overlay", "confidence", "instances") if getattr(options, name)]
    if given and purpose != "label":
        raise ValueError(f"{', '.join(given)}: for networks that label points, this one is for {purpose}")


def _as_its_file(values: np.ndarray, path: Path, kind: Any, file: Input, loaded: Loaded) -> bool:
    """Write numbers of points, of one of NumPy's types, as a volume or an array like the file that they belong to, or as
    the slices of a stack; returns whether it is any of these, and not a picture."""
    if file.is_volume:
        volumes.write(values, path, like=loaded.data, kind=kind)
    elif file.is_array:
        write_array(values, path, kind)
    elif values.ndim == 3:
        write_stack(values.astype(kind, copy=False), path)
    else:
        return False
    return True


def _image(file: Input, values: np.ndarray) -> np.ndarray:
    """Values (H, W, C) as they can be seen: what is no picture, and has not three channels, as their mean."""
    if file.in_colour or values.shape[-1] in (1, 3):
        return values
    return values.mean(-1, dtype=np.float32, keepdims=True)


def _with(place: Path, ending: str) -> Path:
    return place.with_name(place.name + ending)
