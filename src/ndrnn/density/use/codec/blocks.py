"""One block of an image as bytes that are decoded alone."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from zlib import crc32

import numpy as np

from .alphabet import describe, parse
from .deflated import deflated, inflated
from .kernels import Network, decode, encode
from .planes import Samples, join, plane_bits, split
from .reading import Reader

_RAW, _CODED, _DEFLATED = 0, 1, 2
_MIXED, _WAYS = 1, 2  # bits of a plane's first byte: whether it was mixed, and the way of its alphabet above


@dataclass(frozen=True)
class Planes:
    """How the channels of an image are coded."""

    networks: Sequence[Network]
    """Of every plane."""
    bits: int
    transform: str
    mixing: bool = True
    isa: str | None = None

    def encode(self, samples: Samples) -> bytes:
        """The bytes of samples (\\*lattice, C)."""
        kind, best = _RAW, _packed(samples, self.bits)
        if (coded := self._coded(samples, len(best))) is not None:
            kind, best = _CODED, coded
        if (other := deflated(samples, self.bits, len(best))) is not None:
            kind, best = _DEFLATED, other
        return struct.pack("<BI", kind, self._content(samples)) + best

    def _coded(self, samples: Samples, room: int) -> bytes | None:
        """The planes, one after the other, or None if ``room`` bytes do not hold them."""
        planes = split(samples, self.bits, self.transform)
        parts: list[bytes] = []
        for plane, bits in enumerate(plane_bits(self.bits, len(planes), self.transform)):
            part = self._encode_plane(planes, plane, bits, room)
            if part is None:
                return None
            parts.append(part)
            room -= len(part)
        return b"".join(parts)

    def decode(self, data: bytes, shape: Sequence[int], what: str) -> Samples:
        """The samples (\\*lattice, C) of a lattice of this shape.

        Raises:
            ValueError: the bytes are no whole block, or decode to something else than what was coded.
        """
        reader = Reader(data, what)
        kind, content = reader.unpack("<BI")
        channels = len(self.networks)
        if kind == _RAW:
            samples = _unpacked(reader, (*shape, channels), self.bits)
        elif kind == _CODED:
            planes: list[Samples] = []
            for plane, bits in enumerate(plane_bits(self.bits, channels, self.transform)):
                planes.append(self._decode_plane(reader, planes, plane, bits, shape))
            samples = join(planes, self.bits, self.transform)
        elif kind == _DEFLATED:
            samples = inflated(reader, (*shape, channels), self.bits)
        else:
            raise ValueError(f"{what}: of an unknown kind {kind}")
        if reader.left:
            raise ValueError(f"{what}: {reader.left} bytes too many")
        if self._content(samples) != content:
            raise ValueError(f"{what}: does not decode to what was coded, its samples' checksum is wrong")
        return samples

    def _encode_plane(self, planes: list[Samples], plane: int, bits: int, room: int) -> bytes | None:
        values, network = planes[plane], self.networks[plane]
        letters, way, description = describe(values, bits)
        border = int(np.rint(values.reshape(-1, values.shape[-1])[0].mean()))
        head = struct.pack("<BH", self.mixing * _MIXED + way * _WAYS, border) + description
        stream = encode(
            network,
            values,
            _observed(planes, network, values.shape),
            planes[plane - 1] if plane else None,
            letters,
            bits=bits,
            border=border,
            mixing=self.mixing,
            room=max(room - len(head) - 4, 0),
            isa=self.isa,
        )
        return None if stream is None else head + struct.pack("<I", len(stream)) + stream

    def _decode_plane(
        self, reader: Reader, planes: list[Samples], plane: int, bits: int, shape: Sequence[int]
    ) -> Samples:
        network = self.networks[plane]
        flags, border = reader.unpack("<BH")
        letters = parse(flags // _WAYS, reader, bits)
        (length,) = reader.unpack("<I")
        return decode(
            network,
            reader.take(length),
            shape,
            _observed(planes, network, shape),
            planes[plane - 1] if plane else None,
            letters,
            bits=bits,
            border=border,
            mixing=bool(flags & _MIXED),
            isa=self.isa,
        )

    def _content(self, samples: Samples) -> int:
        return crc32(np.ascontiguousarray(samples).astype("<u2").tobytes())


def _observed(planes: list[Samples], network: Network, shape: Sequence[int]) -> Samples:
    return np.array(planes[: network.planes], np.uint16).reshape(network.planes, *shape)


def _packed(samples: Samples, bits: int) -> bytes:
    """``bits`` bits of each, the highest first, without gaps."""
    if bits == 8:
        return samples.astype(np.uint8).tobytes()
    each = np.ascontiguousarray(samples).astype(">u2").reshape(-1, 1).view(np.uint8)
    return np.packbits(np.unpackbits(each, axis=1)[:, 16 - bits :]).tobytes()


def _unpacked(reader: Reader, shape: Sequence[int], bits: int) -> Samples:
    count = int(np.prod(shape, dtype=np.int64))
    packed = np.frombuffer(reader.take((count * bits + 7) // 8), np.uint8)
    if bits == 8:
        return packed.astype(np.uint16).reshape(shape)
    each = np.unpackbits(packed)[: count * bits].reshape(count, bits)
    wide = np.pad(each, ((0, 0), (16 - bits, 0)))
    return np.packbits(wide, axis=1).view(">u2").astype(np.uint16).reshape(shape)
