"""Densities of files by the command line: 8 and 16 bits, volumes, signals."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

import ndrnn
from ndrnn.app.cli import main
from ndrnn.data.batches import Facts
from ndrnn.data.formats.intensities import Intensities
from ndrnn.data.formats.volumes import write
from ndrnn.density.use.codec import read_header
from ndrnn.tasks import Density
from ndrnn.tasks.density import DensityTask

from .test_growth import opened

SMALL = ("--hidden", 2, "--components", 2, "--scales", 2, "--features", 2, "--window", 3, "--patch", 6)
QUICK = ("--training.epochs", 12, "--training.learning-rate", 0.02, "--training.steps-between-checks", 1000)


def run(*words: object) -> int:
    return main([str(word) for word in words])


def trained(folder: Path, *options: object) -> DensityTask:
    out = folder / "run"
    assert run("train", "--task", "density", *SMALL, *QUICK, *options, "--out", out) == 0
    task = ndrnn.load(out / "best.safetensors")
    assert isinstance(task, DensityTask)
    return task


def measured(folder: Path, capsys: pytest.CaptureFixture[str]) -> float:
    capsys.readouterr()
    assert run("evaluate", folder / "run", "--json") == 0
    metrics: dict[str, Any] = json.loads(capsys.readouterr().out)["metrics"]
    return float(metrics["bits_per_pixel"])


def noise(count: int, shape: tuple[int, ...], low: int, high: int, kind: type) -> list[np.ndarray]:
    generator = np.random.default_rng(0)
    return [generator.integers(low, high, shape).astype(kind) for _ in range(count)]


def save_pictures(folder: Path, arrays: list[np.ndarray], first: int = 0) -> None:
    folder.mkdir(exist_ok=True)
    for number, array in enumerate(arrays, first):
        Image.fromarray(array).save(folder / f"{number:02}.png")


def test_16_bits_are_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Of 4096 equally likely values among 65536 each pixel costs 12 bits; counted as 8-bit levels it would be 4."""
    save_pictures(tmp_path / "deep", noise(12, (16, 18), 30_000, 34_096, np.uint16))
    task = trained(
        tmp_path, "--data.format", "images", "--data.path", tmp_path / "deep", "--training.batch-size", 2
    )
    assert task.facts.levels == task.levels == 65536
    assert task.settings.levels is None
    assert 11.95 < measured(tmp_path, capsys) < 12.6
    assert run("predict", tmp_path / "run", tmp_path / "deep/00.png") == 0
    line = json.loads(capsys.readouterr().out.splitlines()[0])
    assert 11.9 < line["bits_per_pixel"] < 12.7
    words = ("--n", 1, "--height", 5, "--width", 6, "--out", tmp_path / "drawn")
    assert run("sample", tmp_path / "run", *words) == 0
    drawn = np.asarray(Image.open(tmp_path / "drawn/0.png"))
    assert drawn.dtype == np.uint16
    assert 25_000 < drawn.mean() < 39_000


