"""Golden logs: the recipes of the project, on made-up files of the forms of their real sets, give the figures kept here.

Whatever changes a figure by more than a thousandth, in reading, order, augmentation, initialisation, layer, loss,
optimiser or metric, shows. Where such a change is meant, the figures are made anew by

    NDRNN_WRITE_GOLDEN=1 python -m pytest tests/cli/test_golden.py

and the difference of ``golden.json`` belongs into the change. Portable code against AVX-512, in torch and in the kernels,
moves them by 4e-6 of their size at most, a second thread by less.
"""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPES = Path(__file__).parents[2] / "recipes"
GOLDEN = Path(__file__).with_name("golden.json")

pytestmark = pytest.mark.filterwarnings("ignore:.*samples in targets")


def encoded(array: np.ndarray, kind: str) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind)
    return buffer.getvalue()


def mnist(folder: Path, generator: np.random.Generator) -> None:
    """The four idx files: strokes, upright, level or slanting."""
    folder = folder / "mnist"
    folder.mkdir()
    for part, count in (("train", 24), ("t10k", 8)):
        labels = generator.integers(0, 3, count).astype(np.uint8)
        images = np.zeros((count, 28, 28), np.uint8)
        for image, label in zip(images, labels, strict=True):
            steps = np.arange(5, 23)
            still = np.full(18, generator.integers(6, 22))
            rows, columns = ((steps, still), (still, steps), (steps, steps))[label]
            image[rows, columns] = image[rows, columns + 1] = generator.integers(120, 256)
        for name, array, kind in (("images-idx3", images, 3), ("labels-idx1", labels, 1)):
            head = struct.pack(f">4B{kind}I", 0, 0, 8, kind, *array.shape)
            (folder / f"{part}-{name}-ubyte.gz").write_bytes(gzip.compress(head + array.tobytes(), mtime=0))


def camvid(folder: Path, generator: np.random.Generator) -> None:
    """An archive with colour JPEG in train, val, test and label maps in trainannot, valannot, testannot."""
    (folder / "camvid120").mkdir()
    with zipfile.ZipFile(folder / "camvid120/camvid120.zip", "w") as archive:
        for part, count in (("train", 8), ("val", 3), ("test", 3)):
            for number in range(count):
                mask = np.full(
                    (18, 24), 3, np.uint8
                )  # road below, sky above, cars, and some that does not count
                horizon = generator.integers(5, 10)
                mask[:horizon] = 0
                left = generator.integers(0, 18)
                mask[horizon : horizon + 5, left : left + 6] = 8
                mask[-1] = 11
                colors = generator.integers(-20, 20, (12, 3)) + np.linspace(40, 210, 36).reshape(12, 3)
                image = colors[mask] + generator.normal(0, 8, (*mask.shape, 3))
                image = image.clip(0, 255).astype(np.uint8)
                archive.writestr(f"{part}/{number:03}.jpg", encoded(image, "JPEG"))
                archive.writestr(f"{part}annot/{number:03}.png", encoded(mask, "PNG"))


def nuclei(folder: Path, generator: np.random.Generator) -> None:
    """An archive with grey PNG and maps that number the objects; a table beside it tells the split."""
    folder = folder / "dsb2018_nuclei"
    folder.mkdir()
    rows = ["name\tsplit\twidth"]
    grid = np.mgrid[:20, :20]
    with zipfile.ZipFile(folder / "dsb2018_100.zip", "w") as archive:
        for number in range(10):
            instances = np.zeros((20, 20), np.uint8)
            for label in range(1, 4):
                center = generator.integers(3, 17, (2, 1, 1))
                instances[((grid - center) ** 2).sum(0) < 9] = label
            image = (5 + 40 * (instances > 0) * (1 + number % 3) + generator.integers(0, 9, (20, 20))).astype(
                np.uint8
            )
            archive.writestr(f"image/{number}.png", encoded(image, "PNG"))
            archive.writestr(f"instance/{number}.png", encoded(instances, "PNG"))
            rows.append(f"{number}\t{'train' if number < 8 else 'test'}\t20")
    (folder / "index.tsv").write_text("\n".join(rows), encoding="utf-8")


def hippocampus(folder: Path, generator: np.random.Generator) -> None:
    """Volumes of different sizes, one after the other in one flat array, with their labels."""
    (folder / "hippocampus").mkdir()
    sizes = np.stack([6 + generator.integers(0, 3, 8), 8 + generator.integers(0, 3, 8), np.full(8, 7)], 1)
    values, labels = [], []
    for size in sizes:
        label = np.zeros(size, np.uint8)
        label[2:5, 2:4, 2:5], label[2:5, 4:7, 2:5] = 1, 2
        values.append((50 + 60 * label + generator.integers(0, 30, size)).astype(np.uint8).ravel())
        labels.append(label.ravel())
    np.savez_compressed(
        folder / "hippocampus/hippocampus100.npz",
        image=np.concatenate(values),
        label=np.concatenate(labels),
        shape=sizes.astype(np.int16),
        test=np.arange(8) >= 6,
    )


def handwriting_fr(folder: Path, generator: np.random.Generator) -> None:
    """An archive of JPEG lines, 48 rows high, dark on light; a table beside it has the texts."""
    folder = folder / "handwriting_fr"
    folder.mkdir()
    rows = ["name\tsplit\thand\twidth\ttext"]
    with zipfile.ZipFile(folder / "lines_h48.zip", "w") as archive:
        for number in range(12):
            text = "".join(generator.choice(list("été "), 3 + number % 3)).strip() or "é"
            image = np.full((48, 16 * len(text)), 230, np.uint8)
            for place, letter in enumerate(text):
                column = 16 * place + 3
                if letter != " ":
                    image[20:40, column : column + 3] = 40
                    image[(20 if letter == "é" else 10) : 24, column : column + 10] = 60
                if letter == "é":
                    image[8:14, column + 4 : column + 8] = 50
            split = "train" if number < 8 else "val" if number < 10 else "test"
            archive.writestr(f"line_{number:02}.jpg", encoded(image, "JPEG"))
            rows.append(f"line_{number:02}\t{split}\thand\t{image.shape[1]}\t{text}")
    (folder / "lines_h48.tsv").write_text("\n".join(rows), encoding="utf-8")


