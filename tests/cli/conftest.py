"""Runs commands in this process, on small made-up files of the formats that people have."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from ndrnn.app.cli import main


@dataclass(frozen=True)
class Ran:
    """What a command did."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


@pytest.fixture
def ndrnn(capfd: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    """Calls the command line with words, anything with ``str``."""

    def run(*words: object) -> Ran:
        capfd.readouterr()
        status = main([str(word) for word in words])
        return Ran(status, *capfd.readouterr())

    return run


def squares(folder: Path, count: int, size: int = 12, seed: int = 0) -> None:
    """Images of a bright square on dark noise, and masks of it."""
    generator = np.random.default_rng(seed)
    for part in ("images", "masks"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for index in range(count):
        height, width = size, size + index % 3
        image, mask = generator.integers(0, 60, (height, width)), np.zeros((height, width))
        row, column = generator.integers(1, size - 6, 2)
        image[row : row + 5, column : column + 5] += 150
        mask[row : row + 5, column : column + 5] = 1
        Image.fromarray(image.astype(np.uint8)).save(folder / f"images/{index:03}.png")
        Image.fromarray(mask.astype(np.uint8)).save(folder / f"masks/{index:03}.png")


@pytest.fixture(scope="session")
def square_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("squares")
    squares(folder, 12)
    return folder


@pytest.fixture(scope="session")
def class_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Horizontal and vertical bars, a folder each."""
    folder = tmp_path_factory.mktemp("bars")
    generator = np.random.default_rng(0)
    for split, count in (("train", 8), ("test", 3)):
        for name in ("across", "down"):
            (folder / split / name).mkdir(parents=True)
            for index in range(count):
                image = np.zeros((8, 8), np.uint8)
                line = generator.integers(0, 8)
                image[(line, slice(None)) if name == "across" else (slice(None), line)] = 255
                Image.fromarray(image).save(folder / split / name / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def text_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Lines of two letters, a bar high or low, with their texts."""
    folder = tmp_path_factory.mktemp("lines")
    generator = np.random.default_rng(0)
    for index in range(14):
        text = "".join(generator.choice(["a", "b"], 2 + index % 3))
        image = np.full((8, 8 * len(text)), 255, np.uint8)
        for place, letter in enumerate(text):
            image[1 : 3 if letter == "a" else 7, 8 * place + 2 : 8 * place + 6] = 0
        Image.fromarray(image).save(folder / f"{index:02}.png")
        (folder / f"{index:02}.gt.txt").write_text(text, encoding="utf-8")
    return folder


@pytest.fixture(scope="session")
def wave_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Smooth grey images."""
    folder = tmp_path_factory.mktemp("waves")
    generator = np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :20]
    for index in range(6):
        image = (
            120
            + 60 * np.sin(rows / 4 + index)
            + 40 * np.cos(columns / 5)
            + generator.normal(0, 4, rows.shape)
        )
        Image.fromarray(image.clip(0, 255).astype(np.uint8)).save(folder / f"{index}.png")
    return folder


@pytest.fixture(scope="session")
def volume_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Volumes with a bright block, and its labels, as NIfTI."""
    nibabel = pytest.importorskip("nibabel")
    folder = tmp_path_factory.mktemp("volumes")
    generator = np.random.default_rng(0)
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir()
    for index in range(4):
        size = (5, 6, 5 + index % 2)
        values, labels = generator.normal(0, 0.1, size), np.zeros(size, np.uint8)
        values[1:4, 2:5, 1:4] += 1
        labels[1:4, 2:5, 1:4] = 1
        for part, array in (("imagesTr", values.astype(np.float32)), ("labelsTr", labels)):
            nibabel.save(nibabel.Nifti1Image(array, np.diag([2, 2, 3, 1])), folder / part / f"{index}.nii.gz")
    return folder
