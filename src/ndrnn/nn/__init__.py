"""Layers and networks."""

from . import blocks, init, tiled
from .hierarchy import Hierarchy
from .layers import MDGRU, MDLSTM, MDRNN, LeakyMDLSTM, ScanLayer, SpatialLSTM, StableMDLSTM
from .layouts import ChannelsFirst, TimeFirst
from .linear import MDLinearRNN
from .stack import Stack
from .state import State

__all__ = [
    "MDGRU",
    "MDLSTM",
    "MDRNN",
    "ChannelsFirst",
    "Hierarchy",
    "LeakyMDLSTM",
    "MDLinearRNN",
    "ScanLayer",
    "SpatialLSTM",
    "StableMDLSTM",
    "Stack",
    "State",
    "TimeFirst",
    "blocks",
    "init",
    "tiled",
]
