# Kernels are written in Triton's language, which has no annotations and no starred tuples.
# mypy: ignore-errors
"""Products of tiles on the tensor cores, those of float32 made of several of tf32.

Weights that stay in shared memory are stacked then: their high bits beside their low ones.
"""

import triton
import triton.language as tl


@triton.jit
def high_bits(b_tile):
    """Float32 numbers rounded to the bits of tf32."""
    return ((b_tile.to(tl.int32, bitcast=True) + 4096) & -8192).to(tl.float32, bitcast=True)


@triton.jit
def low_bits(b_tile, b_high):
    """What these leave out; where they are infinite, nothing."""
    return tl.where(tl.abs(b_high) < float("inf"), b_tile - b_high, 0.0)


@triton.jit
def columns(first_unit, part, BU: tl.constexpr, STACKED: tl.constexpr):
    """The units of a tile of weights by column, and where their bits begin: if stacked, the high before the low ones."""
    if STACKED:
        o_column = tl.arange(0, 2 * BU)
        return first_unit + o_column % BU, o_column // BU * part
    else:
        return first_unit + tl.arange(0, BU), tl.arange(0, BU) * 0


@triton.jit
def left_operand(b_tile, STACKED: tl.constexpr):
    """The left operand of :func:`multiply`: if stacked, the high bits above the low ones, (2 * rows, columns)."""
    if STACKED:
        b_high = high_bits(b_tile)
        b_both = tl.join(b_high, low_bits(b_tile, b_high)).permute(2, 0, 1)
        return b_both.reshape(2 * b_tile.shape[0], b_tile.shape[1])
    else:
        return b_tile


@triton.jit
def new_sums(b_start, STACKED: tl.constexpr):
    """Sums for :func:`multiply` to add to: from ``b_start`` on, or if stacked from zero, (2 * rows, 2 * columns)."""
    if STACKED:
        return tl.zeros((2 * b_start.shape[0], 2 * b_start.shape[1]), b_start.dtype)
    else:
        return b_start


@triton.jit
def summed(b_sums, b_start, STACKED: tl.constexpr):
    """``b_start`` and all products."""
    if STACKED:
        b_of_rows = tl.sum(b_sums.reshape(2, b_start.shape[0], 2 * b_start.shape[1]), 0)
        return b_start + tl.sum(b_of_rows.reshape(b_start.shape[0], 2, b_start.shape[1]), 1)
    else:
        return b_sums


@triton.jit
def multiply(b_left, b_right, b_sums, CUT: tl.constexpr, MATH: tl.constexpr):
    """``b_sums`` and the product of two operands.

    Tensor cores multiply float32 numbers as tf32; float32 to rounding takes the products of the bits that tf32 leaves
    out as well ("tf32x3"). Weights that stay in shared memory are stacked, their high bits beside their low ones, and
    so are the left operands; then one product gives all. Each tile of weights is named just once that way: what is
    used twice, the compiler would carry in registers.
    """
    if CUT.stacked:
        return tl.dot(b_left, b_right, b_sums, input_precision="tf32", out_dtype=MATH.acc)
    elif MATH.precision == "widened":  # the interpreter takes the bits of bfloat16 operands for integers
        return tl.dot(
            b_left.to(MATH.acc), b_right.to(MATH.acc), b_sums, input_precision="ieee", out_dtype=MATH.acc
        )
    else:
        return tl.dot(b_left, b_right, b_sums, input_precision=MATH.precision, out_dtype=MATH.acc)
