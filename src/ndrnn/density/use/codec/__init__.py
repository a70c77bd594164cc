"""Lossless coding of images, signals and volumes by a RIDE, bit for bit the same on every machine.

image -> planes -> blocks -> probabilities of values by a compiled network -> arithmetic coder -> bytes. The format
is described in docs/codec.md.
"""

from .image import MOST_SAMPLES, Decoded, compress, decode, decompress, even_blocks, fingerprint, read_header
from .model import PlaneModel, rescaled, rides_of, training_planes

__all__ = [
    "MOST_SAMPLES",
    "Decoded",
    "PlaneModel",
    "compress",
    "decode",
    "decompress",
    "even_blocks",
    "fingerprint",
    "read_header",
    "rescaled",
    "rides_of",
    "training_planes",
]
