"""The scan as an operator of PyTorch: tracing, exporting, autocast, and what it refuses."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import torch
from torch import Tensor

import ndrnn
from ndrnn.scan import operators

pytestmark = pytest.mark.kernels

LAYERS = {
    "MDRNN": ndrnn.MDRNN,
    "MDLSTM": ndrnn.MDLSTM,
    "peephole": lambda *size, **options: ndrnn.MDLSTM(*size, peepholes=True, **options),
    "StableMDLSTM": ndrnn.StableMDLSTM,
    "LeakyMDLSTM": ndrnn.LeakyMDLSTM,
    "extended": lambda *size, **options: ndrnn.SpatialLSTM(*size, extended=True, **options),
    "MDGRU": ndrnn.MDGRU,
}


def arguments(
    layer: torch.nn.Module, x: Tensor, *, sizes: Tensor | None = None, state: bool = False, keep: bool = True
) -> tuple[object, ...]:
    directions, faces = len(layer.directions), sum(x.shape[1:-1][::-1]) if layer.ndim == 2 else 1
    h0 = torch.randn(directions, x.shape[0], faces, layer.hidden_size, dtype=x.dtype) if state else None
    c0 = h0.flip(0) if state and layer.cell.memory else None
    signs = [sign for direction in layer.directions for sign in direction]
    return (
        x,
        *(p if p is None else p.detach() for p in layer.params),
        sizes,
        h0,
        c0,
        layer.cell.kernel,
        signs,
        True,
        keep,
    )


@pytest.mark.parametrize("name", LAYERS)
def test_opcheck(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name](2, 3, dtype=torch.float64)
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64)
    plain = arguments(layer, x, sizes=torch.tensor([[3, 4], [3, 4]]), state=True)
    # what is kept of ragged samples has gaps that nothing writes, so that it cannot be compared
    ragged = arguments(layer, x, sizes=torch.tensor([[3, 4], [2, 1]]), state=True, keep=False)
    differentiable = [
        a.clone().requires_grad_() if isinstance(a, Tensor) and a.is_floating_point() else a for a in plain
    ]
    for case in (plain, differentiable, ragged, arguments(layer, x, keep=False)):
        assert set(torch.library.opcheck(operators.scan, case).values()) == {"SUCCESS"}
    y, hn, cn, c, kept = operators.scan(*plain)
    *inputs, cell, signs, _, _ = plain
    grads = (torch.randn_like(y), torch.randn_like(hn), torch.randn_like(cn) if layer.cell.memory else None)
    backward = (*grads, *inputs, y, c, kept, cell, signs, True, True, True)
    assert set(torch.library.opcheck(operators.scan_backward, backward).values()) == {"SUCCESS"}


@pytest.mark.parametrize("name", ["MDLSTM", "MDGRU"])
def test_compiling_the_whole_graph(name: str) -> None:
    torch.manual_seed(0)
    layer = LAYERS[name](2, 3)
    x = torch.randn(2, 5, 4, 2, requires_grad=True)
    sizes = torch.tensor([[5, 4], [2, 3]])

    def run(x: Tensor) -> Tensor:
        return layer(x * 2, sizes).tanh()

    eager = run(x)
    expected = torch.autograd.grad(eager.square().sum(), [x, *layer.parameters()])
    compiled = torch.compile(run, fullgraph=True, backend="aot_eager")(x)
    torch.testing.assert_close(compiled, eager)
    for got, wanted in zip(
        torch.autograd.grad(compiled.square().sum(), [x, *layer.parameters()]), expected, strict=True
    ):
        torch.testing.assert_close(got, wanted)


def test_exporting_and_training_what_was_exported() -> None:
    torch.manual_seed(0)
    layer = ndrnn.MDLSTM(2, 3)
    x = torch.randn(2, 5, 4, 2)
    exported = torch.export.export(layer, (x,))
    nodes = [node for node in exported.graph.nodes if node.target is operators.scan]
    assert len(nodes) == 1
    assert nodes[0].args[-1] is False  # a program for inference keeps nothing
    program = exported.module()
    torch.testing.assert_close(program(x), layer(x))
    expected = torch.autograd.grad(layer(x).sin().sum(), layer.weight_hh)[0]
    weight = dict(program.named_parameters())["weight_hh"]
    torch.testing.assert_close(torch.autograd.grad(program(x).sin().sum(), weight)[0], expected)


def test_autocast_lowers_only_what_leaves() -> None:
    layer = ndrnn.MDLSTM(2, 3)
    x = torch.randn(1, 4, 4, 2)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        y = layer(x.bfloat16())
    assert y.dtype == torch.bfloat16
    torch.testing.assert_close(y, layer(x.bfloat16().float()).bfloat16())


def test_checkpointing_gives_the_same_gradients() -> None:
    layer = ndrnn.MDLSTM(2, 3)
    x = torch.randn(1, 4, 4, 2, requires_grad=True)
    expected = torch.autograd.grad(layer(x).sin().sum(), x)[0]
    y = torch.utils.checkpoint.checkpoint(layer, x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(y.sin().sum(), x)[0], expected)


def refused(change: dict[int, object], match: str) -> None:
    given = list(
        arguments(
            ndrnn.MDLSTM(2, 3), torch.randn(2, 3, 4, 2), sizes=torch.tensor([[3, 4], [2, 1]]), state=True
        )
    )
    for index, value in change.items():
        given[index] = value(given[index]) if callable(value) else value
    with pytest.raises(RuntimeError, match=match):
        operators.scan(*given)


def test_the_border_refuses_what_the_kernels_cannot_read() -> None:
    """Every pointer is checked in shape, dtype and contiguity before it is taken."""
    names = {0: "x", 1: "weight_ih", 2: "weight_hh", 3: "bias", 5: "sizes", 6: "h0", 7: "c0"}
    for index, name in names.items():
        other = torch.int32 if name == "sizes" else torch.float64
        strided = r"must be contiguous" if name != "x" else r"x must be contiguous"
        refused({index: lambda t: t.transpose(-1, -2).contiguous().transpose(-1, -2)}, strided)
        refused({index: lambda t, other=other: t.to(other)}, "dtype")
        if name != "x":
            refused({index: lambda t: t[:1]}, "must have shape|contiguous|one direction|signs|weight_ih")
            refused({index: lambda t: torch.cat([t, t], -1)}, "must have shape")
    refused({0: lambda x: x.half()}, "float32 and float64")
    refused({0: torch.randn(3, 2)}, "dimensions")
    refused({0: torch.randn(2, *[1] * 9, 2)}, "dimensions")
    refused({4: torch.randn(4, 4, 3)}, "extra must have 0 elements")
    refused({5: torch.tensor([[3, 5], [2, 1]])}, r"sizes on axis 1 must lie in \[0, 4\], got 5")
    refused({5: torch.tensor([[-1, 4], [2, 1]])}, r"sizes on axis 0 must lie in \[0, 3\], got -1")
    refused({6: None}, "h0 and c0 belong together")
    refused({7: None}, "h0 and c0 belong together")
    refused({8: "elman"}, "no kernels for the cell elman")
    refused({8: "lstm_peephole"}, "needs its additional parameter")
    refused({8: "gru"}, "weight_ih must have shape|c0")
    refused({9: [1, 1, 1]}, "signs must have 8 entries, got 3")
    refused({9: [1, 1, 1, -1, -1, 1, -1, 2]}, r"signs must be \+1 or -1, got 2")


def in_a_fresh_process(script: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", script], env={**os.environ, **environment}, capture_output=True, text=True
    )


def test_a_required_backend_that_is_missing_fails_loudly() -> None:
    done = in_a_fresh_process("import ndrnn; ndrnn.MDRNN", NDRNN_REQUIRE="cpu", NDRNN_CPU_ISA="sse9")
    assert done.returncode != 0
    assert "NDRNN_REQUIRE asks for the backend 'cpu'" in done.stderr
    done = in_a_fresh_process("import ndrnn; ndrnn.MDRNN", NDRNN_REQUIRE="abacus")
    assert "no such backend" in done.stderr
    script = "import ndrnn; print(ndrnn.available_backends()['cpu'])"
    assert (
        "NDRNN_CPU_ISA must be one of"
        in in_a_fresh_process(script, NDRNN_CPU_ISA="sse9", NDRNN_REQUIRE="").stdout
    )
