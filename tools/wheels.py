"""Build what is released, and refuse what would not run elsewhere.

    python tools/wheels.py [--out dist] [any] [source] [native] [aarch64]

``any`` is the wheel without compiled kernels, ``source`` the source archive, ``native`` the wheel with kernels for this
machine, and ``aarch64`` the one for 64-bit ARM, cross-compiled by CXX, by default aarch64-linux-gnu-g++. Without a kind
all but the last are built. Wheels with kernels are for Linux: one serves every Python, and every PyTorch from 2.11 on.
"""

from __future__ import annotations

import argparse
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
KINDS = ("any", "source", "native", "aarch64")
TORCH = "libtorch_cpu.so"  # loaded by PyTorch before ours
NEEDED = {TORCH, "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6"}
NEEDED |= {"ld-linux-aarch64.so.1"}  # for a variable of the loader itself
# PyTorch's own wheels are manylinux_2_28: glibc 2.28 and libraries of its time.
POLICY = "manylinux_2_28"
NEWEST = {"GLIBC": (2, 28), "GLIBCXX": (3, 4, 24), "CXXABI": (1, 3, 11), "GCC": (7, 0, 0)}


def run(*words: str | Path, **variables: str) -> None:
    """Run a command of this environment, quietly unless it fails."""
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, **variables, "PATH": os.pathsep.join((folder, os.environ["PATH"]))}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")


def build(kind: str, folder: Path, *settings: str, **variables: str) -> Path:
    """Build one archive, ``wheel`` or ``sdist``, with the packages of this environment."""
    command = ("build", f"--{kind}", "--no-isolation", "--outdir", folder, *settings)
    run(sys.executable, "-m", *command, ROOT, **variables)
    (made,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def with_kernels(machine: str, folder: Path) -> Path:
    """Build a wheel with kernels, checked and tagged for the oldest libraries that it runs with."""
    variables = {"NDRNN_BUILD": "require"}
    if machine != platform.machine():
        variables["CXX"] = os.environ.get("CXX", f"{machine}-linux-gnu-g++")
        variables["CMAKE_ARGS"] = f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={machine}"
    tag, place = f"py3-none-{POLICY}_{machine}", f"build/py3-none-linux_{machine}"  # where pip builds too
    wheel = build("wheel", folder, f"-Cwheel.tags={tag}", f"-Cbuild-dir={place}", **variables)
    with ZipFile(wheel) as archive:
        check(Path(archive.extract("ndrnn/ndrnn_cpu.so", folder)))
    return wheel


def check(library: Path) -> None:
    """Exit if a compiled library asks for more than the system's of ``POLICY`` and PyTorch's stable functions."""
    from elftools.elf.elffile import ELFFile

    auditor = "import sys; from torch_abi_audit.cli import main; sys.exit(main())"
    run(sys.executable, "-c", auditor, "--check", "torch", library)
    with library.open("rb") as file:
        elf = ELFFile(file)
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        asked = elf.get_section_by_name(".gnu.version_r").iter_versions()
        versions = [version.name for _, several in asked for version in several]
        numbers = elf.get_section_by_name(".gnu.version")
        undefined, exported = set(), set()
        for index, symbol in enumerate(elf.get_section_by_name(".dynsym").iter_symbols()):
            bound, versioned = symbol["st_info"]["bind"], isinstance(numbers.get_symbol(index)["ndx"], int)
            if symbol["st_shndx"] == "SHN_UNDEF" and bound == "STB_GLOBAL" and not versioned:
                undefined.add(symbol.name)
            elif symbol["st_shndx"] != "SHN_UNDEF" and bound != "STB_LOCAL":
                exported.add(symbol.name)
    if TORCH not in needed or not needed <= NEEDED:
        sys.exit(
            f"{library.name} needs {listed(needed)}; it should need {TORCH}, and may need {listed(NEEDED)}"
        )
    if late := [version for version in versions if newer(version)]:
        sys.exit(
            f"{library.name} asks for {listed(late)}, newer than {POLICY} has; an older compiler may not"
        )
    # what has no version is not the system's: PyTorch's, or what PyTorch happens to have
    if foreign := {name for name in undefined if not name.startswith(("torch_", "aoti_torch_"))}:
        sys.exit(f"{library.name} takes functions from PyTorch that it does not promise: {listed(foreign)}")
    if strange := {name for name in exported if not name.startswith("ndrnn_")}:
        sys.exit(f"{library.name} exports more than its own functions: {listed(strange)}")


def newer(version: str) -> bool:
    """Whether a version of a symbol, such as GLIBC_2.16, is newer than the policy allows, or unknown to it."""
    name, _, number = version.rpartition("_")
    parts = number.split(".")
    if name not in NEWEST or not all(part.isdecimal() for part in parts):
        return True
    return tuple(map(int, parts)) > NEWEST[name]


def listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names))


def make(kind: str, out: Path) -> Path:
    """Build one of the kinds into a folder; returns the file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if kind == "any":
            made = build("wheel", folder, NDRNN_BUILD="skip")
        elif kind == "source":
            made = build("sdist", folder)
        else:
            made = with_kernels(platform.machine() if kind == "native" else kind, folder)
        return Path(shutil.move(made, out / made.name))


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where they go; default: dist")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or KINDS[:3]:
        print(make(kind, options.out.resolve()))


if __name__ == "__main__":
    main()
