"""``python -m benchmarks.gpu``: all that is to be measured on a CUDA device, within eight minutes.

Each section runs in a process of its own with seconds of its own: one that fails, hangs, or leaves the device unusable
for its process is recorded, and the others go on. Every row is in its file as soon as it is known, and after every
section the results so far replace ``benchmarks/results/gpu-DEVICE.json``. A section ends well only if nothing in its
rows is wrong: tests that failed, results that disagree.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import torch

import ndrnn
from ndrnn.saving.atomic import replacing

from .. import machine
from .run import ROOT, Run

RESULTS = ROOT / "benchmarks" / "results"
GRACE = 5  # seconds for a section to end by itself


@dataclass(frozen=True)
class Section:
    measure: str  # module:function, imported in the section's own process: what is missing there fails there
    seconds: int

    def __call__(self, run: Run) -> None:
        module, function = self.measure.split(":")
        getattr(import_module(f"{__package__}.{module}"), function)(run)


SECTIONS = {
    "conformance": Section("conformance:conformance", 105),
    "wide": Section("wide:wide", 75),
    "scans": Section("scans:scans", 110),
    "sampling": Section("models:sampling", 40),
    "ride step": Section("models:ride_step", 25),
    "digits": Section("models:digits", 90),
    "compiled": Section("scans:compiled", 30),
}


def described() -> dict[str, Any]:
    found = {**machine.describe(), "command": " ".join(["python -m benchmarks.gpu", *sys.argv[1:]])}
    try:
        import triton

        found["triton"] = triton.__version__
    except ImportError:
        found["triton"] = "none"
    if torch.cuda.is_available():
        properties = torch.cuda.get_device_properties(0)
        found |= {
            "device": properties.name,
            "compute capability": f"{properties.major}.{properties.minor}",
            "multiprocessors": properties.multi_processor_count,
            "memory": f"{properties.total_memory / 2**30:.0f} GiB",
            "CUDA": str(torch.version.cuda),
            "cuDNN": str(torch.backends.cudnn.version()),
            "tf32": torch.backends.cuda.matmul.fp32_precision,
        }
    return found


def outcome_of(name: str, seconds: float, options: argparse.Namespace, rows: Path) -> dict[str, Any]:
    """Run a section in a process of its own; its rows, and how it ended."""
    command = [sys.executable, "-m", "benchmarks.gpu", "--section", name, "--rows", str(rows)]
    command += ["--seconds", str(seconds), "--data", str(options.data), *["--tiny"] * options.tiny]
    environment = {**os.environ, **({"TRITON_INTERPRET": "1"} if options.tiny else {})}
    started = time.monotonic()
    child = subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        _, printed = child.communicate(timeout=seconds + GRACE)
        ended = "well" if child.returncode == 0 else f"with {child.returncode}: {printed[-3000:]}"
    except subprocess.TimeoutExpired:
        os.killpg(child.pid, signal.SIGKILL)  # the processes that it started go with it
        _, printed = child.communicate()
        ended = f"stopped after {seconds + GRACE:.0f} s: {printed[-3000:]}"
    kept = [json.loads(line) for line in rows.read_text().splitlines()] if rows.exists() else []
    wrong = faults(kept)
    if ended == "well" and wrong:
        ended = f"with something wrong: {'; '.join(wrong)}"
    return {"ended": ended, "took": time.monotonic() - started, "rows": kept}


def faults(rows: Iterable[dict[str, Any]]) -> list[str]:
    """What rows say is wrong; a peer without a figure is a finding, and no fault."""
    found = []
    for row in rows:
        about = ", ".join(str(row[key]) for key in ("workload", "dtype", "sweep") if key in row)
        if row.get("passed", True) is not True:
            last = str(row.get("output", "")).strip().splitlines()[-1:]
            found.append(f"the tests did not pass ({', '.join(last) or row['passed']})")
        if row.get("agrees", "yes") != "yes":
            found.append(f"{about}: {row['agrees']}")
        if not row.get("repeats", True):
            found.append(f"{about}: two runs gave different bits")
        if not row.get("finite", True):
            found.append(f"images {row.get('images')} are not finite")
        if "failed" in row:
            found.append(f"{about}: {row['failed']}")
    return found


def section(options: argparse.Namespace) -> int:
    """The inside of such a process."""
    run = Run(options.rows, time.monotonic() + options.seconds, options.tiny, options.data)
    SECTIONS[options.section](run)
    return 0


def parsed(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__.splitlines()[0])
    parser.add_argument(
        "--only", action="append", choices=SECTIONS, help="this section; may be given several times"
    )
    parser.add_argument("--seconds", type=float, default=480, help="for all sections together")
    parser.add_argument(
        "--tiny",
        action="store_true",
        help="a rehearsal with tiny sizes under Triton's interpreter, no device",
    )
    parser.add_argument(
        "--data", metavar="FOLDER", type=Path, help="holds the folder mnist (NDRNN_DATA, or shared/data)",
        default=Path(os.environ.get("NDRNN_DATA") or ROOT / "shared" / "data"),
    )  # fmt: skip
    parser.add_argument(
        "--json", metavar="FILE", type=Path, help="instead of benchmarks/results/gpu-DEVICE.json"
    )
    parser.add_argument("--section", choices=SECTIONS, help=argparse.SUPPRESS)
    parser.add_argument("--rows", type=Path, help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    options = parsed(arguments)
    if options.section:
        return section(options)
    reason = ndrnn.available_backends()["triton"]
    if not options.tiny and (reason is not True or not torch.cuda.is_available()):
        said = reason if reason is not True else "there is no CUDA device"
        print(f"Nothing is measured: {said}.", file=sys.stderr)
        return 2
    results: dict[str, Any] = {"machine": described(), "sections": {}}
    device = "rehearsal" if options.tiny else results["machine"]["device"].lower().replace(" ", "-")
    target = options.json or RESULTS / f"gpu-{device}.json"
    target.parent.mkdir(parents=True, exist_ok=True)
    names = options.only or list(SECTIONS)
    ends = time.monotonic() + options.seconds
    stretch = max(1, options.seconds / sum(SECTIONS[name].seconds for name in names))
    with tempfile.TemporaryDirectory() as folder:
        for number, name in enumerate(names):
            left = ends - time.monotonic() - GRACE
            limit = min(left, SECTIONS[name].seconds * stretch)
            if left < GRACE:
                outcome: dict[str, Any] = {"ended": "not begun: no time was left", "rows": []}
            else:
                print(f"{name}: at most {limit:.0f} s", file=sys.stderr, flush=True)
                rows = Path(folder) / f"{number}.jsonl"
                outcome = outcome_of(name, limit, options, rows)
            results["sections"][name] = outcome
            with replacing(target) as part:
                part.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
            left_out = sum("left_out" in row for row in outcome["rows"])
            print(
                f"  ended {outcome['ended'][:300]}; {len(outcome['rows'])} rows, {left_out} of them left out",
                file=sys.stderr,
                flush=True,
            )
    print(target)
    return 0 if all(found["ended"] == "well" for found in results["sections"].values()) else 1


if __name__ == "__main__":
    sys.exit(main())
