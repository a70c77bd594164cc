"""Layers and networks."""

from .hierarchy import Hierarchy
from .layers import MDGRU, MDLSTM, MDRNN, LeakyMDLSTM, ScanLayer, SpatialLSTM, StableMDLSTM

__all__ = [
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "Hierarchy",
    "LeakyMDLSTM",
    "ScanLayer",
    "SpatialLSTM",
    "StableMDLSTM",
]
