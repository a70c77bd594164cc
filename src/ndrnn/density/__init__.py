"""Exact densities of images: causal neighbourhoods, whitening, the MCGSM, and RIDE."""

from .lattices.images import (
    Haar,
    LinearTransform,
    dead_leaves,
    dequantize,
    levels_of,
    luma_chroma,
    symmetries,
    tiles,
)
from .lattices.neighborhood import CausalNeighborhood
from .lattices.rate import Rate
from .lattices.whitening import Whitening, WhiteningStatistics
from .learn.training import Modern, Published, RideReport
from .mixture.fitting import FitReport, Penalty
from .mixture.mcgsm import MCGSM, ConditionalMixture
from .rides import RIDE, LumaChromaRIDE, MultiscaleRIDE, StackedRIDE
from .use.codec import PlaneModel, compress, decompress
from .use.inpainting import Inpainting, inpaint
from .use.sampling import sample, texture

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
    "PlaneModel",
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
    "levels_of",
    "luma_chroma",
    "sample",
    "symmetries",
    "texture",
    "tiles",
]
