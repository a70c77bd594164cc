"""Runs ``test_triton.py`` and ``test_triton_concurrent.py``, and that of the linear scan, under Triton's interpreter: the kernels themselves, on CPU tensors, without a GPU.

In a process of its own, because Triton decides when it is first imported whether it interprets, for all kernels of a
process, also those that torch.compile makes.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

ATTEMPTS = 3
HERE = Path(__file__).parent


def run(path: Path, *options: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        *options,
        str(path),
    ]
    return subprocess.run(command, env=environment, capture_output=True, text=True, cwd=HERE.parents[1])


def passed(done: subprocess.CompletedProcess[str]) -> int:
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    count = re.search(r"(\d+) passed", done.stdout)
    assert count is not None
    return int(count[1])


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(("part", "least"), [("conform", 40), ("not conform", 50)])
def test_kernels_conform_under_the_interpreter(part: str, least: int) -> None:
    """Every cell against the definition, and all else: two halves of about the same time, for two workers."""
    assert passed(run(HERE / "test_triton.py", "-k", part)) >= least


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(
    ("which", "least"), [("not slow", 12), pytest.param("slow", 17, marks=pytest.mark.slow)]
)
def test_the_linear_scan_conforms_under_the_interpreter(which: str, least: int) -> None:
    assert passed(run(HERE.parent / "linear/test_triton.py", "-m", which)) >= least


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_strips_wait_under_the_interpreter() -> None:
    """The interpreter is not made for threads, and once in many runs it loses a program, for which the others then wait.

    A fault of the kernels themselves would show in every attempt.
    """
    for _ in range(ATTEMPTS):
        done = run(HERE / "test_triton_concurrent.py")
        if "programs wait for each other forever" not in done.stdout:
            break
    assert passed(done) == 5
