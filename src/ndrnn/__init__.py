"""ndrnn: recurrent networks over n-dimensional data, for PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .inspect import conformance as testing
from .inspect.diagnose import Diagnosis, diagnose
from .inspect.estimate import Estimate, estimate
from .nn.layers import MDGRU, MDLSTM, MDRNN, LeakyMDLSTM, SpatialLSTM, StableMDLSTM
from .scan import available_backends, backend, release_memory

if TYPE_CHECKING:
    from .density import MCGSM, RIDE, CausalNeighborhood
    from .saving.models import load, save

__version__ = "0.1.0"

__all__ = [
    "MCGSM",
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "RIDE",
    "CausalNeighborhood",
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
    "release_memory",
    "save",
    "testing",
]

# imported when first asked for, so that `import ndrnn` costs little more than `import torch`
_ON_DEMAND = {
    "CausalNeighborhood": "density",
    "MCGSM": "density",
    "RIDE": "density",
    "load": "checkpoint",
    "save": "checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _ON_DEMAND:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(f".{_ON_DEMAND[name]}", __name__), name)
    return value
