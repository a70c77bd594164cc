"""``ndrnn inpaint``: fill in what a mask hides of an image, a volume or a signal, by a density model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from ...data.faults import BadFile, naming
from ..density_files import endings_of, read_mask, write_filled
from ..density_model import (
    around,
    as_continuous,
    as_values,
    has_opacity,
    in_colour,
    kept,
    load_density,
    overflow_of,
)
from ..inputs import Input, Loaded, Loader, find
from ..options import Inpaint
from ..output import Output
from ..outputs import Outputs

_INNER = 5  # points along each axis of a patch that are drawn anew


def run(options: Inpaint) -> int:
    """Run the command; returns the exit status."""
    out = Output(options.json)
    task, reader = load_density(options.model)
    loader = Loader(reader, task.facts, arrays=True)
    file, hidden = _single(options.image), _single(options.mask)
    loaded = loader.read(file)
    _check(file, loaded, task.facts.channels)
    target = _target(options.out, file, loaded)
    originals = (options.model, options.image, options.mask)
    Outputs(force=options.force, originals=originals).claim(target)
    in_file = read_mask(hidden, file, loaded, reader)
    mask = in_file if loaded.grid is None else loaded.grid.labels(in_file)
    values = _without(loaded.values, mask)
    span = loader.span(values, file)
    generator = torch.Generator().manual_seed(options.seed)
    with naming(file.where, "does not have the levels of the model"):
        known = as_continuous(loader.features(values, file, span), task.levels, generator)
    if loader.intensities.scale == "type":
        off = _rounded(as_values(known, task.levels, loader.intensities, values.dtype), values, mask)
        if off:
            out.warn(
                f"note: {file.where}: the model knows {task.levels:,} levels of files of another type: it sees these values "
                f"rounded, by up to {off:g}, and fills in such"
            )
    # channels that a model learned apart are samples of their own
    apart = task.model.channels < known.shape[-1]
    known = known.movedim(-1, 0).unsqueeze(-1) if apart else known.unsqueeze(0)
    # a model that pads would take what is cut off for the border
    part = around(mask, max(mask.shape) if task.model.pad else options.points_around(mask.ndim))
    seen = (slice(None), *part)
    with out.others(), overflow_of(file.where):
        found = task.model.inpaint(
            known[seen],
            torch.from_numpy(mask[part]),
            method=options.method,
            epochs=options.epochs,
            chains=options.chains,
            **_patches(task.model, mask.ndim),
            generator=generator,
            progress=not options.json,
        )
    known[seen] = found.best
    with overflow_of(file.where):
        whole = known.squeeze(-1).movedim(0, -1) if apart else known[0]
        filled = as_values(whole, task.levels, loader.intensities, loaded.values.dtype, span)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_filled(kept(filled, loaded.values, mask), target, file, loaded, in_file)
    out.say(str(target))
    out.result(
        {
            "image": str(target),
            "filled": int(mask.sum()),
            "log_prob": float(found.log_prob.max(0).values.sum()),
            "acceptance": None if found.acceptance is None else float(found.acceptance.mean()),
        }
    )
    return 0


def _single(path: Path) -> Input:
    file, *others = find([path])
    if others:
        raise BadFile(str(path), f"holds {1 + len(others):,} files, of which one is expected")
    return file


def _patches(model: Any, axes: int) -> dict[str, int]:
    """How patches are drawn anew: as published, but wider where the neighbourhood is; in volumes, where as much would take
    some ten times as long, smaller ones that do not overlap in what they draw."""
    reach = max(model.neighborhood.margins)
    context, stride = (4, _INNER) if axes == 3 else (7, 3)
    return {"patch": _INNER + 2 * max(context, reach), "inner": _INNER, "stride": stride}


def _check(file: Input, loaded: Loaded, channels: int) -> None:
    """Refuse what would not come back as it is."""
    if file.in_colour and channels < 3 and in_colour(loaded.values):
        raise BadFile(
            file.where,
            "is in colour and the model is of grey images: give it a grey copy, or train a model with --data.channels 3",
        )
    if not (file.is_volume or file.is_array) and has_opacity(loaded.values, channels):
        kind = loaded.values.dtype
        if (loaded.values[..., -1] != (np.iinfo(kind).max if kind.kind in "iu" else 1)).any():
            raise BadFile(
                file.where,
                "is not opaque everywhere, and the model knows nothing of opacity: give it a copy without",
            )
    if loaded.grid is not None and loaded.grid.size != loaded.grid.turned_shape:
        expected, got = (" x ".join(map(str, one)) for one in (loaded.grid.size, loaded.grid.turned_shape))
        raise BadFile(
            file.where,
            f"has {got} voxels, and data.spacing of the model's recipe asks for {expected}: only volumes that are not "
            "resampled can be filled in; resample it, or train a model without data.spacing",
        )


def _target(out: Path | None, file: Input, loaded: Loaded) -> Path:
    endings = endings_of(file, loaded)
    if out is None:
        return Path(f"inpainted{endings[0]}")
    if not out.name.lower().endswith(endings):
        raise ValueError(f"--out must end in {' or '.join(endings)} for {file.where}, got {out.name}")
    return out


def _rounded(seen: np.ndarray, values: np.ndarray, mask: np.ndarray) -> float:
    """By how much what the model sees of the values that are known differs from them at most."""
    colours = values[..., :-1] if has_opacity(values, seen.shape[-1]) else values
    return float(np.abs(seen.astype(np.float64) - colours)[~mask].max(initial=0))


def _without(values: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Values (D1, ..., Dn, C) in which what a mask hides is one of the others: whatever was there must not be seen, not
    even in their range."""
    there = values[~mask]
    return np.where(mask[..., None], there[0] if len(there) else values.dtype.type(0), values)
