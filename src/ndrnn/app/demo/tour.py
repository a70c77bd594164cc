"""``python -m ndrnn.app.demo``: a four-direction MDLSTM learns to label every pixel of handwritten digits.

The experiment of Graves, Fernandez & Schmidhuber 2007 in small: each pixel is called by the digit that it is a part
of, or background, and the pixels together name the digit.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import torch
from torch import Tensor

from ...data import digits
from ...data.digit_images import Split
from ...data.formats import idx
from ...learn import Options, Record, fit
from ...saving import models as checkpoint
from ...tasks.classify import ClassifyTask
from ...tasks.configuration import Classify
from ...tasks.network import Network
from ...version import __version__
from .. import figures as pictures
from ..report import Report

try:
    import tyro
except ModuleNotFoundError as error:
    raise ImportError("the demo needs tyro: pip install 'ndrnn[train]'") from error


@dataclass(frozen=True)
class Demo:
    """Label every pixel of handwritten digits with a four-direction MDLSTM, and write a report with pictures."""

    data: Annotated[Path | None, tyro.conf.arg(metavar="DIR")] = None
    """Folder with MNIST's four idx files, .gz or not; without it the digits of scikit-learn are used."""
    minutes: Annotated[float | None, tyro.conf.arg(metavar="M")] = None
    """Train for so long; without it ten minutes on DIR, and a number of passes over scikit-learn's digits."""
    epochs: int = 40
    """Passes over the training data where no time is given."""
    hidden: int = 25
    """Hidden units of each direction."""
    seed: int = 0
    """Of the first weights and the order of the images."""
    photographs: bool = True
    """Whether to model photographs too, by their densities."""
    out: Path = Path("demo")
    """Folder for model.safetensors and report.html."""


@dataclass(frozen=True)
class Findings:
    """What a network says of the held-out images."""

    labels: Tensor
    """The label of each pixel, (N, H, W)."""
    names: Tensor
    """The digit that the pixels together give, (N,)."""
    pixel_error: float
    image_error: float


def main(argv: Sequence[str] | None = None) -> int:
    """Run the demo; returns the exit status."""
    demo = tyro.cli(Demo, prog="python -m ndrnn.app.demo", args=argv)
    try:
        minutes = 10.0 if demo.minutes is None and demo.data is not None else demo.minutes
        checks = None if demo.data is None else 200
        options = Options(epochs=demo.epochs, minutes=minutes, steps_between_checks=checks, seed=demo.seed)
        settings = Classify(network=Network(hidden=(demo.hidden,), layer="MDLSTM"), training=options)
        split = digits.load() if demo.data is None else idx.load(demo.data)
        demo.out.mkdir(parents=True, exist_ok=True)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    data = digits.DigitBatches(split, options.batch_size, demo.seed)
    task = ClassifyTask(settings, data.facts)
    height, width = split.train.images.shape[1:3]
    print(
        f"{split.source}: {len(split.train)} to learn from, {len(split.test)} to judge by, {height} x {width} pixels"
    )
    print("learning to label every pixel; Ctrl-C stops early and keeps what was learned", flush=True)
    record = fit(task, data)
    task.eval()
    findings = _judge(task, data)
    rows = _results(task, record, findings)
    if record.interrupted:
        print(f"interrupted: these are the results of {record.seconds:.0f} s of training")
    for name, value in rows.items():
        print(f"  {name:<30}{value}")
    checkpoint.save(task, demo.out / "model.safetensors")
    report = _report(split, task, record, findings, rows)
    report.write(demo.out / "report.html")
    if demo.photographs:
        _add_photographs(report)
        report.write(demo.out / "report.html")
    print(f"model and report: {demo.out / 'model.safetensors'}, {demo.out / 'report.html'}")
    return 0


def _add_photographs(report: Report) -> None:
    """The density half; what fails or is interrupted here costs nothing of what was learned before."""
    print("densities of photographs: an MCGSM, the RIDE that ships, a texture and a hole", flush=True)
    try:
        from .photographs import photographs

        photographs(report)
    except ImportError as error:
        print(f"left out: {error}", file=sys.stderr)
    except KeyboardInterrupt:
        print("interrupted: the photographs are left out from here on")


