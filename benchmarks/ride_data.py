"""RIDE on real data and on dead leaves: bits per pixel beside the MCGSM's, and textures.

``python -m benchmarks.ride_data bsds300 --result FILE`` trains one layer on grey BSDS300 and evaluates it as published:
test images in 64x64 tiles, each alone, only pixels with a full neighbourhood. ``--grow WEIGHTS`` puts a layer on a
trained model first, ``--start WEIGHTS`` trains one on as it is. ``dead-leaves`` does the same on generated images;
``texture`` fits one Brodatz texture and samples it. ``python -m benchmarks.mcgsm`` gives the MCGSM's figures for the
same pixels. With ``--checkpoint`` a run that was killed goes on where it was.
"""

from __future__ import annotations

import json
import platform
import shlex
import sys
import time
from dataclasses import asdict, dataclass, field
from math import log
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import torch
import tyro
from PIL import Image
from torch import Tensor

import ndrnn
from benchmarks import bsds300, dead_leaves
from ndrnn.density import RIDE, Modern, Published, RideReport, dequantize, texture, tiles
from ndrnn.density.lattices.rate import rate_of
from ndrnn.density.use.evaluation import log_prob_ensemble
from ndrnn.saving import models as checkpoint
from ndrnn.saving import snapshot
from ndrnn.saving.atomic import replacing

TILE = 64


@dataclass(frozen=True)
class Run:
    """One training."""

    hidden: int = 64
    layers: int = 1
    """Of a model that starts anew."""
    components: int = 32
    scales: int = 4
    features: int = 32
    cell: Literal["leaky", "stable", "gru", "rnn", "linear", "spatial", "spatial_extended", "lstm"] = "leaky"
    residual: bool = False
    """Whether layers above the first add to what they are given, those of a new model, or put on one of one layer."""
    schedule: Literal["modern", "published"] = "modern"
    """Which of the two, whose options follow."""
    modern: Modern = field(default_factory=Modern)
    published: Published = field(default_factory=Published)
    grow: Path | None = None
    """Weights of a trained model on which a layer is put."""
    start: Path | None = None
    """Weights of a trained model that is trained further, as it is."""
    fresh: bool = False
    """Whether that layer and the MCGSM start anew, as published; otherwise it passes through what is below at first."""
    minutes: float = 60.0
    """The training ends after so long, not counting runs before a kill."""
    seed: int = 0
    threads: int = 1
    ensemble_tiles: int = 7
    """Tiles of each test image on which the ensemble is compared with the model alone; it takes eight times as long."""
    checkpoint: Path | None = None
    """Where the state of the training is kept, and read from if it exists."""
    as_it_is: bool = False
    """Evaluate the running mean of the weights in the checkpoint, without training on."""
    weights: Path | None = None
    """Where the trained model goes (.safetensors)."""
    result: Path | None = None
    """Where the figures go as JSON."""


@dataclass(frozen=True)
class Bsds300(Run):
    """Grey BSDS300."""


@dataclass(frozen=True)
class DeadLeaves(Run):
    """Generated images of occluding disks."""


@dataclass(frozen=True)
class Texture(Run):
    """A Brodatz texture."""

    name: Literal["D3", "D93", "D104"] = "D93"
    side: int = 256
    picture: Path | None = None
    """Where the sample goes (PNG)."""


def main(config: Run) -> dict[str, Any]:
    """Train, evaluate, print and write."""
    if config.weights is not None and config.result == config.weights.with_suffix(".json"):
        raise ValueError(f"result must be another file than the weights' own description, {config.result}")
    if config.grow is not None and config.start is not None:
        raise ValueError(f"only one of grow and start can be given, got {config.grow} and {config.start}")
    torch.set_num_threads(config.threads)
    torch.manual_seed(config.seed)
    if isinstance(config, Texture):
        figures = _texture(config)
    else:
        figures = _leaves(config) if isinstance(config, DeadLeaves) else _photographs(config)
    figures = {
        "command": shlex.join(["python", "-m", "benchmarks.ride_data", *sys.argv[1:]]),
        "config": json.loads(json.dumps(asdict(config), default=str)),
        **figures,
        "machine": f"{platform.machine()}, {torch.backends.cpu.get_cpu_capability()}",
        "torch": torch.__version__,
        "backends": {name: answer is True for name, answer in ndrnn.available_backends().items()},
    }
    print(json.dumps(figures, indent=2))
    if config.result is not None:
        with replacing(config.result) as path:
            path.write_text(json.dumps(figures, indent=2) + "\n")
    return figures


def _trained(config: Run, images: Any, held_out: Tensor, levels: int | None) -> tuple[RIDE, dict[str, Any]]:
    if config.grow is not None or config.start is not None:
        ride = checkpoint.load(config.grow or config.start)
        assert isinstance(ride, RIDE)
        if config.grow is not None:
            if config.residual and ride.num_layers == 1:
                ride.residual = True  # one layer alone adds to nothing: the model stays what it is
            ride.add_layer(pass_through=not config.fresh)
    else:
        ride = RIDE(
            config.hidden,
            config.layers,
            num_components=config.components,
            num_scales=config.scales,
            num_features=config.features,
            cell=config.cell,
            residual=config.residual,
        )
    if config.as_it_is:
        return ride, _unfinished(ride, config)
    began = time.monotonic()
    report: RideReport = ride.fit(
        images,
        held_out,
        levels=levels,
        schedule=config.modern if config.schedule == "modern" else config.published,
        seed=config.seed,
        checkpoint=config.checkpoint,
        callback=lambda look: print(look, flush=True) or time.monotonic() - began < 60 * config.minutes,
    )
    return ride, {
        **_kept(ride, config),
        "training": {
            "steps": report.steps,
            "seconds": report.seconds,
            "ended": report.reason,
            "held_out_bits": -report.best_loss / log(2.0),
            "history": [
                (look.stage, look.step, -look.train_loss / log(2.0), -(look.val_loss or 0.0) / log(2.0))
                for look in report.history
            ],
        },
    }


