"""Binary32 arithmetic in Python, rounded once: the operations that docs/codec.md is written in."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np

F = np.float32


def f32(value: float) -> F:
    return F(value)


def nearest(value: Fraction) -> F:
    """A fraction rounded to binary32, ties to even."""
    if value == 0:
        return F(0)
    magnitude = abs(value)
    exponent = magnitude.numerator.bit_length() - magnitude.denominator.bit_length()
    if magnitude < Fraction(2) ** exponent:
        exponent -= 1
    unit = Fraction(2) ** max(exponent - 23, -149)
    steps = round(magnitude / unit)  # ties to even
    result = F(float(steps * unit))  # exact: at most 24 bits
    return -result if value < 0 else result


def fma(a: F, b: F, c: F) -> F:
    """a b + c, rounded once."""
    # The product is exact in binary64. Rounding twice goes wrong only where the sum lies in the middle of two numbers
    # of binary32 after it was rounded, or below the normal ones.
    quick = float(a) * float(b) + float(c)
    if abs(quick) > 1e-37 and struct.unpack("<q", struct.pack("<d", quick))[0] & 0x1FFFFFFF != 0x10000000:
        return F(quick)
    return nearest(Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c)))


def bits(value: F) -> int:
    return int(struct.unpack("<i", struct.pack("<f", value))[0])


def of_bits(word: int) -> F:
    return F(struct.unpack("<f", struct.pack("<i", word))[0])


def chain(start: F, weights: list[F], values: list[F]) -> F:
    for w, v in zip(weights, values, strict=True):
        start = fma(w, v, start)
    return start


def within(x: F, low: float, high: float) -> F:
    return F(low) if x < F(low) else F(high) if x > F(high) else x


def _horner(coefficients: list[float], x: F) -> F:
    total = F(coefficients[-1])
    for c in reversed(coefficients[:-1]):
        total = fma(total, x, F(c))
    return total


_SERIES = [0.5, 0.166665211, 0.0416683890, 0.00836871937, 0.00138145988]
_MILLS = [
    -2.73142541e-5,
    0.140270323,
    0.13335517,
    0.155961335,
    -0.0170232560,
    0.240640730,
    -0.202119291,
    0.0489424579,
]


def _parts(x: F) -> tuple[F, F]:
    shifted = fma(x, F(1.44269502), F(12582912.0))
    n = F(shifted - F(12582912.0))
    f = fma(n, F(2.12194440e-4), fma(n, F(-0.693359375), x))
    return of_bits((int(n) + 127) << 23), fma(F(f * f), _horner(_SERIES, f), f)


def exponential(x: F, limit: float = 87.0) -> F:
    scale, rest = _parts(within(x, -limit, limit))
    return fma(scale, rest, scale)


def logistic(x: F) -> F:
    return F(F(1) / F(F(1) + exponential(F(-x))))


def tangent(x: F) -> F:
    scale, rest = _parts(within(F(x + x), -20.0, 20.0))
    m = fma(scale, rest, F(scale - F(1)))
    return F(m / F(m + F(2)))


def normal_tail(z: F) -> F:
    z = min(z, F(13))
    t = F(F(1) / fma(z, F(0.35), F(1)))
    return F(exponential(F(F(z * z) * F(-0.5))) * _horner(_MILLS, t))
