"""Makes the pictures of the guide anew, from nothing but what comes with scikit-image, scikit-learn and matplotlib:

    python docs/pictures/guide.py                 # all, or some: label classify transcribe density

Each picture is of a network that the command line trains within some minutes of one processor; files and runs are left
in the folder ``--work``, so that a picture can be drawn again without training.
"""

from __future__ import annotations

import argparse
import codecs
import json
from math import exp
from pathlib import Path

import numpy as np
import torch
from matplotlib import get_data_path
from matplotlib.figure import Figure
from PIL import Image, ImageDraw, ImageFont
from skimage import data as photographs
from sklearn.datasets import load_digits

from ndrnn.app.cli import main
from ndrnn.app.figures import label_maps
from ndrnn.data import DigitImages
from ndrnn.data.formats.labelmaps import palette
from ndrnn.saving import models as checkpoint
from ndrnn.tasks import ClassifyBatch

HERE = Path(__file__).parent


def ndrnn(*words: object) -> None:
    """Run a command; what it cannot do ends the program."""
    print("ndrnn", *words, flush=True)
    status = main([str(word) for word in words])
    if status:
        raise SystemExit(status)


def train(run: Path, *words: object) -> None:
    """Train, unless the run is there already."""
    if not (run / "report.html").exists():
        ndrnn("train", *words, "--resume", "--out", run)
        ndrnn("evaluate", run)


def save(figure: Figure, name: str) -> None:
    """As PNG with a palette, which is a third of the size."""
    path = HERE / f"guide_{name}.png"
    figure.savefig(path, dpi=110)
    with Image.open(path) as image:
        image.convert("RGB").quantize(200, dither=Image.Dither.NONE).save(path, optimize=True)
    print(f"{path}: {path.stat().st_size / 1000:.0f} KB")


def show(axes, image: np.ndarray, title: str = "") -> None:
    axes.imshow(image, cmap="gray", interpolation="nearest")
    axes.set_title(title, fontsize=10)
    axes.set_axis_off()