def _judge(task: ClassifyTask, data: digits.DigitBatches) -> Findings:
    """Label and name all held-out images."""
    labels, names = [], []
    wrong, pixels = 0, 0
    for batch in data.test_dataloader():
        found = task.predict_step(batch)
        names += [prediction.label for prediction in found]
        labels.append(
            torch.stack([prediction.points for prediction in found if prediction.points is not None])
        )
        wrong += int((labels[-1] != task.point_labels(batch)).sum())
        pixels += labels[-1].numel()
    named = torch.tensor(names)
    image_error = float((named != data.split.test.labels).double().mean())
    return Findings(torch.cat(labels), named, wrong / pixels, image_error)


def _results(task: ClassifyTask, record: Record, findings: Findings) -> dict[str, str]:
    return {
        "image error": f"{100 * findings.image_error:.2f} %",
        "pixel error": f"{100 * findings.pixel_error:.2f} %",
        "weights": f"{sum(weight.numel() for weight in task.model.parameters()):,}",
        "seconds of training": f"{record.seconds:.0f}",
        "points learned a second": f"{record.points_per_second:,.0f}",
    }


def _report(
    split: Split,
    task: ClassifyTask,
    record: Record,
    findings: Findings,
    rows: dict[str, str],
) -> Report:
    test = split.test
    report = Report(
        "Every pixel knows its digit",
        "A small recurrent network has read handwritten digits from all four corners and says of every pixel which "
        "digit it is a part of. Together the pixels name the digit.",
        f"Made by ndrnn {__version__} with PyTorch {torch.__version__}. This page loads nothing from anywhere.",
    )
    results = report.section("Results").numbers(rows)
    if record.interrupted:
        results.note(
            f"The training was interrupted after {record.seconds:.0f} seconds; these are its results so far."
        )
    results.text(
        f"Data: {split.source}. The network saw {len(split.train):,} images and is judged by {len(test):,} others. "
        "Pixel error is the share of pixels, background included, that got a wrong label; image error the share of "
        "images whose pixels name a wrong digit."
    )
    first = torch.cat([(test.labels == label).nonzero()[:2, 0] for label in range(test.num_classes)])
    first = torch.cat([first[0::2], first[1::2]])
    report.section("What it says of each pixel").text(
        "Above, held-out digits as they were written. Below, the same with each pixel in the colour of the digit that "
        "the network believes it belongs to; what it takes for background stays white. No pixel is judged alone: the "
        "same stroke may belong to a 3 or to an 8, and only the rest of the image tells."
    ).figure(
        pictures.label_maps(test[first], findings.labels[first]),
        "Held-out digits and the labels of their pixels.",
    )
    report.section("What each direction sees").text(
        "A multi-dimensional LSTM walks over the image from one corner. At every pixel it knows what its two "
        "predecessors, one row and one column back, have remembered, so that it has seen all of the rectangle behind "
        "it and nothing ahead. Four such walks, one from each corner, meet at every pixel, and one linear map of all "
        "four decides on the label.",
    ).figure(
        pictures.hidden_views(task.model, test.images[first[3]]),
        "One digit, read from four corners (arrows), and the six liveliest of each direction's hidden units: "
        "red for positive, blue for negative.",
    )
    curve = report.section("How it learned")
    if record.marks:
        last = record.marks[-1]
        curve.text(
            f"{last.passes:.1f} passes over the training images in {record.seconds:.0f} seconds, {task.options.batch_size} "
            "images a step. Nothing was chosen by the held-out digits; they only draw this curve."
        ).figure(pictures.learning_curve(record.marks), "Loss and errors during training.", vector=True)
    else:
        curve.text("The training ended before its first check.")
    _mistakes(report, split, findings)
    return report


def _mistakes(report: Report, split: Split, findings: Findings) -> None:
    wrong = (findings.names != split.test.labels).nonzero()[:, 0]
    section = report.section("Its mistakes")
    if not len(wrong):
        section.text("None: every held-out image got its right name.")
        return
    shown = wrong[:20]
    count = f"All {len(wrong)}" if len(wrong) == len(shown) else f"The first {len(shown)} of {len(wrong):,}"
    section.text(
        f"{count} images that got a wrong name, each headed by its digit and the name that it got."
    ).figure(
        pictures.label_maps(split.test[shown], findings.labels[shown], findings.names[shown]),
        "Misnamed held-out digits and the labels of their pixels.",
    )
