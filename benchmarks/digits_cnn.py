"""A small convolutional network that names handwritten digits, trained by a recipe of ndrnn in the same loop.

    python -m benchmarks.digits_cnn recipes/mnist.toml --width 16 --training.epochs 12 --out runs/digits_cnn
    python -m ndrnn evaluate runs/digits_cnn --warp.elastic-alpha 34 --repeats 5

Of the recipe it takes the data, the augmentation and the options of the training; its network it leaves. All other words
are options of ``ndrnn train``. The run is one like any other, whose recipe names this module as its plugin.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal

from torch import Tensor, nn

from ndrnn.app import cli, recipe
from ndrnn.tasks import Classify, ClassifyTask, Facts, register

NAME = "digits_cnn"


@dataclass(frozen=True)
class DigitsCnn(Classify):
    """Name each image by convolutions."""

    by: Literal["points", "sample"] = "sample"
    """By sample; there is no label of a point."""
    width: int = 16
    """Features of the first two convolutions; the others have twice as many."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.width < 1:
            raise ValueError(f"width must be at least 1, got {self.width}")
        if self.by != "sample":
            raise ValueError(f'by must be "sample" for a network without labels of points, got {self.by!r}')


class Convolutions(nn.Module):
    """Five convolutions of 3 x 3, each with batch normalisation and ReLU, maxima of 2 x 2 after the second and the
    fourth, the mean over all points, and a linear output; 26,074 weights at width 16, 90,460 at width 30.

    Args:
        channels: features of a point.
        width: features of the first two convolutions.
        outputs: scores of an image.
    """

    def __init__(self, channels: int, width: int, outputs: int) -> None:
        super().__init__()
        layers: list[nn.Module] = [nn.BatchNorm2d(channels, affine=False)]  # centres and scales the input
        features = channels
        for number, size in enumerate((width, width, 2 * width, 2 * width, 2 * width), start=1):
            # what a bias would add, the normalisation takes away
            layers += [
                nn.Conv2d(features, size, 3, padding=1, bias=False),
                nn.BatchNorm2d(size),
                nn.ReLU(),
            ]
            if number in (2, 4):
                layers.append(nn.MaxPool2d(2))
            features = size
        self.layers = nn.Sequential(*layers)
        self.output = nn.Linear(features, outputs)

    def forward(self, x: Tensor, sizes: Tensor | None = None) -> Tensor:
        """Scores (N, outputs) of images (N, H, W, C) of one size.

        Raises:
            ValueError: the images differ in size.
        """
        if sizes is not None:
            raise ValueError("sizes must be None: the network is for images of one size")
        scores: Tensor = self.output(self.layers(x.movedim(-1, 1)).mean((2, 3)))
        return scores


class DigitsCnnTask(ClassifyTask):
    """Trains and checks :class:`Convolutions` as the library's own task does its networks."""

    settings_class = DigitsCnn
    settings: DigitsCnn
    model: Any

    def __init__(self, settings: DigitsCnn, facts: Facts) -> None:
        if facts.ndim != 2:
            raise ValueError(f"facts must be of images, ndim 2, got {facts.ndim}")
        super().__init__(settings, facts)

    def make_model(self) -> Any:
        return Convolutions(self.facts.channels, self.settings.width, len(self.facts.classes))

    def prepare(self, batches: Iterable[Any]) -> None:
        """The network centres and scales by itself."""


def main(argv: Sequence[str]) -> int:
    """Run the command; returns the exit status."""
    words = list(argv)
    if not words or words[0].startswith("-"):
        print("error: the first word must be a recipe, such as recipes/mnist.toml", file=sys.stderr)
        return 2
    try:
        given = recipe.read(Path(words[0]))
        if not isinstance(given.config, Classify):
            raise ValueError(f"{words[0]}: task must be classify, got {given.task!r}")
        settings = DigitsCnn(augment=given.config.augment, training=given.config.training)
        own = recipe.Recipe(NAME, settings, given.data, ("benchmarks.digits_cnn",))
    except (ValueError, FileNotFoundError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    with TemporaryDirectory() as folder:
        own.save(Path(folder))
        named = ("--plugin", "benchmarks.digits_cnn")
        return cli.main(["train", str(Path(folder) / recipe.FILE), *named, *words[1:]])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
else:
    # where this is the program itself, the recipe's plugin is this module once more
    register(NAME, DigitsCnn, DigitsCnnTask, "classify")
