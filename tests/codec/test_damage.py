"""Files that are not whole: an error that says what is wrong, or what is left of them; never a wrong picture."""

from __future__ import annotations

import struct
import tracemalloc
import zlib

import numpy as np
import pytest

from ndrnn.density import compress, decompress
from ndrnn.density.use.codec import decode, header
from ndrnn.scan.operators import kernels

from .conftest import make_ride, picture

if kernels.refusal is not None:
    pytest.skip(kernels.refusal, allow_module_level=True)

RIDE = make_ride(hidden=3)
IMAGE = picture((20, 18, 3), 1)
DATA = compress(RIDE, IMAGE, block=(10, 18), name="tiny", chunks={"EXIF": b"x" * 40})
HEAD = 16 + 16 + 16 + len(b"tiny")


def resealed(data: bytearray, count: int = 2) -> bytes:
    """With the right checksum of the head."""
    end = len(data) - sum(struct.unpack_from("<I", data, table_at() + 8 * i)[0] for i in range(count)) - 4
    struct.pack_into("<I", data, end, zlib.crc32(bytes(data[:end])))
    return bytes(data)


def table_at() -> int:
    (stored,) = struct.unpack_from("<I", DATA, HEAD + 8)
    return HEAD + 12 + stored


def intact(image: np.ndarray) -> bool:
    """Whether every block is right or empty."""
    return all(
        np.array_equal(image[part], IMAGE[part]) or not image[part].any()
        for part in (slice(10), slice(10, 20))
    )


def test_every_flipped_bit_is_seen() -> None:
    for at in range(len(DATA)):
        for bit in (at % 8,):
            broken = bytearray(DATA)
            broken[at] ^= 1 << bit
            with pytest.raises(ValueError) as error:
                decompress(RIDE, bytes(broken))
            assert str(error.value)
            try:
                result = decode(RIDE, bytes(broken), salvage=True)
            except ValueError:
                assert at < table_at() + 20  # in the head, without which nothing is known
            else:
                assert len(result.damaged) == 1
                assert intact(result.image.numpy())


def test_every_truncation_is_seen() -> None:
    for length in range(len(DATA)):
        with pytest.raises(ValueError):
            decompress(RIDE, DATA[:length])
        if length >= table_at() + 20:
            result = decode(RIDE, DATA[:length], salvage=True)
            assert result.damaged
            assert intact(result.image.numpy())
    with pytest.raises(ValueError, match=rf"must have {len(DATA)} bytes by their head, got {len(DATA) + 1}"):
        decompress(RIDE, DATA + b"\0")


def test_a_block_of_wrong_bytes_with_right_checksums_is_no_picture() -> None:
    """What a machine would see that computes otherwise: only the checksum of the samples can tell."""
    entry = header.parse(DATA, 1 << 20)[1][0]
    for at in range(entry.start + 5, entry.start + entry.length):
        broken = bytearray(DATA)
        broken[at] ^= 0x40
        block = bytes(broken[entry.start : entry.start + entry.length])
        struct.pack_into("<I", broken, table_at() + 4, zlib.crc32(block))
        with pytest.raises(ValueError, match="block 0"):
            decompress(RIDE, resealed(broken))


@pytest.mark.parametrize(
    ("at", "value", "message"),
    [
        (8, 1, "format version 1"),
        (8, 3, "version 2, got 3: a newer"),
        (9, 8, "does not know: flags 8"),
        (10, 4, "4 axes"),
        (11, 0, "1 to 16 channels"),
        (12, 17, "1 to 16 bits"),
        (13, 9, "transform 9"),
        (16, 0xFF, "table of .* blocks is not whole"),
        (27, 0x7F, "blocks must have 1 to"),
    ],
)
def test_what_is_not_known_is_refused(at: int, value: int, message: str) -> None:
    broken = bytearray(DATA)
    broken[at] = value
    if at == 16:
        broken[17:20] = b"\xff\xff\x7f"
    with pytest.raises(ValueError, match=message):
        decompress(RIDE, bytes(broken))


def test_foreign_bytes_and_other_models_are_named() -> None:
    with pytest.raises(ValueError, match=r"begins with b'\\x89PNG"):
        decompress(RIDE, b"\x89PNG\r\n\x1a\n" + bytes(100))
    with pytest.raises(ValueError, match="begins with b''"):
        decompress(RIDE, b"")
    with pytest.raises(ValueError, match="another model, tiny: its hash begins with"):
        decompress(make_ride(5, hidden=3), DATA)


def test_nothing_is_made_of_what_a_head_only_says() -> None:
    """A hundred bytes that announce a terabyte, and a chunk that unpacks to more than it says."""
    wide = header.Header((1 << 30, 1 << 10), 1, False, False, 8, "none", (1 << 20, 16), "", bytes(16))
    with pytest.raises(ValueError, match="truncated, the table"):
        decompress(RIDE, header.pack(wide, [b""] * 3))
    large = header.Header((1 << 20, 1 << 20), 1, False, False, 8, "none", (1 << 12, 1 << 12), "", bytes(16))
    tracemalloc.start()
    with pytest.raises(ValueError, match="more than the"):
        decompress(RIDE, header.pack(large, [b""] * (1 << 16)))
    assert tracemalloc.get_traced_memory()[1] < 1 << 26
    tracemalloc.stop()
    bomb = bytearray(DATA)
    stored = zlib.compress(bytes(1 << 20), 9)
    start, end = HEAD + 12, table_at()
    bomb[start:end] = stored
    struct.pack_into("<I", bomb, HEAD + 8, len(stored))
    shift = len(stored) - (end - start)
    head_end = table_at() + shift + 16
    struct.pack_into("<I", bomb, head_end, zlib.crc32(bytes(bomb[:head_end])))
    with pytest.raises(ValueError, match="chunk 'EXIF' must have 40 bytes"):
        decompress(RIDE, bytes(bomb))
