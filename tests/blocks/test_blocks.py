"""Blocks, their cosine transform, windows and collapsed axes against formulas written out, and ragged samples."""

from __future__ import annotations

from itertools import product
from math import ceil, prod

import numpy as np
import pytest
import scipy.fft
import torch
from torch.autograd import gradcheck

from ndrnn.nn.blocks import Blocks, Collapse, DCTBlocks, Subsample, Unblocks

LATTICES = [
    ((5,), (2,)),
    ((7, 5), (3, 2)),
    ((4, 6), (4, 3)),
    ((3, 4, 5), (2, 1, 3)),
    ((1, 1), (3, 4)),
    ((6, 3), (1, 1)),
]


def by_hand(x: np.ndarray, block: tuple[int, ...]) -> np.ndarray:
    """(D1, ..., Dn, C) in blocks, one number at a time."""
    lattice, channels = x.shape[:-1], x.shape[-1]
    counts = [ceil(d / b) for d, b in zip(lattice, block, strict=True)]
    y = np.zeros((*counts, prod(block) * channels))
    for point in product(*map(range, lattice)):
        within = tuple(p % b for p, b in zip(point, block, strict=True))
        feature = np.ravel_multi_index(within, block) * channels
        y[(*(p // b for p, b in zip(point, block, strict=True)), slice(feature, feature + channels))] = x[
            point
        ]
    return y


def ragged(lattice: tuple[int, ...]) -> torch.Tensor:
    """Extents of four samples: whole, shorter on one axis, a single point, and nothing."""
    shorter = [max(1, lattice[0] - 1), *lattice[1:]]
    return torch.tensor([list(lattice), shorter, [1] * len(lattice), [0] * len(lattice)])


def poisoned(x: torch.Tensor, sizes: torch.Tensor) -> torch.Tensor:
    """x with NaN outside the extents."""
    y = torch.full_like(x, torch.nan)
    for index, size in enumerate(sizes.tolist()):
        own = (index, *map(slice, size))
        y[own] = x[own]
    return y


@pytest.mark.parametrize(("lattice", "block"), LATTICES)
def test_blocks_put_every_number_where_the_formula_says(lattice, block):
    x = torch.randn(2, *lattice, 3, dtype=torch.float64)
    y = Blocks(block)(x)
    for sample in range(2):
        np.testing.assert_array_equal(y[sample].numpy(), by_hand(x[sample].numpy(), block))


@pytest.mark.parametrize(("lattice", "block"), LATTICES)
def test_ragged_blocks_equal_those_of_the_cropped_sample(lattice, block):
    sizes = ragged(lattice)
    x = torch.randn(4, *lattice, 2)
    blocks = Blocks(block)
    y, counts = blocks(poisoned(x, sizes), sizes), blocks.output_sizes(sizes)
    for index, size in enumerate(sizes.tolist()):
        alone = blocks(x[(slice(index, index + 1), *map(slice, size))])[0]
        assert counts[index].tolist() == list(alone.shape[:-1])
        own = (index, *map(slice, alone.shape[:-1]))
        assert torch.equal(y[own], alone)
        rest = y[index].clone()
        rest[own[1:]] = 0
        assert torch.count_nonzero(rest) == 0


@pytest.mark.parametrize(("lattice", "block"), LATTICES)
def test_unblocks_is_the_way_back(lattice, block):
    x = torch.randn(2, *lattice, 3)
    assert torch.equal(Unblocks(block)(Blocks(block)(x), lattice), x)


@pytest.mark.parametrize("block", [(8,), (8, 8), (3, 5), (2, 3, 4)])
def test_cosine_coefficients_are_those_of_scipy(block):
    x = torch.randn(1, *block, 2, dtype=torch.float64)
    transform = DCTBlocks(block).double()
    y = transform(x).reshape(prod(block), 2)
    expected = scipy.fft.dctn(x[0].numpy(), type=2, norm="ortho", axes=range(len(block)))
    assert np.allclose(np.sort(y.numpy(), 0), np.sort(expected.reshape(-1, 2), 0), atol=1e-12)
    # orthonormal: nothing is lost
    assert torch.allclose(y.square().sum(0), x.flatten(0, -2).square().sum(0), atol=1e-12)


def test_few_coefficients_of_a_large_block_take_little_memory():
    # all of its coefficients would take terabytes
    y = DCTBlocks((600, 800), 3).double()(torch.ones(1, 600, 800, 1, dtype=torch.float64))
    assert y.ravel().tolist() == pytest.approx([(600 * 800) ** 0.5, 0, 0], abs=1e-6)


def test_cosine_coefficients_come_in_the_zigzag_order_of_jpeg():
    # the first fifteen steps through an 8 x 8 block, as the JPEG standard (ITU T.81, figure A.6) draws them
    path = [
        (0, 0),
        (0, 1),
        (1, 0),
        (2, 0),
        (1, 1),
        (0, 2),
        (0, 3),
        (1, 2),
        (2, 1),
        (3, 0),
        (4, 0),
        (3, 1),
        (2, 2),
    ]
    x = torch.randn(1, 8, 8, 1)
    y = DCTBlocks((8, 8), len(path))(x)
    expected = scipy.fft.dctn(x[0, ..., 0].numpy(), norm="ortho")
    np.testing.assert_allclose(y[0, 0, 0].numpy(), [expected[index] for index in path], atol=1e-5)


def test_subsample_is_a_linear_map_of_each_window_and_a_tanh():
    window = Subsample((2, 3), 4, 5).double()
    x = torch.randn(2, 4, 6, 4, dtype=torch.float64)
    y = window(x)
    assert window.linear.bias is None
    assert sum(weight.numel() for weight in window.parameters()) == 2 * 3 * 4 * 5
    flat = by_hand(x[1].numpy(), (2, 3))[1, 0]
    np.testing.assert_allclose(
        y[1, 1, 0].detach(), np.tanh(window.linear.weight.detach().numpy() @ flat), atol=1e-12
    )


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
@pytest.mark.parametrize("axes", [(0,), (1,), (0, 1), (2, 0)])
def test_collapse_takes_each_samples_own_points(how, axes):
    sizes = torch.tensor([[3, 4, 2], [1, 2, 2], [2, 3, 1]])
    x = torch.randn(3, 3, 4, 2, 5)
    collapse = Collapse(3, axes, how)
    y, left = collapse(poisoned(x, sizes), sizes), collapse.output_sizes(sizes)
    reduce = {"sum": np.sum, "mean": np.mean, "max": np.max}[how]
    for index, size in enumerate(sizes.tolist()):
        expected = reduce(x[(index, *map(slice, size))].numpy(), axis=axes)
        assert left[index].tolist() == list(expected.shape[:-1])
        own = (index, *map(slice, expected.shape[:-1]))
        np.testing.assert_allclose(y[own].numpy(), expected, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(
        collapse(x).numpy(), reduce(x.numpy(), axis=tuple(a + 1 for a in axes)), rtol=1e-5, atol=1e-6
    )


@pytest.mark.parametrize("how", ["sum", "mean", "max"])
def test_collapse_of_nothing_is_zero(how):
    y = Collapse(2, (0, 1), how)(torch.full((1, 2, 3, 4), torch.nan), torch.tensor([[0, 0]]))
    assert torch.equal(y, torch.zeros(1, 4))


@pytest.mark.parametrize(
    "module",
    [
        Blocks((2, 3)),
        DCTBlocks((2, 3), 4),
        Subsample((2, 3), 2, 3),
        Collapse(2, (0,)),
        Collapse(2, (0, 1), "mean"),
        Collapse(2, (1,), "max"),
    ],
    ids=repr,
)
def test_gradients(module):
    torch.manual_seed(0)
    module = module.double()
    sizes = torch.tensor([[3, 4], [2, 1]])
    x = torch.randn(2, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert gradcheck(lambda x: module(x, sizes), x)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Blocks((0, 2)), r"block must hold an int of at least 1 for each axis, got \(0, 2\)"),
        (lambda: Blocks(()), "block must hold an int"),
        (
            lambda: Blocks((2, 2))(torch.zeros(1, 4, 4)),
            r"x must have shape \(N, 2 axes, C\), got \(1, 4, 4\)",
        ),
        (
            lambda: Blocks((2,))(torch.zeros(1, 4, 1), torch.tensor([[5]])),
            r"sizes on axis 0 must lie in \[0, 4\]",
        ),
        (lambda: DCTBlocks((2, 2), 5), r"num_coefficients must lie in \[1, 4\], got 5"),
        (lambda: Collapse(2, (2,)), r"axes must be distinct and in \[0, 1\], got \(2,\)"),
        (lambda: Collapse(2, (0,), "median"), "how must be .*, got 'median'"),
        (
            lambda: Unblocks((2, 2))(torch.zeros(1, 2, 2, 6), (4, 4)),
            "x must have a multiple of 4 features.*got 6",
        ),
    ],
)
def test_bad_arguments_are_named(make, message):
    with pytest.raises(ValueError, match=message):
        make()
