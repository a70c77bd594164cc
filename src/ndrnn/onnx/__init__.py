"""Layers and networks as ONNX files, which run without PyTorch and without this library."""

from .exporting import METADATA, OPSET, export

__all__ = ["METADATA", "OPSET", "export"]