@torch.no_grad()
def _unfinished(ride: RIDE, config: Run) -> dict[str, Any]:
    """A training that has not come to its end, as its checkpoint tells."""
    if config.checkpoint is None:
        raise ValueError("as_it_is needs a checkpoint")
    state = snapshot.read(config.checkpoint)
    ride.load_state_dict(state["weights"])
    trained = [p for p in ride.parameters() if p.requires_grad]
    for p, mean in zip(trained, state["average"] or trained, strict=True):
        p.copy_(mean)
    return {
        **_kept(ride, config),
        "training": {
            "steps": state["step"],
            "of_steps": config.modern.steps,
            "seconds": state["seconds"],
            "ended": "unfinished",
        },
    }


def _kept(ride: RIDE, config: Run) -> dict[str, int]:
    """The size of a model whose training is over; from here on it is fixed."""
    weights = sum(p.numel() for p in ride.parameters() if p.requires_grad)
    ride.eval().requires_grad_(False)
    if config.weights is not None:
        checkpoint.save(ride, config.weights)
    return {"layers": ride.num_layers, "weights": weights}


@torch.no_grad()
def evaluate(ride: RIDE, groups: list[Tensor], ensemble_tiles: int) -> dict[str, Any]:
    """Log2-density per pixel of tiles (T, 64, 64) of each test image: all predicted pixels, and those that a 9-wide
    neighbourhood predicts too; on fewer tiles those that all eight symmetries predict, alone and as an ensemble."""
    per_image: dict[str, list[Tensor]] = {"own": [], "9-wide": [], "inner": [], "ensemble": []}
    pixels = {"own": 62 * 60, "9-wide": 60 * 56, "inner": 60 * 60, "ensemble": 60 * 60}
    for group in groups:
        value = ride.log_prob(group)
        per_image["own"].append(value.double().mean())
        per_image["9-wide"].append(value[:, 2:, 2:-2].double().mean())
        few = torch.linspace(0, len(group) - 1, min(ensemble_tiles, len(group))).long()
        per_image["inner"].append(value[few, :-2].double().mean())
        total, _ = log_prob_ensemble(ride, group[few])
        per_image["ensemble"].append(total.double().mean() / pixels["ensemble"])
    found = {}
    for name, values in per_image.items():
        rate = rate_of(torch.stack(values), "continuous", pixels[name])
        found[name] = {
            "bits_per_pixel": float(rate),
            "interval_95": rate.interval,
            "pixels_per_tile": pixels[name],
        }
    return found


def _photographs(config: Run) -> dict[str, Any]:
    photographs = bsds300.grey("train")
    held_out = _held_out(photographs[::10], 100)
    training = [photograph for k, photograph in enumerate(photographs) if k % 10]
    ride, figures = _trained(config, training, held_out, 256)
    return {**figures, "test": evaluate(ride, list(bsds300.held_out_tiles()), config.ensemble_tiles)}


def _leaves(config: DeadLeaves) -> dict[str, Any]:
    (images,) = dead_leaves.training_images(config.seed)
    ride, figures = _trained(config, images[:95], _held_out(list(images[95:]), 80), None)
    return {**figures, "test": evaluate(ride, list(dead_leaves.held_out_tiles()), config.ensemble_tiles)}


def _texture(config: Texture) -> dict[str, Any]:
    path = bsds300.folder().parent / "brodatz" / f"{config.name}.gif"
    with Image.open(path) as picture:
        image = torch.from_numpy(np.array(picture.convert("L")))
    # the lowest eighth is held out; what is sampled is learned from the rest
    cut = image.shape[0] * 7 // 8
    generator = torch.Generator().manual_seed(config.seed)
    held_out = tiles(image[cut:], TILE)
    ride, figures = _trained(config, image[None, :cut], held_out, 256)
    began = time.monotonic()
    drawn = texture(
        ride, dequantize(image[:cut], generator=generator), config.side, config.side, generator=generator
    )
    figures["sampling_seconds"] = time.monotonic() - began
    if config.picture is not None:
        values = (drawn[0, ..., 0] * 256).clamp(0, 255).byte()
        with replacing(config.picture) as part:
            Image.fromarray(values.numpy()).save(part, "PNG")
    return {**figures, "texture": config.name, "held_out_tiles": len(held_out)}


def _held_out(pictures: list[Tensor], count: int) -> Tensor:
    """Evenly chosen tiles of pictures."""
    cut = torch.cat([tiles(picture, TILE) for picture in pictures])
    return cut[torch.linspace(0, len(cut) - 1, min(count, len(cut))).long()]


if __name__ == "__main__":
    commands = Annotated[Bsds300, tyro.conf.subcommand("bsds300")]
    leaves = Annotated[DeadLeaves, tyro.conf.subcommand("dead-leaves")]
    one = Annotated[Texture, tyro.conf.subcommand("texture")]
    main(tyro.cli(commands | leaves | one, description=__doc__))  # type: ignore[arg-type]
