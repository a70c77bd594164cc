"""Layers and networks."""

from .hierarchy import Hierarchy
from .layers import MDGRU, MDLSTM, MDRNN, LeakyMDLSTM, ScanLayer, SpatialLSTM, StableMDLSTM
from .linear import MDLinearRNN

__all__ = [
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "Hierarchy",
    "LeakyMDLSTM",
    "MDLinearRNN",
    "ScanLayer",
    "SpatialLSTM",
    "StableMDLSTM",
]
