"""The scan: a cell run over a lattice in some directions, on the backend of choice."""

from .cpu import release_memory
from .dispatch import available_backends, backend, runs_compiled, scan, step
from .linear.function import linear_scan

__all__ = ["available_backends", "backend", "linear_scan", "release_memory", "runs_compiled", "scan", "step"]
