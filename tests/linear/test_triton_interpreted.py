"""Runs ``test_triton.py`` beside this under Triton's interpreter, in a process of its own, see ``tests/scan``."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
@pytest.mark.parametrize(
    ("which", "least"), [("not slow", 12), pytest.param("slow", 17, marks=pytest.mark.slow)]
)
def test_kernels_conform_under_the_interpreter(which: str, least: int) -> None:
    path = Path(__file__).with_name("test_triton.py")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        "-m",
        which,
        str(path),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=path.parents[2])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    count = re.search(r"(\d+) passed", done.stdout)
    assert count is not None
    assert int(count[1]) >= least
