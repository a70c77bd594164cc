"""ndrnn: recurrent networks over n-dimensional data, for PyTorch."""

from . import testing
from .diagnose import Diagnosis, diagnose
from .estimate import Estimate, estimate
from .layers import MDGRU, MDLSTM, MDRNN, LeakyMDLSTM, SpatialLSTM, StableMDLSTM
from .scan import available_backends, backend

__version__ = "0.1.0"

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
    "testing",
]
