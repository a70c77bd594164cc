"""ndrnn: recurrent networks over n-dimensional data, for PyTorch."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from . import builtin as _builtin  # noqa: F401  # fills the registry
from .version import __version__ as __version__

if TYPE_CHECKING:
    from . import data as data
    from . import density as density
    from . import hub as hub
    from . import learn as learn
    from . import nn as nn
    from . import onnx as onnx
    from . import registry as registry
    from . import saving as saving
    from . import scan as scan
    from . import tasks as tasks
    from . import testing as testing
    from .density import MCGSM, RIDE, CausalNeighborhood
    from .inspect.diagnose import Diagnosis, diagnose
    from .inspect.estimate import Estimate, estimate
    from .nn import (
        MDGRU,
        MDLSTM,
        MDRNN,
        ChannelsFirst,
        Hierarchy,
        LeakyMDLSTM,
        MDLinearRNN,
        SpatialLSTM,
        StableMDLSTM,
        Stack,
        State,
    )
    from .saving.models import load, save
    from .scan import available_backends, backend, linear_scan, release_memory

# classes and functions alone: a star that brought our ``nn`` would hide that of PyTorch
__all__ = [
    "MCGSM",
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "RIDE",
    "CausalNeighborhood",
    "ChannelsFirst",
    "Diagnosis",
    "Estimate",
    "Hierarchy",
    "LeakyMDLSTM",
    "MDLinearRNN",
    "SpatialLSTM",
    "StableMDLSTM",
    "Stack",
    "State",
    "available_backends",
    "backend",
    "diagnose",
    "estimate",
    "linear_scan",
    "load",
    "release_memory",
    "save",
]

# Everything is imported when it is first asked for, so that a word of the command line does not wait for torch. Public
# functions come before the modules that share their names.
_HOMES = {
    **dict.fromkeys(
        (
            "MDGRU",
            "MDLSTM",
            "MDLinearRNN",
            "MDRNN",
            "ChannelsFirst",
            "Hierarchy",
            "LeakyMDLSTM",
            "SpatialLSTM",
            "StableMDLSTM",
            "Stack",
            "State",
        ),
        "nn",
    ),
    **dict.fromkeys(("MCGSM", "RIDE", "CausalNeighborhood"), "density"),
    **dict.fromkeys(("Diagnosis", "diagnose"), "inspect.diagnose"),
    **dict.fromkeys(("Estimate", "estimate"), "inspect.estimate"),
    **dict.fromkeys(("available_backends", "backend", "linear_scan", "release_memory"), "scan"),
    **dict.fromkeys(("load", "save"), "saving.models"),
}
_MODULES = {"data", "density", "hub", "learn", "nn", "onnx", "registry", "saving", "scan", "tasks", "testing"}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        value = getattr(import_module(f".{_HOMES[name]}", __name__), name)
    elif name in _MODULES:
        value = import_module(f".{name}", __name__)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_MODULES})
