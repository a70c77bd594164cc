"""Networks that join convolutions, good at texture, with multi-directional scans, good at what is far away.

All take (N, D1, ..., Dn, C) and ``sizes`` (N, n), as every layer here, and a sample in a padded batch gives what it gives
alone. Each level is a lattice: convolutions with norm and rectifier, then scan blocks.
"""

from .block import ScanBlock
from .classifier import ScanClassifier
from .parts import Style
from .reader import LineReader
from .unet import ScanUNet

__all__ = ["LineReader", "ScanBlock", "ScanClassifier", "ScanUNet", "Style"]
