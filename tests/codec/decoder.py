"""The codec of one plane again, point by point in Python, from docs/codec.md: slow, and nothing shared with the C++.

``transcode`` takes the values and gives the bytes, or takes bytes and gives the values.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from itertools import product
from typing import Any

import numpy as np

from ndrnn.density import RIDE

from .exact import F, chain, exponential, fma, logistic, normal_tail, tangent, within

MOST_ODDS = 2839
MASK = 0xFFFFFFFF


class Writer:
    def __init__(self) -> None:
        self.low, self.high, self.out = 0, 2**64 - 1, bytearray()

    def code(self, bit: int, p: int) -> int:
        width = self.high - self.low
        middle = self.low + (width >> 16) * p + ((width & 0xFFFF) * p >> 16)
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while self.low >> 56 == self.high >> 56:
            self.out.append(self.high >> 56)
            self.low, self.high = (self.low << 8) % 2**64, (self.high << 8) % 2**64 | 0xFF
        return bit

    def finish(self) -> bytes:
        for count in range(9):
            number = self.high >> (64 - 8 * count) << (64 - 8 * count) if count else 0
            if self.low <= number <= self.high:
                return bytes(self.out) + number.to_bytes(8, "big")[:count]
        raise AssertionError


class Parser:
    """Reads with whole numbers of any size: the bytes as a fraction, of which the intervals are parts."""

    def __init__(self, data: bytes) -> None:
        self.low, self.high = 0, 2**64 - 1
        self.data, self.at = data + bytes(64), 8
        self.value = int.from_bytes(self.data[:8], "big")

    def code(self, _: int, p: int) -> int:
        width = self.high - self.low
        middle = self.low + (width >> 16) * p + ((width & 0xFFFF) * p >> 16)
        bit = int(self.value <= middle)
        self.low, self.high = (self.low, middle) if bit else (middle + 1, self.high)
        while self.low >> 56 == self.high >> 56:
            self.low, self.high = (self.low << 8) % 2**64, (self.high << 8) % 2**64 | 0xFF
            byte = self.data[self.at] if self.at < len(self.data) else 0
            self.value, self.at = (self.value << 8) % 2**64 | byte, self.at + 1
        return bit


class Lattice:
    """Where the neighbours of points are."""

    def __init__(self, size: Sequence[int], offsets: Sequence[Sequence[int]]) -> None:
        self.size, n = tuple(size), len(size)
        slopes = [1]
        for axis in reversed(range(n - 1)):
            rest = [
                sum(s * max(o, 0) for s, o in zip(slopes, offset[axis + 1 :], strict=True))
                for offset in offsets
                if offset[axis] < 0 and not any(offset[:axis])
            ]
            if axis == n - 2:
                rest.append(1)
            slopes.insert(0, 1 + max([*rest, 0]))
        self.slopes = slopes

    def wavefronts(self) -> list[list[tuple[int, ...]]]:
        fronts: dict[int, list[tuple[int, ...]]] = {}
        for point in product(*map(range, self.size)):
            fronts.setdefault(sum(s * x for s, x in zip(self.slopes, point, strict=True)), []).append(point)
        return [sorted(fronts[t]) for t in sorted(fronts)]

    def clamped(self, point: Sequence[int], offset: Sequence[int]) -> tuple[int, ...]:
        return tuple(min(max(x + o, 0), s - 1) for x, o, s in zip(point, offset, self.size, strict=True))

    def earlier(self, point: Sequence[int], offset: Sequence[int]) -> tuple[int, ...] | None:
        first = next(k for k, o in enumerate(offset) if o)
        if point[first] > 0:
            return self.clamped(point, offset)
        for k in reversed(range(len(point))):
            if point[k] > 0:
                return tuple(x - (k == j) for j, x in enumerate(point))
        return None


def _numbers(tensor: Any) -> list[F]:
    return list(tensor.detach().float().reshape(-1).numpy())


class Network:
    """States and mixtures by the equations, for one point at a time."""

    def __init__(self, ride: RIDE) -> None:
        self.ride, w = ride, ride.whitening
        self.mean, self.transform = _numbers(w.input_mean), [_numbers(row) for row in w.input_transform]
        self.predictor, self.output_mean = _numbers(w.predictor), _numbers(w.output_mean)[0]
        self.scale = _numbers(w.output_transform)[0]
        self.states: dict[tuple[int, tuple[int, ...]], tuple[list[F], list[F]]] = {}
        self.layers: list[Any] = [
            (
                [_numbers(row) for row in layer.weight_ih[0]],
                [[_numbers(row) for row in axis] for axis in layer.weight_hh[0]],
                _numbers(layer.bias[0]),
            )
            for layer in ride.layers
        ]
        m = ride.mcgsm
        self.priors = [_numbers(row) for row in m.priors]
        precision = [[exponential(a, 40.0) for a in _numbers(row)] for row in m.scales]
        factors = _numbers(m.cholesky)
        self.precision = precision
        self.root = [
            [F(np.sqrt(p) * abs(factor)) for p in row] for row, factor in zip(precision, factors, strict=True)
        ]
        self.energy = [[F(F(b * b) * F(-0.5)) for b in _numbers(row)] for row in m.weights]
        self.features = [_numbers(row) for row in m.features.T]
        self.linear = [_numbers(row) for row in m.linear] if bool(m.linear.any()) else None
        self.predictors, self.means = [_numbers(row) for row in m.predictors[:, 0]], _numbers(m.means)

    def point(self, at: tuple[int, ...], inputs: list[F]) -> Mixture:
        centred = [F(x - m) for x, m in zip(inputs, self.mean, strict=True)]
        x = [chain(F(0), row, centred) for row in self.transform]
        expected = chain(self.output_mean, self.predictor, centred)
        for number, layer in enumerate(self.ride.layers):
            h = self.layer(number, layer, at, x)
            if number > 0 and self.ride.residual:
                scales = _numbers(self.ride.scales[number - 1])
                x = [fma(s, a, b) for s, a, b in zip(scales, h, x, strict=True)]
            else:
                x = h
        return Mixture(self, x, expected)

    def layer(self, number: int, layer: Any, at: tuple[int, ...], x: list[F]) -> list[F]:
        n, hidden, kind = len(at), self.ride.hidden_size, layer.cell.kernel
        wih, whh, bias = self.layers[number]
        zero = ([F(0)] * hidden, [F(0)] * hidden)
        before = [
            self.states[number, tuple(v - (j == k) for j, v in enumerate(at))] if at[k] else zero
            for k in range(n)
        ]

        def row(r: int, states: bool = True) -> F:
            total = chain(bias[r], wih[r], x)
            for k in range(n if states else 0):
                total = chain(total, whh[k][r], before[k][0])
            return total

        h, c = [], []
        for unit in range(hidden):

            def gate(g: int, states: bool = True, unit: int = unit, row: Any = row) -> F:
                return row(g * hidden + unit, states)

            hs = [state[0][unit] for state in before]
            cs = [state[1][unit] for state in before]

            def old(first: int, gate: Any = gate, cs: list[F] = cs) -> F:
                shares = [exponential(gate(first + k), 40.0) for k in range(n - 1)]
                total = F(1)
                for share in shares:
                    total = F(total + share)
                shares.append(F(1))
                result = F(F(shares[0] / total) * cs[0])
                for k in range(1, n):
                    result = fma(F(shares[k] / total), cs[k], result)
                return result

            if kind == "leaky":
                f, g = logistic(gate(0)), tangent(gate(n))
                o1, o2, memory = logistic(gate(n + 1)), logistic(gate(n + 2)), old(1)
                new = fma(f, F(memory - g), g)
                out = tangent(fma(o2, memory, F(o1 * new)))
            elif kind == "stable":
                i, f, g, o = logistic(gate(0)), logistic(gate(1)), tangent(gate(n + 1)), logistic(gate(n + 2))
                new = fma(i, g, F(f * old(2)))
                out = F(o * tangent(new))
            elif kind == "spatial":
                i, g, o = logistic(gate(0)), tangent(gate(n + 1)), logistic(gate(n + 2))
                new = F(g * i)
                for k in range(n):
                    new = fma(logistic(gate(1 + k)), cs[k], new)
                new = within(new, -(2.0**60), 2.0**60)
                out = tangent(F(o * new))
            else:
                candidate, total, shares = gate(2 * n, states=False), F(1), []
                extra = [_numbers(row) for row in layer.bias_hn[0]]
                for k in range(n):
                    u = chain(extra[k][unit], whh[k][2 * n * hidden + unit], before[k][0])
                    candidate = fma(logistic(gate(k)), u, candidate)
                    shares.append(exponential(gate(n + k), 40.0))
                    total = F(total + shares[-1])
                out, new = F(F(F(1) / total) * tangent(candidate)), F(0)
                for k in range(n):
                    out = fma(F(shares[k] / total), hs[k], out)
            h.append(out)
            c.append(new)
        self.states[number, at] = (h, c)
        return h


class Mixture:
    def __init__(self, network: Network, h: list[F], expected: F) -> None:
        self.network, self.expected = network, expected
        squares = []
        for row in network.features:
            q = within(chain(F(0), row, h), -1e9, 1e9)
            squares.append(F(q * q))
        linear = (
            [chain(F(0), row, h) for row in network.linear] if network.linear else [F(0)] * len(network.means)
        )
        energy = [
            within(chain(start, row, squares), -1e18, 1e18)
            for start, row in zip(linear, network.energy, strict=True)
        ]
        logits = [
            [fma(p, e, prior) for p, prior in zip(ps, priors, strict=True)]
            for ps, e, priors in zip(network.precision, energy, network.priors, strict=True)
        ]
        most = max(max(row) for row in logits)
        self.weights = [[exponential(F(x - most)) for x in row] for row in logits]
        self.means = [
            chain(start, row, h) for start, row in zip(network.means, network.predictors, strict=True)
        ]
        self.total = F(0)
        for row in self.weights:
            for weight in row:
                self.total = F(self.total + weight)

    def masses(self, border: F) -> tuple[F, F]:
        y = F(F(border - self.expected) * self.network.scale)
        below = above = F(0)
        for weights, roots, mean in zip(self.weights, self.network.root, self.means, strict=True):
            distance = F(y - mean)
            for weight, root in zip(weights, roots, strict=True):
                z = F(distance * root)
                tail = F(weight * normal_tail(abs(z)))
                rest = F(weight - tail)
                below = F(below + (tail if z < 0 else rest))
                above = F(above + (rest if z < 0 else tail))
        return below, above


@cache
def odds_tables() -> tuple[list[int], list[int]]:
    probability = []
    for x in range(-MOST_ODDS, MOST_ODDS + 1):
        p = F(F(logistic(F(x / 256)) * F(65536)) + F(0.5))
        probability.append(int(min(max(p, F(1)), F(65535))))
    odds, x = [], 0
    for p in range(65536):
        while x < 2 * MOST_ODDS and probability[x] < p:
            x += 1
        odds.append(x - MOST_ODDS)
    return probability, odds


def towards_zero(a: int, b: int) -> int:
    return a // b if a >= 0 else -(-a // b)


def hashed(a: int, b: int, c: int) -> int:
    h = (a * 0x9E3779B1 + b * 0x85EBCA77 + c * 0xC2B2AE3D + 0x27D4EB2F) & MASK
    h = ((h ^ h >> 15) * 0x2C1B3C6D) & MASK
    return h ^ h >> 13


class Mixing:
    """The counters, mixed."""

    def __init__(self, bits: int, axes: int) -> None:
        self.bits, self.axes = bits, axes
        self.probability, self.odds = odds_tables()
        self.counters: dict[tuple[int, int], list[int]] = {}
        self.weights: dict[tuple[int, int], list[int]] = {}
        self.knots: dict[tuple[int, int, int], list[int]] = {}
        self.lines: dict[Any, list[int]] = {}

    def squash(self, odds: int) -> int:
        return self.probability[min(max(odds, -MOST_ODDS), MOST_ODDS) + MOST_ODDS]

    def see(self, values: Sequence[int], other: int) -> tuple[list[int], int, int]:
        w, n, nw, ne, ww, nn, up = values
        most = (1 << self.bits) - 1

        def bounded(x: int) -> int:
            return min(max(x, 0), most)

        gradient = min(max(w + n - nw, min(w, n)), max(w, n))
        activity = min(((abs(w - nw) + abs(n - nw) + abs(n - ne)) >> max(self.bits - 8, 0)).bit_length(), 7)
        if other >= 0:
            fifth, sixth = hashed(5, other, gradient), hashed(hashed(6, other, w), n, 0)
        else:
            fifth = hashed(5, up, gradient) if self.axes == 3 else hashed(5, w, ww)
            sixth = hashed(6, bounded(2 * w - ww), bounded(2 * n - nn))
        contexts = [
            0,
            hashed(1, w, n),
            hashed(hashed(2, w, n), nw, ne),
            hashed(3, gradient, activity),
            hashed(4, bounded(n + towards_zero(ne - nn, 2)), (w + ne) // 2),
            fifth,
            sixth,
        ]
        flat = (w == n) + 2 * (n == nw) + 4 * (w == nw or n == ne)
        return contexts, activity, flat

    def code(self, coder: Any, seen: Any, key: Any, level: int, prefix: int, model: int, bit: int) -> int:
        _, activity, flat = seen
        node = prefix % (1 << level % 4) | 1 << level % 4
        slots = [
            self.counters.setdefault((c, line + node), [32768, 0]) for c, line in enumerate(self.lines[key])
        ]
        inputs = [self.odds[model]]
        for p, n in slots:
            inputs.append(0 if n == 0 else towards_zero(self.odds[p], 2) if n < 3 else self.odds[p])
        inputs.append(256)

        def trust(n: int) -> int:
            return 0 if n == 0 else 1 if n < 3 else 2 if n < 10 else 3

        sets = (
            level * 8 + activity,
            level * 16 + trust(slots[2][1]) * 4 + trust(slots[1][1]),
            level * 8 + flat,
        )
        rows = [
            self.weights.setdefault((s, number), [65536 * (s == 0)] + [0] * (len(inputs) - 1))
            for s, number in enumerate(sets)
        ]
        odds = sum(w * i for row in rows for w, i in zip(row, inputs, strict=True)) >> 16
        odds = min(max(odds, -MOST_ODDS), MOST_ODDS)
        mixed = self.squash(odds)
        knot, part = divmod(odds + MOST_ODDS, 178)
        knots = self.knots.setdefault(
            (level, activity, flat), [self.squash(i * 178 - MOST_ODDS) for i in range(33)]
        )
        refined = knots[knot] + towards_zero((knots[knot + 1] - knots[knot]) * part, 178)
        final = min(max(3 * mixed + refined >> 2, 1), 65535)
        bit = coder.code(bit, final)
        error = 65535 * bit - mixed
        for row in rows:
            for i, value in enumerate(inputs):
                row[i] = min(max(row[i] + (value * error + (1 << 17) >> 18), -(1 << 20)), 1 << 20)
        for c, slot in enumerate(slots):
            slot[0] += towards_zero((65535 * bit - slot[0]) * 2, 2 * slot[1] + 3)
            slot[1] = min(slot[1] + 1, 250 if c == 0 else 60)
        nearest = knot + (2 * part > 178)
        knots[nearest] += towards_zero(65535 * bit - knots[nearest], 64)
        return bit


def transcode(
    ride: RIDE,
    shape: Sequence[int],
    alphabet: Sequence[int],
    *,
    bits: int,
    border: int,
    mixing: bool,
    values: np.ndarray | None = None,
    data: bytes | None = None,
    observed: Sequence[np.ndarray] = (),
    before: np.ndarray | None = None,
) -> bytes | np.ndarray:
    nb, n = ride.neighborhood, len(shape)
    lattice, network, mixer = Lattice(shape, nb.offsets), Network(ride), Mixing(bits, n)
    coder: Any = Writer() if data is None else Parser(data)
    known: dict[tuple[int, ...], int] = {}
    unit, levels = F(2.0**-bits), len(alphabet)
    depth = (levels - 1).bit_length()
    log = min(max((4 * int(np.prod(shape)) - 1).bit_length(), 10), 20)

    def centre(value: int) -> F:
        return F(F(F(value) + F(0.5)) * unit)

    def value_at(point: tuple[int, ...] | None) -> int:
        return border if point is None else known[point]

    def context_offsets() -> list[tuple[int, ...]]:
        if n == 1:
            return [(o,) for o in (-1, -1, -2, -1, -2, -2, -1)]
        front = (0,) * (n - 2)
        steps = [(0, -1), (-1, 0), (-1, -1), (-1, 1), (0, -2), (-2, 0)]
        return [(*front, *step) for step in steps] + [(-1, *(0,) * (n - 1))]

    def border_of(rank: int) -> F:
        return F(F(int(alphabet[rank - 1]) + 1 + int(alphabet[rank])) * F(F(0.5) * unit))

    for front in lattice.wavefronts():
        if depth == 0:
            known.update(dict.fromkeys(front, int(alphabet[0])))
            continue
        mixtures, seen, prefix = {}, {}, dict.fromkeys(front, 0)
        for point in front:
            inputs = [centre(value_at(lattice.earlier(point, offset))) for offset in nb.offsets]
            for offset in nb.observed_offsets:
                at = lattice.clamped(point, offset)
                inputs += [centre(int(plane[at])) for plane in observed]
            mixtures[point] = network.point(point, inputs)
            around = [value_at(lattice.earlier(point, offset)) for offset in context_offsets()]
            seen[point] = mixer.see(around, -1 if before is None else int(before[point]))
        low = {p: (F(0), mixtures[p].total) for p in front}
        high = {p: (mixtures[p].total, F(0)) for p in front}
        for level in range(depth):
            bit = depth - 1 - level
            for point in front:
                if level % 4 == 0:
                    mixer.lines[point] = [
                        hashed(c, prefix[point], level) >> (36 - log) << 4 for c in seen[point][0]
                    ]
                first = 2 * prefix[point] << bit
                middle, end = first + (1 << bit), min(first + (2 << bit), levels)
                one = 0
                if middle < levels:
                    mixture = mixtures[point]
                    half = mixture.masses(border_of(middle))
                    even = F(F(mixture.total * F(2.0**-20)) / F(levels))

                    def mass(a: tuple[F, F], b: tuple[F, F]) -> F:
                        return max(F(b[0] - a[0]) if b[0] < a[1] else F(a[1] - b[1]), F(0))

                    zeros = F(mass(low[point], half) + F(even * F(middle - first)))
                    ones = F(mass(half, high[point]) + F(even * F(end - middle)))
                    model = int(F(F(F(ones / F(zeros + ones)) * F(65536)) + F(0.5)))
                    model = min(max(model, 1), 65535)
                    if values is not None:
                        one = int(list(alphabet).index(int(values[point])) >> bit & 1)
                    if mixing:
                        one = mixer.code(coder, seen[point], point, level, prefix[point], model, one)
                    else:
                        one = coder.code(one, model)
                    (low if one else high)[point] = half
                prefix[point] = 2 * prefix[point] + one
        for point in front:
            known[point] = int(alphabet[prefix[point]])
    if data is None:
        return bytes(coder.finish())
    result = np.zeros(shape, np.uint16)
    for point, value in known.items():
        result[point] = value
    return result
