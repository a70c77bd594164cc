"""What is released runs where there is no compiler: each wheel in a fresh environment that sees PyTorch and the extras."""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import zipfile
from email.parser import Parser
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock
from PIL import Image

ROOT = Path(__file__).parents[1]
KERNELS = "ndrnn/ndrnn_cpu.so"
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="wheels with kernels are for Linux"),
    pytest.mark.timeout(1200),
]


@pytest.fixture(scope="module")
def wheels(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """The wheels with and without kernels, new from the sources."""
    pytest.importorskip("build")
    pytest.importorskip("torch_abi_audit")
    shared = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:  # one folder of builds is for all processes, and one of results
        shared = shared.parent
    folder = shared / "wheels"
    with FileLock(shared / "wheels.lock"):
        if not folder.exists():
            command = [sys.executable, ROOT / "tools/wheels.py", "--out", folder, "native", "any"]
            subprocess.run(command, check=True)
    (native,), (plain,) = (
        list(folder.glob(pattern)) for pattern in ("*-py3-none-manylinux*.whl", "*-py3-none-any.whl")
    )
    return {"native": native, "any": plain}


class Environment:
    """A virtual environment with a wheel alone, that sees the packages of this one."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.folder, self.python = folder, folder / "env/bin/python"
        subprocess.run([sys.executable, "-m", "venv", "--without-pip", folder / "env"], check=True)
        pip = [sys.executable, "-m", "pip", "--python", self.python, "install"]
        subprocess.run([*pip, "--quiet", "--no-deps", "--no-index", wheel], check=True)
        (self.site,) = (folder / "env/lib").glob("python*/site-packages")
        packages = Path(torch.__file__).parents[1]
        (self.site / "packages.pth").write_text(f"{packages}\n", encoding="utf-8")

    def run(self, *words: object) -> str:
        """What Python prints, started in a folder of its own, with no other program to be found."""
        variables = {"PATH": str(self.python.parent), "HOME": str(self.folder), "OMP_NUM_THREADS": "1"}
        command = [str(self.python), *map(str, words)]
        done = subprocess.run(command, cwd=self.folder, env=variables, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout


@pytest.fixture(scope="module")
def native(wheels: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("native"), wheels["native"])


def test_names_and_contents(wheels: dict[str, Path]) -> None:
    assert wheels["native"].name.endswith(f"-py3-none-manylinux_2_28_{platform.machine()}.whl")
    assert wheels["any"].name.endswith("-py3-none-any.whl")
    held = {}
    for kind, wheel in wheels.items():
        with zipfile.ZipFile(wheel) as archive:
            held[kind] = {name for name in archive.namelist() if ".dist-info/" not in name}
    sources = {
        str(path.relative_to(ROOT / "src"))
        for path in (ROOT / "src/ndrnn").rglob("*")
        if path.is_file() and path.suffix != ".so" and "__pycache__" not in path.parts
    }
    assert held["any"] == sources
    assert held["native"] == sources | {KERNELS}


def test_an_auditor_agrees_with_the_tag(wheels: dict[str, Path]) -> None:
    pytest.importorskip("auditwheel")
    told = subprocess.check_output([sys.executable, "-m", "auditwheel", "show", wheels["native"]], text=True)
    found = re.search(r"constrains the platform tag to\s+\"manylinux_2_(\d+)_", told)
    assert found, told
    assert int(found[1]) <= 28


def test_errors_do_not_tell_where_it_was_built(wheels: dict[str, Path]) -> None:
    with zipfile.ZipFile(wheels["native"]) as archive:
        library = archive.read(KERNELS)
    assert b"csrc/library.cpp" in library
    assert str(ROOT).encode() not in library
    assert str(Path(torch.__file__).parent).encode() not in library


def test_kernels_run_from_the_wheel(native: Environment) -> None:
    told = json.loads(native.run("-m", "ndrnn", "info", "--json"))
    assert told["backends"]["cpu"] == "available"
    place = native.run("-c", "import ndrnn.scan.operators as o; print(o.kernels.library._name)")
    assert Path(place.strip()) == native.site / KERNELS


def test_the_first_lines_of_the_readme(native: Environment) -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"```python\n(.*?)```", text, flags=re.DOTALL)
    assert native.run("-W", "error", "-c", code).startswith("MDLSTM(3, 32, ndim=2")


def test_train_and_predict(native: Environment) -> None:
    generator = np.random.default_rng(0)
    for part in ("images", "masks"):
        (native.folder / "cells" / part).mkdir(parents=True)
    for index in range(6):
        mask = np.zeros((12, 12 + index % 2), np.uint8)
        row, column = generator.integers(0, 7, 2)
        mask[row : row + 5, column : column + 5] = 1
        image = (generator.integers(0, 60, mask.shape) + 150 * mask).astype(np.uint8)
        for part, values in (("images", image), ("masks", mask)):
            Image.fromarray(values).save(native.folder / f"cells/{part}/{index}.png")
    options = ("--data.format", "masks", "--data.path", "cells", "--network.hidden", 2)
    script = native.python.parent / "ndrnn"  # what pip made of the entry point
    native.run(script, "train", "--task", "label", *options, "--training.epochs", 1, "--out", "run")
    native.run(script, "predict", "run", "cells/images", "--out", "labels")
    for index in range(6):
        with Image.open(native.folder / f"labels/{index}.png") as labels:
            assert labels.size == (12 + index % 2, 12)


def test_every_module_and_every_extra_can_be_imported(native: Environment) -> None:
    (metadata,) = native.site.glob("ndrnn-*.dist-info/METADATA")
    fields = Parser().parsestr(metadata.read_text(encoding="utf-8"))
    wanted = {
        re.match(r"[\w.-]+", line)[0]
        for line in fields.get_all("Requires-Dist")
        if re.search(r"extra == .(train|vision|volumes)", line)
    }
    assert {"lightning", "pillow", "nibabel"} <= wanted
    native.run(
        "-c",
        "import importlib, importlib.metadata as m, pkgutil, ndrnn\n"
        f"wanted = {sorted(wanted)!r}\n"
        "modules = {d.lower(): k for k, ds in m.packages_distributions().items() for d in ds if k[0] != '_'}\n"
        "for name in wanted: importlib.import_module(modules[name])\n"
        "for found in pkgutil.walk_packages(ndrnn.__path__, 'ndrnn.'):\n"
        "    if not found.name.endswith(('__main__', 'ndrnn_cpu')): importlib.import_module(found.name)\n",
    )


def test_without_kernels_one_line_says_so(wheels: dict[str, Path], tmp_path: Path) -> None:
    plain = Environment(tmp_path, wheels["any"])
    told = json.loads(plain.run("-m", "ndrnn", "info", "--json"))
    assert "not built" in told["backends"]["cpu"]
    assert told["backends"]["wavefront"] == "available"
    counted = plain.run(
        "-c",
        "import warnings, torch, ndrnn\n"
        "layer, images = ndrnn.MDLSTM(3, 4, 2), torch.randn(2, 5, 6, 3)\n"
        "with warnings.catch_warnings(record=True) as caught:\n"
        "    warnings.simplefilter('always')\n"
        "    first, second = layer(images), layer(images)\n"
        "with ndrnn.backend('reference'): torch.testing.assert_close(layer(images), first)\n"
        "print(*(warning.message for warning in caught), sep='\\n')\n",
    )
    (line,) = counted.splitlines()
    assert "not built with this installation; the wavefront backend runs instead" in line
    assert os.sep not in line
