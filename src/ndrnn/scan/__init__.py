"""The scan: a cell run over a lattice in some directions, on the backend of choice."""

from .cpu import release_memory
from .dispatch import available_backends, backend, runs_compiled, scan, step

__all__ = ["available_backends", "backend", "release_memory", "runs_compiled", "scan", "step"]
