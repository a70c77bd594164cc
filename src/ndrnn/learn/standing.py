"""How far a training has come, as its folder tells."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from .callbacks.record import Mark
from .callbacks.survival import LAST
from .options import Options


@dataclass(frozen=True)
class Standing:
    """The state of a training that is kept in a folder."""

    step: int
    seconds: float
    marks: tuple[Mark, ...]
    """Its checks."""
    stale: int
    """Checks since the best one."""
    settings: Mapping[str, Any]
    """The task's configuration, as plain values."""

    @property
    def passes(self) -> float:
        """Passes over the training data so far."""
        return self.marks[-1].passes * self.step / self.marks[-1].step if self.marks else 0.0

    def over(self, options: Options) -> str | None:
        """Why a training with these options would not go on from here, or None."""
        if options.patience is not None and self.stale >= options.patience:
            return f"its last {self.stale} checks were not better than the best, and training.patience is {options.patience}"
        if options.minutes is not None:
            minutes = self.seconds / 60
            done = (
                f"{minutes:.1f} of {options.minutes:g} minutes are done; --training.minutes with more goes on"
            )
            return done if minutes >= options.minutes else None
        done = f"{self.passes:g} of {options.epochs} passes are done; --training.epochs with more goes on"
        return done if self.passes > options.epochs - 1e-6 else None


def standing_of(folder: Path) -> Standing | None:
    """How far the training in a folder has come; None if it keeps no state.

    Raises:
        ValueError: the state is damaged, or none of a training of this library.
    """
    file = folder / LAST
    if not file.is_file():
        return None
    try:
        # the restricted loader runs no code; weights stay on the disk
        state = torch.load(file, map_location="cpu", weights_only=True, mmap=True)
        callbacks, own = state["callbacks"], state["ndrnn"]
        record = callbacks["Record"]
        marks = tuple(Mark(**mark) for mark in record["marks"])
        stale = int(callbacks.get("Patience", {}).get("stale", 0))  # 0.1 kept none
        return Standing(
            int(state["global_step"]), float(record["seconds"]), marks, stale, dict(own["settings"])
        )
    except Exception as error:  # whatever a loader makes of a damaged or foreign file
        raise ValueError(f"{file}: is no state of a training ({type(error).__name__}: {error})") from error
