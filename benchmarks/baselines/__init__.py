"""Convolutional networks of equal weights for the recipes' tasks, to be trained by the same loop on the same data.

    python -m benchmarks.baselines recipes/nuclei.toml --out runs/nuclei-cnn

As a plugin of ndrnn's own commands, the package gives the tasks ``label-cnn`` and ``transcribe-cnn``::

    ndrnn train recipes/nuclei.toml --plugin benchmarks.baselines --task label-cnn --out runs/nuclei-cnn
"""

from __future__ import annotations

from ndrnn.tasks import register

from .tasks import LabelCNN, LabelCNNTask, TranscribeCNN, TranscribeCNNTask

__all__ = ["LabelCNN", "LabelCNNTask", "TranscribeCNN", "TranscribeCNNTask"]

register("label-cnn", LabelCNN, LabelCNNTask, "label")
register("transcribe-cnn", TranscribeCNN, TranscribeCNNTask, "transcribe")
