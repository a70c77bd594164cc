"""What a picture looks like to a model: labels, classes, a text with its places, and what its layers remember."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from math import isfinite, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.faults import BadFile
from ...inspect.activity import first_component, hidden_states, mean_activity, scan_layers
from ...learn.task import NOT_FINITE
from ...nn.networks.tiling import edges_of
from ..density_model import as_continuous
from ..prediction import label_tiles, predicted
from . import density_views
from .pictures import Picture
from .served import Served
from .work import Job, View

TILE = 512
"""Larger pictures than TILE x TILE points are labelled in tiles."""
OVERLAP = 64
"""Points by which tiles overlap where states cannot be handed from one to the next."""
REMEMBERED = 1 << 25
"""Of what a layer remembers so many numbers are looked at: of a larger picture those of its middle."""

PAGE = 400
"""Few single lines are so many pixels high, and not twice as wide."""
WHOLE_PAGE = (
    "This looks like more than one line. What is read is the image of one; ndrnn predict reads whole pages whose lines a "
    "PAGE or ALTO file describes."
)

Act = Callable[[Served, Picture, Mapping[str, Any], Job], View]


def labels(served: Served, picture: Picture, wanted: Mapping[str, Any], job: Job) -> View:
    """The label of every pixel, and how sure the network is of it."""
    values = served.loader.read(picture.file).values
    lattice = values.shape[:-1]
    classes = served.task.facts.classes
    best = np.zeros(lattice, np.uint8 if len(classes) <= 256 else np.uint16)
    sure = np.zeros(lattice, np.float32)
    if prod(lattice) <= TILE**2:
        (one,) = predicted(served.task, [served.loader.features(values, picture.file)], served.device)
        best[:], sure[:] = one.labels.numpy(), one.confidence.numpy()
    else:
        done = 0
        window = served.loader.window(values, picture.file)
        for place, found, confidence in label_tiles(
            served.task, lattice, window, TILE**2, overlap=OVERLAP, device=served.device
        ):
            best[place], sure[place] = found.numpy(), confidence.numpy()
            done += found.numel()
            job.report(done / prod(lattice), f"{done:,} of {prod(lattice):,} pixels")
    if not np.isfinite(sure).all():
        raise BadFile(picture.name, NOT_FINITE)
    counts = np.bincount(best.reshape(-1), minlength=len(classes))
    told = {"shares": (counts / best.size).tolist(), "confidence": float(sure.mean())}
    return View(told, {"labels": best, "confidence": np.rint(255 * sure).astype(np.uint8)})


def classes(served: Served, picture: Picture, wanted: Mapping[str, Any], job: Job) -> View:
    """How probable each class is."""
    (one,) = predicted(served.task, [_features(served, picture)], served.device)
    probabilities = one.probabilities.tolist()
    if not all(map(isfinite, probabilities)):
        raise BadFile(picture.name, NOT_FINITE)
    return View({"label": one.label, "probabilities": probabilities})


def text(served: Served, picture: Picture, wanted: Mapping[str, Any], job: Job) -> View:
    """What is written, with the columns of the picture that each character covers."""
    x = _features(served, picture)
    (one,) = predicted(served.task, [x], served.device)
    if not isfinite(one.confidence):
        raise BadFile(picture.name, NOT_FINITE)
    # the reader may have turned and scaled the picture
    is_page = x.shape[1] < 2 * x.shape[0] and min(picture.height, picture.width) >= PAGE
    width, scale = served.task.frame_width() / one.view.width, picture.width / x.shape[1]

    def column(frame: int) -> float:
        return float(min(frame * width, x.shape[1]) * scale)

    return View(
        {
            "text": one.text,
            "confidence": one.confidence,
            "note": WHOLE_PAGE if is_page else "",
            "characters": [
                {
                    "character": character,
                    "from": column(first),
                    "to": column(last),
                    "confidence": confidence,
                }
                for character, (first, last), confidence in zip(
                    one.text, one.frames, one.characters, strict=True
                )
            ],
        }
    )


def memory(served: Served, picture: Picture, wanted: Mapping[str, Any], job: Job) -> View:
    """The hidden activity of a layer, a map a direction; of a large picture that of its middle."""
    known = scan_layers(served.model)
    layer = wanted.get("layer") or next(iter(known), "")
    if layer not in known:
        raise ValueError(
            f"layer must be one of {', '.join(known) or 'none: the model has no layers'}, got {layer!r}"
        )
    by = wanted.get("by", "mean")
    if by not in ("mean", "component"):
        raise ValueError(f"by must be mean or component, got {by!r}")
    x = _features(served, picture)
    whole = x.shape[:-1]
    numbers = known[layer].hidden_size * len(known[layer].directions)
    edges = edges_of(whole, (1,) * len(whole), REMEMBERED // numbers)
    corner = [(size - edge) // 2 for size, edge in zip(whole, edges, strict=True)]
    x = x[tuple(slice(begin, begin + edge) for begin, edge in zip(corner, edges, strict=True))]
    states = hidden_states(served.model, layer, _run(served, x.unsqueeze(0)))[0].cpu()
    if known[layer].ndim == 1:  # along the columns, where the rows have become one
        states = states.unsqueeze(0)
    if not bool(states.isfinite().all()):
        raise BadFile(picture.name, NOT_FINITE)
    shares: list[float] = []
    if by == "mean":
        maps = mean_activity(states)
    else:
        maps, share = first_component(states)
        shares = share.tolist()
    # a point of a coarser lattice stands for a block of pixels; a density's first points lack their neighbourhood
    lattice = states.shape[:2]
    dense = served.purpose == "density"
    lost = served.model.neighborhood.margins if dense and not served.model.pad else (0, 0, 0, 0)
    block = (
        [1, 1] if dense else [-(-size // points) for size, points in zip(x.shape[:2], lattice, strict=True)]
    )
    across = [picture.height / whole[0], picture.width / whole[1]]
    told = {
        "layer": layer,
        "by": by,
        "directions": known[layer].directions,
        "shares": shares,
        # where the maps lie on the picture, in its pixels: top, left, height, width of the maps, of what is looked at
        "maps": [
            (corner[0] + lost[0]) * across[0],
            (corner[1] + lost[2]) * across[1],
            lattice[0] * block[0] * across[0],
            lattice[1] * block[1] * across[1],
        ],
        "seen": [corner[0] * across[0], corner[1] * across[1], edges[0] * across[0], edges[1] * across[1]],
    }
    return View(told, {"maps": maps.movedim(-1, 0).contiguous().numpy().astype(np.float32)})


def _features(served: Served, picture: Picture) -> Tensor:
    values = served.loader.read(picture.file).values
    return served.loader.features(values, picture.file)


def _run(served: Served, x: Tensor) -> Callable[[], object]:
    """Applies the model to a batch."""
    x = x.to(served.device)
    if served.purpose == "density":
        known = as_continuous(x, served.task.levels, torch.Generator().manual_seed(0))
        return lambda: served.model.log_prob(known)
    return lambda: served.model(x, None)


ACTS: dict[str, Act] = {
    "labels": labels,
    "classes": classes,
    "text": text,
    "memory": memory,
    "surprise": density_views.surprise,
    "fill": density_views.fill,
}
"""What is done with a picture, by the name of the view; ``draw`` needs none."""
