"""A training of a second, for tests: also a program, so that it can be killed or run by several processes.

``python small_training.py FOLDER [kill STEP | write-kill NUMBER | ddp]``
"""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

import torch
from lightning import Callback
from safetensors.torch import save_file

from ndrnn.data import DigitImages, Split
from ndrnn.data.digits import DigitBatches
from ndrnn.learn import Options, Record, fit
from ndrnn.tasks import Augment, Classify, ClassifyTask, Network


def images(count: int, seed: int) -> DigitImages:
    """Bars that lie (0) or stand (1) in noise, 5 x 6 pixels."""
    generator = torch.Generator().manual_seed(seed)
    values = 0.2 * torch.rand((count, 5, 6, 1), generator=generator)
    labels = torch.arange(count) % 2
    for index, label in enumerate(labels.tolist()):
        place = int(torch.randint(1, 4, (), generator=generator))
        values[(index, place) if label == 0 else (index, slice(None), place)] = 1.0
    return DigitImages(values, labels, 2)


def make(batch_size: int = 4, **options: Any) -> tuple[ClassifyTask, DigitBatches]:
    """A task with everything that draws random numbers, and its data: 5 batches of 4 and one of 2 a pass."""
    training = Options(**{"epochs": 4, "batch_size": batch_size, "steps_between_checks": 5, **options})
    plain = options.get("weight_noise") == 0
    network = Network(hidden=(3,), dropout=0.0 if plain else 0.2)
    augment = Augment() if plain else Augment(shift=1, elastic_alpha=2)
    settings = Classify(network=network, background=0.25, augment=augment, training=training)
    data = DigitBatches(Split(images(22, 0), images(10, 1), "bars"), batch_size, training.seed)
    return ClassifyTask(settings, data.facts), data


class KillAt(Callback):
    """SIGKILL before the step with this number."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_start(self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def kill_within_save(number: int) -> None:
    """SIGKILL half-way through the writing of a checkpoint."""
    save, count = torch.save, 0

    def half(content: Any, path: Path) -> None:
        nonlocal count
        count += 1
        save(content, path)
        if count == number:
            os.truncate(path, path.stat().st_size // 2)
            os.kill(os.getpid(), signal.SIGKILL)

    torch.save = half


def main(folder: str, how: str = "", number: str = "0") -> None:
    torch.set_num_threads(1)
    task, data = make(weight_noise=0.02) if how != "ddp" else make(2, weight_noise=0)
    callbacks = []
    if how == "kill":
        callbacks.append(KillAt(int(number)))
    elif how == "write-kill":
        kill_within_save(int(number))
    options = {"devices": 2, "strategy": "ddp", "accelerator": "cpu"} if how == "ddp" else {}
    record = train(task, data, folder, callbacks=callbacks, **options)
    if task.global_rank == 0:
        save_file(dict(task.state_dict()), Path(folder) / "weights.safetensors")
        (Path(folder) / "losses.txt").write_text("\n".join(repr(mark.loss) for mark in record.marks))
    if torch.distributed.is_initialized():
        # whoever ends while the other's threads still talk to it takes that one down
        torch.distributed.barrier()
        torch.distributed.destroy_process_group()


def train(task: ClassifyTask, data: DigitBatches, folder: Any, **options: Any) -> Record:
    return fit(task, data, folder, show=False, accelerator=options.pop("accelerator", "cpu"), **options)


if __name__ == "__main__":
    main(*sys.argv[1:])
