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
from pathlib import Path
from zipfile import ZipFile

ROOT = Path(__file__).parent.parent
KINDS = ("any", "source", "native", "aarch64")
GLIBC = "2_28"  # what PyTorch's own wheels ask for
TORCH = "libtorch_cpu.so"  # loaded by PyTorch before ours
NEEDED = {TORCH, "libstdc++.so.6", "libgcc_s.so.1", "libm.so.6", "libc.so.6"}
NEEDED |= {"ld-linux-aarch64.so.1"}  # for a variable of the loader itself


def run(*words: str | Path, **variables: str) -> None:
    """Run a command of this environment, quietly unless it fails."""
    folder = str(Path(sys.executable).parent)
    environment = {**os.environ, **variables, "PATH": os.pathsep.join((folder, os.environ["PATH"]))}
    done = subprocess.run(list(map(str, words)), cwd=ROOT, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, words))} failed:\n{done.stdout}{done.stderr}")


def build(kind: str, folder: Path, **variables: str) -> Path:
    """Build one archive, ``wheel`` or ``sdist``, with the packages of this environment."""
    run(sys.executable, "-m", "build", f"--{kind}", "--no-isolation", "--outdir", folder, ROOT, **variables)
    (made,) = folder.glob("*.whl" if kind == "wheel" else "*.tar.gz")
    return made


def with_kernels(machine: str, folder: Path, out: Path) -> Path:
    """Build a wheel with kernels, checked and tagged for the oldest glibc that it runs with."""
    variables = {"NDRNN_BUILD": "require"}
    if machine != platform.machine():
        variables["CXX"] = os.environ.get("CXX", f"{machine}-linux-gnu-g++")
        variables["CMAKE_ARGS"] = f"-DCMAKE_SYSTEM_NAME=Linux -DCMAKE_SYSTEM_PROCESSOR={machine}"
        variables["_PYTHON_HOST_PLATFORM"] = f"linux-{machine}"
    wheel = build("wheel", folder, **variables)
    with ZipFile(wheel) as archive:
        check(Path(archive.extract("ndrnn/ndrnn_cpu.so", folder)))
    policy = f"manylinux_{GLIBC}_{machine}"
    # auditwheel refuses symbols of newer libraries; of the tags that it would give, the one that is true of PyTorch too
    command = ("auditwheel", "repair", "--plat", policy, "--only-plat", "--exclude", TORCH, "--wheel-dir")
    run(sys.executable, "-m", *command, folder / "repaired", wheel)
    (repaired,) = (folder / "repaired").glob(f"*-{policy}.whl")
    return Path(shutil.move(repaired, out / repaired.name))


def check(library: Path) -> None:
    """Exit if a compiled library asks for more than the C library, the one of C++ and PyTorch's stable functions."""
    from elftools.elf.elffile import ELFFile

    run("torch-abi-audit", "--check", "torch", library)
    with library.open("rb") as file:
        elf = ELFFile(file)
        needed = {tag.needed for tag in elf.get_section_by_name(".dynamic").iter_tags("DT_NEEDED")}
        versions = elf.get_section_by_name(".gnu.version")
        symbols = list(elf.get_section_by_name(".dynsym").iter_symbols())
        # what has no version is not the system's: PyTorch's, or what another library happens to have
        foreign = {
            symbol.name
            for index, symbol in enumerate(symbols)
            if symbol["st_shndx"] == "SHN_UNDEF"
            and symbol["st_info"]["bind"] == "STB_GLOBAL"
            and versions.get_symbol(index)["ndx"] in ("VER_NDX_LOCAL", "VER_NDX_GLOBAL")
            and not symbol.name.startswith(("torch_", "aoti_torch_"))
        }
        exported = {
            symbol.name
            for symbol in symbols
            if symbol["st_shndx"] != "SHN_UNDEF" and symbol["st_info"]["bind"] != "STB_LOCAL"
        }
    if TORCH not in needed or not needed <= NEEDED:
        sys.exit(f"{library.name} needs {', '.join(sorted(needed))}; allowed are {', '.join(sorted(NEEDED))}")
    if foreign:
        sys.exit(f"{library.name} takes from other libraries what no version names: {', '.join(sorted(foreign))}")
    if strange := {name for name in exported if not name.startswith("ndrnn_")}:
        sys.exit(f"{library.name} exports more than its own functions: {', '.join(sorted(strange))}")


def make(kind: str, out: Path) -> Path:
    """Build one of the kinds into a folder; returns the file."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        if kind == "any":
            made = build("wheel", folder, NDRNN_BUILD="skip")
        elif kind == "source":
            made = build("sdist", folder)
        else:
            return with_kernels(platform.machine() if kind == "native" else kind, folder, out)
        return Path(shutil.move(made, out / made.name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("kinds", nargs="*", choices=[*KINDS, []], metavar="KIND", help=", ".join(KINDS))
    parser.add_argument("--out", type=Path, default=ROOT / "dist", help="where they go; default: dist")
    options = parser.parse_args()
    options.out.mkdir(parents=True, exist_ok=True)
    for kind in options.kinds or KINDS[:3]:
        print(make(kind, options.out.resolve()))


if __name__ == "__main__":
    main()
