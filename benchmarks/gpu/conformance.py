"""The tests of the kernels, on the device."""

from __future__ import annotations

import os
import subprocess
import sys
from importlib.util import find_spec

from .run import ROOT, Run

SPARE = 5  # seconds to write down what was found


def conformance(run: Run) -> None:
    """The tests of the kernels, on the device."""
    tests = ["tests/scan/test_triton.py", *(["tests/linear"] if (ROOT / "tests/linear").exists() else [])]
    # pytest-benchmark, where it is installed, warns beside xdist, and warnings are errors here
    plugins = ["-p", "no:cacheprovider", "-p", "no:benchmark"]
    command = [sys.executable, "-m", "pytest", "-q", *plugins, "--tb=short", *tests]
    if run.tiny:
        command += ["-k", "strips_wait"]
    elif find_spec("xdist") is not None:
        command += ["-n", str(min(12, os.cpu_count() or 1))]
    limit = max(1, run.left() - SPARE)
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=limit)
        run.add(command=" ".join(command[1:]), passed=done.returncode == 0, output=done.stdout[-6000:])
    except subprocess.TimeoutExpired as late:
        printed = late.stdout.decode(errors="replace") if isinstance(late.stdout, bytes) else late.stdout
        run.add(command=" ".join(command[1:]), passed="not all in time", output=(printed or "")[-6000:])
