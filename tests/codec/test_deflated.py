"""Blocks of differences and zlib: what repeats or rises evenly."""

from __future__ import annotations

import struct
import zlib
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ndrnn.density import compress, decompress
from ndrnn.density.use.codec.blocks import Planes
from ndrnn.density.use.codec.deflated import deflated, inflated
from ndrnn.density.use.codec.network import network_of
from ndrnn.density.use.codec.reading import Reader

from .conftest import make_ride, picture

RIDE_2D = make_ride()


def read_by_hand(data: bytes, shape: tuple[int, ...], bits: int) -> np.ndarray:
    """Point by point, from docs/codec.md."""
    *lattice, channels = shape
    numbers = zlib.decompress(data[channels:])
    wide = 2 if bits > 8 else 1
    numbers = [int.from_bytes(numbers[i : i + wide], "little") for i in range(0, len(numbers), wide)]
    values = np.array(numbers).reshape(channels, *lattice)
    for channel in range(channels):
        for axis in range(len(lattice)):
            if data[channel] >> axis & 1:
                for point in product(*map(range, lattice)):
                    if point[axis]:
                        before = tuple(x - (k == axis) for k, x in enumerate(point))
                        values[(channel, *point)] += values[(channel, *before)]
    return np.moveaxis(values % (1 << bits), 0, -1)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.integers(1, 6), min_size=1, max_size=3),
    st.integers(1, 4),
    st.integers(1, 16),
    st.integers(0, 7),
)
def test_samples_come_back(lattice: list[int], channels: int, bits: int, slope: int) -> None:
    shape, most = (*lattice, channels), (1 << bits) - 1
    values = (np.indices(shape).sum(0) * slope & most).astype(np.uint8 if bits <= 8 else np.uint16)
    values.reshape(-1)[-1] = most
    data = deflated(values, bits, 1 << 20)
    assert data is not None
    assert np.array_equal(inflated(Reader(data, "block"), shape, bits), values)
    assert np.array_equal(read_by_hand(data, shape, bits), values)


def test_what_repeats_is_deflated_and_others_are_not() -> None:
    tile = np.random.default_rng(0).integers(0, 256, (9, 13)).astype(np.uint8)
    planes = Planes([network_of(RIDE_2D)], 8, "none")
    for image, kind in ((np.tile(tile, (6, 6)), 2), (picture((50, 60), 1), 1), (np.tile(tile, (1, 1)), 0)):
        block = planes.encode(image[..., None].astype(np.uint16))
        assert block[0] == kind
        assert np.array_equal(planes.decode(block, image.shape, "block")[..., 0], image)
    repeated = np.tile(tile, (20, 20))
    data = compress(RIDE_2D, repeated)
    assert len(data) < repeated.size / 20
    assert np.array_equal(decompress(RIDE_2D, data).numpy(), repeated)


def test_damaged_ones_are_told() -> None:
    planes, samples = Planes([network_of(RIDE_2D)], 8, "none"), np.zeros((3, 4, 1), np.uint16)
    head = struct.pack("<BI", 2, zlib.crc32(samples.astype("<u2").tobytes()))
    good = zlib.compress(bytes(12))
    assert not planes.decode(head + b"\3" + good, (3, 4), "block").any()
    for content, message in (
        (b"\4" + good, "along axes that are not there"),
        (b"\0" + good[:2] + b"\xff" + good[3:], "block: damaged"),
        (b"\0" + good[:-5], "must unpack to 12 bytes"),
        (b"\0" + zlib.compress(bytes(11)), "must unpack to 12 bytes, got 11"),
        (b"\0" + zlib.compress(bytes(1 << 20)), "must unpack to 12 bytes, got 13 or more"),
        (b"\0" + good + b"x", "must unpack to 12 bytes"),
        (b"\0" + zlib.compress(bytes([0] * 11 + [1])), "checksum is wrong"),
        (b"", "truncated"),
    ):
        with pytest.raises(ValueError, match=message):
            planes.decode(head + content, (3, 4), "block")
