"""The recipes' tasks with a convolutional network of about as many weights as the recipe's own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ndrnn.tasks.configuration import Label, Transcribe
from ndrnn.tasks.label import LabelTask
from ndrnn.tasks.transcribe import TranscribeTask

from .parts import nearest, weights
from .reader import LineReader
from .unet import UNet


@dataclass(frozen=True)
class LabelCNN(Label):
    """Label each point by a U-Net; ``network`` says about how many weights it has, and its dropout."""

    levels: int = 3
    """Resolutions of the U-Net."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.levels >= 1:
            raise ValueError(f"levels must be at least 1, got {self.levels}")
        if self.deep_supervision:
            raise ValueError(f"deep_supervision must be 0 for a U-Net, got {self.deep_supervision}")


@dataclass(frozen=True)
class TranscribeCNN(Transcribe):
    """Read by convolutions and a bidirectional LSTM; ``network`` says about how many weights they have, how wide a frame
    is, and the dropout."""

    layers: int = 2
    """Of the LSTM."""


class LabelCNNTask(LabelTask):
    """A :class:`ndrnn.tasks.LabelTask` with a :class:`UNet`."""

    settings_class = LabelCNN
    settings: LabelCNN

    def make_model(self) -> Any:
        settings, facts = self.settings, self.facts

        def make(width: int) -> nn.Module:
            return UNet(
                facts.channels,
                len(facts.classes),
                width=width,
                ndim=facts.ndim,
                levels=settings.levels,
                dropout=settings.network.dropout,
            )

        return nearest(make, weights(super().make_model()))


class TranscribeCNNTask(TranscribeTask):
    """A :class:`ndrnn.tasks.TranscribeTask` with a :class:`LineReader`."""

    settings_class = TranscribeCNN
    settings: TranscribeCNN

    def make_model(self) -> Any:
        settings, facts = self.settings, self.facts
        steps = [int(block.split("x")[-1]) for block in settings.network.blocks]

        def make(width: int) -> nn.Module:
            return LineReader(
                facts.channels,
                len(facts.alphabet) + 1,
                width=width,
                steps=steps,
                layers=settings.layers,
                dropout=settings.network.dropout,
            )

        return nearest(make, weights(super().make_model()))
