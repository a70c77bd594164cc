"""Exported programs for free batches and lattices give what the modules give."""

from __future__ import annotations

import pytest
import torch
from torch.export import Dim, export

import ndrnn
from ndrnn.nn.blocks import Blocks

pytestmark = pytest.mark.kernels

N, H, W = Dim("n", min=1, max=64), Dim("h", min=2, max=400), Dim("w", min=2, max=400)
FREE = {"x": {0: N, 1: H, 2: W}}
FREE_SIZES = {**FREE, "sizes": {0: N}}

NETWORKS = {
    "points": {"hidden": (2,)},
    "frames": {"hidden": (2, 3), "subsample": (4,), "blocks": ((2, 3), (2, 1)), "collapse": (0,)},
    "mean": {"hidden": (2,), "blocks": ((2, 3),), "collapse": (0, 1), "how": "mean"},
    "max": {"hidden": (2,), "collapse": (1,), "how": "max"},
    "expanded": {"hidden": (2, 2), "blocks": ((2, 2), (1, 2)), "expand": True},
    "cosines": {"hidden": (2,), "blocks": ((3, 2),), "dct": 3},
}


def assert_exports(model, sizes, strict):
    torch.manual_seed(0)
    example = (torch.randn(2, 20, 30, 1), torch.tensor([[20, 30], [5, 7]]))
    if sizes:
        program = export(model, example, dynamic_shapes=FREE_SIZES, strict=strict).module()
    else:
        program = export(model, example[:1], dynamic_shapes=FREE, strict=strict).module()
    for shape, extents in (
        ((1, 5, 7), [[4, 6]]),
        ((3, 20, 41), [[20, 3], [0, 41], [20, 41]]),
        ((2, 2, 2), [[2, 2], [1, 2]]),
    ):
        x = torch.randn(*shape, 1)
        given = (x, torch.tensor(extents)) if sizes else (x,)
        torch.testing.assert_close(program(*given), model(*given))


@pytest.mark.parametrize(
    ("network", "sizes", "strict"),
    [
        *((network, True, False) for network in NETWORKS),
        *((network, False, False) for network in ("mean", "max", "expanded")),
        ("frames", True, True),
        ("expanded", False, True),
    ],
)
def test_networks(network, sizes, strict):
    torch.manual_seed(0)
    assert_exports(ndrnn.Hierarchy(1, 3, **NETWORKS[network]).eval(), sizes, strict)


@pytest.mark.parametrize(("sizes", "strict"), [(True, False), (False, False), (True, True)])
def test_layers(sizes, strict):
    torch.manual_seed(0)
    assert_exports(ndrnn.MDLSTM(1, 3, peepholes=True, recompute=2), sizes, strict)
    assert_exports(ndrnn.Stack(ndrnn.LeakyMDLSTM(1, 2, merge="mean"), ndrnn.MDGRU(2, 2)), sizes, strict)


def test_one_free_extent():
    model = ndrnn.Hierarchy(1, 3, hidden=(4,), blocks=((2, 2),)).eval()
    example = (torch.randn(1, 20, 80, 1),)
    free = {"x": {2: Dim("w", min=2, max=400)}}
    program = export(model, example, dynamic_shapes=free, strict=False)
    for width in (2, 3, 4, 41, 80, 400):
        x = torch.randn(1, 20, width, 1)
        torch.testing.assert_close(program.module()(x), model(x))


def test_what_is_fixed_stays_so():
    model = ndrnn.Hierarchy(1, 3, hidden=(4,), blocks=((2, 3),)).eval()
    program = export(model, (torch.randn(2, 5, 7, 1),), strict=False)
    (output,) = program.graph.output_node().args[0]
    assert output.meta["val"].shape == (2, 3, 3, 3)


def test_training_an_exported_network():
    torch.manual_seed(0)
    model = ndrnn.Hierarchy(1, 3, hidden=(2, 2), blocks=((2, 2), (1, 2)), expand=True)
    x = torch.randn(2, 5, 7, 1)
    program = export(model, (torch.randn(2, 20, 30, 1),), dynamic_shapes=FREE, strict=False).module()
    program(x).sin().sum().backward()
    model(x).sin().sum().backward()
    exported = dict(program.named_parameters())
    for name, weight in model.named_parameters():
        torch.testing.assert_close(exported[name].grad, weight.grad)


def test_the_operators_of_blocks():
    block = (2, 3)
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64, requires_grad=True)
    y = torch.ops.ndrnn.blocks(x, block)
    assert torch.equal(y, Blocks(block)(x))
    assert torch.equal(torch.ops.ndrnn.unblocks(y, block, (5, 7)), x)
    assert torch.autograd.gradcheck(lambda x: torch.ops.ndrnn.blocks(x, block), x, fast_mode=True)
    assert torch.autograd.gradcheck(lambda y: torch.ops.ndrnn.unblocks(y, block, (5, 7)), y, fast_mode=True)
    torch.library.opcheck(torch.ops.ndrnn.blocks.default, (x, block))
    torch.library.opcheck(torch.ops.ndrnn.unblocks.default, (y.detach().requires_grad_(), block, (5, 7)))