def test_8_bits_and_a_mixture_count_by_the_fewest_levels(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Sixteen of 256 values cost 4 bits, also where a file of 16 bits holds them."""
    shallow = noise(10, (14, 12), 100, 116, np.uint8)
    save_pictures(tmp_path / "both", shallow)
    deep = [(257 * array.astype(np.uint16)) for array in noise(2, (14, 12), 100, 116, np.uint8)]
    save_pictures(tmp_path / "both", deep, first=50)
    task = trained(
        tmp_path, "--data.format", "images", "--data.path", tmp_path / "both", "--training.batch-size", 2
    )
    said = capsys.readouterr().err
    assert "256 (" in said
    assert "65,536 (" in said
    assert "all are taken to the fewest" in said
    assert task.levels == 256
    assert 3.9 < measured(tmp_path, capsys) < 4.5


def test_levels_can_be_named_and_those_of_0_1_stay(tmp_path: Path) -> None:
    assert DensityTask(Density(levels=16), Facts(levels=65536)).levels == 16
    assert DensityTask(Density(levels=0), Facts()).levels == 0
    config = DensityTask(Density(), Facts()).config()
    config["settings"]["levels"] = 256
    del config["facts"]["levels"]
    found = DensityTask.from_config(config)
    assert isinstance(found, DensityTask)
    assert found.levels == 256


@pytest.mark.parametrize(
    ("kind", "levels"),
    [(np.uint8, 256), (np.uint16, 65536), (np.int16, 32768), (np.bool_, 2), (np.float32, 0)],
)
def test_levels_of_a_type(kind: type, levels: int) -> None:
    assert Intensities().levels(np.zeros((2, 2, 1), kind)) == levels
    assert Intensities(scale="sample").levels(np.zeros((2, 2, 1), kind)) == 256


@pytest.mark.parametrize("kind", ["npz", "nii"])
def test_volumes(kind: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    shapes = [(9, 8, 10), (8, 11, 7)] * 4
    volumes = [noise(1, shape, 32, 48, np.uint8)[0] for shape in shapes]
    if kind == "npz":  # as flat arrays of any sizes
        flat = np.concatenate([volume.reshape(-1) for volume in volumes])
        np.savez(tmp_path / "volumes.npz", image=flat, shape=np.array(shapes))
        data: tuple[object, ...] = ("--data.format", "arrays", "--data.path", tmp_path / "volumes.npz")
    else:
        (tmp_path / "volumes").mkdir()
        for number, volume in enumerate(volumes):
            write(volume.astype(np.int64), tmp_path / f"volumes/{number}.nii.gz")
        data = ("--data.format", "images", "--data.path", tmp_path / "volumes")
    task = trained(tmp_path, *data, "--training.batch-size", 3)
    assert (task.facts.ndim, task.model.ndim, task.levels) == (3, 3, 256)
    assert 3.9 < measured(tmp_path, capsys) < 4.6
    if kind == "nii":
        assert run("predict", tmp_path / "run", tmp_path / "volumes/0.nii.gz") == 0
        assert 3.8 < json.loads(capsys.readouterr().out.splitlines()[0])["bits_per_pixel"] < 4.7
    words = ("--n", 1, "--size", 4, 5, 6, "--margin", 2, "--format", "npy", "--out", tmp_path / "drawn")
    assert run("sample", tmp_path / "run", *words) == 0
    drawn = np.load(tmp_path / "drawn/0.npy")
    assert (drawn.shape, drawn.dtype) == ((4, 5, 6), np.uint8)
    assert 26 < drawn.mean() < 54


def test_a_memory_at_its_limit_is_told_by_evaluate(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_pictures(tmp_path / "large", noise(3, (90, 90), 0, 256, np.uint8))
    task = trained(
        tmp_path, "--data.format", "images", "--data.path", tmp_path / "large", "--cell", "spatial",
        "--training.epochs", 1,
    )  # fmt: skip
    opened(task.model)
    ndrnn.save(task, tmp_path / "run/best.safetensors")
    capsys.readouterr()
    assert run("evaluate", tmp_path / "run", "--json") == 0
    shown = capsys.readouterr()
    (name,) = json.loads(shown.out)["memory_at_limit"]
    assert name.startswith(str(tmp_path / "large"))
    assert f"{name}: the model's memory grew to its limit" in shown.err


def test_signals(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Continuous ones: a random walk with steps of a known deviation, whose entropy is that of the steps."""
    steps = 0.05 * np.random.default_rng(0).standard_normal((20, 60))
    walks = np.zeros_like(steps)
    for at in range(1, 60):
        walks[:, at] = 0.95 * walks[:, at - 1] + steps[:, at]
    np.savez(tmp_path / "walks.npz", image=walks.astype(np.float32))
    task = trained(
        tmp_path, "--data.format", "arrays", "--data.path", tmp_path / "walks.npz", "--training.batch-size", 6,
        "--training.epochs", 40,
    )  # fmt: skip
    assert (task.facts.ndim, task.levels) == (1, 0)
    entropy = 0.5 * np.log2(2 * np.pi * np.e * 0.05**2)
    assert entropy - 0.3 < measured(tmp_path, capsys) < entropy + 0.3


def test_a_series_of_volumes_is_learned_apart_and_compressed(tmp_path: Path) -> None:
    """Two volumes of int16 a file; the run codes them without a bit for the sign, as two channels."""
    nibabel = pytest.importorskip("nibabel")
    (tmp_path / "series").mkdir()
    for number, values in enumerate(noise(6, (8, 9, 7, 2), 1000, 1016, np.int16)):
        nibabel.save(nibabel.Nifti1Image(values, np.eye(4)), tmp_path / f"series/{number}.nii.gz")
    where = ("--data.format", "images", "--data.path", tmp_path / "series")
    task = trained(tmp_path, *where, "--apart", "--training.batch-size", 2)
    assert (task.facts.channels, task.model.channels) == (2, 1)
    file, small, model = tmp_path / "series/0.nii.gz", tmp_path / "small", ("--model", tmp_path / "run")
    assert run("compress", file, *model, "--out", small) == 0
    data = (small / "0.ndrnn").read_bytes()
    header = read_header(data)
    assert (header.size, header.channels, header.bits) == ((8, 9, 7), 2, 15)
    assert len(data) < 700  # 504 at 4 bits each, and the heads
    assert run("decompress", small, *model, "--out", tmp_path / "again") == 0
    assert (tmp_path / "again/0.nii").read_bytes() == gzip.decompress(file.read_bytes())
