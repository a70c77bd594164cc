"""Exact densities of images: causal neighbourhoods, whitening, the MCGSM, and RIDE."""

from .codec import compress, decompress
from .color import LumaChromaRIDE
from .fitting import FitReport, Penalty
from .images import Haar, LinearTransform, dead_leaves, dequantize, luma_chroma, symmetries, tiles
from .inpainting import Inpainting, inpaint
from .mcgsm import MCGSM, ConditionalMixture
from .multiscale import MultiscaleRIDE
from .neighborhood import CausalNeighborhood
from .rate import Rate
from .ride import RIDE
from .sampling import sample, texture
from .stacked import StackedRIDE
from .training import Modern, Published, RideReport
from .whitening import Whitening, WhiteningStatistics

__all__ = [
    "MCGSM",
    "RIDE",
    "CausalNeighborhood",
    "ConditionalMixture",
    "FitReport",
    "Haar",
    "Inpainting",
    "LinearTransform",
    "LumaChromaRIDE",
    "Modern",
    "MultiscaleRIDE",
    "Penalty",
    "Published",
    "Rate",
    "RideReport",
    "StackedRIDE",
    "Whitening",
    "WhiteningStatistics",
    "compress",
    "dead_leaves",
    "decompress",
    "dequantize",
    "inpaint",
    "luma_chroma",
    "sample",
    "symmetries",
    "texture",
    "tiles",
]
