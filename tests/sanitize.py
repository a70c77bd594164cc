"""Run the tests of the compiled scan under address and undefined-behaviour sanitizers.

Builds the library once more, instrumented, beside a copy of the package, and fuzzes it against the definition:

    python tests/sanitize.py [configurations]
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
BUILD = ROOT / "build" / "sanitize"


def main() -> int:
    configurations = sys.argv[1] if len(sys.argv) > 1 else "600"
    site = BUILD / "site"
    os.environ["PATH"] = (
        f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"  # cmake may live there
    )
    configure = ["-DNDRNN_SANITIZE=ON", "-DNDRNN_BUILD=require", f"-DPython_EXECUTABLE={sys.executable}"]
    subprocess.run(["cmake", "-S", ROOT, "-B", BUILD, *configure], check=True)
    subprocess.run(["cmake", "--build", BUILD], check=True)
    shutil.rmtree(site, ignore_errors=True)
    shutil.copytree(ROOT / "src", site, ignore=shutil.ignore_patterns("*.so", "__pycache__"))
    subprocess.run(["cmake", "--install", BUILD, "--prefix", site], check=True)
    compiler = os.environ.get("CXX", "c++")
    runtimes = [
        subprocess.check_output([compiler, f"-print-file-name={name}"], text=True).strip()
        for name in ("libasan.so", "libubsan.so", "libstdc++.so")
    ]
    environment = {
        **os.environ,
        "LD_PRELOAD": " ".join(runtimes),
        "ASAN_OPTIONS": "detect_leaks=0:abort_on_error=1",  # Python and torch keep what they like until the end
        "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1",
        "PYTHONPATH": str(site),
        "NDRNN_REQUIRE": "cpu",
        "NDRNN_TEST_CONFIGURATIONS": configurations,
    }
    names = (
        "scan/test_cpu.py",
        "scan/test_operators.py",
        "scan/test_step.py",
        "linear/test_linear_scan.py",
        "linear/test_layer.py",
        "density/test_drawing.py",
        "codec/test_damage.py",
    )
    tests = [str(ROOT / "tests" / name) for name in names]
    chosen = "not compiling and not exporting and not opcheck and not million"
    for isa in ("avx512", "avx2", "portable"):
        probe = [sys.executable, "-c", "import ndrnn"]
        if subprocess.run(probe, env={**environment, "NDRNN_CPU_ISA": isa}, capture_output=True).returncode:
            print(f"this processor has no {isa}: left out")
            continue
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-k", chosen, *tests]
        done = subprocess.run(command, env={**environment, "NDRNN_CPU_ISA": isa}, cwd=ROOT)
        if done.returncode:
            return done.returncode
    return 0


if __name__ == "__main__":
    sys.exit(main())
