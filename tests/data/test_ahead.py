"""Batches that other processes make: the same ones, the same errors, and no process that is left behind."""

from __future__ import annotations

import os
import signal
import sys
from multiprocessing import active_children

import numpy as np
import pytest
import torch
from lightning import Callback
from PIL import Image

from ndrnn.data import BadFile
from ndrnn.data.pipeline.gather import gather
from ndrnn.data.pipeline.module import DataModule
from ndrnn.learn import Options, fit
from ndrnn.registry import readers
from ndrnn.tasks import Augment, Density, Label, Network, build

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="workers are for Linux"),
    pytest.mark.filterwarnings("ignore:.*LeafSpec"),
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("squares")
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (folder / part).mkdir()
    for index in range(11):
        image = generator.integers(0, 90, (9, 9 + index % 3)).astype(np.uint8)
        Image.fromarray(image).save(folder / f"images/{index:02}.png")
        Image.fromarray((image > 40).astype(np.uint8)).save(folder / f"masks/{index:02}.png")
    return folder


def trained(images, workers, memory=2.0, **options):
    """A training with everything that draws random numbers."""
    gathered = gather(readers["masks"](path=str(images), memory=memory), "label")
    training = Options(epochs=2, batch_size=3, workers=workers, weight_noise=0.02)
    network = Network(hidden=(2, 3), dropout=0.3)
    task = build(
        Label(network=network, augment=Augment(rotate=20, elastic_alpha=4, flip=True), training=training),
        gathered.facts,
    )
    data = DataModule(gathered, "label", 3, workers=workers)
    record = fit(task, data, show=False, accelerator="cpu", **options)
    return task.state_dict(), [mark.metrics for mark in record.marks]


def test_the_number_of_workers_changes_nothing(folder):
    weights, checks = trained(folder, 0)
    for workers, memory in ((1, 2.0), (3, 0.0)):
        found, again = trained(folder, workers, memory)
        assert again == checks
        assert all(torch.equal(found[name], value) for name, value in weights.items())
    assert not active_children()


def test_workers_take_patches_of_densities(folder):
    gathered = gather(readers["images"](path=str(folder / "images")), "density")
    ends = []
    for workers in (0, 2):
        settings = Density(
            hidden=2, components=2, features=2, patch=7, training=Options(epochs=1, batch_size=3)
        )
        task = build(settings, gathered.facts)
        record = fit(task, DataModule(gathered, "density", 3, workers=workers), show=False, accelerator="cpu")
        ends.append((record.marks[-1].metrics, record.points))
    assert ends[0] == ends[1]
    assert ends[0][1] == len(gathered.samples("train")) * 8 * 7 * 7  # patches are what is learned from


def test_a_file_that_is_lost_on_the_way_is_named(folder):
    gathered = gather(readers["images"](path=str(folder / "images"), memory=0), "density")
    samples = gathered.samples("train")
    read = samples.source.read

    def damaged(index):
        if index == samples.indices[1]:
            raise ValueError("gone")
        return read(index)

    samples.source.read = damaged
    with pytest.raises(BadFile, match=r"png: cannot be read \(gone\)"):
        list(DataModule(gathered, "density", 3, workers=1).in_order("train"))
    assert not active_children()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_to_all_processes_ends_the_training_after_its_step(folder, tmp_path, number):
    """As Ctrl-C does, and a scheduler: the workers leave it to the one that trains."""

    class Signal(Callback):
        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            if trainer.global_step == 2:
                assert len(active_children()) >= 2
                for child in active_children():
                    os.kill(child.pid, number)
                os.kill(os.getpid(), number)

    weights, checks = trained(folder, 2)
    assert trained(folder, 2, folder=tmp_path, callbacks=[Signal()])[1] != checks
    assert not active_children()
    found, again = trained(folder, 1, folder=tmp_path, resume=True)
    assert again[-1] == checks[-1]
    assert all(torch.equal(found[name], value) for name, value in weights.items())
