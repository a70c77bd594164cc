"""The codec on another processor, under an emulator, and under sanitizers: the same bytes. Skips where a compiler or the
emulator is missing."""

from __future__ import annotations

import ctypes
import shutil
import struct
import subprocess
from pathlib import Path

import numpy as np
import pytest

from ndrnn.density.use.codec import kernels
from ndrnn.density.use.codec.network import network_of

from .conftest import make_ride, picture

CODEC = Path(__file__).parents[2] / "csrc" / "codec"
NATIVE = "sanitized"
TARGETS = {
    "aarch64": ("aarch64-linux-gnu-g++", "qemu-aarch64", ["-O2", "-static"]),
    NATIVE: ("g++", "env", ["-O1", "-g", "-fsanitize=address,undefined", "-fno-sanitize-recover=all"]),
}


def call(
    network: kernels.Network,
    values: np.ndarray,
    observed: np.ndarray,
    before: np.ndarray | None,
    mixing: bool,
) -> bytes:
    """A call of encode as the program reads it: the description, then what its pointers mean."""
    letters = np.unique(values)
    plane, kept = kernels._describe(network, values.shape, observed, before, letters, 8, 100, mixing)
    arrays = [np.frombuffer(bytes(plane), np.uint8), letters]
    arrays += [
        np.array([*network.offsets, *network.observed_offsets], np.int32).reshape(-1),
        observed.reshape(-1),
    ]
    arrays += [
        np.zeros(0, np.uint16) if before is None else before.reshape(-1),
        network.weights,
        values.reshape(-1),
    ]
    del kept
    return b"".join(struct.pack("<q", array.size) + np.ascontiguousarray(array).tobytes() for array in arrays)


@pytest.mark.slow
@pytest.mark.parametrize("target", TARGETS)
def test_other_processors_write_the_same_bytes(target: str, tmp_path: Path) -> None:
    *programs, extra = TARGETS[target]
    compiler, emulator = (shutil.which(str(name)) for name in programs)
    if compiler is None or emulator is None:
        pytest.skip(f"{' or '.join(map(str, programs))} is missing")
    program = tmp_path / "codec"
    sources = [CODEC / "portable.cpp", Path(__file__).parent / "foreign" / "main.cpp"]
    options = ["-std=c++17", "-ffp-contract=off", "-fno-math-errno", "-w", *extra]
    subprocess.run([compiler, *options, *map(str, sources), "-o", str(program)], check=True)
    calls, wanted = [], []
    for number, cell in enumerate(("leaky", "stable", "spatial", "gru")):
        seen = number % 2
        network = network_of(make_ride(number, layers=1 + number // 2, seen=seen, cell=cell, residual=True))
        values, other = (picture((21, 17), seed).astype(np.uint16) for seed in (number, number + 9))
        observed = other[None][:seen]
        before = other if seen else None
        calls.append(call(network, values, observed, before, mixing=number != 1))
        wanted.append(
            kernels.encode(
                network,
                values,
                observed,
                before,
                np.unique(values),
                bits=8,
                border=100,
                mixing=number != 1,
                room=4000,
            )
        )
    ran = subprocess.run([emulator, str(program)], input=b"".join(calls), capture_output=True, check=True)
    got, at = [], 0
    while at < len(ran.stdout):
        (length,) = struct.unpack_from("<q", ran.stdout, at)
        got.append(ran.stdout[at + 8 : at + 8 + length])
        at += 8 + length
    assert got == wanted
    assert ctypes.sizeof(kernels._Plane) == kernels._library().ndrnn_codec_plane_bytes()
