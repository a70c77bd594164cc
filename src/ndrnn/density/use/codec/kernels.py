"""The compiled codec of one plane of one block: values to bytes and back, each result defined to the last bit."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from math import prod

import numpy as np
from numpy.typing import NDArray

from ....scan.operators import kernels

Values = NDArray[np.uint16]

MOST_AXES = 3
MOST_MEMORY = 1 << 31
"""Bytes that the states of a block may take."""
_OUTCOMES = ("done", "no room", "no memory", "wrong call")
_Three = ctypes.c_int32 * MOST_AXES


class _Plane(ctypes.Structure):
    """``CodecPlane`` of csrc/codec/plane.h."""

    _fields_ = (
        ("axes", ctypes.c_int32),
        ("size", _Three),
        ("slope", _Three),
        ("bits", ctypes.c_int32),
        ("levels", ctypes.c_int32),
        ("alphabet", ctypes.c_void_p),
        ("border", ctypes.c_int32),
        ("mixing", ctypes.c_int32),
        ("own", ctypes.c_int32),
        ("seen", ctypes.c_int32),
        ("planes", ctypes.c_int32),
        ("offsets", ctypes.c_void_p),
        ("observed", ctypes.c_void_p),
        ("before", ctypes.c_void_p),
        ("cell", ctypes.c_int32),
        ("layers", ctypes.c_int32),
        ("hidden", ctypes.c_int32),
        ("residual", ctypes.c_int32),
        ("features", ctypes.c_int32),
        ("components", ctypes.c_int32),
        ("scales", ctypes.c_int32),
        ("linear", ctypes.c_int32),
        ("weights", ctypes.c_void_p),
        ("weight_count", ctypes.c_int64),
    )


@dataclass(frozen=True)
class Network:
    """A model of one plane as the compiled codec takes it."""

    offsets: tuple[tuple[int, ...], ...]
    """Of the neighbours among the earlier points of the plane itself, each with as many numbers as there are axes."""
    observed_offsets: tuple[tuple[int, ...], ...]
    """Of those among the points of the planes before."""
    planes: int
    """How many planes before are seen."""
    cell: int
    layers: int
    hidden: int
    residual: bool
    features: int
    components: int
    scales: int
    linear: bool
    weights: NDArray[np.float32] = field(repr=False)

    @property
    def axes(self) -> int:
        return len(self.offsets[0])

    @cached_property
    def slopes(self) -> tuple[int, ...]:
        """A point is coded at step sum_k slope_k x_k, after all that it sees, wherever its neighbours are moved at the
        border of a block; the counters look one to the right along the line before."""
        slopes = [1]
        for axis in reversed(range(self.axes - 1)):
            rest = [
                sum(slope * max(step, 0) for slope, step in zip(slopes, offset[axis + 1 :], strict=True))
                for offset in self.offsets
                if offset[axis] < 0 and not any(offset[:axis])
            ]
            slopes.insert(0, 1 + max([*rest, 1 if axis == self.axes - 2 else 0]))
        return tuple(slopes)

    def memory(self, shape: Sequence[int]) -> int:
        """Bytes that coding a block of this shape takes at the most, roughly."""
        lines, inputs = prod(shape[:-1]), len(self.offsets) + self.planes * len(self.observed_offsets)
        kept = 2 * self.layers * self.hidden * (max(self.slopes) + 1)
        wavefront = 3 * inputs + (4 * self.axes + 8) * self.hidden + self.features + 4 * self.components
        at_once = min(lines, prod(shape))
        return 4 * (
            lines * kept
            + at_once * (wavefront + self.components * self.scales + 40)
            + self.weights.size
            + 40 * prod(shape)
        )


class CodecError(ValueError):
    """The compiled codec could not do what was asked."""


def instruction_sets() -> list[str]:
    """Those of this processor, the one that is used by default first."""
    library = _library()
    names = [kernels.isa, "avx512", "avx2", "portable"]
    return [name for name in dict.fromkeys(names) if library.ndrnn_codec_supports(name.encode())]


def encode(
    network: Network,
    values: Values,
    observed: Values,
    before: Values | None,
    alphabet: Values,
    *,
    bits: int,
    border: int,
    mixing: bool,
    room: int,
    isa: str | None = None,
) -> bytes | None:
    """The bytes of a plane, or None if ``room`` bytes do not hold them.

    Args:
        values: the plane's, any number of axes.
        observed: (planes, \\*lattice), of the planes that the model sees.
        before: (\\*lattice), the plane coded just before this one, if there is one.
        alphabet: all values that occur, ascending.
    """
    plane, kept = _describe(network, values.shape, observed, before, alphabet, bits, border, mixing)
    values = np.ascontiguousarray(values, np.uint16)
    to, used = np.empty(max(room, 1), np.uint8), ctypes.c_int64()
    outcome = _library().ndrnn_codec_encode(
        _isa(isa),
        ctypes.byref(plane),
        values.ctypes.data_as(ctypes.c_void_p),
        to.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(room),
        ctypes.byref(used),
    )
    del kept
    if _OUTCOMES[outcome] == "no room":
        return None
    _check(outcome)
    return to[: used.value].tobytes()


def decode(
    network: Network,
    data: bytes,
    shape: Sequence[int],
    observed: Values,
    before: Values | None,
    alphabet: Values,
    *,
    bits: int,
    border: int,
    mixing: bool,
    isa: str | None = None,
) -> Values:
    """The values that :func:`encode` made ``data`` of; of other data, some values of the alphabet."""
    plane, kept = _describe(network, shape, observed, before, alphabet, bits, border, mixing)
    values = np.zeros(tuple(shape), np.uint16)
    outcome = _library().ndrnn_codec_decode(
        _isa(isa),
        ctypes.byref(plane),
        values.ctypes.data_as(ctypes.c_void_p),
        data,
        ctypes.c_int64(len(data)),
    )
    del kept
    _check(outcome)
    return values


def functions(x: NDArray[np.float32], isa: str | None = None) -> NDArray[np.float32]:
    """exp, logistic, tanh, the normal distribution's tail beyond abs(x), and x x + 1/3 rounded once, (..., 5)."""
    x = np.ascontiguousarray(x, np.float32)
    results = np.empty((*x.shape, 5), np.float32)
    _library().ndrnn_codec_functions(
        _isa(isa),
        x.ctypes.data_as(ctypes.c_void_p),
        ctypes.c_int64(x.size),
        results.ctypes.data_as(ctypes.c_void_p),
    )
    return results


