"""Points of a block into one point and back, for eager, compiled and exported code.

In an exported program both are operators, ``ndrnn::blocks`` and ``ndrnn::unblocks``. The number of blocks that cover a
free extent may be 1; torch's own views take a number that they know as an expression for one that is not, and would
forbid such extents. The operator gives it as a number of its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

torch.library.define("ndrnn::blocks", "(Tensor x, int[] block, float fill=0.0) -> Tensor")
torch.library.define("ndrnn::unblocks", "(Tensor x, int[] block, SymInt[] lattice) -> Tensor")


def to_blocks(x: Tensor, block: Sequence[int], fill: float = 0.0) -> Tensor:
    """(N, D1, ..., Dn, C) to (N, ceil(D1/b1), ..., ceil(Dn/bn), b1*...*bn*C), with ``fill`` beyond the ends."""
    if torch.compiler.is_exporting():
        return torch.ops.ndrnn.blocks(x, list(block), fill)
    return _to_blocks(x, block, fill)


def from_blocks(x: Tensor, block: Sequence[int], lattice: Sequence[int]) -> Tensor:
    """(N, d1, ..., dn, b1*...*bn*C) to (N, D1, ..., Dn, C), ``lattice`` being D1 ... Dn."""
    if torch.compiler.is_exporting():
        return torch.ops.ndrnn.unblocks(x, list(block), list(lattice))
    return _from_blocks(x, block, lattice)


def _to_blocks(x: Tensor, block: Sequence[int], fill: float = 0.0) -> Tensor:
    lattice, ndim = x.shape[1:-1], len(block)
    counts = [-(-extent // step) for extent, step in zip(lattice, block, strict=True)]
    missing = [count * step - size for count, step, size in zip(counts, block, lattice, strict=True)]
    if any(missing):
        x = F.pad(x, (0, 0, *(amount for extra in reversed(missing) for amount in (0, extra))), value=fill)
    split = [number for pair in zip(counts, block, strict=True) for number in pair]
    x = x.reshape(x.shape[0], *split, x.shape[-1])
    outer, inner = range(1, 2 * ndim, 2), range(2, 2 * ndim + 1, 2)
    return x.permute(0, *outer, *inner, 2 * ndim + 1).flatten(ndim + 1)


def _from_blocks(x: Tensor, block: Sequence[int], lattice: Sequence[int]) -> Tensor:
    counts, ndim = x.shape[1:-1], len(block)
    x = x.unflatten(-1, (*block, -1))
    pairs = [axis for k in range(ndim) for axis in (1 + k, 1 + ndim + k)]
    x = x.permute(0, *pairs, 2 * ndim + 1)
    x = x.reshape(x.shape[0], *(n * b for n, b in zip(counts, block, strict=True)), x.shape[-1])
    for axis, extent in enumerate(lattice, start=1):
        x = x.narrow(axis, 0, extent)
    return x


@torch.library.impl("ndrnn::blocks", "CompositeExplicitAutograd")
def _run_blocks(x: Tensor, block: list[int], fill: float = 0.0) -> Tensor:
    return _to_blocks(x, block, fill).clone(memory_format=torch.contiguous_format)


@torch.library.impl("ndrnn::unblocks", "CompositeExplicitAutograd")
def _run_unblocks(x: Tensor, block: list[int], lattice: list[int]) -> Tensor:
    return _from_blocks(x, block, lattice).clone(memory_format=torch.contiguous_format)


@torch.library.register_fake("ndrnn::blocks")  # type: ignore[untyped-decorator]
def _blocks_shape(x: Tensor, block: list[int], fill: float = 0.0) -> Tensor:
    context = torch.library.get_ctx()
    counts = [
        -(-extent // step) if isinstance(extent, int) or step == 1 else context.new_dynamic_size()
        for extent, step in zip(x.shape[1:-1], block, strict=True)
    ]
    return x.new_empty((x.shape[0], *counts, prod(block) * x.shape[-1]))


@torch.library.register_fake("ndrnn::unblocks")  # type: ignore[untyped-decorator]
def _unblocks_shape(x: Tensor, block: list[int], lattice: list[int]) -> Tensor:
    return x.new_empty((x.shape[0], *lattice, x.shape[-1] // prod(block)))


def _remember_blocks(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, ctx.block, *_ = inputs
    ctx.lattice = x.shape[1:-1]


def _remember_unblocks(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, ctx.block, _ = inputs


def _differentiate_blocks(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.ndrnn.unblocks(grad, ctx.block, ctx.lattice), None, None


def _differentiate_unblocks(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    return torch.ops.ndrnn.blocks(grad, ctx.block), None, None


torch.library.register_autograd("ndrnn::blocks", _differentiate_blocks, setup_context=_remember_blocks)
torch.library.register_autograd("ndrnn::unblocks", _differentiate_unblocks, setup_context=_remember_unblocks)
