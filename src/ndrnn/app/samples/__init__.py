"""Files of images, volumes and arrays as the integers that are coded, and back, with what belongs to them."""

from .files import cut, moved, parts, read, write
from .kinds import ARRAY, Samples, full_range, negative

__all__ = ["ARRAY", "Samples", "cut", "full_range", "moved", "negative", "parts", "read", "write"]