def _describe(
    network: Network,
    shape: Sequence[int],
    observed: Values,
    before: Values | None,
    alphabet: Values,
    bits: int,
    border: int,
    mixing: bool,
) -> tuple[_Plane, object]:
    """The description, and the arrays that have to live as long as it."""
    axes = network.axes
    if len(shape) != axes or min(shape) < 1:
        raise ValueError(f"a plane must have {axes} axes, as the model has, got shape {tuple(shape)}")
    if (memory := network.memory(shape)) > MOST_MEMORY:
        raise ValueError(
            f"a block of {' x '.join(map(str, shape))} points would take {memory / 1e9:.1f} GB of memory with this "
            f"model, at most {MOST_MEMORY / 1e9:.1f} are allowed: take smaller blocks"
        )
    if observed.shape != (network.planes, *shape):
        raise ValueError(f"observed must have shape {(network.planes, *shape)}, got {observed.shape}")
    observed = np.ascontiguousarray(observed, np.uint16)
    if before is not None and before.shape != tuple(shape):
        raise ValueError(f"before must have shape {tuple(shape)}, got {before.shape}")
    before = None if before is None else np.ascontiguousarray(before, np.uint16)
    alphabet = np.ascontiguousarray(alphabet, np.uint16)
    offsets = np.array([*network.offsets, *network.observed_offsets], np.int32).reshape(-1, axes)
    weights = np.ascontiguousarray(network.weights, np.float32)
    plane = _Plane(
        axes=axes,
        size=_Three(*shape),
        slope=_Three(*network.slopes),
        bits=bits,
        levels=len(alphabet),
        alphabet=alphabet.ctypes.data,
        border=border,
        mixing=int(mixing),
        own=len(network.offsets),
        seen=len(network.observed_offsets),
        planes=network.planes,
        offsets=offsets.ctypes.data,
        observed=observed.ctypes.data,
        before=None if before is None else before.ctypes.data,
        cell=network.cell,
        layers=network.layers,
        hidden=network.hidden,
        residual=int(network.residual),
        features=network.features,
        components=network.components,
        scales=network.scales,
        linear=int(network.linear),
        weights=weights.ctypes.data,
        weight_count=weights.size,
    )
    return plane, (observed, before, alphabet, offsets, weights)


def _isa(name: str | None) -> bytes:
    return (name or kernels.isa).encode()


def _library() -> ctypes.CDLL:
    if kernels.refusal is not None:
        raise ImportError(f"the codec is compiled code: {kernels.refusal}")
    library = kernels.library
    known = getattr(library, "ndrnn_codec_plane_bytes", None)
    if known is None or known() != ctypes.sizeof(_Plane):
        raise ImportError(
            "the compiled kernels (ndrnn_cpu.so) are of another version than this package: build them anew"
        )
    return library


def _check(outcome: int) -> None:
    what = _OUTCOMES[outcome]
    if what == "no memory":
        raise MemoryError("the codec's states of a block do not fit into memory; take smaller blocks")
    if what != "done":
        raise CodecError(f"the codec refused a call: {what}")
