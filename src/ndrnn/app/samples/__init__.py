"""Files of images, volumes and arrays as the integers that are coded, and back, with what belongs to them."""

from .files import cut, moved, parts, read, write
from .kinds import ARRAY, Samples, negative

__all__ = ["ARRAY", "Samples", "cut", "moved", "negative", "parts", "read", "write"]
