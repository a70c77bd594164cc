"""On what the figures were measured."""

from __future__ import annotations

import os
import platform
import subprocess
import sys
from datetime import date
from pathlib import Path
from typing import Any

import torch

import ndrnn


def program() -> str:
    """The module that runs: ``benchmarks``, or one of its own."""
    stem = Path(sys.argv[0]).stem
    return "benchmarks" if stem == "__main__" else f"benchmarks.{stem}"


def describe() -> dict[str, Any]:
    return {
        "date": date.today().isoformat(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load at the start": round(os.getloadavg()[0], 1),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "ndrnn": ndrnn.__version__,
        "commit": _commit(),
        "backends": ", ".join(name for name, there in ndrnn.available_backends().items() if there is True),
        "command": " ".join(["python -m", program(), *sys.argv[1:]]),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(line.split(":", 1) for line in lines if ":" in line)
    fields = {name.strip(): value.strip() for name, value in fields.items()}
    sets = set(fields.get("flags", "").split())
    vectors = next((name for name in ("avx512f", "avx2") if name in sets), "no AVX2")
    family = f"family {fields.get('cpu family', '?')} model {fields.get('model', '?')}"
    return f"{fields.get('model name', platform.machine())} ({family}, {vectors})"


def _commit() -> str:
    here = Path(__file__).parent
    try:
        commit = subprocess.run(
            ["git", "rev-parse", "--short=12", "HEAD"], cwd=here, capture_output=True, text=True, check=True
        ).stdout.strip()
        changed = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=here,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit + " with changes" * bool(changed)