def read(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


SURFACES = ("brick", "grass", "gravel")


def label(work: Path) -> None:
    """Mosaics of three photographed surfaces; those of the test are of other parts of the photographs."""
    folder, run, size = work / "surfaces", work / "run-label", 80
    generator = np.random.default_rng(0)
    surfaces = [getattr(photographs, name)() for name in SURFACES]
    for part, count, first, last in (("train", 150, 0, 300), ("val", 12, 300, 390), ("test", 4, 390, 512)):
        for kind in ("images", "masks"):
            (folder / part / kind).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            # each point belongs to the nearest of five seeds
            seeds = generator.uniform(0, size, (5, 2))
            distances = ((np.mgrid[:size, :size].transpose(1, 2, 0)[:, :, None] - seeds) ** 2).sum(-1)
            mask = (distances.argmin(-1) % 3).astype(np.uint8)
            image = np.zeros((size, size), np.uint8)
            for kind, surface in enumerate(surfaces):
                row = generator.integers(first, last - size + 1)
                column = generator.integers(0, 512 - size + 1)
                piece = surface[row : row + size, column : column + size].astype(float)
                # the mean grey would give the surfaces away
                piece = 128 + 45 * (piece - piece.mean()) / piece.std()
                image[mask == kind] = piece.clip(0, 255)[mask == kind]
            Image.fromarray(image).save(folder / part / f"images/{number:03}.png")
            Image.fromarray(mask).save(folder / part / f"masks/{number:03}.png")
    train(
        run,
        *("--task", "label", "--data.format", "masks", "--data.path", folder, "--data.classes", *SURFACES),
        *("--network.layer", "StableMDLSTM", "--network.hidden", 10, 20, "--network.blocks", "2x2", "2x2"),
        *("--training.epochs", 30, "--training.batch-size", 5, "--augment.flip"),
    )
    ndrnn("predict", run, folder / "test/images", "--out", work / "found-label")
    colors = palette(3)
    figure = Figure(figsize=(8.6, 6.6), layout="constrained")
    grid = figure.subplots(3, 4)
    for column, (upper, middle, lower) in enumerate(grid.T):
        name = f"{column:03}.png"
        image, mask = (read(folder / f"test/{kind}/{name}") for kind in ("images", "masks"))
        found = read(work / "found-label" / name)
        show(upper, image, "image" if column == 0 else "")
        show(middle, colors[mask], "labels" if column == 0 else "")
        show(lower, colors[found], f"network: {(found != mask).mean():.1%} wrong")
    save(figure, "label")


def classify(work: Path) -> None:
    """The small digits of scikit-learn, a folder a class."""
    folder, run = work / "digits", work / "run-classify"
    digits = load_digits()
    images = np.rint(digits.images * 255 / 16).astype(np.uint8)
    for number, (image, name) in enumerate(zip(images, digits.target, strict=True)):
        path = folder / ("test" if number >= 1500 else "train") / str(name) / f"{number:04}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image).save(path)
    train(
        run,
        *("--task", "classify", "--data.format", "classes", "--data.path", folder, "--network.hidden", 16),
        *("--training.epochs", 30, "--training.learning-rate", 0.02, "--augment.shift", 0.5),
    )
    ndrnn("predict", run, folder / "test", "--out", work / "found-classify")
    task = checkpoint.load(run / "best.safetensors")
    shown = DigitImages(
        torch.from_numpy(images[1500:1510] / np.float32(255)).unsqueeze(-1),
        torch.from_numpy(digits.target[1500:1510]),
        10,
    )
    found = task.predict_step(ClassifyBatch(shown.images, shown.labels))
    points = torch.stack([one.points for one in found])
    save(label_maps(shown, points, torch.tensor([one.label for one in found])), "classify")


def transcribe(work: Path) -> None:
    """Lines from a poem on programs that comes with Python, in fonts that come with matplotlib."""
    import this  # prints it, too

    folder, run, height = work / "lines", work / "run-transcribe", 32
    text = codecs.decode(this.s, "rot13").lower()
    words = "".join(letter if letter.isalpha() else " " for letter in text).split()
    fonts = [
        ImageFont.truetype(str(Path(get_data_path()) / "fonts/ttf" / f"{name}.ttf"), 19)
        for name in (
            "DejaVuSerif",
            "DejaVuSans",
            "DejaVuSerif-Italic",
            "STIXGeneralItalic",
            "DejaVuSans-Oblique",
        )
    ]
    generator = np.random.default_rng(0)
    for part, count in (("train", 1500), ("val", 30), ("test", 6)):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for number in range(count):
            line = " ".join(generator.choice(words, 2))
            font = fonts[generator.integers(len(fonts))]
            width = round(font.getlength(line)) + 16
            image = Image.new("L", (width, height), int(generator.integers(200, 250)))
            place = (int(generator.integers(4, 12)), int(generator.integers(2, 6)))
            ImageDraw.Draw(image).text(place, line, fill=int(generator.integers(0, 90)), font=font)
            image = image.rotate(generator.uniform(-1.5, 1.5), Image.Resampling.BICUBIC, fillcolor=225)
            noisy = np.asarray(image) + generator.normal(0, 10, (height, width))
            Image.fromarray(noisy.clip(0, 255).astype(np.uint8)).save(folder / part / f"{number:03}.png")
            (folder / part / f"{number:03}.gt.txt").write_text(line, encoding="utf-8")
    train(
        run,
        *("--task", "transcribe", "--data.format", "lines", "--data.path", folder, "--data.invert"),
        *("--network.hidden", 4, 12, 40, "--network.subsample", 8, 20),
        *("--network.blocks", "4x2", "4x2", "2x1", "--training.epochs", 40, "--training.batch-size", 10),
        *("--training.learning-rate", 0.01, "--augment.scale", 0.1, "--augment.shear", 0.2),
    )
    ndrnn("predict", run, folder / "test", "--out", work / "found-transcribe")
    lines = (work / "found-transcribe/predictions.jsonl").read_text(encoding="utf-8").splitlines()
    figure = Figure(figsize=(8.6, 2.6), layout="constrained")
    for axes, line in zip(figure.subplots(3, 2).flat, map(json.loads, lines), strict=True):
        show(axes, read(Path(line["file"])), f"{line['text']}  ({exp(line['log_probability']):.0%})")
    save(figure, "transcribe")


def density(work: Path) -> None:
    """One photograph of gravel, in tiles; a sample, and a hole that is filled."""
    folder, run = work / "gravel", work / "run-density"
    gravel = np.asarray(Image.fromarray(photographs.gravel()).resize((256, 256), Image.Resampling.BOX))
    for number in range(16):
        row, column = (64 * index for index in divmod(number, 4))
        part = "test" if number in (5, 10) else "train"
        (folder / part).mkdir(parents=True, exist_ok=True)
        tile = gravel[row : row + 64, column : column + 64]
        Image.fromarray(tile).save(folder / part / f"{number:02}.png")
    train(
        run,
        *("--task", "density", "--data.format", "images", "--data.path", folder, "--hidden", 32),
        *("--cell", "spatial"),
        *("--components", 12, "--features", 24, "--patches", 8, "--training.epochs", 300),
        *("--training.steps-between-checks", 30),
    )
    ndrnn("sample", run, "--n", 2, "--height", 64, "--width", 64, "--out", work / "drawn")
    mask = np.zeros((64, 64), np.uint8)
    mask[24:40, 24:40] = 255
    Image.fromarray(mask).save(work / "hole.png")
    picture = folder / "test/05.png"
    ndrnn("inpaint", run, picture, work / "hole.png", "--epochs", 20, "--out", work / "filled.png")
    figure = Figure(figsize=(8.6, 1.95), layout="constrained")
    shown = {
        "photograph": read(picture),
        "drawn": read(work / "drawn/0.png"),
        "drawn again": read(work / "drawn/1.png"),
        "with a hole": np.where(mask > 0, 255, read(picture)),
        "filled": read(work / "filled.png"),
    }
    for axes, (title, image) in zip(figure.subplots(1, 5), shown.items(), strict=True):
        axes.imshow(image, cmap="gray", vmin=0, vmax=255)
        axes.set_title(title, fontsize=10)
        axes.set_axis_off()
    save(figure, "density")


if __name__ == "__main__":
    pages = {page.__name__: page for page in (label, classify, transcribe, density)}
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pages", nargs="*", metavar="PAGE", help=f"{', '.join(pages)}; all by default")
    parser.add_argument("--work", type=Path, default=Path("/tmp/ndrnn-guide"), help="for files and runs")
    chosen = parser.parse_args()
    if unknown := set(chosen.pages) - set(pages):
        parser.error(f"PAGE must be one of {', '.join(pages)}, got {', '.join(sorted(unknown))}")
    for name in chosen.pages or pages:
        pages[name](chosen.work)
