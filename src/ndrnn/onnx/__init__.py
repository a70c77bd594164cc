"""Layers and networks as ONNX files, which run without PyTorch and without this library."""

from .exporting import export

__all__ = ["export"]
