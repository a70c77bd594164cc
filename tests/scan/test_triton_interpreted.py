"""Runs ``test_triton.py`` and ``test_triton_concurrent.py`` under Triton's interpreter: the kernels themselves, on CPU tensors, without a GPU.

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


@pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed")
def test_kernels_conform_under_the_interpreter() -> None:
    cases = [Path(__file__).with_name(f"test_triton{part}.py") for part in ("", "_concurrent")]
    environment = {**os.environ, "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-p",
        "no:cacheprovider",
        "--no-header",
        *map(str, cases),
    ]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, cwd=cases[0].parents[2])
    assert done.returncode == 0, done.stdout[-8000:] + done.stderr[-2000:]
    passed = re.search(r"(\d+) passed", done.stdout)
    assert passed is not None
    assert int(passed[1]) > 60, done.stdout[-8000:]
