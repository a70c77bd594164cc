"""The head of a compressed file: what it holds, checked before anything is made of it. See docs/codec.md."""

from __future__ import annotations

import struct
import zlib
from dataclasses import dataclass, field
from itertools import product
from math import prod

from .kernels import MOST_AXES
from .planes import TRANSFORMS
from .reading import Reader

MAGIC, VERSION = b"\x89ndrnn\r\n", 2
HASH_BYTES = 16
_MOST_CHANNELS, _MOST_BITS = 16, 16
_MOST_SIZE, _MOST_BLOCK, _MOST_CHUNK = 1 << 31, 1 << 24, 1 << 26
_CHANNEL_AXIS, _ALPHA = 1, 2


@dataclass(frozen=True)
class Header:
    """What a file says of itself."""

    size: tuple[int, ...]
    """Of the lattice."""
    channels: int
    channel_axis: bool
    """Whether the image had an axis of channels, its last."""
    alpha: bool
    """Whether the last channel is opacity."""
    bits: int
    transform: str
    block: tuple[int, ...]
    """Points of a block along every axis; those at the far ends are smaller."""
    model: str
    """The model's name, for people."""
    fingerprint: bytes
    """Of all networks that the planes are coded with."""
    chunks: dict[str, bytes] = field(default_factory=dict)
    """What belongs to the image beside its samples, by names of four letters."""

    @property
    def shape(self) -> tuple[int, ...]:
        """Of the image."""
        return (*self.size, self.channels) if self.channel_axis else self.size

    @property
    def blocks(self) -> list[tuple[slice, ...]]:
        """Where the blocks are, in the order of the file: the last axis fastest."""
        starts = (range(0, size, block) for size, block in zip(self.size, self.block, strict=True))
        return [
            tuple(
                slice(start, min(start + block, size))
                for start, block, size in zip(corner, self.block, self.size, strict=True)
            )
            for corner in product(*starts)
        ]

    @property
    def block_count(self) -> int:
        return prod(-(-size // block) for size, block in zip(self.size, self.block, strict=True))

    def check(self) -> None:
        """Raise ValueError if the format cannot say this."""
        if not 1 <= len(self.size) <= MOST_AXES or len(self.block) != len(self.size):
            raise ValueError(f"images must have 1 to {MOST_AXES} axes, got {len(self.size)}")
        if not all(1 <= size < _MOST_SIZE for size in self.size):
            raise ValueError(f"every axis must have 1 to {_MOST_SIZE - 1} points, got {self.size}")
        if not all(block >= 1 for block in self.block) or prod(self.block) > _MOST_BLOCK:
            raise ValueError(f"blocks must have 1 to {_MOST_BLOCK} points, got {self.block}")
        if not 1 <= self.channels <= _MOST_CHANNELS:
            raise ValueError(f"images must have 1 to {_MOST_CHANNELS} channels, got {self.channels}")
        if not 1 <= self.bits <= _MOST_BITS:
            raise ValueError(f"samples must have 1 to {_MOST_BITS} bits, got {self.bits}")
        if self.transform != "none" and (self.channels < 3 or (self.transform == "ycocg" and self.bits > 15)):
            raise ValueError(
                f"transform {self.transform!r} does not fit {self.channels} channels of {self.bits} bits"
            )
        if self.alpha and self.channels not in (2, 4):
            raise ValueError(f"images with opacity must have 2 or 4 channels, got {self.channels}")


@dataclass(frozen=True)
class Entry:
    """Where a block's bytes are in the file, and their checksum."""

    start: int
    length: int
    checksum: int


def pack(header: Header, blocks: list[bytes]) -> bytes:
    """A whole file."""
    header.check()
    name = header.model.encode()[:255]
    parts = [
        MAGIC,
        struct.pack(
            "<BBBBBBBB",
            VERSION,
            header.channel_axis * _CHANNEL_AXIS + header.alpha * _ALPHA,
            len(header.size),
            header.channels,
            header.bits,
            TRANSFORMS.index(header.transform),
            len(name),
            len(header.chunks),
        ),
        struct.pack(f"<{2 * len(header.size)}I", *header.size, *header.block),
        header.fingerprint,
        name,
    ]
    for key, content in header.chunks.items():
        if len(key.encode()) != 4 or len(content) > _MOST_CHUNK:
            raise ValueError(
                f"chunks must have names of 4 letters and at most {_MOST_CHUNK} bytes, got {key!r} of {len(content)}"
            )
        stored = zlib.compress(content, 9)
        parts += [struct.pack("<4sII", key.encode(), len(content), len(stored)), stored]
    parts += [struct.pack("<II", len(block), zlib.crc32(block)) for block in blocks]
    head = b"".join(parts)
    return b"".join([head, struct.pack("<I", zlib.crc32(head)), *blocks])


def parse(data: bytes, most_samples: int) -> tuple[Header, list[Entry]]:
    """The head of a file and the places of its blocks, some of which may lie beyond the file's end.

    Raises:
        ValueError: the data are foreign, of another version, damaged or truncated in their head, or say more samples than
            ``most_samples``; nothing of that size has been made.
    """
    if data[: len(MAGIC)] != MAGIC:
        raise ValueError(f"data must be a compressed image, got something that begins with {data[:8]!r}")
    reader = Reader(data, "head of a compressed image")
    reader.take(len(MAGIC))
    version, flags, axes, channels, bits, transform, name_length, chunk_count = reader.unpack("<8B")
    if version == 1:
        raise ValueError(
            "data are of format version 1, which only the version 0.1 and the machine that wrote them can read"
        )
    if version != VERSION:
        raise ValueError(
            f"data must be of format version {VERSION}, got {version}: a newer ndrnn may read them"
        )
    if flags & ~(_CHANNEL_AXIS | _ALPHA) or transform >= len(TRANSFORMS) or not 1 <= axes <= MOST_AXES:
        raise ValueError(
            f"data use what this version does not know: flags {flags}, transform {transform}, {axes} axes"
        )
    numbers = reader.unpack(f"<{2 * axes}I")
    header = Header(
        size=tuple(numbers[:axes]),
        channels=channels,
        channel_axis=bool(flags & _CHANNEL_AXIS),
        alpha=bool(flags & _ALPHA),
        bits=bits,
        transform=TRANSFORMS[transform],
        block=tuple(numbers[axes:]),
        fingerprint=reader.take(HASH_BYTES),
        model=reader.take(name_length).decode(errors="replace"),
    )
    header.check()
    stored = [_chunk(reader) for _ in range(chunk_count)]
    count = header.block_count
    if 8 * count > reader.left:
        raise ValueError(f"{reader.what}: truncated, the table of {count} blocks is not whole")
    table = struct.iter_unpack("<II", reader.take(8 * count))
    end = reader.at
    (checksum,) = reader.unpack("<I")
    if zlib.crc32(data[:end]) != checksum:
        raise ValueError(f"{reader.what}: damaged, its checksum is wrong")
    samples = prod(header.shape)
    if samples > most_samples:
        raise ValueError(
            f"the image has {samples} samples, {header.shape}, more than the {most_samples} allowed; read a region of it, "
            "or allow more"
        )
    entries, start = [], reader.at
    for length, crc in table:
        entries.append(Entry(start, length, crc))
        start += length
    if len(data) > start:
        raise ValueError(f"data must have {start} bytes by their head, got {len(data)}")
    for key, length, content in stored:
        header.chunks[key] = _inflated(key, length, content)
    return header, entries


def _chunk(reader: Reader) -> tuple[str, int, bytes]:
    key, length, size = reader.unpack("<4sII")
    return key.decode("latin-1"), length, reader.take(size)


def _inflated(key: str, length: int, stored: bytes) -> bytes:
    if length > _MOST_CHUNK:
        raise ValueError(f"chunk {key!r} must have at most {_MOST_CHUNK} bytes, got {length}")
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(stored, length + 1)
    except zlib.error as error:
        raise ValueError(f"chunk {key!r} is damaged ({error})") from error
    if len(content) != length or not unpacker.eof:
        raise ValueError(f"chunk {key!r} must have {length} bytes, got {len(content)} or more")
    return content
