"""Lossless coding of images, signals and volumes by a RIDE, bit for bit the same on every machine.

image -> planes -> blocks -> probabilities of values by a compiled network -> arithmetic coder -> bytes. The format
is described in docs/codec.md.
"""

from .image import MOST_SAMPLES, Decoded, compress, decode, decompress, fingerprint, read_header
from .model import PlaneModel, training_planes

__all__ = [
    "MOST_SAMPLES",
    "Decoded",
    "PlaneModel",
    "compress",
    "decode",
    "decompress",
    "fingerprint",
    "read_header",
    "training_planes",
]