def bsds300(folder: Path, generator: np.random.Generator) -> None:
    """Colour JPEG, upright and lying, in the folders train and test."""
    for part, count in (("train", 8), ("test", 2)):
        (folder / "bsds300" / part).mkdir(parents=True)
        for number in range(count):
            rows, columns = np.mgrid[:20, :28] if number % 2 else np.mgrid[:28, :20]
            grey = 120 + 60 * np.sin(rows / 4 + number) + 40 * np.cos(columns / 5)
            image = grey[..., None] + generator.normal(0, 6, (*grey.shape, 3)) + [20, 0, -20]
            data = encoded(image.clip(0, 255).astype(np.uint8), "JPEG")
            (folder / "bsds300" / part / f"{number}.jpg").write_bytes(data)


NETWORK = ("--network.hidden", 3, 5)
JOINED = ("--network.widths", 3, 5, "--network.scans", 0, 1, "--training.average", 0.5)
SETS: dict[str, tuple[Callable[[Path, np.random.Generator], None], tuple[object, ...]]] = {
    "mnist": (mnist, ("--network.hidden", 6, "--training.epochs", 10, "--training.steps-between-checks", 10)),
    "mnist_hierarchy": (
        mnist,
        (*NETWORK, "--training.epochs", 6, "--training.steps-between-checks", 10),
    ),
    "mnist_classifier": (mnist, (*JOINED, "--training.epochs", 3, "--training.steps-between-checks", 5)),
    "camvid": (camvid, (*NETWORK, "--training.epochs", 5)),
    "nuclei": (nuclei, (*NETWORK, "--training.epochs", 5, "--deep-supervision", 0.5)),
    "hippocampus": (hippocampus, (*NETWORK, "--training.epochs", 12)),
    "handwriting_fr": (
        handwriting_fr,
        ("--network.hidden", 2, 4, 10, "--network.subsample", 3, 6, "--training.epochs", 12),
    ),
    "camvid_unet": (camvid, (*JOINED, "--network.units", 2, 3, "--training.epochs", 5)),
    "nuclei_unet": (nuclei, (*JOINED, "--network.units", 2, 3, "--training.epochs", 5)),
    "hippocampus_unet": (hippocampus, (*JOINED, "--training.epochs", 6)),
    "handwriting_fr_reader": (
        handwriting_fr,
        ("--network.widths", 2, 3, 4, 5, 6, "--network.norm", "layer", "--training.epochs", 12),
    ),
    "bsds300": (
        bsds300,
        (*("--hidden", 5, "--components", 3, "--features", 4, "--patch", 10), "--training.epochs", 5),
    ),
}


def figures(ndrnn, name: str, folder: Path) -> dict[str, object]:
    """All that is logged in some tens of steps, and what ``evaluate`` says at the end."""
    make, options = SETS[name]
    make(folder, np.random.default_rng(len(name)))
    training = ("--training.batch-size", 4, "--training.learning-rate", 0.03)
    run = folder / "run"
    ran = ndrnn(
        "train", RECIPES / f"{name}.toml", "--data.root", folder, *training, *options, "--out", run, "--json"
    )
    assert ran.status == 0, ran.err
    assert ran.err.count("left out") == 0, ran.err
    measured = ndrnn("evaluate", run, "--json")
    assert measured.status == 0, measured.err
    with (run / "metrics.csv").open(encoding="utf-8", newline="") as file:
        rows = [
            {key: float(value) for key, value in row.items() if value != ""} for row in csv.DictReader(file)
        ]
    return {"log": rows, "evaluate": {"split": measured.json["split"], **measured.json["metrics"]}}


@pytest.mark.parametrize("name", SETS)
def test_the_logged_figures_are_those_of_before(name, ndrnn, tmp_path):
    found = figures(ndrnn, name, tmp_path)
    if os.environ.get("NDRNN_WRITE_GOLDEN"):
        kept = json.loads(GOLDEN.read_text(encoding="utf-8")) if GOLDEN.exists() else {}
        kept[name] = found
        GOLDEN.write_text(json.dumps(kept, indent=1, sort_keys=True) + "\n", encoding="utf-8")
        pytest.skip(f"{GOLDEN.name} is written")
    expected = json.loads(GOLDEN.read_text(encoding="utf-8"))[name]
    assert len(found["log"]) == len(expected["log"]) >= 3
    for row, before in zip(found["log"], expected["log"], strict=True):
        assert row == pytest.approx(before, rel=1e-3, abs=1e-6)
    split = found["evaluate"].pop("split")
    assert split == expected["evaluate"].pop("split") == "test"
    assert found["evaluate"] == pytest.approx(expected["evaluate"], rel=1e-3, abs=1e-6)


def test_the_kept_figures_are_worth_keeping():
    """No recipe is left out, and no log is of a network that learned nothing or of metrics that all are 0."""
    kept = json.loads(GOLDEN.read_text(encoding="utf-8"))
    assert set(kept) == set(SETS) == {path.stem for path in RECIPES.glob("*.toml")}
    for name, run in kept.items():
        losses = [row["loss"] for row in run["log"] if "loss" in row]
        assert losses[-1] < losses[0], name
        assert any(value > 0 for key, value in run["evaluate"].items() if key != "split"), name
