"""Runs ONNX files beside the modules that they come from."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

import ndrnn


class Several(nn.Module):
    """Layers side by side over one input, as one file: what an export costs it costs once."""

    def __init__(self, layers):
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.ndim, self.input_size = layers[0].ndim, layers[0].input_size

    def forward(self, x, sizes=None):
        return tuple(layer(x, sizes) for layer in self.layers)


def session_of(path):
    onnxruntime = pytest.importorskip("onnxruntime")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(path, options)


def drawn(module, seed=0):
    """The module with weights that leave nothing at rest, biases and peepholes included."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_((torch.rand(weight.shape, generator=generator) - 0.5).to(weight.dtype))
    return module.eval()


def assert_same(session, module, x, sizes=None, tolerance=1e-5):
    given = {"x": x.numpy()} if sizes is None else {"x": x.numpy(), "sizes": sizes.numpy()}
    with torch.no_grad():
        expected = module(x, sizes)
    expected = expected if isinstance(expected, tuple) else (expected,)
    found = session.run(None, given)[: len(expected)]
    assert len(found) == len(expected)
    for number, (one, other) in enumerate(zip(found, expected, strict=True)):
        scale = max(1.0, float(other.abs().max())) if other.numel() else 1.0
        np.testing.assert_allclose(
            one, other.numpy(), rtol=0, atol=tolerance * scale, err_msg=f"output {number}"
        )


@pytest.fixture
def exported(tmp_path):
    """A session on the file of a module."""
    pytest.importorskip("onnxscript")

    def make(module, **options):
        path = tmp_path / "model.onnx"
        ndrnn.onnx.export(module, path, **options)
        return session_of(path)

    return make
