"""Exact densities of images: causal neighbourhoods, whitening, the MCGSM, and RIDE."""

from .fitting import FitReport, Penalty
from .mcgsm import MCGSM, ConditionalMixture
from .neighborhood import CausalNeighborhood
from .whitening import Whitening, WhiteningStatistics
