"""ndrnn: recurrent networks over n-dimensional data, for PyTorch."""

from os import PathLike

import torch

from . import testing
from .diagnose import Diagnosis, diagnose
from .estimate import Estimate, estimate
from .layers import MDGRU, MDLSTM, MDRNN, LeakyMDLSTM, SpatialLSTM, StableMDLSTM
from .scan import available_backends, backend

__version__ = "0.1.0"


def load(path: str | PathLike[str], device: torch.device | str = "cpu") -> torch.nn.Module:
    """The model or the task that was saved at ``path``, see :func:`ndrnn.checkpoint.load`."""
    from .checkpoint import load  # needs safetensors

    return load(path, device)


__all__ = [
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "Diagnosis",
    "Estimate",
    "LeakyMDLSTM",
    "SpatialLSTM",
    "StableMDLSTM",
    "available_backends",
    "backend",
    "diagnose",
    "estimate",
    "load",
    "testing",
]
