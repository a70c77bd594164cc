"""What networks are trained for: label, classify, transcribe, density.

A task is made of two things: its configuration, a frozen dataclass that a recipe or the command line fills in, and the
facts of the data, :class:`Facts`, which the data module knows::

    data = ...                                        # a LightningDataModule with the attribute ``facts``
    task = build(Label(), data.facts)                 # LabelTask, a LightningModule; task.model is plain PyTorch
    record = ndrnn.learn.fit(task, data, folder)   # trains, shows, records; ``resume=True`` goes on
    ndrnn.save(task, "model.safetensors")  # weights, configuration and facts
    task = ndrnn.load("model.safetensors")            # ready for task.predict_step(batch)
    calibrate(task, data.val_dataloader())            # its confidences come true, also once it is saved again

| task       | configuration        | module                   | batch                     | target of a batch            |
|------------|----------------------|--------------------------|---------------------------|------------------------------|
| label      | :class:`Label`       | :class:`LabelTask`       | :class:`LabelBatch`       | a label a point, or IGNORE   |
| classify   | :class:`Classify`    | :class:`ClassifyTask`    | :class:`ClassifyBatch`    | a class a sample             |
| transcribe | :class:`Transcribe`  | :class:`TranscribeTask`  | :class:`TranscribeBatch`  | the text of a sample, a str  |
| density    | :class:`Density`     | :class:`DensityTask`     | :class:`DensityBatch`     | none                         |

Configurations nest three more frozen dataclasses: ``network`` (:class:`Network`), ``training``
(:class:`ndrnn.learn.Options`) and ``augment`` (:class:`Augment`); fields are int, float, bool, str, None, or
tuples of these, so that TOML and tyro can hold them.

What every batch has in common: ``x`` (N, D1, ..., Dn, C) float32, images scaled to 0 ... 1, 0 beyond ``sizes``;
``sizes`` (N, n) int64, or None when all samples fill the lattice; ``names``, one str a sample (its file, for messages
and reports), may be empty. Volumes are (N, D1, D2, D3, C).

A data module's training loader takes its batches from :class:`ndrnn.data.sampler.BatchOrder`, so that what a step sees
depends on seed and step alone: that is what makes a resumed run equal an uninterrupted one. Augmentation, dropout and
noise are the task's, on the batch; a data set only reads. With ``training.workers`` the task's augmentation runs in the
processes that read.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import registry
from ..data.batches import IGNORE, ClassifyBatch, DensityBatch, Facts, LabelBatch, TranscribeBatch

if TYPE_CHECKING:
    from ..learn.task import Task
    from .augmentation import Augment
    from .calibration import calibrate
    from .classify import ClassifyTask
    from .configuration import Classify, Density, Label, Transcribe
    from .density import DensityTask
    from .label import LabelTask
    from .network import Network
    from .transcribe import TranscribeTask
    from .use import Use, register

__all__ = [
    "IGNORE",
    "Augment",
    "Classify",
    "ClassifyBatch",
    "ClassifyTask",
    "Density",
    "DensityBatch",
    "DensityTask",
    "Facts",
    "Label",
    "LabelBatch",
    "LabelTask",
    "Network",
    "Transcribe",
    "TranscribeBatch",
    "TranscribeTask",
    "Use",
    "build",
    "calibrate",
    "register",
]

# batches are of use without Lightning: what needs it is imported when asked for
_HOMES = {
    "Augment": ".augmentation",
    "Classify": ".configuration",
    "ClassifyTask": ".classify",
    "Density": ".configuration",
    "DensityTask": ".density",
    "Label": ".configuration",
    "LabelTask": ".label",
    "Network": ".network",
    "Transcribe": ".configuration",
    "TranscribeTask": ".transcribe",
    "Use": ".use",
    "calibrate": ".calibration",
    "register": ".use",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(_HOMES[name], __name__), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def build(settings: Any, facts: Facts) -> Task:
    """The task of a configuration: with fresh weights, drawn by ``settings.training.seed``.

    Raises:
        TypeError: ``settings`` is no configuration of a task.
        ValueError: configuration and facts do not fit.
    """
    for use in registry.tasks.values():
        if type(settings) is use.settings:
            task: Task = use.task(settings, facts)
            return task
    known = ", ".join(use.settings.__name__ for use in registry.tasks.values())
    raise TypeError(f"settings must be one of {known}, got {type(settings).__name__}")
